//! Whether all of it fits on the GPU: framebuffer, one framebuffer size on each
//! GPU, MIG instances.

use std::collections::{BTreeMap, BTreeSet};

use advice::external;
use nvidia::{Profile, short_name};
use record::Hint;

use crate::observe::model::Gpu;
use crate::plan::boards::mig_slices;
use crate::plan::model::{
    LeaveAlone, PlanNote, PlanObjection, PlanRules, ProfileChange, ProfileStep, TargetProfile,
    in_use, use_unknown,
};
use crate::plan::room::{most, total_mib};

/// The steps of a GPU after the check.
pub(crate) struct CapacityCheck {
    pub steps: Vec<ProfileStep>,
    pub objections: Vec<PlanObjection>,
    pub notes: Vec<PlanNote>,
    /// Heterogeneous mode has to be turned on, for which the steps clear all
    /// profiles and set them again.
    pub turn_heterogeneous_on: bool,
}

/// Checks what a GPU would have after the steps.
pub(crate) fn check(gpu: &Gpu, steps: Vec<ProfileStep>, rules: PlanRules) -> CapacityCheck {
    let mut check = CapacityCheck {
        steps,
        objections: Vec::new(),
        notes: Vec::new(),
        turn_heterogeneous_on: false,
    };
    let sets = |step: &ProfileStep| {
        step.is_change() && matches!(&step.change, ProfileChange::Vendor { to: Some(_), .. })
    };
    if !check.steps.iter().any(sets) {
        return check;
    }
    let after = profiles_after(gpu, &check.steps);
    let unnamed = after.iter().filter(|profile| profile.is_none()).count();
    let (mig, plain): (Vec<Profile>, Vec<Profile>) =
        after.into_iter().flatten().partition(|profile| profile.slices().is_some());
    check.notes.extend(unchecked(gpu, &plain, unnamed));
    let sizes: BTreeSet<u64> = plain.iter().map(Profile::mib).collect();
    let mode = gpu.heterogeneous.or_else(|| gpu.shows_heterogeneous());
    let mixed = sizes.len() > 1 && mode != Some(true);
    // nothing is cleared for a mode that cannot be turned on; virtual functions that are
    // not enabled yet have nothing to clear, and no mode
    let exist = gpu.functions.iter().any(|f| f.current != 0 || f.offers.is_some());
    let unknown = mixed && rules.heterogeneous && mode.is_none() && exist;
    let found = [
        mig_instances(gpu, &mig),
        mig_mode(gpu, &plain),
        fits(gpu, &plain),
        Some(one_size(gpu, &plain)).filter(|_| mixed && !rules.heterogeneous),
        Some(unknown_mode(gpu, &plain)).filter(|_| unknown),
    ];
    let object = |(why, hint)| PlanObjection { gpu: gpu.address, address: gpu.address, why, hint };
    check.objections.extend(found.into_iter().flatten().map(object));
    if unknown {
        return check;
    }
    if mixed && rules.heterogeneous {
        let objection = set_again(gpu, &mut check.steps);
        check.objections.extend(objection.map(object));
        check.turn_heterogeneous_on = check.objections.is_empty();
    } else if !check.steps.iter().any(ProfileStep::clears) {
        check.objections.extend(offered(gpu, &check.steps).map(object));
    }
    check
}

/// A reason without its address.
pub(crate) type Reason = (String, Hint);

fn mig_mode(gpu: &Gpu, plain: &[Profile]) -> Option<Reason> {
    let name = plain.first().filter(|_| gpu.planned_mig_instances() > 0)?;
    let why = format!("{name} is time-sliced, and the GPU is in MIG mode");
    Some((why, Hint::words("use MIG profiles, or turn MIG mode off")))
}

/// What cannot be checked, because something is unknown.
pub(crate) fn unchecked(gpu: &Gpu, plain: &[Profile], unnamed: usize) -> Option<PlanNote> {
    let missing = match (unnamed, total_mib(gpu, plain)) {
        (0, None) if !plain.is_empty() => "the GPU's framebuffer is unknown".to_string(),
        (0, _) => return None,
        (n, _) => format!("the names of {n} profiles that are set are unknown"),
    };
    let text = format!("whether all vGPUs fit cannot be checked: {missing}");
    let words = "nvidia-smi would show it; the driver refuses what does not fit";
    Some(PlanNote::warning(gpu.address, text, Hint::words(words)))
}

/// Whether the framebuffer is enough for these vGPUs, and the GPU takes so many.
pub(crate) fn fits(gpu: &Gpu, plain: &[Profile]) -> Option<Reason> {
    framebuffer(gpu, plain).or_else(|| too_many(gpu, plain))
}

/// More than the driver takes of a profile, whatever the framebuffer.
fn too_many(gpu: &Gpu, plain: &[Profile]) -> Option<Reason> {
    let names: BTreeSet<&Profile> = plain.iter().collect();
    for profile in names {
        let count = plain.iter().filter(|other| *other == profile).count() as u64;
        if let Some(most) = most(gpu, profile).filter(|most| count > *most) {
            let why = format!("{}: a GPU takes at most {most} x {profile}", counted(plain));
            return Some((why, Hint::words(would_fit(gpu, plain))));
        }
    }
    None
}

fn framebuffer(gpu: &Gpu, plain: &[Profile]) -> Option<Reason> {
    let used: u64 = plain.iter().map(Profile::mib).sum();
    let total = total_mib(gpu, plain).filter(|total| used > *total)?;
    let why = format!(
        "{} need {} GiB of framebuffer, the GPU has {} GiB",
        counted(plain),
        gib(used),
        gib(total)
    );
    Some((why, Hint::words(would_fit(gpu, plain))))
}

pub(crate) fn one_size(gpu: &Gpu, plain: &[Profile]) -> Reason {
    let why = format!("{}: different framebuffer sizes need heterogeneous mode", counted(plain));
    let words = format!(
        "turn it on with --heterogeneous, or use one framebuffer size: {}",
        would_fit(gpu, plain)
    );
    (why, Hint::words(words))
}

fn unknown_mode(gpu: &Gpu, plain: &[Profile]) -> Reason {
    let why = format!(
        "{}: different framebuffer sizes need heterogeneous mode, and nvidia-smi does not show \
         whether this GPU has it",
        counted(plain)
    );
    let words = format!(
        "turn it on where nvidia-smi is installed (nvidia-smi vgpu -shm 1 -i {}) while no profile \
         is set, or use one framebuffer size: {}",
        gpu.address,
        would_fit(gpu, plain)
    );
    (why, Hint::words(words))
}

/// What all functions of the GPU would have; `None` for a profile whose name is
/// unknown.
fn profiles_after(gpu: &Gpu, steps: &[ProfileStep]) -> Vec<Option<Profile>> {
    gpu.functions
        .iter()
        .filter_map(|function| {
            let step = steps.iter().find(|step| step.address == function.address);
            match step.map(|step| &step.change) {
                Some(ProfileChange::Vendor { to, .. }) => Some(to.as_ref()?.profile.clone()),
                _ if function.current == 0 => None,
                _ => Some(gpu.profile_of(function.current)),
            }
        })
        .collect()
}

/// Where no profile is cleared first, only profiles of the driver's list fit.
fn offered(gpu: &Gpu, steps: &[ProfileStep]) -> Option<Reason> {
    let offers = gpu.functions.iter().find_map(|function| function.offers.as_ref())?;
    let targets =
        steps.iter().filter(|step| step.is_change()).filter_map(|step| match &step.change {
            ProfileChange::Vendor { to, .. } => to.as_ref(),
            _ => None,
        });
    let missing: BTreeSet<&str> = targets
        .filter(|target| {
            !offers.iter().any(|offer| match target.id {
                Some(id) => offer.id == id,
                None => short_name(&offer.name) == target.name,
            })
        })
        .map(|target| target.name.as_str())
        .collect();
    let name = missing.first()?;
    let now: Vec<&str> = offers.iter().map(|offer| short_name(&offer.name)).collect();
    let now = if now.is_empty() { "nothing".into() } else { now.join(" ") };
    let why = format!("the driver does not offer {name} on this GPU now");
    Some((why, Hint::words(format!("the driver offers {now}"))))
}

/// Heterogeneous mode can be turned on only while no profile is set: profiles
/// that stay are cleared and set again, unless one is in use.
fn set_again(gpu: &Gpu, steps: &mut Vec<ProfileStep>) -> Option<Reason> {
    for function in gpu.functions.iter().filter(|function| function.current != 0) {
        let leave = function.holder.as_ref().map(in_use);
        let leave = leave.or_else(|| function.users_unknown.as_deref().map(use_unknown));
        if let Some(LeaveAlone { why, hint, .. }) = leave {
            let why = format!(
                "heterogeneous mode can be turned on only while no profile is set, and {} {why}",
                function.address
            );
            return Some((why, hint));
        }
        match steps.iter_mut().find(|step| step.address == function.address) {
            Some(step) => {
                if let ProfileChange::Vendor { from, to: Some(target), again, .. } =
                    &mut step.change
                {
                    *again = target.id == Some(*from);
                }
            }
            None => {
                let name = gpu.name_of(function.current).map(str::to_string);
                let target = TargetProfile {
                    name: name.clone().unwrap_or_else(|| format!("id {}", function.current)),
                    id: Some(function.current),
                    profile: gpu.profile_of(function.current),
                };
                let change = ProfileChange::Vendor {
                    from: function.current,
                    from_name: name,
                    to: Some(target),
                    again: true,
                };
                steps.push(ProfileStep { gpu: gpu.address, address: function.address, change });
            }
        }
    }
    None
}

/// Enough instances: each holds vGPUs of one size, as many as fit into it.
fn mig_instances(gpu: &Gpu, mig: &[Profile]) -> Option<Reason> {
    let first = mig.first()?;
    if gpu.planned_mig_instances() == 0 {
        let why = format!("{first} needs a MIG instance, and the GPU has none");
        let hint = Hint::commands([
            external::nvidia_smi_mig_mode(gpu.address, true),
            external::sriov_manage_enable(gpu.address),
            external::nvidia_smi_mig_profiles(gpu.address),
        ]);
        let words = "then create MIG instances (nvidia-smi mig -cgi) and set the profiles";
        return Some((why, hint.because(words)));
    }
    let mut kinds: BTreeMap<(Option<u32>, u64), u64> = BTreeMap::new();
    for profile in mig {
        *kinds.entry((profile.slices(), profile.mib())).or_default() += 1;
    }
    let known =
        || gpu.types.values().filter_map(|name| Profile::parse(name)).chain(mig.iter().cloned());
    let instances: Vec<(u32, u64)> = kinds
        .iter()
        .map(|((slices, mib), n)| {
            let room =
                known().filter(|p| p.slices() == *slices).map(|p| p.mib()).max().unwrap_or(*mib);
            (slices.unwrap_or(1), n.div_ceil((room / mib).max(1)))
        })
        .collect();
    let needed: u64 = instances.iter().map(|(_, n)| n).sum();
    let slices: u64 = instances.iter().map(|(slices, n)| u64::from(*slices) * n).sum();
    if let Some(most) = mig_slices(first).filter(|most| slices > u64::from(*most)) {
        let why = format!("{} need {slices} MIG slices, the GPU has {most}", counted(mig));
        return Some((why, Hint::words("request fewer or smaller vGPUs")));
    }
    if needed <= u64::from(gpu.planned_mig_instances()) {
        return None;
    }
    let why = format!(
        "{} need {needed} MIG instances, the GPU has {}",
        counted(mig),
        gpu.planned_mig_instances()
    );
    let words = "request fewer vGPUs, or create more MIG instances (nvidia-smi mig -cgi)";
    Some((why, Hint::command(external::nvidia_smi_mig_profiles(gpu.address)).because(words)))
}

fn gib(mib: u64) -> String {
    match mib % 1024 {
        0 => (mib / 1024).to_string(),
        _ => format!("{:.1}", mib as f64 / 1024.0),
    }
}

/// `3 x L40S-24Q and 1 x L40S-12Q`.
fn counted(profiles: &[Profile]) -> String {
    let mut counts: BTreeMap<&Profile, usize> = BTreeMap::new();
    for profile in profiles {
        *counts.entry(profile).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(p, n)| format!("{n} x {p}")).collect();
    words.join(" and ")
}

/// How many of each requested profile fit if the GPU has no other.
fn would_fit(gpu: &Gpu, profiles: &[Profile]) -> String {
    let names: BTreeSet<&Profile> = profiles.iter().collect();
    let Some(total) = total_mib(gpu, profiles) else {
        // a full GPU does not list its largest profile
        let words: Vec<&str> = names.iter().map(|profile| profile.short()).collect();
        return format!("only one of {} can be set", words.join(", "));
    };
    // one GPU may be the parent of all its mediated devices
    let functions = match gpu.functions.as_slice() {
        [own] if own.address == gpu.address => u64::MAX,
        functions => functions.len() as u64,
    };
    let fit = |profile: &Profile| {
        (total / profile.mib()).min(functions).min(most(gpu, profile).unwrap_or(u64::MAX))
    };
    let words: Vec<String> = names.iter().map(|p| format!("{} x {p}", fit(p))).collect();
    format!("{} would fit", words.join(", or "))
}
