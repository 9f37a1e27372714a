//! From what the machine shows and what is asked for to a list of steps. Pure:
//! reads and writes nothing.

use std::collections::BTreeMap;

use nvidia::Profile;
use record::{Address, VgpuInterface};

use crate::choose::{choose, has};
use crate::fit;
use crate::holders;
use crate::input::{Wanted, Wish};
use crate::mdev;
use crate::observe::{Card, Slot};
use crate::wishes::{Asked, BadWish, assign};

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
            interface: Some(VgpuInterface::Vendor),
            ..Slot::bare(vf_address(card.address, offset, stride, index), index)
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
