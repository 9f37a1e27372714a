//! Which of the host's GPUs a command line or an input record selects.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, fail};
use advice::external::{kernel_log, modprobe};
use advice::{gpu_iommu_groups, gpu_vfio_bind};
use pci::{Function, NVIDIA};
use record::{Address, PciDevice, Role};

use crate::config::assignment::GpuIdentity;
use crate::host_facts::HostFacts;

/// A GPU that a container can share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableGpu {
    /// Its address.
    pub address: Address,
    /// Minor of /dev/nvidia<minor>.
    pub minor: u32,
}

impl UsableGpu {
    /// Its identity, which does not change with its minor.
    pub fn identity(&self, facts: &HostFacts<'_>) -> GpuIdentity {
        let known = facts.gpus.get(&self.address).map(GpuIdentity::from);
        known.unwrap_or(GpuIdentity { address: self.address, uuid: None })
    }
}

/// A GPU in the input that cannot be shared and is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedGpu {
    /// Its address.
    pub address: Address,
    /// Why, as a noun phrase.
    pub reason: &'static str,
}

/// The GPUs of these names, each an address, a UUID, a minor or `all`. Errors: a
/// name without a GPU on this host (exit 2), or a GPU that a container cannot
/// share now (exit 4).
pub fn named(facts: &HostFacts<'_>, names: &[String]) -> Result<Vec<UsableGpu>, Failure> {
    let mut selected = BTreeMap::new();
    for name in names {
        let found = if name == "all" { all(facts)? } else { vec![one(facts, name)?] };
        selected.extend(found.into_iter().map(|gpu| (gpu.address, gpu)));
    }
    Ok(selected.into_values().collect())
}

fn all(facts: &HostFacts<'_>) -> Result<Vec<UsableGpu>, Failure> {
    if facts.gpus.is_empty() {
        return Err(fail(Exit::Usage, "no GPU of this host is bound to the nvidia driver")
            .run(gpu_iommu_groups::of_vendor("10de")));
    }
    facts.gpus.keys().map(|address| usable(facts, *address)).collect()
}

fn one(facts: &HostFacts<'_>, name: &str) -> Result<UsableGpu, Failure> {
    if let Ok(address) = name.parse::<Address>() {
        let function = function(facts, address)?;
        if !function.is_gpu() {
            return Err(fail(Exit::Usage, format!("{address} is not a GPU")));
        }
        if function.vendor != Some(NVIDIA) {
            return Err(fail(Exit::Usage, format!("{address} is not an NVIDIA GPU"))
                .hint("only NVIDIA GPUs can be shared with a container this way"));
        }
        return usable(facts, address);
    }
    let by_uuid = || {
        let same = |uuid: &String| uuid.eq_ignore_ascii_case(name);
        facts.gpus.values().find(|gpu| gpu.uuid.as_ref().is_some_and(same))
    };
    let minor = name.parse::<u32>().ok().filter(|_| name.bytes().all(|b| b.is_ascii_digit()));
    let gpu = match minor {
        Some(minor) => facts.by_minor(minor),
        None if name.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("GPU-")) => by_uuid(),
        None => {
            let message =
                format!("'{name}' is not an address (41:00.0), a UUID (GPU-...), a minor or 'all'");
            return Err(fail(Exit::Usage, message).hint(suggestion(facts, name)));
        }
    };
    match gpu {
        Some(gpu) => usable(facts, gpu.address),
        None => {
            let what = if minor.is_some() { "GPU with minor" } else { "GPU" };
            Err(fail(Exit::Usage, format!("no {what} {name} on this host")).hint(choices(facts)))
        }
    }
}

/// What to do next after a name in an unknown form.
fn suggestion(facts: &HostFacts<'_>, name: &str) -> String {
    let minor = name.rsplit('/').next().and_then(|tail| tail.strip_prefix("nvidia"));
    if let Some(minor) = minor.filter(|minor| minor.parse::<u32>().is_ok()) {
        return format!("did you mean --gpu {minor}?");
    }
    if let Some(hint) = record::address_hint(name) {
        return hint;
    }
    if let Ok(slot) = name.parse::<record::Slot>() {
        return format!("{slot} is a slot: did you mean {slot}.0?");
    }
    choices(facts)
}

/// The GPUs that can be named: `available: 0000:2b:00.0 (minor 0), ...`.
pub fn choices(facts: &HostFacts<'_>) -> String {
    let gpus = facts
        .gpus
        .values()
        .filter_map(|gpu| gpu.minor.map(|minor| format!("{} (minor {minor})", gpu.address)));
    let gpus: Vec<String> = gpus.collect();
    match gpus.is_empty() {
        true => "no GPU of this host is bound to the nvidia driver".into(),
        false => {
            format!("available: {} (a minor is not nvidia-smi's index)", gpus.join(", "))
        }
    }
}

/// The GPUs among some records. Other functions of a GPU's slot are ignored; GPUs
/// of other vendors and virtual functions are skipped. Errors: as [`named`], and
/// when no record is a GPU.
pub fn of_records(
    facts: &HostFacts<'_>,
    records: &[PciDevice],
) -> Result<(Vec<UsableGpu>, Vec<SkippedGpu>), Failure> {
    let mut selected = Vec::new();
    let mut skipped = Vec::new();
    let mut seen = BTreeSet::new();
    for record in records.iter().filter(|r| r.role.is_none_or(|role| role == Role::Gpu)) {
        if !seen.insert(record.address) {
            continue;
        }
        let function = function(facts, record.address)?;
        let reason = if !function.is_gpu() {
            continue;
        } else if function.vendor != Some(NVIDIA) {
            "not an NVIDIA GPU"
        } else if function.pf.is_some() {
            "a virtual function (only VMs can use it)"
        } else {
            selected.push(usable(facts, record.address)?);
            continue;
        };
        skipped.push(SkippedGpu { address: record.address, reason });
    }
    if selected.is_empty() {
        return Err(fail(Exit::Usage, "no record on standard input is an NVIDIA GPU")
            .run(gpu_iommu_groups::of_vendor("10de")));
    }
    Ok((selected, skipped))
}

fn function<'f>(facts: &'f HostFacts<'_>, address: Address) -> Result<&'f Function, Failure> {
    facts.system()?.functions.get(&address).ok_or_else(|| {
        let gpus = facts.system().map(pci::System::gpus).unwrap_or_default();
        fail(Exit::Usage, format!("no function {address} on this host")).hint(pci::gpus_hint(&gpus))
    })
}

/// A GPU that is bound to the host's nvidia driver. Errors: it is bound to another
/// driver or to none, or has no device node.
pub fn usable(facts: &HostFacts<'_>, address: Address) -> Result<UsableGpu, Failure> {
    let refuse = |why: String| fail(Exit::Refused, format!("{address} {why}"));
    let system = facts.system()?;
    let driver = system.functions.get(&address).and_then(|f| f.driver.as_deref());
    match driver {
        Some("nvidia") => {}
        Some(driver @ ("nouveau" | "nova" | "nova_core" | "NovaCore")) => {
            return Err(refuse(format!(
                "is bound to {driver}, and a container needs NVIDIA's driver on the host"
            ))
            .advise(nvidia::Nouveau::read(facts.machine).hint()));
        }
        Some(driver) => {
            return Err(refuse(format!("is bound to {driver}, not to nvidia"))
                .hint("a container can only share a GPU that is bound to nvidia")
                .run(gpu_vfio_bind::release(address.slot())));
        }
        None => {
            return Err(refuse("is not bound to a driver".into())
                .hint("a container can only share a GPU that is bound to nvidia")
                .run(modprobe("nvidia")));
        }
    }
    match facts.gpus.get(&address).and_then(|gpu| gpu.minor) {
        Some(minor) => Ok(UsableGpu { address, minor }),
        None => Err(refuse("has no device minor: NVIDIA's driver did not initialize it".into())
            .run(kernel_log("NVRM"))),
    }
}
