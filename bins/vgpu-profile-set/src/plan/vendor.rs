//! Steps of a GPU whose functions have `current_vgpu_type`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use advice::external;
use advice::gpu_vfio_bind::{self, ReleaseOptions};
use record::{Address, Hint};

use crate::observe::model::{Gpu, VgpuFunction};
use crate::plan::capacity;
use crate::plan::functions::{choose_functions, has_profile};
use crate::plan::host_module::{NO_MODULE, host_module_hint};
use crate::plan::model::{
    GpuRequest, LeaveAlone, PlanObjection, PlanRules, ProfileChange, ProfilePlan, ProfileStep,
    TargetProfile, in_use, shown_profile, use_unknown,
};
use crate::plan::pve;

/// Plans one GPU.
pub(crate) fn plan(gpu: &Gpu, request: &GpuRequest, rules: PlanRules) -> ProfilePlan {
    let mut plan = ProfilePlan::default();
    let mut targets: BTreeMap<Address, Option<TargetProfile>> = BTreeMap::new();
    match &request.counted {
        None => targets.extend(request.explicit.iter().cloned()),
        Some(counted) => match choose_functions(gpu, counted) {
            Ok(chosen) => targets = chosen,
            Err(objection) => {
                plan.objections.push(objection);
                return plan;
            }
        },
    }
    // by count, a profile without a name may be any of those without an id
    let unsure = request.counted.iter().flatten().any(|(target, _)| target.id.is_none());
    let mut steps = Vec::new();
    for function in &gpu.functions {
        let Some(to) = targets.get(&function.address) else { continue };
        match step(gpu, function, to.clone(), unsure, rules) {
            Ok(step) => steps.push(step),
            Err(objection) => plan.objections.push(objection),
        }
    }
    let fit = capacity::check(gpu, steps, rules);
    plan.steps = fit.steps;
    plan.objections.extend(fit.objections);
    plan.notes = fit.notes;
    plan.notes.extend(plan.steps.iter().filter_map(|step| pve::note(gpu, step)));
    if fit.turn_heterogeneous_on {
        plan.heterogeneous.push(gpu.address);
    }
    if fit.turn_heterogeneous_on || gpu.heterogeneous == Some(true) {
        // small profiles first could leave no gap that a large one fits into
        plan.steps.sort_by_key(|step| match &step.change {
            ProfileChange::Vendor { to: Some(target), .. } => Reverse(target.mib()),
            _ => Reverse(0),
        });
    }
    plan
}

fn step(
    gpu: &Gpu,
    function: &VgpuFunction,
    to: Option<TargetProfile>,
    unsure: bool,
    rules: PlanRules,
) -> Result<ProfileStep, PlanObjection> {
    let address = function.address;
    let to = to.map(|target| match has_profile(gpu, function, &target) {
        true => TargetProfile { id: Some(function.current), ..target },
        false => target,
    });
    let from_name = gpu.name_of(function.current).map(str::to_string);
    let from_shown = shown_profile(function.current, from_name.as_deref());
    let to_shown = to.as_ref().map(|target| target.name.clone());
    let change = ProfileChange::Vendor { from: function.current, from_name, to, again: false };
    let step = ProfileStep { gpu: gpu.address, address, change };
    let unsure = match &step.change {
        ProfileChange::Vendor { from_name: None, to: Some(target), .. } => {
            target.id.is_none() || unsure
        }
        ProfileChange::Vendor { from_name: None, to: None, .. } => unsure,
        _ => false,
    };
    let nameless = (unsure && step.clears()).then(|| name_unknown(function.current));
    match nameless.or_else(|| objection(gpu.host_module, function, &step, rules)) {
        None => Ok(step),
        Some(LeaveAlone { why, hint, unknown }) if rules.skip_in_use => {
            let (from, to) = (from_shown, to_shown);
            let change = ProfileChange::Skip { from, to, why, hint, unknown };
            Ok(ProfileStep { change, ..step })
        }
        Some(LeaveAlone { why, hint, .. }) => {
            Err(PlanObjection { gpu: gpu.address, address, why, hint })
        }
    }
}

/// A profile of which only the id is known, where the request has a name only.
fn name_unknown(id: u32) -> LeaveAlone {
    let why = format!(
        "has the profile with id {id}, whose name is unknown: whether it is right cannot be said"
    );
    let words = "a full GPU lists no names: install nvidia-smi, or request the profile by its id";
    LeaveAlone { why, hint: Hint::words(words), unknown: true }
}

/// Why a function must be left alone, and what to do about it.
fn objection(
    host_module: Option<bool>,
    function: &VgpuFunction,
    step: &ProfileStep,
    rules: PlanRules,
) -> Option<LeaveAlone> {
    let leave = |why: String, hint: Hint| Some(LeaveAlone { why, hint, unknown: false });
    let disable_and_enable = || {
        Hint::commands([
            external::sriov_manage_disable(step.gpu),
            external::sriov_manage_enable(step.gpu),
        ])
    };
    // with skip_in_use a right profile is right, whoever set it
    let right = rules.skip_in_use && step.is_unchanged();
    let managed_by = function.managed_by();
    if !managed_by.is_empty() && !right {
        let vms: Vec<String> = managed_by.iter().map(u32::to_string).collect();
        let why = format!(
            "belongs to VM {}: Proxmox VE sets its profile when the VM starts and clears it when \
             the VM stops",
            vms.join(", ")
        );
        return leave(why, pve::own_profile(function));
    }
    if let Some(why) = function.vms_unknown.as_ref().filter(|_| step.is_change()) {
        let why = format!("whether Proxmox VE manages its profile is unknown: {why}");
        let hint = Hint::words("run it as root, with /etc/pve readable");
        return Some(LeaveAlone { why, hint, unknown: true });
    }
    if function.interface.is_none() && host_module == Some(false) {
        return leave(NO_MODULE.into(), host_module_hint());
    }
    if function.interface.is_none() {
        let why = match function.driver.as_deref() {
            Some(driver) => format!("has no vGPU files: it is bound to {driver}, not to nvidia"),
            None => "has no vGPU files: it is not bound to a driver".into(),
        };
        let one = gpu_vfio_bind::release_with(
            &[function.address.to_string()],
            &ReleaseOptions { to: Some("nvidia".into()), ..Default::default() },
        );
        return leave(why, Hint::command(one));
    }
    if let Some(why) = &function.unreadable {
        let words = "this makes the GPU's virtual functions again and clears their profiles";
        return leave(why.clone(), disable_and_enable().because(words));
    }
    if let Some(holder) = function.holder.as_ref().filter(|_| step.is_change()) {
        return Some(in_use(holder));
    }
    let unknown = function.users_unknown.as_ref().filter(|_| step.clears());
    unknown.map(|why| use_unknown(why))
}
