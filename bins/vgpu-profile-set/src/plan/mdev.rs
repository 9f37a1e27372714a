//! Steps of a GPU whose functions have `mdev_supported_types`: mediated devices,
//! on older GPUs and kernels.

use std::collections::{BTreeMap, BTreeSet};

use advice::{external, vgpu_profile_set};
use nvidia::Profile;
use record::{Address, Hint};

use crate::observe::model::{Gpu, Mdev, VgpuFunction};
use crate::plan::capacity;
use crate::plan::model::{
    GpuRequest, LeaveAlone, PlanObjection, PlanRules, ProfileChange, ProfilePlan, ProfileStep,
    TargetProfile, in_use, use_unknown,
};

/// Plans one GPU.
pub(crate) fn plan(gpu: &Gpu, request: &GpuRequest, rules: PlanRules) -> ProfilePlan {
    let mut plan = ProfilePlan::default();
    match targets_by_parent(gpu, request) {
        Ok(targets) => {
            for (function, targets) in targets {
                let by_function = request.counted.is_none();
                plan_parent(gpu, function, &targets, by_function, rules, &mut plan);
            }
            check(gpu, &mut plan);
        }
        Err(objection) => plan.objections.push(objection),
    }
    plan
}

/// Checks what the GPU would have: the framebuffer is one for all its functions, and
/// so is the framebuffer size of its vGPUs.
fn check(gpu: &Gpu, plan: &mut ProfilePlan) {
    let makes = |step: &ProfileStep| {
        step.is_change() && matches!(&step.change, ProfileChange::Mdev { to: Some(_), .. })
    };
    if !plan.steps.iter().any(makes) {
        return;
    }
    let after = profiles_after(gpu, &plan.steps);
    let unnamed = after.iter().filter(|profile| profile.is_none()).count();
    let after: Vec<Profile> = after.into_iter().flatten().collect();
    plan.notes.extend(capacity::unchecked(gpu, &after, unnamed));
    let sizes: BTreeSet<u64> = after.iter().map(Profile::mib).collect();
    let mixed = sizes.len() > 1 && gpu.heterogeneous != Some(true) && !has_mixed_sizes(gpu);
    let found =
        [capacity::fits(gpu, &after), Some(capacity::one_size(gpu, &after)).filter(|_| mixed)];
    let reasons = found.into_iter().flatten();
    plan.objections.extend(reasons.map(|(why, hint)| object(gpu, gpu.address, why, hint)));
}

/// What all functions of the GPU would have; `None` for a type without a readable name.
fn profiles_after(gpu: &Gpu, steps: &[ProfileStep]) -> Vec<Option<Profile>> {
    let mut after = Vec::new();
    for function in &gpu.functions {
        let profile = |dir: &str| Profile::parse(&function.mdev_type(dir)?.name);
        let changes: Vec<&ProfileChange> = steps
            .iter()
            .filter(|step| step.address == function.address)
            .map(|step| &step.change)
            .collect();
        let changed = |mdev: &&Mdev| {
            !changes.iter().any(
                |change| matches!(change, ProfileChange::Mdev { uuid, .. } if *uuid == mdev.uuid),
            )
        };
        after.extend(function.mdevs.iter().filter(changed).map(|mdev| profile(&mdev.dir)));
        after.extend(changes.iter().filter_map(|change| match change {
            ProfileChange::Mdev { to: Some((dir, _)), .. } => Some(profile(dir)),
            _ => None,
        }));
    }
    after
}

/// Different sizes exist side by side: the GPU is in heterogeneous mode.
fn has_mixed_sizes(gpu: &Gpu) -> bool {
    let sizes: BTreeSet<Option<u64>> =
        profiles_after(gpu, &[]).iter().map(|of| of.as_ref().map(Profile::mib)).collect();
    sizes.len() > 1
}

fn object(gpu: &Gpu, address: Address, why: String, hint: Hint) -> PlanObjection {
    PlanObjection { gpu: gpu.address, address, why, hint }
}

type ParentTargets<'a> = Vec<(&'a VgpuFunction, Vec<&'a TargetProfile>)>;

/// The devices that each parent is to have.
fn targets_by_parent<'a>(
    gpu: &'a Gpu,
    request: &'a GpuRequest,
) -> Result<ParentTargets<'a>, PlanObjection> {
    let Some(counted) = &request.counted else {
        let of = |(address, target): &'a (Address, Option<TargetProfile>)| {
            let function = gpu.functions.iter().find(|f| f.address == *address)?;
            Some((function, target.iter().collect()))
        };
        return Ok(request.explicit.iter().filter_map(of).collect());
    };
    let all: Vec<&TargetProfile> =
        counted.iter().flat_map(|(t, n)| std::iter::repeat_n(t, *n as usize)).collect();
    match gpu.functions.as_slice() {
        [function] if function.address == gpu.address => Ok(vec![(function, all)]),
        functions => one_each(gpu, functions, all),
    }
}

/// One device on each virtual function, on those first that have it. A function with
/// the device of another program is not available, and neither is one in use.
fn one_each<'a>(
    gpu: &'a Gpu,
    functions: &'a [VgpuFunction],
    mut left: Vec<&'a TargetProfile>,
) -> Result<ParentTargets<'a>, PlanObjection> {
    let count = left.len();
    let mut targets: ParentTargets<'a> = Vec::new();
    let mut free: Vec<&VgpuFunction> = Vec::new();
    let mut taken = 0;
    for function in functions {
        let right = function.mdevs.first().and_then(|mdev| {
            left.iter().position(|target| mdev.ours.is_some() && has_type(function, mdev, target))
        });
        let foreign = function.mdevs.iter().any(|m| m.ours.is_none() || m.holder.is_some());
        match right {
            Some(at) => targets.push((function, vec![left.remove(at)])),
            None if foreign => taken += 1,
            None => free.push(function),
        }
    }
    if left.len() > free.len() {
        let why = format!(
            "{count} vGPUs need as many virtual functions: {} of {} are available",
            free.len() + targets.len(),
            functions.len()
        );
        let words = match taken {
            0 => "request fewer vGPUs".to_string(),
            n => format!("request fewer vGPUs; {n} have another program's device or are in use"),
        };
        return Err(object(gpu, gpu.address, why, Hint::words(words)));
    }
    let mut left = left.into_iter();
    targets.extend(free.into_iter().map(|function| (function, left.next().into_iter().collect())));
    targets.sort_by_key(|(function, _)| function.index);
    Ok(targets)
}

/// Whether a device has this profile.
fn has_type(function: &VgpuFunction, mdev: &Mdev, target: &TargetProfile) -> bool {
    let of = function.mdev_type(&mdev.dir);
    of.is_some_and(|of| {
        target.id == Some(of.id)
            || target.id.is_none() && nvidia::short_name(&of.name) == target.name
    })
}

/// Which of the targets each number gets: first those that have it already, so that no
/// device is made again for its place in a list.
fn by_number<'a>(
    function: &VgpuFunction,
    targets: &[&'a TargetProfile],
) -> BTreeMap<u32, &'a TargetProfile> {
    let mut left: Vec<&TargetProfile> = targets.to_vec();
    let mut chosen = BTreeMap::new();
    for (number, mdev) in function.mdevs.iter().filter_map(|mdev| Some((mdev.ours?, mdev))) {
        if let Some(at) = left.iter().position(|target| has_type(function, mdev, target)) {
            chosen.insert(number, left.remove(at));
        }
    }
    let mut left = left.into_iter();
    for number in 0.. {
        if let std::collections::btree_map::Entry::Vacant(e) = chosen.entry(number) {
            let Some(target) = left.next() else { break };
            e.insert(target);
        }
    }
    chosen
}

/// The devices of one parent. Devices that another program made are left alone,
/// and counted.
fn plan_parent(
    gpu: &Gpu,
    function: &VgpuFunction,
    targets: &[&TargetProfile],
    by_function: bool,
    rules: PlanRules,
    plan: &mut ProfilePlan,
) {
    let mut steps = Vec::new();
    // by count, the devices of others are no part of the request
    let request_is_none = by_function && targets.is_empty();
    let targets = by_number(function, targets);
    let numbers = function.mdevs.iter().filter_map(|mdev| mdev.ours);
    let numbers: BTreeSet<u32> = numbers.chain(targets.keys().copied()).collect();
    for number in numbers {
        let have = function.mdevs.iter().find(|mdev| mdev.ours == Some(number));
        match device_step(gpu, function, number, have, targets.get(&number), rules) {
            Ok(step) => steps.extend(step),
            Err(objection) => plan.objections.push(objection),
        }
    }
    if request_is_none {
        let foreign = function.mdevs.iter().filter(|mdev| mdev.ours.is_none());
        steps.extend(foreign.map(|mdev| foreign_step(gpu, function, mdev)));
    }
    plan.objections.extend(too_many(gpu, function, &steps));
    plan.steps.extend(steps);
}

/// A device that another program made, where none is requested: it is left alone.
fn foreign_step(gpu: &Gpu, function: &VgpuFunction, mdev: &Mdev) -> ProfileStep {
    let uuid = &mdev.uuid;
    let (why, hint) = match mdev.pve_vm() {
        Some(vm) => (
            format!("mediated device {uuid} belongs to VM {vm}: Proxmox VE makes and removes it"),
            Hint::command(external::qm_shutdown(vm)),
        ),
        None => (
            format!("mediated device {uuid} was made by another program"),
            Hint::words("remove it with the program that made it"),
        ),
    };
    let of = function.mdev_type(&mdev.dir);
    let from = of.map_or_else(|| mdev.dir.clone(), |of| nvidia::short_name(&of.name).to_string());
    let change = ProfileChange::Skip { from: Some(from), to: None, why, hint, unknown: false };
    ProfileStep { gpu: gpu.address, address: function.address, change }
}

fn device_step(
    gpu: &Gpu,
    function: &VgpuFunction,
    number: u32,
    have: Option<&Mdev>,
    target: Option<&&TargetProfile>,
    rules: PlanRules,
) -> Result<Option<ProfileStep>, PlanObjection> {
    let name = |dir: &str| {
        let of = function.mdev_type(dir);
        of.map_or_else(|| dir.to_string(), |of| nvidia::short_name(&of.name).to_string())
    };
    let from = have.map(|mdev| (mdev.dir.clone(), name(&mdev.dir)));
    let to = match target {
        None => None,
        Some(target) => {
            let of = function
                .mdev_types
                .iter()
                .find(|of| target.id == Some(of.id) || nvidia::short_name(&of.name) == target.name);
            let of = of.ok_or_else(|| {
                let hint = Hint::command(vgpu_profile_set::list_types(gpu.address));
                object(gpu, function.address, format!("has no type {}", target.name), hint)
            })?;
            Some((of.dir.clone(), target.name.clone()))
        }
    };
    if from.is_none() && to.is_none() {
        return Ok(None);
    }
    let uuid = Mdev::uuid_of(function.address, number);
    let holder = have.and_then(|mdev| mdev.holder.as_ref()).filter(|_| from != to);
    let unknown = function.users_unknown.as_ref().filter(|_| from.is_some() && from != to);
    let reason = holder.map(in_use).or_else(|| unknown.map(|why| use_unknown(why)));
    let change = match reason {
        None => ProfileChange::Mdev { uuid, from, to },
        Some(LeaveAlone { why, hint, unknown }) => {
            let why = format!("{uuid} {why}");
            if !rules.skip_in_use {
                return Err(object(gpu, function.address, why, hint));
            }
            let (from, to) = (from.map(|(_, name)| name), to.map(|(_, name)| name));
            ProfileChange::Skip { from, to, why, hint, unknown }
        }
    };
    Ok(Some(ProfileStep { gpu: gpu.address, address: function.address, change }))
}

/// `available_instances` is valid where no device is removed first.
fn too_many(gpu: &Gpu, function: &VgpuFunction, steps: &[ProfileStep]) -> Vec<PlanObjection> {
    if steps.iter().any(ProfileStep::clears) {
        return Vec::new();
    }
    let of_type = |dir: &str| {
        let makes = |step: &&ProfileStep| {
            step.is_change()
                && matches!(&step.change, ProfileChange::Mdev { to: Some((to, _)), .. } if to == dir)
        };
        steps.iter().filter(makes).count() as u32
    };
    let mut objections = Vec::new();
    for of in &function.mdev_types {
        let requested = of_type(&of.dir);
        if requested > of.available {
            let short = nvidia::short_name(&of.name);
            let why = format!("{requested} x {short} requested, {} available", of.available);
            let hint = match of.most {
                Some(most) => format!("{most} x {short} would fit on an empty GPU"),
                None => "remove other mediated devices first".into(),
            };
            objections.push(object(gpu, function.address, why, Hint::words(hint)));
        }
    }
    objections
}
