//! May it be touched? Pure: judges what was observed.

use pci::{Function, System};
use record::Address;

use crate::observe::Use;

/// One reason against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The function.
    pub address: Address,
    /// In words.
    pub why: String,
    /// What to do next.
    pub hint: String,
    /// It cannot hang the kernel: --force goes on.
    pub forceable: bool,
}

/// Judges moving `functions` to VFIO. `uses` has an entry for each of them.
pub fn bind(system: &System, functions: &[&Function], uses: &[Use]) -> Vec<Objection> {
    let mut objections = Vec::new();
    for (function, used) in functions.iter().zip(uses) {
        let mut object = |why: String, hint: &str, forceable: bool| {
            let hint = hint.to_string();
            objections.push(Objection { address: function.address, why, hint, forceable });
        };
        if !system.iommu.is_on() {
            object("the IOMMU is off".into(), &system.iommu.advice(), false);
        } else if function.group.is_none() {
            object("has no IOMMU group".into(), "use another slot", false);
        }
        if function.vgpu_vendor {
            let hint = "give it a profile and pass it as it is";
            object(
                "is a virtual function of NVIDIA's vGPU: it stays on nvidia".into(),
                hint,
                false,
            );
        }
        if !function.vfs.is_empty() || function.sriov_enabled.is_some_and(|n| n > 0) {
            let count = function.vfs.len();
            object(
                format!("has {count} virtual functions enabled"),
                "switch them off first (sriov-manage -d, or 0 to sriov_numvfs)",
                false,
            );
        }
        in_use(used, &mut object);
        if function.boot_vga == Some(true) {
            object("is the boot display".into(), "--force takes the console away", true);
        } else if used.console {
            object("draws the text console".into(), "--force takes the console away", true);
        }
        strangers(system, function, functions, &mut object);
    }
    objections
}

/// Judges giving `functions` back to the host: only a VM that runs can object.
pub fn release(functions: &[&Function], uses: &[Use]) -> Vec<Objection> {
    let mut objections = Vec::new();
    for (function, used) in functions.iter().zip(uses).filter(|(f, _)| f.on_vfio()) {
        let mut object = |why: String, hint: &str| {
            let hint = hint.to_string();
            objections.push(Objection { address: function.address, why, hint, forceable: false });
        };
        if let Some(vm) = used.reserved_by {
            object(format!("belongs to the running VM {vm}"), "stop the VM first");
        }
        for holder in &used.holders {
            object(
                format!("process {} ({}) has {} open", holder.pid, holder.command, holder.node),
                "stop the VM first",
            );
        }
    }
    objections
}

fn in_use(used: &Use, object: &mut dyn FnMut(String, &str, bool)) {
    if let Some(vm) = used.reserved_by {
        object(format!("belongs to the running VM {vm}"), "stop the VM first", false);
    }
    for holder in &used.holders {
        let hint = if holder.is_persistenced() {
            "--stop-persistenced stops it ('systemctl stop nvidia-persistenced')"
        } else {
            "end that process first"
        };
        object(
            format!("process {} ({}) has {} open", holder.pid, holder.command, holder.node),
            hint,
            false,
        );
    }
    for guest in used.guests.iter().filter(|guest| guest.running || !guest.vm) {
        match (guest.vm, guest.running) {
            (true, _) => {
                object(format!("VM {} names it and runs", guest.id), "stop the VM first", false);
            }
            (false, running) => object(
                format!(
                    "container {} shares it{}",
                    guest.id,
                    if running { " and runs" } else { "" }
                ),
                "take it from the container, which would not start without it; --force goes on",
                true,
            ),
        }
    }
    if let Some(what) = &used.block {
        object(what.clone(), "unmount it or take it out of use", false);
    }
    if let Some(what) = &used.network {
        object(what.clone(), "--force cuts the connection", true);
    }
}

/// Endpoints of the group that are not going along.
fn strangers(
    system: &System,
    function: &Function,
    functions: &[&Function],
    object: &mut dyn FnMut(String, &str, bool),
) {
    let Some(group) = function.group.and_then(|id| system.groups.get(&id)) else { return };
    let others: Vec<String> = system
        .members(group)
        .filter(|m| !m.is_bridge() && !m.on_vfio())
        .filter(|m| !functions.iter().any(|f| f.address == m.address))
        .map(|m| match &m.driver {
            Some(driver) => format!("{} ({driver})", m.address),
            None => m.address.to_string(),
        })
        .collect();
    if !others.is_empty() {
        object(
            format!("shares IOMMU group {} with {}", group.id, others.join(", ")),
            "--group moves them too; --force goes on without them, but no VM could start",
            true,
        );
    }
}
