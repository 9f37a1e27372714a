//! `lxc-gpu-conf`: add, remove and sync on a recorded host.

use testbed::{Bed, machine};

use super::bed::{OnBed, Place};

const TOOL: &str = "lxc-gpu-conf";
const DIRS: [&str; 3] = ["etc/pve", "var/lib/pve-gpu-tools", "run"];

/// What moves on the host: the card has another number.
pub fn renumber(bed: &Bed) {
    let path = "/proc/driver/nvidia/gpus/0000:2b:00.0/information";
    let text = bed.read(path);
    bed.write(path, text.replace("Device Minor: \t 0", "Device Minor: \t 1"));
}

/// The command lines that change a container, with what comes before each.
pub const VERBS: [&str; 3] = ["add 901 --gpu 0", "remove 901", "sync 901"];

pub fn stage(place: Place, args: &str) -> OnBed {
    let place = place.with(&machine::one_gpu());
    if args != VERBS[0] {
        place.bed.tool(TOOL).args(VERBS[0]).run().expect(0);
    }
    if args == VERBS[2] {
        renumber(&place.bed);
    }
    let mut stage = OnBed::rooted(place, TOOL, args, &DIRS);
    // what is remembered is written after the deed
    stage.may_lag = |item| item.starts_with("var/lib/pve-gpu-tools/");
    stage.is_named = |item, said| {
        let number = item.rsplit('/').next().unwrap_or("").split('.').next().unwrap_or("");
        said.contains(&format!("ct {number}")) || said.contains(item)
    };
    stage
}

pub fn all(place: fn() -> Place) -> Vec<OnBed> {
    VERBS.iter().map(|args| stage(place(), args)).collect()
}
