//! What the input means on this machine: which card, which function, which
//! profile. Pure.

use std::collections::BTreeMap;

use nvidia::{Profile, short_name};
use record::Address;

use crate::input::{Wanted, Wish};
use crate::manager::{Devices, Entry};
use crate::observe::Card;
use crate::plan::{Plan, Target};

/// Input that means nothing on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadWish {
    /// In words.
    pub why: String,
    /// What to do next.
    pub hint: Option<String>,
}

pub(crate) fn bad(why: impl Into<String>) -> BadWish {
    BadWish { why: why.into(), hint: None }
}

/// What is asked of one card.
#[derive(Default)]
pub(crate) struct Asked {
    /// By function, in the order of the input.
    pub explicit: Vec<(Address, Option<Target>)>,
    /// By number: of these profiles so many, and nothing else.
    pub counted: Option<Vec<(Target, u32)>>,
}

/// What a vgpu-device-manager configuration means on this machine.
pub fn expand(cards: &[Card], entries: &[Entry]) -> Result<Vec<Wish>, BadWish> {
    let mut wishes: Vec<Wish> = Vec::new();
    let mut taken: BTreeMap<Address, usize> = BTreeMap::new();
    for entry in entries {
        for (number, card) in cards.iter().enumerate() {
            let id = u32::from(card.device.unwrap_or(0)) << 16 | 0x10de;
            let chosen = match &entry.devices {
                Devices::All => true,
                Devices::Numbers(numbers) => numbers.contains(&(number as u32)),
            };
            if !chosen || !(entry.filter.is_empty() || entry.filter.contains(&id)) {
                continue;
            }
            // 'all' is all that nvidia has: a GPU on vfio-pci belongs to a VM
            if entry.devices == Devices::All && card.driver.as_deref() != Some("nvidia") {
                continue;
            }
            if let Some(before) = taken.insert(card.address, entry.line) {
                let why =
                    format!("lines {before} and {} both speak of {}", entry.line, card.address);
                return Err(bad(why));
            }
            let at = format!("line {}", entry.line);
            let wish =
                |profile, count| Wish { at: at.clone(), address: card.address, profile, count };
            if entry.vgpus.is_empty() {
                wishes.push(wish(Wanted::Nothing, Some(0)));
            }
            for (name, count) in &entry.vgpus {
                wishes.push(wish(Wanted::Name(name.clone()), Some(*count)));
            }
        }
    }
    if wishes.is_empty() {
        let known: Vec<String> = cards
            .iter()
            .map(|card| format!("0x{:04X}10DE at {}", card.device.unwrap_or(0), card.address))
            .collect();
        let have = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(BadWish {
            why: "the configuration is for none of this machine's GPUs".into(),
            hint: Some(format!("it has {have}")),
        });
    }
    Ok(wishes)
}

/// Sorts wishes by card and looks their profiles up.
pub(crate) fn assign(
    cards: &[Card],
    wishes: &[Wish],
    plan: &mut Plan,
) -> Result<BTreeMap<Address, Asked>, BadWish> {
    let mut asked: BTreeMap<Address, Asked> = BTreeMap::new();
    let mut by_id: BTreeMap<u32, BTreeMap<String, Address>> = BTreeMap::new();
    for wish in wishes {
        let card = cards.iter().find(|card| {
            card.address == wish.address || card.slots.iter().any(|s| s.address == wish.address)
        });
        let Some(card) = card else {
            let hint = "'vgpu-profile-set list' shows what there is; a GPU whose virtual functions \
                        are off has none";
            let why =
                format!("{}: no GPU or virtual function of NVIDIA's at {}", wish.at, wish.address);
            return Err(BadWish { why, hint: Some(hint.into()) });
        };
        let target = resolve(card, &wish.profile)
            .map_err(|error| BadWish { why: format!("{}: {}", wish.at, error.why), ..error })?;
        if let (Wanted::Id(id), Some(target)) = (&wish.profile, &target) {
            by_id.entry(*id).or_default().insert(target.name.clone(), card.address);
        }
        let entry = asked.entry(card.address).or_default();
        let is_slot = card.slots.iter().any(|slot| slot.address == wish.address);
        match wish.count {
            Some(count) if wish.address == card.address => {
                let counted = entry.counted.get_or_insert_default();
                counted.extend(target.map(|target| (target, count)));
            }
            Some(_) => {
                let why =
                    format!("{}: {} is one function: a count is for a GPU", wish.at, wish.address);
                return Err(bad(why));
            }
            None if is_slot => entry.explicit.push((wish.address, target)),
            None => {
                let why =
                    format!("{}: {} is a GPU: it has no profile itself", wish.at, wish.address);
                let hint = "name its virtual functions, or give a vgpu-assignment record a count";
                return Err(BadWish { why, hint: Some(hint.into()) });
            }
        }
        if entry.counted.is_some() && !entry.explicit.is_empty() {
            let why = format!(
                "{}: {} is asked for by count and by function: choose one",
                wish.at, card.address
            );
            return Err(bad(why));
        }
    }
    for (id, names) in by_id {
        if names.len() > 1 {
            let meant: Vec<String> =
                names.iter().map(|(name, card)| format!("{name} on {card}")).collect();
            return Err(BadWish {
                why: format!("id {id} means {}", meant.join(" and ")),
                hint: Some("write the names: ids differ by GPU and driver version".into()),
            });
        }
        let name = names.into_keys().next().unwrap_or_default();
        plan.warnings.push(format!(
            "id {id} is {name} here; ids change with GPU and driver version: write the name"
        ));
    }
    Ok(asked)
}

/// A profile as this card knows it.
fn resolve(card: &Card, wanted: &Wanted) -> Result<Option<Target>, BadWish> {
    let offers = || {
        let names: Vec<&str> = card.types.values().map(|name| short_name(name)).collect();
        if names.is_empty() { None } else { Some(format!("it has {}", names.join(" "))) }
    };
    match wanted {
        Wanted::Nothing => Ok(None),
        Wanted::Id(id) => match card.types.get(id) {
            Some(name) => Ok(Some(Target {
                name: short_name(name).to_string(),
                id: Some(*id),
                profile: Profile::parse(name),
            })),
            None if card.complete => Err(BadWish {
                why: format!("{} has no profile with id {id}", card.address),
                hint: offers(),
            }),
            None => Ok(Some(Target { name: format!("id {id}"), id: Some(*id), profile: None })),
        },
        Wanted::Name(name) => {
            let profile = Profile::parse(name);
            let ids = card.ids_named(name);
            let id = match ids[..] {
                [id] => Some(id),
                [] if card.complete => {
                    let why = format!("{} has no profile {}", card.address, short_name(name));
                    return Err(BadWish { why, hint: offers() });
                }
                [] => None,
                _ => {
                    let names: Vec<&str> =
                        ids.iter().filter_map(|id| Some(card.types.get(id)?.as_str())).collect();
                    let why = format!("{} may be any of: {}", short_name(name), names.join(", "));
                    return Err(BadWish { why, hint: Some("write the whole name".into()) });
                }
            };
            Ok(Some(Target { name: short_name(name).to_string(), id, profile }))
        }
    }
}
