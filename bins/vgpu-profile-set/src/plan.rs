//! From what the host has and what is requested to a list of steps. Pure: reads
//! and writes nothing.

pub mod assign;
mod boards;
mod capacity;
mod functions;
mod host_module;
mod mdev;
pub mod model;
mod pve;
pub(crate) mod room;
pub mod settings;
mod vendor;

use advice::gpu_vfio_bind;
use record::{Address, Hint, VgpuInterface};

use crate::input::{Assignment, RequestedProfile};
use crate::observe::model::{Gpu, VgpuFunction};
use crate::plan::assign::{Requests, assign};
use crate::plan::host_module::{NO_MODULE, host_module_hint};
use crate::plan::model::{InvalidInput, PlanObjection, PlanRules, ProfilePlan};

/// Plans all of it. Errors: the input does not fit this host.
pub fn plan(
    gpus: &[Gpu],
    assignments: &[Assignment],
    rules: PlanRules,
) -> Result<ProfilePlan, InvalidInput> {
    let mut plan = plan_each(gpus, assignments, rules);
    if plan.invalid.is_empty() { Ok(plan) } else { Err(plan.invalid.remove(0)) }
}

/// Plans each GPU by itself: what of the input does not fit one of them, or is not
/// on this host, leaves the plans of the others as they are.
pub fn plan_each(gpus: &[Gpu], assignments: &[Assignment], rules: PlanRules) -> ProfilePlan {
    // virtual functions that are not enabled yet are planned where they will be
    let future: Vec<Gpu> = gpus.iter().map(|gpu| with_vfs(gpu, assignments)).collect();
    let Requests { by_gpu: requests, warnings, invalid } = assign(&future, assignments);
    let mut plan = ProfilePlan { warnings, invalid, ..ProfilePlan::default() };
    for (gpu, before) in future.iter().zip(gpus) {
        let Some(request) = requests.get(&gpu.address) else { continue };
        if gpu.functions.len() != before.functions.len() {
            plan.enable.push(gpu.address);
        }
        if let Some(objection) = unfit_gpu(gpu, before) {
            plan.objections.push(objection);
            continue;
        }
        let of_gpu = match gpu.interface() {
            Some(VgpuInterface::Mdev) => mdev::plan(gpu, request, rules),
            _ => vendor::plan(gpu, request, rules),
        };
        plan.heterogeneous.extend(of_gpu.heterogeneous);
        plan.steps.extend(of_gpu.steps);
        plan.objections.extend(of_gpu.objections);
        plan.notes.extend(of_gpu.notes);
    }
    plan
}

/// The GPU with the virtual functions that it would have once they are enabled.
fn with_vfs(gpu: &Gpu, assignments: &[Assignment]) -> Gpu {
    let mut gpu = gpu.clone();
    let Some((offset, stride)) = gpu
        .vf_offset
        .filter(|_| gpu.functions.is_empty() && gpu.total_vfs > 0 && can_have_vfs(&gpu))
    else {
        return gpu;
    };
    let functions: Vec<VgpuFunction> = (0..gpu.total_vfs)
        .map(|index| VgpuFunction {
            interface: Some(VgpuInterface::Vendor),
            ..VgpuFunction::bare(vf_address(gpu.address, offset, stride, index), index)
        })
        .collect();
    let needed = |assignment: &Assignment| {
        assignment.profile != RequestedProfile::None
            && (assignment.address == gpu.address && assignment.count.is_some_and(|n| n > 0)
                || functions.iter().any(|function| function.address == assignment.address))
    };
    if assignments.iter().any(needed) {
        gpu.functions = functions;
    }
    gpu
}

/// The first GPU with virtual functions for vGPUs is the A100 (20b0); a T4 (1eb8) has
/// the capability in PCI configuration space and never a virtual function.
fn can_have_vfs(gpu: &Gpu) -> bool {
    gpu.device.is_none_or(|device| device >= 0x2000)
}

/// Where a VF will be: routing id plus offset plus index times stride (PCI
/// Express, SR-IOV capability). Once it is enabled, the kernel's link counts.
fn vf_address(pf: Address, offset: u32, stride: u32, index: u32) -> Address {
    let rid = u32::from(pf.bus) << 8 | u32::from(pf.device) << 3 | u32::from(pf.function);
    let rid = rid.wrapping_add(offset).wrapping_add(index.wrapping_mul(stride));
    Address {
        domain: pf.domain,
        bus: (rid >> 8) as u8,
        device: (rid >> 3 & 0x1f) as u8,
        function: (rid & 7) as u8,
    }
}

/// RTX A6000, A5000, A5500 and RTX 6000 Ada: they are sold with display outputs that are
/// on (NVIDIA's vGPU software user guide, "Switching the Mode of a GPU that Supports
/// Multiple Display Modes").
const DISPLAY_MODELS: [u16; 4] = [0x2230, 0x2231, 0x2233, 0x26b1];

/// Why a GPU as a whole cannot have profiles.
fn unfit_gpu(gpu: &Gpu, before: &Gpu) -> Option<PlanObjection> {
    let object = |why: String, hint: Hint| {
        Some(PlanObjection { gpu: gpu.address, address: gpu.address, why, hint })
    };
    if gpu.driver.as_deref() != Some("nvidia") {
        let why = match gpu.driver.as_deref() {
            Some(driver) => format!("is bound to {driver}, not to nvidia"),
            None => "is not bound to a driver".into(),
        };
        let words = "vGPUs need NVIDIA's vGPU host driver on the GPU";
        return object(
            why,
            Hint::command(gpu_vfio_bind::release(gpu.address.slot())).because(words),
        );
    }
    if gpu.functions.is_empty() && DISPLAY_MODELS.contains(&gpu.device.unwrap_or(0)) {
        let words = "switch its displays off with NVIDIA's displaymodeselector (--gpumode \
                     physical_display_disabled), and reboot";
        let why = "has no virtual functions: this model has none while its display outputs are on";
        return object(why.into(), Hint::words(words));
    }
    if gpu.functions.is_empty() && gpu.host_module == Some(false) {
        return object(NO_MODULE.into(), host_module_hint());
    }
    if gpu.functions.is_empty() {
        let words = "this GPU cannot have vGPUs, or its driver is not the vGPU host driver";
        return object(
            "has neither virtual functions nor mediated device types".into(),
            Hint::words(words),
        );
    }
    if before.functions.is_empty() && gpu.mig_instances > 0 {
        return object(
            "has MIG instances, and enabling its virtual functions would delete them".into(),
            Hint::words(
                "enable the virtual functions first, then create the MIG instances again, then \
                 set profiles",
            ),
        );
    }
    None
}
