//! The profiles that a GPU listed while it was empty, kept until reboot: a full
//! GPU lists none, so that what is set on it would have no name.

use host::{KernelFiles, Machine};
use nvidia::parse_creatable;

use crate::observe::model::Gpu;

fn path(gpu: &Gpu) -> String {
    format!("/run/vgpu-profile-set/types-{}", gpu.address)
}

/// The first line: driver version, because ids are valid for one version only,
/// and device id. The lines after it have the form of the driver's own list.
fn heading(files: &dyn KernelFiles, gpu: &Gpu) -> String {
    let version = files.read_attr("/sys/module/nvidia/version").unwrap_or_default();
    format!("{} {:#06x}", version.trim(), gpu.device.unwrap_or(0))
}

/// Adds the names that the cache holds for this GPU and driver.
pub fn recall(files: &dyn KernelFiles, gpu: &mut Gpu) {
    if gpu.complete {
        return;
    }
    let Ok(text) = files.read_attr(&path(gpu)) else { return };
    let Some((first, rest)) = text.split_once('\n') else { return };
    if first == heading(files, gpu) {
        for offer in parse_creatable(rest) {
            gpu.types.entry(offer.id).or_insert(offer.name);
        }
        gpu.complete = true;
    }
}

/// Stores the profiles of a GPU where all are known and the cache differs. An
/// error is ignored: names are then looked up with nvidia-smi.
pub fn remember(machine: &Machine, gpu: &Gpu) {
    if !gpu.complete || gpu.types.is_empty() {
        return;
    }
    let mut text = format!("{}\n", heading(machine, gpu));
    for (id, name) in &gpu.types {
        text.push_str(&format!("{id:<5} : {name}\n"));
    }
    if machine.read_attr(&path(gpu)).ok().as_deref() != Some(text.trim_end_matches('\n')) {
        let _ = machine.put(&path(gpu), text.as_bytes());
    }
}
