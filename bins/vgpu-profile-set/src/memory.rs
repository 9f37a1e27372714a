//! The profiles that a GPU listed while it was empty, kept until reboot: a full
//! GPU lists none, so that what is set on it would have no name.

use std::collections::BTreeMap;

use host::{KernelFiles, Machine};
use nvidia::parse_creatable;

use crate::observe::Card;

const DIR: &str = "/run/vgpu-profile-set";

/// Driver version, since ids mean something for one version only.
fn version(files: &dyn KernelFiles) -> String {
    files.read_attr("/sys/module/nvidia/version").unwrap_or_default().trim().to_string()
}

fn path(card: &Card) -> String {
    format!("{DIR}/types-{}", card.address)
}

/// First line driver version and device id, then lines as the driver's list has them.
fn heading(files: &dyn KernelFiles, card: &Card) -> String {
    format!("{} {:#06x}", version(files), card.device.unwrap_or(0))
}

/// Adds the names that are remembered of this card and driver.
pub fn recall(files: &dyn KernelFiles, card: &mut Card) {
    if card.complete {
        return;
    }
    let Ok(text) = files.read_attr(&path(card)) else { return };
    let Some((first, rest)) = text.split_once('\n') else { return };
    if first == heading(files, card) {
        for offer in parse_creatable(rest) {
            card.types.entry(offer.id).or_insert(offer.name);
        }
        card.complete = true;
    }
}

/// Remembers a card whose profiles are all known, if that is news. Failing is
/// no failure: names are then looked up with nvidia-smi.
pub fn remember(machine: &Machine, card: &Card) {
    if !card.complete || card.types.is_empty() {
        return;
    }
    let mut text = format!("{}\n", heading(machine, card));
    let types: &BTreeMap<u32, String> = &card.types;
    for (id, name) in types {
        text.push_str(&format!("{id:<5} : {name}\n"));
    }
    if machine.read_attr(&path(card)).ok().as_deref() != Some(text.trim_end_matches('\n')) {
        let _ = machine.put(&path(card), text.as_bytes());
    }
}
