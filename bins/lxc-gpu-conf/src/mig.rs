//! Naming MIG instances.

use std::time::Duration;

use ::cli::{Exit, Failure, fail};
use nvidia::Capability;
use record::Address;

use crate::facts::{Facts, Wanted};
use crate::wish::{GpuWish, MigWish};

const DEADLINE: Duration = Duration::from_secs(30);

/// `GI/CI` of the one GPU that is meant, `MIG-GPU-<uuid>/GI/CI` as older drivers
/// name instances, or `MIG-<uuid>`, which only nvidia-smi can tell apart.
/// Errors: no such name, or it may mean several.
pub fn named(facts: &Facts<'_>, name: &str, wanted: &[Wanted]) -> Result<MigWish, Failure> {
    let usage = |message: String| fail(Exit::Usage, message);
    let (gpu, ids) = match name.strip_prefix("MIG-") {
        None => (only_gpu(facts, name, wanted)?, name.to_string()),
        Some(rest) => match rest.split_once('/') {
            Some((uuid, ids)) => {
                let mut found = facts.named(&[uuid.to_string()])?;
                (found.remove(0), ids.to_string())
            }
            None => ask_nvidia_smi(facts, name)?,
        },
    };
    let parts = ids.split_once('/').map(|(gi, ci)| (gi.parse(), ci.parse()));
    let Some((Ok(gi), Ok(ci))) = parts else {
        return Err(usage(format!(
            "'{name}' is neither GI/CI (GPU instance/compute instance: 2/0) nor a MIG UUID (MIG-...)"
        ))
        .hint("see 'nvidia-smi mig -lci', or the directories below /proc/driver/nvidia/capabilities"));
    };
    Ok(MigWish { gpu: GpuWish::of(facts, &gpu), gi, ci })
}

/// The GPU that `--gpu` names, or the only one that MIG divides.
fn only_gpu(facts: &Facts<'_>, name: &str, wanted: &[Wanted]) -> Result<Wanted, Failure> {
    if let [one] = wanted {
        return Ok(one.clone());
    }
    let divided: Vec<Address> = facts
        .gpus
        .values()
        .filter(|gpu| gpu.minor.is_some_and(|m| facts.mig().of_gpu(m).next().is_some()))
        .map(|gpu| gpu.address)
        .filter(|address| wanted.is_empty() || wanted.iter().any(|w| w.address == *address))
        .collect();
    match divided.as_slice() {
        [one] => facts.usable(*one),
        [] => Err(fail(Exit::Usage, "no GPU of this host has MIG instances")
            .hint("make them with 'nvidia-smi mig -cgi ... -C'")),
        several => {
            let list: Vec<String> = several.iter().map(Address::to_string).collect();
            let message = format!("'{name}' may be of any of {}", list.join(", "));
            Err(fail(Exit::Usage, message).hint("say which with --gpu"))
        }
    }
}

/// The instance of a capability, where it is a compute instance's.
pub fn of_capability(facts: &Facts<'_>, cap: u32) -> Option<MigWish> {
    let Some(Capability::Ci(gpu, gi, ci)) = facts.mig().capabilities.get(&cap) else {
        return None;
    };
    let address = facts.by_minor(*gpu)?.address;
    let wanted = Wanted { address, minor: *gpu };
    Some(MigWish { gpu: GpuWish::of(facts, &wanted), gi: *gi, ci: *ci })
}

/// Which instance a MIG UUID is: the driver's files do not say, nvidia-smi does,
/// in two lists that have the order of instances in common.
fn ask_nvidia_smi(facts: &Facts<'_>, uuid: &str) -> Result<(Wanted, String), Failure> {
    let unknown = |why: String| {
        fail(Exit::System, format!("which instance {uuid} is cannot be found out: {why}"))
            .hint("name it as GI/CI (see 'nvidia-smi mig -lci')")
    };
    let ask = |argv: &[&str]| -> Result<String, Failure> {
        match facts.machine.run(argv, DEADLINE) {
            Ok(Some(ran)) if ran.success() => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
            Ok(Some(ran)) => Err(unknown(format!("{}: {}", argv.join(" "), ran.reason()))),
            Ok(None) => Err(unknown("no command is run below --root".into())),
            Err(error) => Err(unknown(error.to_string())),
        }
    };
    let (gpu, index) = find_uuid(&ask(&["nvidia-smi", "-L"])?, uuid)
        .ok_or_else(|| fail(Exit::Usage, format!("no MIG instance {uuid} on this host")))?;
    let query = ask(&["nvidia-smi", "-q", "-x"])?;
    let (gi, ci) = find_ids(&query, &gpu, index)
        .ok_or_else(|| unknown("'nvidia-smi -q -x' does not list it".into()))?;
    let mut wanted = facts.named(&[gpu])?;
    Ok((wanted.remove(0), format!("{gi}/{ci}")))
}

/// `GPU 0: ... (UUID: GPU-x)` and below it `MIG 1g.5gb Device 0: (UUID: MIG-y)`.
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

/// `<mig_device>` with an index, of the `<gpu>` with a UUID.
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
