//! What a container is to have, in terms that outlive a reboot: cards by UUID
//! and address, MIG instances by id, not numbers of nodes. Kept on this host, so
//! that `sync` can bring it back when numbers have moved.

use std::collections::BTreeSet;

use record::Address;
use serde::{Deserialize, Serialize};

use crate::facts::{Facts, Wanted};

/// A card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuWish {
    /// Where it was.
    pub address: Address,
    /// Which it is, where the driver knew.
    pub uuid: Option<String>,
}

/// One MIG instance of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigWish {
    /// The card.
    pub gpu: GpuWish,
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id.
    pub ci: u32,
}

/// Userspace of the host's, or unpacked into a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserspaceWish {
    /// Which sets.
    pub sets: Vec<String>,
    /// The directory; `None` for what is installed on the host.
    pub dir: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Cards; with `mig` only their instances can be used.
    pub gpus: Vec<GpuWish>,
    /// MIG instances.
    pub mig: Vec<MigWish>,
    /// The right to watch all MIG instances.
    pub mig_monitor: bool,
    /// DRM nodes and nvidia-modeset.
    pub graphics: bool,
    /// IMEX channels.
    pub imex: Vec<u32>,
    /// NVSwitch and NVLink nodes.
    pub fabric: bool,
    /// Owner inside, where asked for.
    pub uid: Option<u32>,
    /// Group inside, where asked for.
    pub gid: Option<u32>,
    /// Mode inside, where asked for.
    pub mode: Option<String>,
    /// Mounted userspace.
    pub userspace: Option<UserspaceWish>,
    /// Nodes that were taken away by name: paths, or names as in
    /// [`Resolved::names`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<String>,
}

impl GpuWish {
    /// Of a card of this host.
    pub fn of(facts: &Facts<'_>, wanted: &Wanted) -> GpuWish {
        let uuid = facts.gpus.get(&wanted.address).and_then(|gpu| gpu.uuid.clone());
        GpuWish { address: wanted.address, uuid }
    }

    /// The same card, whatever was known when.
    pub fn same(&self, other: &GpuWish) -> bool {
        match (&self.uuid, &other.uuid) {
            (Some(a), Some(b)) => a == b,
            _ => self.address == other.address,
        }
    }

    /// Its name among [`Resolved::names`](crate::resolve::Resolved::names).
    pub fn key(&self) -> String {
        self.uuid.clone().unwrap_or_else(|| self.address.to_string())
    }
}

impl MigWish {
    /// The name of its compute instance's capability.
    pub fn name(&self) -> String {
        format!("{}/gi{}-ci{}", self.gpu.key(), self.gi, self.ci)
    }
}

impl Wish {
    /// Adds another wish to this one; what it says of owner, mode and userspace
    /// counts.
    pub fn join(&mut self, new: &Wish) {
        for gpu in &new.gpus {
            self.gpus.retain(|old| !old.same(gpu));
            self.gpus.push(gpu.clone());
        }
        for mig in &new.mig {
            self.mig.retain(|old| (old.gi, old.ci) != (mig.gi, mig.ci) || !old.gpu.same(&mig.gpu));
            self.mig.push(mig.clone());
        }
        self.mig_monitor |= new.mig_monitor;
        self.graphics |= new.graphics;
        self.fabric |= new.fabric;
        self.imex.extend(&new.imex);
        self.imex.sort_unstable();
        self.imex.dedup();
        self.uid = new.uid.or(self.uid);
        self.gid = new.gid.or(self.gid);
        self.mode = new.mode.clone().or(self.mode.take());
        self.userspace = new.userspace.clone().or(self.userspace.take());
        self.without.clone_from(&new.without);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(address: &str, uuid: Option<&str>) -> GpuWish {
        GpuWish { address: address.parse().unwrap(), uuid: uuid.map(str::to_string) }
    }

    #[test]
    fn a_card_is_the_same_by_uuid_or_else_by_address() {
        let known = gpu("41:00.0", Some("GPU-a"));
        assert!(known.same(&gpu("42:00.0", Some("GPU-a"))));
        assert!(!known.same(&gpu("41:00.0", Some("GPU-b"))));
        assert!(known.same(&gpu("41:00.0", None)));
        let mut wish = Wish { gpus: vec![known], ..Wish::default() };
        wish.join(&Wish { gpus: vec![gpu("42:00.0", Some("GPU-a"))], ..Wish::default() });
        assert_eq!(wish.gpus, [gpu("42:00.0", Some("GPU-a"))]);
    }
}
