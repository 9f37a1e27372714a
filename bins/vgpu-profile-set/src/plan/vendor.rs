//! Steps of a GPU whose functions have `current_vgpu_type`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use advice::external;
use advice::gpu_vfio_bind::{self, ReleaseOptions};
use record::{Address, Hint};

use crate::observe::model::{Gpu, VgpuFunction};
use crate::plan::capacity;
use crate::plan::functions::{choose_functions, has_profile};
use crate::plan::model::{
    GpuRequest, PlanObjection, PlanRules, ProfileChange, ProfilePlan, ProfileStep, TargetProfile,
    in_use, shown_profile, use_unknown,
};

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
    let mut steps = Vec::new();
    for function in &gpu.functions {
        let Some(to) = targets.get(&function.address) else { continue };
        match step(gpu, function, to.clone(), rules) {
            Ok(step) => steps.push(step),
            Err(objection) => plan.objections.push(objection),
        }
    }
    let fit = capacity::check(gpu, steps, rules);
    plan.steps = fit.steps;
    plan.objections.extend(fit.objections);
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
    match objection(function, &step, rules) {
        None => Ok(step),
        Some((why, hint)) if rules.skip_in_use => {
            let change = ProfileChange::Skip { from: from_shown, to: to_shown, why, hint };
            Ok(ProfileStep { change, ..step })
        }
        Some((why, hint)) => Err(PlanObjection { gpu: gpu.address, address, why, hint }),
    }
}

/// Why a function must be left alone, and what to do about it.
fn objection(
    function: &VgpuFunction,
    step: &ProfileStep,
    rules: PlanRules,
) -> Option<(String, Hint)> {
    let disable_and_enable = || {
        Hint::commands([
            external::sriov_manage_disable(step.gpu),
            external::sriov_manage_enable(step.gpu),
        ])
    };
    // with skip_in_use a right profile is right, whoever set it
    let right = rules.skip_in_use && step.is_unchanged();
    if !function.managed_by.is_empty() && !right {
        let vms: Vec<String> = function.managed_by.iter().map(u32::to_string).collect();
        let why = format!(
            "belongs to VM {}: Proxmox VE sets its profile when the VM starts and clears it when \
             the VM stops",
            vms.join(", ")
        );
        return Some((
            why,
            Hint::words("leave it out, or remove mdev= from the VM's hostpci line"),
        ));
    }
    if let Some(why) = function.vms_unknown.as_ref().filter(|_| step.is_change()) {
        let why = format!("whether Proxmox VE manages its profile is unknown: {why}");
        return Some((why, Hint::words("run it as root, with /etc/pve readable")));
    }
    if function.interface.is_none() {
        let why = match function.driver.as_deref() {
            Some(driver) => format!("has no vGPU files: it is bound to {driver}, not to nvidia"),
            None => "has no vGPU files: it is not bound to a driver".into(),
        };
        let one = gpu_vfio_bind::release_with(
            &[function.address.to_string()],
            &ReleaseOptions { to: Some("nvidia".into()), timeout: None },
        );
        return Some((why, Hint::command(one)));
    }
    if let Some(why) = &function.unreadable {
        let words = "this makes the GPU's virtual functions again and clears their profiles";
        return Some((why.clone(), disable_and_enable().because(words)));
    }
    if let Some(holder) = function.holder.as_ref().filter(|_| step.is_change()) {
        return Some(in_use(holder));
    }
    if step.clears()
        && let Some(why) = &function.users_unknown
    {
        return Some(use_unknown(why));
    }
    None
}
