//! Steps of a GPU whose functions have `mdev_supported_types`: mediated devices,
//! on older GPUs and kernels.

use advice::{external, vgpu_profile_set};
use record::{Address, Hint};

use crate::observe::model::{Gpu, Mdev, VgpuFunction};
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
        }
        Err(objection) => plan.objections.push(objection),
    }
    plan
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
        // one on each virtual function
        functions if all.len() <= functions.len() => {
            let one = |at: usize| all.get(at).copied().into_iter().collect();
            Ok(functions.iter().enumerate().map(|(at, function)| (function, one(at))).collect())
        }
        functions => {
            let why = format!(
                "{} vGPUs need as many virtual functions: {} are available",
                all.len(),
                functions.len()
            );
            Err(object(gpu, gpu.address, why, Hint::words("request fewer vGPUs")))
        }
    }
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
    let last = function.mdevs.iter().filter_map(|mdev| mdev.ours).max().map_or(0, |n| n + 1);
    for number in 0..last.max(targets.len() as u32) {
        let have = function.mdevs.iter().find(|mdev| mdev.ours == Some(number));
        match device_step(gpu, function, number, have, targets.get(number as usize), rules) {
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
    let (why, hint) = match pve_vm(uuid) {
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

/// The VM of a device that Proxmox VE made: `00000000-0000-0000-0000-000000000100`, the
/// number of the hostpci line and the VM's id (qemu-server, PCI/Mdev.pm).
fn pve_vm(uuid: &str) -> Option<u32> {
    let (line, vm) = uuid.split_once("-0000-0000-0000-")?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (line.len() == 8 && vm.len() == 12 && digits(line) && digits(vm)).then(|| vm.parse().ok())?
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
