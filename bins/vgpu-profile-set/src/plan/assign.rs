//! What the input means on this host: which GPU, which function, which profile.

use std::collections::{BTreeMap, BTreeSet};

use advice::vgpu_profile_set;
use nvidia::{Profile, short_name};
use record::{Address, Hint};

use crate::input::device_manager::ConfigEntry;
use crate::input::selection::{GpuSelection, SelectedGpu};
use crate::input::{Assignment, RequestedProfile};
use crate::observe::model::Gpu;
use crate::plan::boards::{board, mig_slices};
use crate::plan::model::{GpuRequest, InvalidInput, TargetProfile};

/// What a configuration of vgpu-device-manager means on this host; nothing where it has
/// none of the GPUs, since one file serves all nodes of a cluster.
pub fn expand(gpus: &[Gpu], entries: &[ConfigEntry]) -> Result<Vec<Assignment>, InvalidInput> {
    let mut assignments: Vec<Assignment> = Vec::new();
    let mut selected_by: BTreeMap<Address, usize> = BTreeMap::new();
    for entry in entries {
        for (_, gpu) in gpus.iter().enumerate().filter(|(n, gpu)| selects(&entry.gpus, *n, gpu)) {
            let (file, line) = (&entry.file, entry.line);
            if let Some(before) = selected_by.insert(gpu.address, line) {
                let why = format!("{file}: lines {before} and {line} both select {}", gpu.address);
                return Err(InvalidInput::new(why, Hint::default()));
            }
            let at = format!("{file}: line {line}");
            let of_gpu = |profile, count| Assignment {
                at: at.clone(),
                address: gpu.address,
                profile,
                count: Some(count),
                own: false,
            };
            if entry.vgpus.is_empty() {
                assignments.push(of_gpu(RequestedProfile::None, 0));
            }
            for (name, count) in &entry.vgpus {
                assignments.push(of_gpu(RequestedProfile::Name(name.clone()), *count));
            }
        }
    }
    Ok(assignments)
}

/// What to say of a configuration that selects no GPU.
pub fn selects_none(gpus: &[Gpu]) -> String {
    let known: Vec<String> = gpus
        .iter()
        .map(|gpu| format!("0x{:04X}10DE at {}", gpu.device.unwrap_or(0), gpu.address))
        .collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    format!("the configuration selects no GPU of this host (NVIDIA GPUs of this host: {known})")
}

/// Whether a selection is for a GPU; `number` counts all NVIDIA GPUs.
pub(crate) fn selects(selection: &GpuSelection, number: usize, gpu: &Gpu) -> bool {
    selection.selects(&SelectedGpu {
        number,
        driver: gpu.driver.as_deref(),
        ids: u32::from(gpu.device.unwrap_or(0)) << 16 | 0x10de,
        subsystem: gpu
            .subsystem
            .map(|(device, vendor)| u32::from(device) << 16 | u32::from(vendor)),
    })
}

/// What the input requests on this host.
#[derive(Default)]
pub(crate) struct Requests {
    pub by_gpu: BTreeMap<Address, GpuRequest>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What does not fit this host; GPUs that it concerns are not in `by_gpu`.
    pub invalid: Vec<InvalidInput>,
}

/// Sorts assignments by GPU and looks their profiles up.
pub(crate) fn assign(gpus: &[Gpu], assignments: &[Assignment]) -> Requests {
    let mut requests = Requests::default();
    let mut by_id: BTreeMap<u32, BTreeMap<String, BTreeSet<Address>>> = BTreeMap::new();
    let mut wrong: BTreeSet<Address> = BTreeSet::new();
    for assignment in assignments {
        let gpu = match gpu_of(gpus, assignment) {
            Ok(gpu) => gpu,
            Err(invalid) => {
                requests.invalid.push(invalid);
                continue;
            }
        };
        let resolved = resolve(gpu, &assignment.profile).map_err(|error| InvalidInput {
            why: format!("{}: {}", assignment.at, error.why),
            ..error
        });
        let added = resolved.and_then(|target| {
            if let (RequestedProfile::Id(id), Some(target)) = (&assignment.profile, &target) {
                let names = by_id.entry(*id).or_default();
                names.entry(target.name.clone()).or_default().insert(gpu.address);
            }
            add(requests.by_gpu.entry(gpu.address).or_default(), gpu, assignment, target)
        });
        if let Err(invalid) = added {
            wrong.insert(gpu.address);
            requests.invalid.push(invalid);
        }
    }
    check_ids(by_id, &mut requests, &mut wrong);
    requests.by_gpu.retain(|gpu, _| !wrong.contains(gpu));
    requests
}

fn gpu_of<'a>(gpus: &'a [Gpu], assignment: &Assignment) -> Result<&'a Gpu, InvalidInput> {
    let address = assignment.address;
    let of =
        |gpu: &&Gpu| gpu.address == address || gpu.functions.iter().any(|f| f.address == address);
    gpus.iter().find(of).ok_or_else(|| {
        let why = format!("{}: no NVIDIA GPU or virtual function at {address}", assignment.at);
        let words = "a GPU whose virtual functions are disabled has none";
        let hint = Hint::command(vgpu_profile_set::list()).because(words);
        // what is in a section for this host is meant for it
        let absent = Some(address).filter(|_| !assignment.own);
        InvalidInput { absent, ..InvalidInput::new(why, hint) }
    })
}

/// Adds an assignment to what is requested of its GPU.
fn add(
    request: &mut GpuRequest,
    gpu: &Gpu,
    assignment: &Assignment,
    target: Option<TargetProfile>,
) -> Result<(), InvalidInput> {
    let Assignment { at, address, count, .. } = assignment;
    let is_function = gpu.functions.iter().any(|function| function.address == *address);
    match count {
        Some(count) if *address == gpu.address => {
            let counted = request.counted.get_or_insert_default();
            counted.extend(target.map(|target| (target, *count)));
        }
        Some(_) => {
            let why = format!("{at}: {address} is one function, and a count is for a GPU");
            return Err(InvalidInput::new(
                why,
                Hint::words("leave the count out, or name the GPU"),
            ));
        }
        None if is_function => request.explicit.push((*address, target)),
        None => {
            let why = format!("{at}: {address} is a GPU and has no profile itself");
            let words = "name its virtual functions, or give a vgpu-assignment record a count";
            return Err(InvalidInput::new(why, Hint::words(words)));
        }
    }
    if request.counted.is_some() && !request.explicit.is_empty() {
        let why = format!("{at}: {} is requested by count and by function", gpu.address);
        return Err(InvalidInput::new(why, Hint::words("use one of the two for each GPU")));
    }
    Ok(())
}

/// An id that is used for several profiles is an error, any other a warning.
fn check_ids(
    by_id: BTreeMap<u32, BTreeMap<String, BTreeSet<Address>>>,
    requests: &mut Requests,
    wrong: &mut BTreeSet<Address>,
) {
    for (id, names) in by_id {
        if names.len() > 1 {
            let of = |(name, gpus): (&String, &BTreeSet<Address>)| {
                let gpus: Vec<String> = gpus.iter().map(Address::to_string).collect();
                format!("{name} on {}", gpus.join(", "))
            };
            let meant: Vec<String> = names.iter().map(of).collect();
            wrong.extend(names.values().flatten());
            requests.invalid.push(InvalidInput::new(
                format!("id {id} means {}", meant.join(" and ")),
                Hint::words("use names: ids differ by GPU and driver version"),
            ));
            continue;
        }
        let name = names.into_keys().next().unwrap_or_default();
        requests.warnings.push(format!(
            "id {id} is {name} here; use the name: ids change with GPU and driver version"
        ));
    }
}

/// Whether the GPU may have a profile that its list lacks now: the list holds what can
/// be created now, in MIG mode nothing time-sliced, otherwise nothing for MIG.
fn hidden_by_mig(gpu: &Gpu, name: &str) -> bool {
    let Some(profile) = Profile::parse(name) else { return false };
    let mut known = gpu.types.values().filter_map(|name| Profile::parse(name));
    let other_mode = profile.slices().is_some() || gpu.planned_mig_instances() > 0;
    other_mode && mig_slices(&profile).is_some() && known.any(|k| board(&k) == board(&profile))
}

/// A profile as this GPU knows it.
fn resolve(gpu: &Gpu, profile: &RequestedProfile) -> Result<Option<TargetProfile>, InvalidInput> {
    let unknown = |what: String| {
        let names: Vec<&str> = gpu.types.values().map(|name| short_name(name)).collect();
        let hint = match names.is_empty() {
            true => Hint::default(),
            false => Hint::words(format!("available profiles: {}", names.join(" "))),
        };
        InvalidInput::new(format!("{} has no profile {what}", gpu.address), hint)
    };
    match profile {
        RequestedProfile::None => Ok(None),
        RequestedProfile::Id(id) => match gpu.types.get(id) {
            Some(name) => Ok(Some(TargetProfile {
                name: short_name(name).to_string(),
                id: Some(*id),
                profile: Profile::parse(name),
            })),
            None if gpu.complete => Err(unknown(format!("with id {id}"))),
            None => {
                Ok(Some(TargetProfile { name: format!("id {id}"), id: Some(*id), profile: None }))
            }
        },
        RequestedProfile::Name(name) => {
            let ids = gpu.ids_named(name);
            let id = match ids[..] {
                [id] => Some(id),
                [] if gpu.complete && !hidden_by_mig(gpu, name) => {
                    return Err(unknown(short_name(name).to_string()));
                }
                [] => None,
                _ => {
                    let names: Vec<&str> =
                        ids.iter().filter_map(|id| Some(gpu.types.get(id)?.as_str())).collect();
                    let why = format!(
                        "{} is the end of several names: {}",
                        short_name(name),
                        names.join(", ")
                    );
                    return Err(InvalidInput::new(why, Hint::words("use the full name")));
                }
            };
            let profile = Profile::parse(name);
            Ok(Some(TargetProfile { name: short_name(name).to_string(), id, profile }))
        }
    }
}
