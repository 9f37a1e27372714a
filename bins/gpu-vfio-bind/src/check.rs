//! What is against a plan. Pure: judges what was observed.

use ::apply::Objection;
use advice::external::{qm_shutdown, sriov_manage_disable};
use pci::{Function, System};
use record::{Address, CommandLine, Hint};

use crate::observe::FunctionUse;

/// Reasons against binding or releasing a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectionKind {
    IommuOff,
    NoIommuGroup,
    VgpuFunction,
    VirtualFunctions,
    RunningVm,
    OpenNode,
    Container,
    BlockDevice,
    Network,
    Display,
    GroupMembers,
    /// NVIDIA's driver reports a user that is not a process.
    DriverBusy,
    /// Matching by id would bind another GPU as well.
    SameIds,
    /// Another file of modprobe sets ids= and overrides ours.
    ForeignIds,
}

/// What the user's own command needs to get past an objection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    Force,
    StopPersistenced,
    /// These other functions of the IOMMU group.
    WithGroup(Vec<Address>),
}

/// Makes the user's own command with that, for hints.
pub type RetryCommand<'a> = dyn Fn(Retry) -> CommandLine + 'a;

/// Objections against one function.
struct Objections<'a> {
    address: Address,
    found: &'a mut Vec<Objection<ObjectionKind>>,
}

impl Objections<'_> {
    fn add(&mut self, kind: ObjectionKind, why: impl Into<String>, hint: Hint) {
        let (target, why) = (self.address.to_string(), why.into());
        self.found.push(Objection { target, kind, why, hint, overridable: false });
    }

    fn add_overridable(&mut self, kind: ObjectionKind, why: impl Into<String>, hint: Hint) {
        let (target, why) = (self.address.to_string(), why.into());
        self.found.push(Objection { target, kind, why, hint, overridable: true });
    }
}

/// Judges binding `functions` to VFIO. `uses` has one item for each of them.
pub fn bind(
    system: &System,
    functions: &[&Function],
    uses: &[FunctionUse],
    retry: &RetryCommand<'_>,
) -> Vec<Objection<ObjectionKind>> {
    let mut found = Vec::new();
    for (function, used) in functions.iter().zip(uses) {
        let mut objections = Objections { address: function.address, found: &mut found };
        cannot_be_bound(system, function, &mut objections);
        in_use(function, used, retry, &mut objections);
        let display = if function.boot_vga == Some(true) {
            Some("is the boot display")
        } else {
            used.console.then_some("draws the text console")
        };
        if let Some(why) = display {
            let hint = Hint::command(retry(Retry::Force));
            let hint = hint.because("--force turns off the local console");
            objections.add_overridable(ObjectionKind::Display, why, hint);
        }
        group_members(system, function, functions, retry, &mut objections);
    }
    found
}

/// Judges releasing `functions` to the host: only a running VM is against it.
pub fn release(functions: &[&Function], uses: &[FunctionUse]) -> Vec<Objection<ObjectionKind>> {
    let mut found = Vec::new();
    for (function, used) in functions.iter().zip(uses).filter(|(f, _)| f.on_vfio()) {
        let mut objections = Objections { address: function.address, found: &mut found };
        reserved(used, &mut objections);
        for open in &used.processes {
            let hint = match open.process.vm {
                Some(vmid) => Hint::command(qm_shutdown(vmid)),
                None => Hint::words("stop the VM first"),
            };
            objections.add(ObjectionKind::OpenNode, open.describe(), hint);
        }
    }
    found
}

/// NVIDIA's driver does not grant the unbind although no process has the GPU
/// open.
pub fn driver_busy(address: Address) -> Objection<ObjectionKind> {
    let mut found = Vec::new();
    let hint = Hint::command(advice::external::nvidia_smi_persistence_off(address))
        .because("persistence mode or another kernel module keeps the GPU open");
    let why = "is in use according to NVIDIA's driver, though no process has it open";
    Objections { address, found: &mut found }.add(ObjectionKind::DriverBusy, why, hint);
    found.remove(0)
}

fn cannot_be_bound(system: &System, function: &Function, objections: &mut Objections<'_>) {
    if !system.iommu.is_on() {
        let hint = Hint::words(system.iommu.advice());
        objections.add(ObjectionKind::IommuOff, "the IOMMU is off", hint);
    } else if function.group.is_none() {
        let hint = Hint::command(advice::gpu_iommu_groups::groups())
            .because("use a slot that is in an IOMMU group");
        objections.add(ObjectionKind::NoIommuGroup, "has no IOMMU group", hint);
    }
    if function.vgpu_vendor {
        let why = "is a virtual function of NVIDIA's vGPU and stays bound to nvidia";
        let hint = "assign it a vGPU profile, and pass it through as it is: vgpu-profile-set(1)";
        objections.add(ObjectionKind::VgpuFunction, why, Hint::words(hint));
    }
    if !function.vfs.is_empty() || function.sriov_enabled.is_some_and(|n| n > 0) {
        let why = format!("has {} virtual functions enabled", function.vfs.len());
        let hint = match function.vendor {
            Some(pci::NVIDIA) => Hint::command(sriov_manage_disable(function.address)),
            _ => Hint::words("disable them first: write 0 to its sriov_numvfs"),
        };
        objections.add(ObjectionKind::VirtualFunctions, why, hint);
    }
}

fn reserved(used: &FunctionUse, objections: &mut Objections<'_>) {
    if let Some(vmid) = used.reserved_by {
        let why = format!("belongs to the running VM {vmid}");
        objections.add(ObjectionKind::RunningVm, why, Hint::command(qm_shutdown(vmid)));
    }
}

fn in_use(
    function: &Function,
    used: &FunctionUse,
    retry: &RetryCommand<'_>,
    objections: &mut Objections<'_>,
) {
    reserved(used, objections);
    for open in &used.processes {
        let hint = if open.is_persistenced() {
            Hint::command(retry(Retry::StopPersistenced))
        } else if let Some(vmid) = open.process.vm {
            Hint::command(qm_shutdown(vmid))
        } else {
            Hint::words("end that process first")
        };
        objections.add(ObjectionKind::OpenNode, open.describe(), hint);
    }
    for vm in used.vms.iter().filter(|vm| vm.running) {
        let why = format!("VM {} is running and uses it ({})", vm.vmid, vm.key);
        objections.add(ObjectionKind::RunningVm, why, Hint::command(qm_shutdown(vm.vmid)));
    }
    for container in &used.containers {
        let running = if container.running { "running " } else { "" };
        let why = format!("is in use by {running}container {}", container.ctid);
        let gpus = vec![function.address.to_string()];
        let remove = advice::lxc_gpu_conf::remove(
            container.ctid,
            &advice::lxc_gpu_conf::RemoveOptions { gpus, ..Default::default() },
        );
        objections.add_overridable(ObjectionKind::Container, why, Hint::command(remove));
    }
    if let Some(what) = &used.block {
        let hint = Hint::words("unmount it, or remove it from what uses it");
        objections.add(ObjectionKind::BlockDevice, what, hint);
    }
    if let Some(what) = &used.network {
        let hint = Hint::command(retry(Retry::Force));
        let hint = hint.because("--force cuts the network connection");
        objections.add_overridable(ObjectionKind::Network, what, hint);
    }
}

/// Other endpoints of the IOMMU group that stay with their drivers.
fn group_members(
    system: &System,
    function: &Function,
    functions: &[&Function],
    retry: &RetryCommand<'_>,
    objections: &mut Objections<'_>,
) {
    let Some(group) = function.group.and_then(|id| system.groups.get(&id)) else { return };
    let others: Vec<&Function> = system
        .members(group)
        .filter(|m| !m.is_bridge() && !m.on_vfio())
        .filter(|m| !functions.iter().any(|f| f.address == m.address))
        .collect();
    if others.is_empty() {
        return;
    }
    let name = |f: &&Function| match &f.driver {
        Some(driver) => format!("{} ({driver})", f.address),
        None => f.address.to_string(),
    };
    let names: Vec<String> = others.iter().map(name).collect();
    let why = format!("shares IOMMU group {} with {}", group.id, names.join(", "));
    let others = others.iter().map(|f| f.address).collect();
    let hint = Hint::command(retry(Retry::WithGroup(others))).because(
        "the VM needs all devices of the IOMMU group on vfio-pci; with --force only this slot is \
         bound, and the VM will not start",
    );
    objections.add_overridable(ObjectionKind::GroupMembers, why, hint);
}
