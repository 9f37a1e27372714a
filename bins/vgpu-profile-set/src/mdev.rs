//! Mediated devices, the way of older cards and kernels: planned in the same
//! form, with UUIDs that stay the same.

use record::Address;

use crate::holders;
use crate::observe::{Card, Slot};
use crate::plan::{Objection, Plan, Rules, Step, Target, What};
use crate::uuid;
use crate::wishes::Asked;

/// Plans a card whose functions have `mdev_supported_types`.
pub(crate) fn plan(card: &Card, asked: &Asked, rules: Rules, plan: &mut Plan) {
    let mut wanted: Vec<(&Slot, Vec<&Target>)> = Vec::new();
    match &asked.counted {
        None => {
            for (address, target) in &asked.explicit {
                if let Some(slot) = card.slots.iter().find(|slot| slot.address == *address) {
                    wanted.push((slot, target.iter().collect()));
                }
            }
        }
        Some(counted) => {
            let all: Vec<&Target> =
                counted.iter().flat_map(|(t, n)| std::iter::repeat_n(t, *n as usize)).collect();
            match card.slots.as_slice() {
                [slot] if slot.address == card.address => wanted.push((slot, all)),
                // one on each virtual function
                slots if all.len() <= slots.len() => {
                    let one = |at: usize| all.get(at).copied().into_iter().collect();
                    wanted.extend(slots.iter().enumerate().map(|(at, slot)| (slot, one(at))));
                }
                slots => {
                    let why = format!(
                        "{} vGPUs need as many virtual functions: there are {}",
                        all.len(),
                        slots.len()
                    );
                    return plan.objections.push(object(card, card.address, why, "ask for fewer"));
                }
            }
        }
    }
    for (slot, targets) in wanted {
        let (steps, objections) = parent(card, slot, &targets, rules);
        plan.steps.extend(steps);
        plan.objections.extend(objections);
    }
}

fn object(card: &Card, address: Address, why: String, hint: &str) -> Objection {
    Objection { card: card.address, address, why, hint: hint.into() }
}

/// The devices of one parent. Others' are left alone, and counted.
fn parent(
    card: &Card,
    slot: &Slot,
    targets: &[&Target],
    rules: Rules,
) -> (Vec<Step>, Vec<Objection>) {
    let mut steps = Vec::new();
    let mut objections = Vec::new();
    let name = |dir: &str| {
        let of = slot.mdev_types.iter().find(|of| of.dir == dir);
        of.map_or_else(|| dir.to_string(), |of| nvidia::short_name(&of.name).to_string())
    };
    let last = slot.mdevs.iter().filter_map(|mdev| mdev.ours).max().map_or(0, |n| n + 1);
    for number in 0..last.max(targets.len() as u32) {
        let have = slot.mdevs.iter().find(|mdev| mdev.ours == Some(number));
        let from = have.map(|mdev| (mdev.dir.clone(), name(&mdev.dir)));
        let to = match targets.get(number as usize) {
            None => None,
            Some(target) => {
                let of = slot.mdev_types.iter().find(|of| {
                    target.id == Some(of.id) || nvidia::short_name(&of.name) == target.name
                });
                let Some(of) = of else {
                    let why = format!("has no type {}", target.name);
                    objections.push(object(
                        card,
                        slot.address,
                        why,
                        "see 'vgpu-profile-set list --types'",
                    ));
                    continue;
                };
                Some((of.dir.clone(), target.name.clone()))
            }
        };
        if from.is_none() && to.is_none() {
            continue;
        }
        let uuid = uuid::of(slot.address, number);
        let holder = have.and_then(|mdev| mdev.holder.as_ref()).filter(|_| from != to);
        let what = match (holder, rules.skip_in_use) {
            (None, _) => What::Mdev { uuid, from, to },
            (Some(holder), skip) => {
                let why = format!("{uuid} is in use by {}", holders::words(holder));
                if !skip {
                    objections.push(object(card, slot.address, why, "stop the VM first"));
                    continue;
                }
                let (from, to) = (from.map(|f| f.1), to.map(|t| t.1));
                What::LeftAlone { from, to, why, hint: "stop the VM first".into() }
            }
        };
        steps.push(Step { card: card.address, address: slot.address, what });
    }
    room(card, slot, &steps, &mut objections);
    (steps, objections)
}

/// `available_instances` counts while nothing goes away first.
fn room(card: &Card, slot: &Slot, steps: &[Step], objections: &mut Vec<Objection>) {
    if steps.iter().any(Step::clears) {
        return;
    }
    for of in &slot.mdev_types {
        let made = steps.iter().filter(|step| {
            step.is_change()
                && matches!(&step.what, What::Mdev { to: Some((dir, _)), .. } if *dir == of.dir)
        });
        let made = made.count() as u32;
        if made > of.available {
            let short = nvidia::short_name(&of.name);
            let why = format!("{made} x {short} asked for, {} can be made", of.available);
            let hint = match of.most {
                Some(most) => format!("{most} x {short} would fit on an empty GPU"),
                None => "remove others first".into(),
            };
            objections.push(object(card, slot.address, why, &hint));
        }
    }
}
