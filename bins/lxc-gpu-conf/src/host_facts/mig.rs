//! Which MIG instance a name means.

use std::time::Duration;

use ::cli::{Exit, Failure, fail};
use advice::external::nvidia_smi_list_mig;
use nvidia::Capability;
use record::Address;

use crate::config::assignment::MigIdentity;
use crate::host_facts::HostFacts;
use crate::host_facts::gpu_selection::{self, UsableGpu, usable};

const DEADLINE: Duration = Duration::from_secs(30);

/// An instance by `GI/CI` of the selected GPU, by `MIG-GPU-<uuid>/GI/CI` as older
/// drivers name instances, or by `MIG-<uuid>`, which only nvidia-smi can resolve.
/// Errors: no such instance, or several GPUs could be meant.
pub fn named(
    facts: &HostFacts<'_>,
    name: &str,
    selected: &[UsableGpu],
) -> Result<MigIdentity, Failure> {
    let usage = |message: String| fail(Exit::Usage, message);
    let (gpu, ids) = match name.strip_prefix("MIG-") {
        None => (only_gpu(facts, name, selected)?, name.to_string()),
        Some(rest) => match rest.split_once('/') {
            Some((uuid, ids)) => {
                let mut found = gpu_selection::named(facts, &[uuid.to_string()])?;
                (found.remove(0), ids.to_string())
            }
            None => ask_nvidia_smi(facts, name)?,
        },
    };
    let parts = ids.split_once('/').map(|(gi, ci)| (gi.parse(), ci.parse()));
    let Some((Ok(gi), Ok(ci))) = parts else {
        return Err(usage(format!(
            "'{name}' is not GI/CI (GPU instance/compute instance, as in 2/0) or a MIG UUID (MIG-...)"
        ))
        .run(nvidia_smi_list_mig()));
    };
    Ok(MigIdentity { gpu: gpu.identity(facts), gi, ci })
}

/// The GPU that `--gpu` selects, or the only one with MIG instances.
fn only_gpu(
    facts: &HostFacts<'_>,
    name: &str,
    selected: &[UsableGpu],
) -> Result<UsableGpu, Failure> {
    if let [one] = selected {
        return Ok(one.clone());
    }
    let divided: Vec<Address> = facts
        .gpus
        .values()
        .filter(|gpu| gpu.minor.is_some_and(|m| facts.mig().of_gpu(m).next().is_some()))
        .map(|gpu| gpu.address)
        .filter(|address| selected.is_empty() || selected.iter().any(|w| w.address == *address))
        .collect();
    match divided.as_slice() {
        [one] => usable(facts, *one),
        [] => Err(fail(Exit::Usage, "no GPU of this host has MIG instances")
            .hint("create them with nvidia-smi (GPU instance and compute instance)")),
        several => {
            let list: Vec<String> = several.iter().map(Address::to_string).collect();
            let message = format!("MIG instance '{name}' is ambiguous: {}", list.join(", "));
            Err(fail(Exit::Usage, message).hint("select the GPU with --gpu"))
        }
    }
}

/// The compute instance of a capability; `None` for other capabilities.
pub fn of_capability(facts: &HostFacts<'_>, cap: u32) -> Option<MigIdentity> {
    let Some(Capability::Ci(gpu, gi, ci)) = facts.mig().capabilities.get(&cap) else {
        return None;
    };
    Some(MigIdentity { gpu: facts.by_minor(*gpu)?.into(), gi: *gi, ci: *ci })
}

/// Finds the instance of a MIG UUID. The driver's files do not contain it, but two
/// lists of nvidia-smi do, which have the order of instances in common.
fn ask_nvidia_smi(facts: &HostFacts<'_>, uuid: &str) -> Result<(UsableGpu, String), Failure> {
    let unknown = |why: String| {
        fail(Exit::System, format!("MIG instance {uuid} cannot be resolved: {why}"))
            .hint("use GI/CI instead")
            .run(nvidia_smi_list_mig())
    };
    let ask = |argv: &[&str]| -> Result<String, Failure> {
        match facts.machine.run(argv, DEADLINE) {
            Ok(Some(ran)) if ran.success() => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
            Ok(Some(ran)) => Err(unknown(format!("{}: {}", argv.join(" "), ran.reason()))),
            Ok(None) => Err(unknown("commands are not run with --root".into())),
            Err(error) => Err(unknown(error.to_string())),
        }
    };
    let (gpu, index) = find_uuid(&ask(&["nvidia-smi", "-L"])?, uuid)
        .ok_or_else(|| fail(Exit::Usage, format!("no MIG instance {uuid} on this host")))?;
    let query = ask(&["nvidia-smi", "-q", "-x"])?;
    let (gi, ci) = find_ids(&query, &gpu, index)
        .ok_or_else(|| unknown("'nvidia-smi -q -x' does not list it".into()))?;
    let mut selected = gpu_selection::named(facts, &[gpu])?;
    Ok((selected.remove(0), format!("{gi}/{ci}")))
}

/// Finds the line `MIG 1g.5gb Device 0: (UUID: MIG-y)`, and above it
/// `GPU 0: ... (UUID: GPU-x)`.
fn find_uuid(list: &str, uuid: &str) -> Option<(String, u32)> {
    let mut gpu = None;
    for line in list.lines() {
        let Some((head, tail)) = line.split_once("(UUID: ") else { continue };
        let found = tail.trim_end().trim_end_matches(')');
        if found.starts_with("GPU-") {
            gpu = Some(found.to_string());
        } else if found.eq_ignore_ascii_case(uuid) {
            let index = head.split("Device").nth(1)?.trim().trim_end_matches(':').parse().ok()?;
            return Some((gpu?, index));
        }
    }
    None
}

/// Finds the `<mig_device>` with an index in the `<gpu>` with a UUID.
fn find_ids(xml: &str, gpu: &str, index: u32) -> Option<(u32, u32)> {
    let section =
        xml.split("<gpu id=").find(|part| part.contains(&format!("<uuid>{gpu}</uuid>")))?;
    let tag = |text: &str, name: &str| -> Option<u32> {
        let from = text.split(&format!("<{name}>")).nth(1)?;
        from.split('<').next()?.trim().parse().ok()
    };
    section.split("<mig_device>").skip(1).find_map(|device| {
        (tag(device, "index")? == index)
            .then(|| Some((tag(device, "gpu_instance_id")?, tag(device, "compute_instance_id")?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mig_uuid_is_found_in_nvidia_smis_lists() {
        let list = "GPU 0: NVIDIA A100 (UUID: GPU-aa)\n  MIG 3g.20gb     Device  0: (UUID: MIG-x)\n\
                    GPU 1: NVIDIA A100 (UUID: GPU-bb)\n  MIG 1g.5gb      Device  0: (UUID: MIG-y)\n  \
                    MIG 1g.5gb      Device  1: (UUID: MIG-z)\n";
        assert_eq!(find_uuid(list, "MIG-z"), Some(("GPU-bb".into(), 1)));
        assert_eq!(find_uuid(list, "mig-x"), Some(("GPU-aa".into(), 0)));
        assert_eq!(find_uuid(list, "MIG-q"), None);
        let xml = "<gpu id=\"1\"><uuid>GPU-aa</uuid><mig_devices><mig_device><index>0</index>\
                   <gpu_instance_id>2</gpu_instance_id><compute_instance_id>0</compute_instance_id>\
                   </mig_device></mig_devices></gpu><gpu id=\"2\"><uuid>GPU-bb</uuid><mig_device>\
                   <index>0</index><gpu_instance_id>7</gpu_instance_id><compute_instance_id>1\
                   </compute_instance_id></mig_device><mig_device><index>1</index><gpu_instance_id>9\
                   </gpu_instance_id><compute_instance_id>0</compute_instance_id></mig_device></gpu>";
        assert_eq!(find_ids(xml, "GPU-bb", 1), Some((9, 0)));
        assert_eq!(find_ids(xml, "GPU-aa", 0), Some((2, 0)));
        assert_eq!(find_ids(xml, "GPU-aa", 1), None);
    }
}
