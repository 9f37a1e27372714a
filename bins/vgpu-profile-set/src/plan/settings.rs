//! Steps for the settings of whole GPUs. Pure: reads and writes nothing. No MIG instance
//! is destroyed: what is not requested may be in use by a container.

use std::collections::BTreeMap;

use advice::{external, gpu_vfio_bind, vgpu_profile_set};
use nvidia::GpuInstance;
use record::{Address, Hint};

use crate::input::settings::{GpuSettings, MigSetting, SettingsOf};
use crate::observe::gpu_state::{GpuState, StateRead};
use crate::observe::model::Gpu;
use crate::plan::assign::selects;
use crate::plan::model::{InvalidInput, PlanObjection};

/// What happens to one setting of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingStep {
    pub gpu: Address,
    pub change: SettingChange,
}

/// The change that a step makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingChange {
    Persistence {
        from: Option<bool>,
        to: bool,
    },
    /// Watts.
    Power {
        from: Option<u32>,
        to: u32,
    },
    MigMode {
        from: bool,
        to: bool,
    },
    /// GPU instances, each with one compute instance.
    Instances {
        have: Vec<GpuInstance>,
        /// All that are to exist.
        to: Vec<String>,
        /// Profile id and name of those to create; without ids before MIG mode is on.
        make: Vec<(Option<u32>, String)>,
    },
    /// None: no program is run with `--root`.
    Skip {
        property: &'static str,
        to: String,
    },
}

impl SettingChange {
    /// The property in records.
    pub fn property(&self) -> &'static str {
        match self {
            SettingChange::Persistence { .. } => "persistence_mode",
            SettingChange::Power { .. } => "power_limit",
            SettingChange::MigMode { .. } => "mig_mode",
            SettingChange::Instances { .. } => "mig_instances",
            SettingChange::Skip { property, .. } => property,
        }
    }

    /// What it is and is to be, as records show it.
    pub fn shown(&self) -> (Option<String>, Option<String>) {
        let mode = |on: bool| String::from(if on { "on" } else { "off" });
        match self {
            SettingChange::Persistence { from, to } => (from.map(mode), Some(mode(*to))),
            SettingChange::Power { from, to } => {
                (from.map(|watts| format!("{watts} W")), Some(format!("{to} W")))
            }
            SettingChange::MigMode { from, to } => (Some(mode(*from)), Some(mode(*to))),
            SettingChange::Instances { have, to, .. } => {
                let list = |names: &[String]| match names {
                    [] => "none".to_string(),
                    names => names.join(","),
                };
                let have: Vec<String> = have.iter().map(|of| of.name.clone()).collect();
                (Some(list(&have)), Some(list(to)))
            }
            SettingChange::Skip { to, .. } => (None, Some(to.clone())),
        }
    }

    /// Whether the GPU has what it is to have.
    pub fn is_unchanged(&self) -> bool {
        match self {
            SettingChange::Persistence { from, to } => *from == Some(*to),
            SettingChange::Power { from, to } => *from == Some(*to),
            SettingChange::MigMode { from, to } => from == to,
            SettingChange::Instances { make, .. } => make.is_empty(),
            SettingChange::Skip { .. } => false,
        }
    }

    /// Whether anything would be written.
    pub fn is_change(&self) -> bool {
        !self.is_unchanged() && !matches!(self, SettingChange::Skip { .. })
    }
}

impl SettingStep {
    /// Enabling virtual functions deletes MIG instances, so that these come after it.
    pub fn after_vfs(&self) -> bool {
        self.change.property() == "mig_instances"
    }
}

/// All that is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsPlan {
    pub steps: Vec<SettingStep>,
    pub objections: Vec<PlanObjection>,
    pub invalid: Vec<InvalidInput>,
    pub warnings: Vec<String>,
}

impl SettingsPlan {
    /// How many MIG instances a GPU is to have, where that is requested.
    pub fn mig_instances(&self, gpu: Address) -> Option<u32> {
        self.steps.iter().filter(|step| step.gpu == gpu).find_map(|step| match &step.change {
            SettingChange::Instances { to, .. } => Some(to.len() as u32),
            _ => None,
        })
    }
}

/// The GPUs that settings are for.
pub fn gpus_of<'a>(gpus: &'a [Gpu], settings: &GpuSettings) -> Result<Vec<&'a Gpu>, InvalidInput> {
    match &settings.of {
        SettingsOf::Selected(selection) => {
            let numbered = gpus.iter().enumerate();
            Ok(numbered.filter(|(n, gpu)| selects(selection, *n, gpu)).map(|(_, g)| g).collect())
        }
        SettingsOf::Function(address) => match gpus.iter().find(|gpu| gpu.address == *address) {
            Some(gpu) => Ok(vec![gpu]),
            None => {
                let why = format!("{}: no NVIDIA GPU at {address}", settings.at);
                let absent = Some(*address).filter(|_| !settings.own);
                let hint = Hint::command(vgpu_profile_set::list());
                Err(InvalidInput { absent, ..InvalidInput::new(why, hint) })
            }
        },
    }
}

/// Plans the settings of one GPU.
pub fn plan(gpu: &Gpu, settings: &GpuSettings, state: &StateRead, plan: &mut SettingsPlan) {
    let address = gpu.address;
    let mut object = |why: String, hint: Hint| {
        plan.objections.push(PlanObjection { gpu: address, address, why, hint });
    };
    if gpu.driver.as_deref() != Some("nvidia") {
        let driver = gpu.driver.as_deref();
        let why = driver.map_or("is not bound to a driver".into(), |driver| {
            format!("is bound to {driver}, not to nvidia")
        });
        return object(why, Hint::command(gpu_vfio_bind::release(address.slot())));
    }
    let state = match state {
        StateRead::Known(state) => state,
        StateRead::NoPrograms => {
            plan.steps.extend(skipped(gpu, settings));
            return;
        }
        StateRead::Unknown(why) => {
            let words = "these settings are read and written with NVIDIA's nvidia-smi";
            return object(format!("its settings are unknown: {why}"), Hint::words(words));
        }
    };
    let mut steps = Vec::new();
    if let Some(to) = settings.persistence {
        steps.push(SettingChange::Persistence { from: state.persistence, to });
    }
    if let Some(to) = settings.power {
        match power(state, to) {
            Ok(change) => steps.push(change),
            Err((why, hint)) => object(why, hint),
        }
    }
    match settings.mig.as_ref().map(|mig| self::mig(address, state, mig)) {
        Some(Ok(changes)) => steps.extend(changes),
        Some(Err((why, hint))) => object(why, hint),
        None => {}
    }
    plan.steps.extend(steps.into_iter().map(|change| SettingStep { gpu: address, change }));
}

fn skipped(gpu: &Gpu, settings: &GpuSettings) -> Vec<SettingStep> {
    let mode = |on: bool| String::from(if on { "on" } else { "off" });
    let mig = settings.mig.as_ref().map(|mig| match mig {
        MigSetting::Off => ("mig_mode", "off".to_string()),
        MigSetting::Instances(names) => ("mig_instances", names.join(",")),
    });
    let power = settings.power.map(|watts| ("power_limit", format!("{watts} W")));
    let persistence = settings.persistence.map(|on| ("persistence_mode", mode(on)));
    let step = |(property, to)| SettingStep {
        gpu: gpu.address,
        change: SettingChange::Skip { property, to },
    };
    persistence.into_iter().chain(power).chain(mig).map(step).collect()
}

type Reason = (String, Hint);

fn power(state: &GpuState, to: u32) -> Result<SettingChange, Reason> {
    let Some((low, high)) = state.power_range else {
        let words = "remove power= from its line";
        return Err(("its power limit cannot be set".into(), Hint::words(words)));
    };
    if !(low..=high).contains(&to) {
        let why = format!("a power limit of {to} W is outside {low} to {high} W");
        return Err((why, Hint::words("use a value in this range")));
    }
    Ok(SettingChange::Power { from: state.power, to })
}

fn mig(gpu: Address, state: &GpuState, mig: &MigSetting) -> Result<Vec<SettingChange>, Reason> {
    let Some(from) = state.mig else {
        return Err(("has no MIG mode".into(), Hint::words("remove mig= from its line")));
    };
    let to = match mig {
        MigSetting::Off => {
            if let Some(first) = state.instances.first() {
                return Err(extra(gpu, first, "MIG mode is to be off"));
            }
            return Ok(vec![SettingChange::MigMode { from, to: false }]);
        }
        MigSetting::Instances(names) => names,
    };
    let mode = SettingChange::MigMode { from, to: true };
    let mut missing = count(to.iter());
    for instance in &state.instances {
        match missing.get_mut(instance.name.as_str()).filter(|n| **n > 0) {
            Some(n) => *n -= 1,
            None => return Err(extra(gpu, instance, "it is not requested")),
        }
    }
    let mut make: Vec<(Option<u32>, String)> = Vec::new();
    for (name, n) in missing.iter().filter(|(_, n)| **n > 0) {
        // before MIG mode is on the driver lists no profile
        let id = match from {
            true => Some(offered(gpu, state, name, *n)?),
            false => None,
        };
        make.extend(std::iter::repeat_n((id, (*name).to_string()), *n as usize));
    }
    if from {
        room(gpu, state, to)?;
    }
    // the largest first, which leaves the fewest gaps
    make.sort_by_key(|(_, name)| {
        let slices = name.split('g').next().and_then(|n| n.parse::<u32>().ok());
        std::cmp::Reverse(slices)
    });
    let have = state.instances.clone();
    Ok(vec![mode, SettingChange::Instances { have, to: to.clone(), make }])
}

fn count<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, u32> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name.as_str()).or_default() += 1;
    }
    counts
}

/// An instance that has to go first. It may be in use, so that only the administrator
/// destroys it.
fn extra(gpu: Address, instance: &GpuInstance, because: &str) -> Reason {
    let why = format!(
        "has the MIG instance {} (GPU instance {}), and {because}",
        instance.name, instance.id
    );
    let words = "stop what uses it, then";
    let commands = external::nvidia_smi_destroy_instance(gpu, instance.id);
    (why, Hint::commands(commands).because(words))
}

fn offered(gpu: Address, state: &GpuState, name: &str, more: u32) -> Result<u32, Reason> {
    let list = Hint::command(external::nvidia_smi_mig_profiles(gpu));
    let Some(profile) = state.profiles.iter().find(|profile| profile.name == name) else {
        let names: Vec<&str> = state.profiles.iter().map(|of| of.name.as_str()).collect();
        let words = format!("the driver offers {}", names.join(" "));
        return Err((format!("has no MIG profile {name}"), list.because(words)));
    };
    if more > profile.free {
        let why = format!(
            "{more} more MIG instances {name} are requested, {} of {} can be created now",
            profile.free, profile.total
        );
        return Err((why, list.because("request fewer or smaller instances")));
    }
    Ok(profile.id)
}

/// Slices and memory are added up: the driver's list counts each profile by itself.
fn room(gpu: Address, state: &GpuState, to: &[String]) -> Result<(), Reason> {
    let of = |name: &String| state.profiles.iter().find(|profile| profile.name == *name);
    let all = state.profiles.iter();
    let slices = all.clone().map(|p| p.slices() * p.total).max().unwrap_or(0);
    let memory = all.map(|p| p.memory * f64::from(p.total)).fold(0.0, f64::max);
    let used_slices: u32 = to.iter().filter_map(of).map(|p| p.slices()).sum();
    let used_memory: f64 = to.iter().filter_map(of).map(|p| p.memory).sum();
    let list = Hint::command(external::nvidia_smi_mig_profiles(gpu));
    let list = list.because("request fewer or smaller instances");
    let names = to.join(",");
    if used_slices > slices {
        let why = format!("{names} need {used_slices} slices, the GPU has {slices}");
        return Err((why, list));
    }
    // memory is given in rounded numbers
    if used_memory > memory + 0.5 {
        let why = format!("{names} need {used_memory:.1} GiB, the GPU has {memory:.1} GiB");
        return Err((why, list));
    }
    Ok(())
}
