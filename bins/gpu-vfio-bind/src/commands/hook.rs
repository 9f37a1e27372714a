//! `hook`: what a hookscript of a VM runs. Proxmox VE holds the VM's lock and has
//! read its configuration already; nothing of that is changed.

use std::collections::BTreeSet;

use ::cli::Exit;
use host::Machine;
use pci::{Depth, System};
use pve::{HostPci, HostPciId, Vms};

use super::{bind, release};
use crate::cli::{Bind, ForceOption, Hook, Named, Release};
use crate::previous_driver;
use crate::report::Report;

pub fn run(options: &Hook, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    match options.phase.as_str() {
        "pre-start" => pre_start(options, machine, report),
        "post-stop" => post_stop(options, machine, report),
        _ => Ok(Exit::Done),
    }
}

/// Binds the GPUs of the VM. A failure keeps Proxmox VE from starting it, so
/// whatever has no GPU, and what is bound already, is left alone.
fn pre_start(options: &Hook, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let vms = Vms::read(machine);
    let Some(vm) = vms.all.iter().find(|vm| vm.id == options.vmid) else {
        vms.unread.iter().for_each(|error| report.say.warn(&error.to_string()));
        return Ok(Exit::Done);
    };
    // a vGPU stays on the host's driver
    let whole = |by: &&HostPci| by.mdev.is_none() && by.driver.as_deref() != Some("keep");
    let given: Vec<&HostPci> = vm.hostpci.iter().filter(whole).collect();
    if given.is_empty() {
        return Ok(Exit::Done);
    }
    let system = pci::scan(machine, Depth::Verdict)?;
    let mut operands = BTreeSet::new();
    for by in given {
        match gpus(&system, by) {
            Gpus::These(names) => operands.extend(names),
            Gpus::OneOf(name) => report.say.note(&format!(
                "{}: Proxmox VE chooses one of the devices of mapping {name}: bind them before",
                by.key
            )),
        }
    }
    if operands.is_empty() {
        return Ok(Exit::Done);
    }
    let bind = Bind {
        named: Named { operands: operands.into_iter().collect() },
        group: false,
        driver: "vfio-pci".into(),
        stop_persistenced: true,
        wait: options.wait,
        force: ForceOption { kinds: options.force.kinds.clone() },
        change: options.change.clone(),
        vm: Some(options.vmid),
    };
    bind::run(&bind, machine, report)
}

enum Gpus {
    These(Vec<String>),
    /// A mapping with several devices, of which the VM gets one.
    OneOf(String),
}

/// What an entry names, where that is a GPU that the host's driver may have.
fn gpus(system: &System, by: &HostPci) -> Gpus {
    let slots: BTreeSet<_> = by
        .ids
        .iter()
        .map(|id| match id {
            HostPciId::Function(address) => address.slot(),
            HostPciId::Slot(slot) => *slot,
        })
        .collect();
    if let Some(name) = by.mapping.as_ref().filter(|_| slots.len() > 1) {
        return Gpus::OneOf(name.clone());
    }
    let is_gpu = |id: &&HostPciId| {
        let named = |f: &&pci::Function| id.names(f.address);
        system.functions.values().filter(named).any(|f| f.is_gpu() && !f.vgpu_vendor)
    };
    let name = |id: &HostPciId| match id {
        HostPciId::Function(address) => address.to_string(),
        HostPciId::Slot(slot) => slot.to_string(),
    };
    Gpus::These(by.ids.iter().filter(is_gpu).map(name).collect())
}

/// Releases what was bound for this VM, and nothing that was bound otherwise.
fn post_stop(options: &Hook, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let own = previous_driver::bound_for(machine, options.vmid)?;
    if own.is_empty() {
        return Ok(Exit::Done);
    }
    let release = Release {
        named: Named { operands: own.iter().map(ToString::to_string).collect() },
        to: None,
        wait: options.wait,
        force: ForceOption { kinds: options.force.kinds.clone() },
        change: options.change.clone(),
    };
    release::run(&release, machine, report)
}
