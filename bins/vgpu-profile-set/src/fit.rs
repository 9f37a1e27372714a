//! Does it fit on the card? Framebuffer, one size a card, MIG instances.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::{Profile, short_name};

use crate::observe::Card;
use crate::plan::{Objection, Rules, Step, What};

/// Judges what a card would have after the steps. True: heterogeneous mode has
/// to be switched on, for which all that is set goes and comes back: the steps
/// are changed so.
pub fn check(
    card: &Card,
    steps: &mut Vec<Step>,
    rules: Rules,
    objections: &mut Vec<Objection>,
) -> bool {
    let before = objections.len();
    let mut object = |why: String, hint: String| {
        objections.push(Objection { card: card.address, address: card.address, why, hint });
    };
    let after = profiles_after(card, steps);
    let asks =
        steps.iter().any(|s| s.is_change() && matches!(&s.what, What::Vendor { to: Some(_), .. }));
    if !asks {
        return false;
    }
    let (mig, plain): (Vec<Profile>, Vec<Profile>) =
        after.into_iter().partition(|profile| profile.slices().is_some());
    mig_instances(card, &mig, &mut object);
    if !plain.is_empty() && card.mig_instances > 0 {
        let name = &plain[0];
        object(
            format!("{name} is time-sliced, and the GPU is in MIG mode"),
            "use MIG profiles, or switch MIG off".into(),
        );
    }
    let used: u64 = plain.iter().map(Profile::mib).sum();
    if let Some(total) = card.mib().filter(|total| used > *total) {
        let why = format!(
            "{} need {} GiB of framebuffer, the GPU has {} GiB",
            counted(&plain),
            gib(used),
            gib(total)
        );
        object(why, would_fit(card, &plain));
    }
    let sizes: BTreeSet<u64> = plain.iter().map(Profile::mib).collect();
    let mixed = sizes.len() > 1 && card.heterogeneous != Some(true);
    if mixed && !rules.heterogeneous {
        object(
            format!(
                "{} side by side: a GPU takes one framebuffer size unless it is in heterogeneous mode",
                counted(&plain)
            ),
            format!("--heterogeneous switches it on; with one size, {}", would_fit(card, &plain)),
        );
    }
    let switch = mixed && rules.heterogeneous;
    if switch {
        set_again(card, steps, &mut object);
    } else if !steps.iter().any(Step::clears) {
        offered(card, steps, &mut object);
    }
    switch && objections.len() == before
}

/// What all functions of the card would have; those whose name is unknown are
/// left out.
fn profiles_after(card: &Card, steps: &[Step]) -> Vec<Profile> {
    card.slots
        .iter()
        .filter_map(|slot| {
            let step = steps.iter().find(|step| step.address == slot.address);
            match step.map(|step| &step.what) {
                Some(What::Vendor { to, .. }) => to.as_ref()?.profile.clone(),
                _ => card.profile_of(slot.current),
            }
        })
        .collect()
}

/// Nothing goes away first, so what the driver lists now is the truth.
fn offered(card: &Card, steps: &[Step], object: &mut dyn FnMut(String, String)) {
    let Some(offers) = card.slots.iter().find_map(|slot| slot.offers.as_ref()) else { return };
    let asked = steps.iter().filter(|step| step.is_change()).filter_map(|step| match &step.what {
        What::Vendor { to, .. } => to.as_ref(),
        _ => None,
    });
    let missing: BTreeSet<&str> = asked
        .filter(|target| {
            !offers.iter().any(|offer| match target.id {
                Some(id) => offer.id == id,
                None => short_name(&offer.name) == target.name,
            })
        })
        .map(|target| target.name.as_str())
        .collect();
    if let Some(name) = missing.first() {
        let now: Vec<&str> = offers.iter().map(|offer| short_name(&offer.name)).collect();
        let now = if now.is_empty() { "nothing more".into() } else { now.join(" ") };
        object(format!("the driver does not offer {name} now"), format!("it offers {now}"));
    }
}

/// Heterogeneous mode can be switched on only while nothing is set: what stays
/// is cleared and set again, unless somebody uses it.
fn set_again(card: &Card, steps: &mut Vec<Step>, object: &mut dyn FnMut(String, String)) {
    for slot in card.slots.iter().filter(|slot| slot.current != 0) {
        if let Some(holder) = &slot.holder {
            object(
                format!(
                    "heterogeneous mode can be switched on only while nothing is set, and {} is in \
                     use by {}",
                    slot.address,
                    crate::holders::words(holder)
                ),
                "stop the VM first".into(),
            );
            return;
        }
        match steps.iter_mut().find(|step| step.address == slot.address) {
            Some(step) => {
                if let What::Vendor { from, to: Some(target), again, .. } = &mut step.what {
                    *again = target.id == Some(*from);
                }
            }
            None => {
                let name = card.name_of(slot.current).map(str::to_string);
                let target = crate::plan::Target {
                    name: name.clone().unwrap_or_else(|| format!("id {}", slot.current)),
                    id: Some(slot.current),
                    profile: card.profile_of(slot.current),
                };
                let what = What::Vendor {
                    from: slot.current,
                    from_name: name,
                    to: Some(target),
                    again: true,
                };
                steps.push(Step { card: card.address, address: slot.address, what });
            }
        }
    }
}

/// Enough instances: each holds vGPUs of one size, as many as fit into it.
fn mig_instances(card: &Card, mig: &[Profile], object: &mut dyn FnMut(String, String)) {
    let Some(first) = mig.first() else { return };
    let order = "nvidia-smi -mig 1, sriov-manage -e, nvidia-smi mig -cgi ... -C, then profiles";
    if card.mig_instances == 0 {
        let why = format!("{first} lives in a MIG instance, and the GPU has none");
        return object(why, format!("in this order: {order}"));
    }
    let mut kinds: BTreeMap<(Option<u32>, u64), u64> = BTreeMap::new();
    for profile in mig {
        *kinds.entry((profile.slices(), profile.mib())).or_default() += 1;
    }
    let known =
        || card.types.values().filter_map(|name| Profile::parse(name)).chain(mig.iter().cloned());
    let needed: u64 = kinds
        .iter()
        .map(|((slices, mib), n)| {
            let room =
                known().filter(|p| p.slices() == *slices).map(|p| p.mib()).max().unwrap_or(*mib);
            n.div_ceil((room / mib).max(1))
        })
        .sum();
    if needed > u64::from(card.mig_instances) {
        let why = format!(
            "{} need {needed} MIG instances, the GPU has {}",
            counted(mig),
            card.mig_instances
        );
        object(why, "make more (nvidia-smi mig -cgi ... -C), or ask for fewer".into());
    }
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

/// How many of each asked profile the card takes alone.
fn would_fit(card: &Card, profiles: &[Profile]) -> String {
    let names: BTreeSet<&Profile> = profiles.iter().collect();
    if card.mib().is_none() {
        // a full card does not list its largest profile
        let words: Vec<&str> = names.iter().map(|profile| profile.short()).collect();
        return format!("only one of {} can be", words.join(", "));
    }
    let most = |profile: &Profile| {
        let by_memory = card.mib().map_or(u64::MAX, |total| total / profile.mib());
        by_memory.min(card.slots.len() as u64)
    };
    let words: Vec<String> = names.iter().map(|p| format!("{} x {p}", most(p))).collect();
    format!("{} would fit", words.join(", or "))
}
