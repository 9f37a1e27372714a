//! Which virtual functions of a card get profiles that are asked for by count.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use record::Address;

use crate::observe::{Card, Slot};
use crate::plan::{Objection, Target};

/// Whether a function has that profile.
pub(crate) fn has(card: &Card, slot: &Slot, target: &Target) -> bool {
    slot.current != 0
        && match target.id {
            Some(id) => id == slot.current,
            None => card.name_of(slot.current) == Some(&target.name),
        }
}

/// Which functions get which of the counted profiles: first those that have
/// it, then the others in their order: what else is set goes anyway.
pub(crate) fn choose(
    card: &Card,
    counted: &[(Target, u32)],
) -> Result<BTreeMap<Address, Option<Target>>, Objection> {
    let ours = |slot: &&Slot| {
        slot.managed_by.is_empty() && slot.unreadable.is_none() && slot.interface.is_some()
    };
    let mut chosen: BTreeMap<Address, Option<Target>> = BTreeMap::new();
    let mut left: Vec<(&Target, u32)> = counted.iter().map(|(t, n)| (t, *n)).collect();
    for slot in card.slots.iter().filter(ours) {
        if let Some((target, n)) = left.iter_mut().find(|(t, n)| *n > 0 && has(card, slot, t)) {
            *n -= 1;
            chosen.insert(slot.address, Some((*target).clone()));
        }
    }
    let missing: BTreeSet<Address> = chosen.keys().copied().collect();
    let free: Vec<&Slot> = card
        .slots
        .iter()
        .filter(ours)
        .filter(|slot| slot.holder.is_none() && !missing.contains(&slot.address))
        .collect();
    let needed: u32 = left.iter().map(|(_, n)| n).sum();
    if needed as usize > free.len() {
        let total: u32 = counted.iter().map(|(_, n)| n).sum();
        let here = card.slots.len();
        let why = format!(
            "{total} vGPUs need as many virtual functions: {} of {here} can be had",
            free.len() + chosen.len()
        );
        let hint = "the others are in use or Proxmox VE's own; ask for fewer".to_string();
        return Err(Objection { card: card.address, address: card.address, why, hint });
    }
    let mut free = free.into_iter();
    for (target, n) in left {
        for slot in free.by_ref().take(n as usize) {
            chosen.insert(slot.address, Some(target.clone()));
        }
    }
    // the card is to have this and nothing else; what is in use is nobody's to clear
    for slot in free.filter(|slot| slot.current != 0) {
        chosen.insert(slot.address, None);
    }
    Ok(chosen)
}
