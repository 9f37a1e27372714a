//! From what the machine shows and what is asked for to a list of steps. Pure:
//! reads and writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::{Profile, short_name};
use record::{Address, VgpuInterface};

use crate::fit;
use crate::holders;
use crate::input::{Wanted, Wish};
use crate::manager::{Devices, Entry};
use crate::mdev;
use crate::observe::{Card, Slot};

/// How to plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Switch heterogeneous mode on where sizes differ.
    pub heterogeneous: bool,
    /// What is in use is left alone instead of refused.
    pub skip_in_use: bool,
}

/// A profile on one card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its short name, or `id 1155` where that cannot be looked up now.
    pub name: String,
    /// Its id; `None`: the card is too full to list it, it is looked up when it
    /// is set.
    pub id: Option<u32>,
    /// What its name says.
    pub profile: Option<Profile>,
}

impl Target {
    /// Framebuffer in MiB, 0 where that is not known.
    pub fn mib(&self) -> u64 {
        self.profile.as_ref().map_or(0, Profile::mib)
    }
}

/// What happens to one virtual function or mediated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its GPU.
    pub card: Address,
    /// The function; of a mediated device the parent.
    pub address: Address,
    /// What.
    pub what: What,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `current_vgpu_type`.
    Vendor {
        /// The id that is set, 0 for none.
        from: u32,
        /// Its name, where that is known.
        from_name: Option<String>,
        /// What is to be set.
        to: Option<Target>,
        /// It is cleared and set again, though it is right: heterogeneous mode
        /// can be switched on only while nothing is set.
        again: bool,
    },
    /// A mediated device.
    Mdev {
        /// Its UUID.
        uuid: String,
        /// The type that it has: directory and name.
        from: Option<(String, String)>,
        /// The type that it is to have.
        to: Option<(String, String)>,
    },
    /// Left as it is, and why.
    LeftAlone {
        /// What it has.
        from: Option<String>,
        /// What it was to have.
        to: Option<String>,
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
}

impl Step {
    /// Whether there is nothing to do.
    pub fn is_unchanged(&self) -> bool {
        match &self.what {
            What::Vendor { from, to, again, .. } => {
                !again
                    && match to {
                        None => *from == 0,
                        Some(target) => *from != 0 && target.id == Some(*from),
                    }
            }
            What::Mdev { from, to, .. } => from == to,
            What::LeftAlone { .. } => false,
        }
    }

    /// Whether something would be written.
    pub fn is_change(&self) -> bool {
        !self.is_unchanged() && !matches!(self.what, What::LeftAlone { .. })
    }

    /// Whether something is taken away first.
    pub fn clears(&self) -> bool {
        self.is_change()
            && match &self.what {
                What::Vendor { from, .. } => *from != 0,
                What::Mdev { from, .. } => from.is_some(),
                What::LeftAlone { .. } => false,
            }
    }
}

/// One reason against a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The GPU.
    pub card: Address,
    /// The function or GPU.
    pub address: Address,
    /// In words.
    pub why: String,
    /// What to do next.
    pub hint: String,
}

/// All that is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// GPUs whose virtual functions are to be switched on first.
    pub enable: Vec<Address>,
    /// GPUs that are to be switched to heterogeneous mode.
    pub heterogeneous: Vec<Address>,
    /// Steps, GPU by GPU, the largest profile first.
    pub steps: Vec<Step>,
    /// Why nothing may be done.
    pub objections: Vec<Objection>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

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

/// Plans all of it. Errors: the input means nothing on this machine.
pub fn plan(cards: &[Card], wishes: &[Wish], rules: Rules) -> Result<Plan, BadWish> {
    let mut plan = Plan::default();
    // where virtual functions are not there yet, they are planned where they will be
    let mut future: Vec<Card> = Vec::new();
    for card in cards {
        future.push(with_vfs(card, wishes));
    }
    let asked = assign(&future, wishes, &mut plan)?;
    for (card, before) in future.iter().zip(cards) {
        let Some(asked) = asked.get(&card.address) else { continue };
        if card.slots.len() != before.slots.len() {
            plan.enable.push(card.address);
        }
        if let Some(objection) = unfit_card(card, before) {
            plan.objections.push(objection);
            continue;
        }
        match card.interface() {
            Some(VgpuInterface::Mdev) => mdev::plan(card, asked, rules, &mut plan),
            _ => vendor(card, asked, rules, &mut plan),
        }
    }
    Ok(plan)
}

/// The card with the virtual functions that it would have once they are on.
fn with_vfs(card: &Card, wishes: &[Wish]) -> Card {
    let mut card = card.clone();
    let Some((offset, stride)) =
        card.vf_offset.filter(|_| card.slots.is_empty() && card.total_vfs > 0)
    else {
        return card;
    };
    let slots: Vec<Slot> = (0..card.total_vfs)
        .map(|index| Slot {
            address: vf_address(card.address, offset, stride, index),
            index,
            interface: Some(VgpuInterface::Vendor),
            driver: None,
            current: 0,
            unreadable: None,
            offers: None,
            placement_id: None,
            gpu_instance_id: None,
            holder: None,
            managed_by: Vec::new(),
            mdev_types: Vec::new(),
            mdevs: Vec::new(),
        })
        .collect();
    let asked = |wish: &Wish| {
        let nothing = wish.profile == Wanted::Nothing;
        !nothing
            && (wish.address == card.address && wish.count.is_some_and(|n| n > 0)
                || slots.iter().any(|slot| slot.address == wish.address))
    };
    if wishes.iter().any(asked) {
        card.slots = slots;
    }
    card
}

/// Where a VF will be: routing id plus offset plus index times stride (PCI
/// Express, SR-IOV capability). Once it is there its link counts.
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

/// Sorts wishes by card and looks their profiles up.
fn assign(
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
                hint: Some("write the names: ids differ by card and driver version".into()),
            });
        }
        let name = names.into_keys().next().unwrap_or_default();
        plan.warnings.push(format!(
            "id {id} is {name} here; ids change with card and driver version: write the name"
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

/// Why a card as a whole cannot have profiles.
fn unfit_card(card: &Card, before: &Card) -> Option<Objection> {
    let object = |why: String, hint: &str| {
        Some(Objection { card: card.address, address: card.address, why, hint: hint.to_string() })
    };
    if card.driver.as_deref() != Some("nvidia") {
        let driver = card.driver.as_deref().unwrap_or("no driver");
        return object(
            format!("is on {driver}, not on nvidia"),
            "vGPUs need NVIDIA's vGPU host driver on the GPU ('gpu-vfio-bind release')",
        );
    }
    if card.slots.is_empty() {
        return object(
            "has neither virtual functions nor mediated device types".into(),
            "it cannot have vGPUs, or the driver is not the vGPU host driver",
        );
    }
    if before.slots.is_empty() && card.mig_instances > 0 {
        return object(
            "has MIG instances, and switching its virtual functions on would wipe them".into(),
            "in this order: nvidia-smi -mig 1, sriov-manage -e, nvidia-smi mig -cgi, then profiles",
        );
    }
    None
}

/// Steps of a card whose functions have `current_vgpu_type`.
fn vendor(card: &Card, asked: &Asked, rules: Rules, plan: &mut Plan) {
    let mut wanted: BTreeMap<Address, Option<Target>> = BTreeMap::new();
    match &asked.counted {
        None => wanted.extend(asked.explicit.iter().cloned()),
        Some(counted) => match choose(card, counted) {
            Ok(chosen) => wanted = chosen,
            Err(objection) => return plan.objections.push(objection),
        },
    }
    let mut steps = Vec::new();
    for slot in &card.slots {
        let Some(to) = wanted.get(&slot.address) else { continue };
        match step(card, slot, to.clone(), rules) {
            Ok(step) => steps.push(step),
            Err(objection) => plan.objections.push(objection),
        }
    }
    let mixed = fit::check(card, &mut steps, rules, &mut plan.objections);
    if mixed {
        plan.heterogeneous.push(card.address);
    }
    if mixed || card.heterogeneous == Some(true) {
        // small ones must not stand in the way of large ones
        steps.sort_by_key(|step| match &step.what {
            What::Vendor { to: Some(target), .. } => std::cmp::Reverse(target.mib()),
            _ => std::cmp::Reverse(0),
        });
    }
    plan.steps.extend(steps);
}

/// Whether a function has that profile.
fn has(card: &Card, slot: &Slot, target: &Target) -> bool {
    slot.current != 0
        && match target.id {
            Some(id) => id == slot.current,
            None => card.name_of(slot.current) == Some(&target.name),
        }
}

/// Which functions get which of the counted profiles: first those that have
/// it, then the others in their order: what else is set goes anyway.
fn choose(
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

fn step(card: &Card, slot: &Slot, to: Option<Target>, rules: Rules) -> Result<Step, Objection> {
    let to = to.map(|target| match has(card, slot, &target) {
        true => Target { id: Some(slot.current), ..target },
        false => target,
    });
    let from_name = card.name_of(slot.current).map(str::to_string);
    let from_shown = shown(slot.current, from_name.as_deref());
    let to_shown = to.as_ref().map(|target| target.name.clone());
    let what = What::Vendor { from: slot.current, from_name, to, again: false };
    let step = Step { card: card.address, address: slot.address, what };
    let no = |why: String, hint: &str| {
        if rules.skip_in_use {
            let (from, to, hint) = (from_shown.clone(), to_shown.clone(), hint.to_string());
            let what = What::LeftAlone { from, to, why, hint };
            return Ok(Step { card: card.address, address: slot.address, what });
        }
        Err(Objection { card: card.address, address: slot.address, why, hint: hint.to_string() })
    };
    // a check need not mind what is right, whoever set it
    let right = rules.skip_in_use && step.is_unchanged();
    if !slot.managed_by.is_empty() && !right {
        let vms: Vec<String> = slot.managed_by.iter().map(u32::to_string).collect();
        return no(
            format!(
                "belongs to VM {}: Proxmox VE sets its profile when the VM starts and clears it after",
                vms.join(", ")
            ),
            "leave it out, or take mdev= out of the VM's hostpci line",
        );
    }
    if slot.interface.is_none() {
        let driver = slot.driver.as_deref().unwrap_or("no driver");
        return no(
            format!("has no vGPU files: it is on {driver}"),
            "virtual functions stay on nvidia, the vGPU host driver; sriov-manage -d and -e bring them back",
        );
    }
    if let Some(why) = &slot.unreadable {
        return no(
            why.clone(),
            "switch the GPU's virtual functions off and on (sriov-manage -d, -e)",
        );
    }
    if let Some(holder) = slot.holder.as_ref().filter(|_| step.is_change()) {
        return no(format!("is in use by {}", holders::words(holder)), "stop the VM first");
    }
    Ok(step)
}

/// A profile as records show it: its name, else its id.
pub fn shown(id: u32, name: Option<&str>) -> Option<String> {
    match (id, name) {
        (0, _) => None,
        (_, Some(name)) => Some(name.to_string()),
        (id, None) => Some(format!("id {id}")),
    }
}
