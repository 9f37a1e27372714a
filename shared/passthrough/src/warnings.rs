//! What does not prevent passing a function through, and should be known before.

use pci::{Function, NVIDIA, System, shares_group};

/// In words that follow the function's address.
pub fn of(system: &System, function: &Function) -> Vec<String> {
    let found = [reset(system, function), only_gpu(system, function), fabric(system, function)];
    found.into_iter().flatten().chain(same_vm(system, function)).collect()
}

/// A function that cannot be reset starts in a VM once: the second time it finds
/// the state of the first. Since Linux 5.15 `reset_method` is there for those that
/// have one (pci-sysfs.c, pci_dev_reset_method_attr_is_visible()); where no
/// function has it, nothing is known.
fn reset(system: &System, function: &Function) -> Option<String> {
    if !function.is_gpu() || function.pf.is_some() {
        return None;
    }
    let is_known = system.functions.values().any(|f| !f.reset_methods.is_empty());
    if function.reset_methods.is_empty() {
        return is_known.then(|| {
            "has no reset method: after a VM used it, it may need a reboot of the host to start \
             again"
                .into()
        });
    }
    // the security processor beside it marks AMD's APUs
    let is_apu = system.physical_slot(function).any(|f| f.class16() == Some(0x1080));
    let flr = function.reset_methods.iter().any(|method| method == "flr");
    (is_apu && !flr).then(|| {
        "is the GPU of an APU without function-level reset: it may not start a second time".into()
    })
}

fn only_gpu(system: &System, function: &Function) -> Option<String> {
    let displays = system.functions.values().filter(|f| f.is_gpu() && f.pf.is_none()).count();
    // of a part of the host nothing is known about the rest
    (system.is_whole && function.is_gpu() && function.pf.is_none() && displays == 1)
        .then(|| "is the only GPU: the host has no display without it".into())
}

/// GPUs of an HGX board compute only after the fabric between them was set up.
fn fabric(system: &System, function: &Function) -> Option<String> {
    let is_compute = function.class16() == Some(0x0302) && function.vendor == Some(NVIDIA);
    let switches = system.functions.values().filter(|f| f.is_nvswitch());
    let names: Vec<String> = switches.map(|f| f.address.to_string()).collect();
    (is_compute && !names.is_empty()).then(|| {
        format!(
            "is on an NVLink fabric with {} NVSwitches ({}): pass all GPUs and NVSwitches of the \
             board to the same VM, or have NVIDIA's Fabric Manager share the fabric",
            names.len(),
            names.join(", ")
        )
    })
}

/// The kernel gives a group to one VM as a whole.
fn same_vm(system: &System, function: &Function) -> Option<String> {
    let group = function.group.and_then(|id| system.groups.get(&id))?;
    let own = |f: &Function| system.slot(function).any(|s| s.address == f.address);
    let names: Vec<String> = shares_group(system, group, &own)
        .filter(|f| f.on_vfio())
        .map(|f| f.address.to_string())
        .collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("shares IOMMU group {} with {names}: only the same VM can have both", group.id)
    })
}
