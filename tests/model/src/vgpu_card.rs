//! What a card offers to its VFs: profiles, and which of them fit beside others.

use std::collections::BTreeMap;

/// A card that can have vGPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VgpuCard {
    /// Id and name of all its profiles.
    pub types: Vec<(u32, String)>,
    /// Framebuffer for vGPUs in MiB.
    pub mib: u64,
    /// Different sizes at once.
    pub heterogeneous: bool,
    /// Slices of each MIG instance; empty: MIG is off.
    pub instances: Vec<u32>,
}

/// What a VF has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Current {
    /// 0: nothing.
    pub id: u32,
    /// MIG instance.
    pub instance: Option<usize>,
}

/// Driver 580's ids on an L40S (harvester/pcidevices).
const L40S: [(u32, &str); 21] = [
    (1145, "1B"),
    (1146, "2B"),
    (1147, "1Q"),
    (1148, "2Q"),
    (1149, "3Q"),
    (1150, "4Q"),
    (1151, "6Q"),
    (1152, "8Q"),
    (1153, "12Q"),
    (1154, "16Q"),
    (1155, "24Q"),
    (1156, "48Q"),
    (1157, "1A"),
    (1158, "2A"),
    (1159, "3A"),
    (1160, "4A"),
    (1161, "6A"),
    (1162, "8A"),
    (1163, "12A"),
    (1164, "16A"),
    (1165, "24A"),
];

/// MiB and MIG slices that a name says.
pub(crate) fn size(name: &str) -> (u64, Option<u32>) {
    let short = name.rsplit(' ').next().unwrap_or(name);
    let words: Vec<&str> = short.split('-').collect();
    let digits: String =
        words.last().unwrap_or(&"").chars().take_while(char::is_ascii_digit).collect();
    let mib = match digits.parse().unwrap_or(0) {
        0 => 512,
        gib => gib * 1024,
    };
    let slices = words.len().checked_sub(2).and_then(|at| words[at].parse().ok());
    (mib, slices.filter(|_| words.len() > 2))
}

impl VgpuCard {
    /// An L40S.
    pub fn l40s() -> VgpuCard {
        let types = L40S.iter().map(|(id, name)| (*id, format!("NVIDIA L40S-{name}")));
        VgpuCard { types: types.collect(), mib: 48 << 10, ..VgpuCard::default() }
    }

    pub(crate) fn name(&self, id: u32) -> Option<&str> {
        self.types.iter().find(|(known, _)| *known == id).map(|(_, name)| name.as_str())
    }

    /// Where `id` would go beside `others`; `Some(None)`: on the card as a whole.
    pub(crate) fn place(&self, id: u32, others: &Others) -> Option<Option<usize>> {
        let (mib, slices) = size(self.name(id)?);
        let Some(slices) = slices else {
            let same = self.heterogeneous || others.sizes.keys().all(|size| *size == mib);
            let used: u64 = others.sizes.iter().map(|(mib, n)| mib * n).sum();
            return (self.instances.is_empty() && same && used + mib <= self.mib).then_some(None);
        };
        let largest = self.types.iter().map(|(_, name)| size(name));
        let room = largest.filter(|(_, s)| *s == Some(slices)).map(|(mib, _)| mib).max()?;
        let fits = |at: &usize| {
            let here = others.instances.iter().filter(|(instance, _)| instance == at);
            let (mut used, mut same) = (0, true);
            for (_, size) in here {
                used += size;
                same &= *size == mib;
            }
            self.instances[*at] == slices && same && used + mib <= room
        };
        (0..self.instances.len()).find(fits).map(Some)
    }
}

/// What the other VFs of a card have.
#[derive(Default)]
pub(crate) struct Others {
    /// MiB and how many of it; not those in MIG instances.
    pub sizes: BTreeMap<u64, u64>,
    /// MIG instance and MiB.
    pub instances: Vec<(usize, u64)>,
}
