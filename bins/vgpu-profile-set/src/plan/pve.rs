//! What Proxmox VE does to a virtual function that a VM is given.

use ::pve::HostPciMode;
use advice::external;
use record::Hint;

use crate::observe::model::{Gpu, NamedBy, VgpuFunction};
use crate::plan::model::{PlanNote, ProfileChange, ProfileStep};

/// The hint for a function whose profile Proxmox VE sets: it is left out, or its VM is
/// given `driver=keep`.
pub(crate) fn own_profile(function: &VgpuFunction) -> Hint {
    let manages = |of: &&NamedBy| of.hostpci.mode() == HostPciMode::Mdev;
    match function.vms.iter().find(manages) {
        Some(of) if of.keep_known != Some(false) => {
            Hint::command(keep(of)).because("leave it out, or let the VM keep this profile")
        }
        _ => Hint::words("leave it out, or remove mdev= from the VM's hostpci line"),
    }
}

fn keep(of: &NamedBy) -> record::CommandLine {
    let value = of.hostpci.value_with("driver=keep");
    external::qm_set_hostpci(of.vm, &of.hostpci.key, &value)
}

/// What becomes of the profile that a step sets, if a VM is given the function.
pub(crate) fn note(gpu: &Gpu, step: &ProfileStep) -> Option<PlanNote> {
    let ProfileChange::Vendor { to: Some(target), .. } = &step.change else { return None };
    let function = gpu.functions.iter().find(|function| function.address == step.address)?;
    let by_mode = |mode: HostPciMode| function.vms.iter().find(|of| of.hostpci.mode() == mode);
    if let Some(of) = by_mode(HostPciMode::Vfio) {
        let text = format!(
            "VM {} has neither mdev= nor driver=keep ({}): Proxmox VE binds the function to \
             vfio-pci when the VM starts, and the profile is lost",
            of.vm, of.hostpci.key
        );
        let id = target.id;
        let hint = match (of.keep_known, id) {
            (Some(false), Some(id)) => {
                let value = of.hostpci.value_with(&format!("mdev=nvidia-{id}"));
                let words = "driver=keep needs qemu-server 9.0.25; Proxmox VE can set the profile";
                Hint::command(external::qm_set_hostpci(of.vm, &of.hostpci.key, &value))
                    .because(words)
            }
            (Some(false), None) => Hint::words("driver=keep needs qemu-server 9.0.25"),
            _ => Hint::command(keep(of)),
        };
        return Some(PlanNote::warning(step.address, text, hint));
    }
    let of = by_mode(HostPciMode::Keep)?;
    let text = format!(
        "VM {} keeps the profile at its start ({}, driver=keep); Proxmox VE clears it when the VM \
         stops",
        of.vm, of.hostpci.key
    );
    let (address, hint) = (step.address, Hint::default());
    Some(PlanNote { address, text, hint, warns: false })
}
