//! The GPUs that a container is to have, in terms that do not change with a
//! reboot: GPUs by UUID and address, MIG instances by id, not device numbers.

use std::collections::BTreeSet;

use advice::lxc_gpu_conf::AddOptions;
use nvidia::GpuInfo;
use record::Address;
use serde::{Deserialize, Serialize};

/// A GPU, whatever its device numbers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuIdentity {
    /// Its address when it was assigned.
    pub address: Address,
    /// Its UUID, where the driver reported one.
    pub uuid: Option<String>,
}

/// A MIG instance of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigIdentity {
    /// The GPU that it is part of.
    pub gpu: GpuIdentity,
    /// GPU instance id.
    pub gi: u32,
    /// Compute instance id.
    pub ci: u32,
}

/// Driver libraries that are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibrarySelection {
    /// Names of sets: `utility`, `compute`, ...
    pub sets: Vec<String>,
    /// The directory that holds them; `None` for those installed on the host.
    pub dir: Option<String>,
}

/// All that a container is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuAssignment {
    /// GPUs; of those with an entry in `mig` only instances can be used.
    pub gpus: Vec<GpuIdentity>,
    /// MIG instances.
    pub mig: Vec<MigIdentity>,
    /// The right to monitor all MIG instances.
    pub mig_monitor: bool,
    /// DRM nodes and nvidia-modeset.
    pub graphics: bool,
    /// IMEX channels.
    pub imex: Vec<u32>,
    /// NVSwitch and NVLink nodes.
    pub fabric: bool,
    /// Owner in the container, where requested.
    pub uid: Option<u32>,
    /// Group in the container, where requested.
    pub gid: Option<u32>,
    /// Mode in the container, where requested.
    pub mode: Option<String>,
    /// Mounted driver libraries.
    pub userspace: Option<LibrarySelection>,
    /// Nodes that the user removed one by one: paths, or the names that resolving
    /// the assignment gives them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<String>,
}

impl From<&GpuInfo> for GpuIdentity {
    fn from(gpu: &GpuInfo) -> GpuIdentity {
        GpuIdentity { address: gpu.address, uuid: gpu.uuid.clone() }
    }
}

impl GpuIdentity {
    /// Whether both are the same GPU: by UUID where both have one, else by
    /// address.
    pub fn same(&self, other: &GpuIdentity) -> bool {
        match (&self.uuid, &other.uuid) {
            (Some(a), Some(b)) => a == b,
            _ => self.address == other.address,
        }
    }

    /// The name under which its nodes are remembered.
    pub fn key(&self) -> String {
        self.uuid.clone().unwrap_or_else(|| self.address.to_string())
    }
}

impl MigIdentity {
    /// The name under which the capability of its compute instance is remembered.
    pub fn name(&self) -> String {
        format!("{}/gi{}-ci{}", self.gpu.key(), self.gi, self.ci)
    }
}

impl MigIdentity {
    /// The argument of `--mig`, with the GPU where several are selected.
    fn argument(&self, several: bool) -> String {
        let ids = format!("{}/{}", self.gi, self.ci);
        if several { format!("MIG-{}/{ids}", self.gpu.key()) } else { ids }
    }
}

impl GpuAssignment {
    /// Adds another assignment. Its owner, mode and libraries replace those of this
    /// one.
    pub fn join(&mut self, new: &GpuAssignment) {
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
    /// The options of `add` that ask for the same.
    pub fn add_options(&self) -> AddOptions {
        let libraries = self.userspace.clone().unwrap_or_default();
        AddOptions {
            gpus: self.gpus.iter().map(GpuIdentity::key).collect(),
            mig: self.mig.iter().map(|mig| mig.argument(self.gpus.len() > 1)).collect(),
            mig_monitor: self.mig_monitor,
            graphics: self.graphics,
            imex: self.imex.iter().map(u32::to_string).collect(),
            fabric: self.fabric,
            uid: self.uid,
            gid: self.gid,
            mode: self.mode.clone(),
            libs: libraries.sets,
            share_driver: libraries.dir,
            ..AddOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(address: &str, uuid: Option<&str>) -> GpuIdentity {
        GpuIdentity { address: address.parse().unwrap(), uuid: uuid.map(str::to_string) }
    }

    #[test]
    fn a_gpu_is_the_same_by_uuid_or_else_by_address() {
        let known = gpu("41:00.0", Some("GPU-a"));
        assert!(known.same(&gpu("42:00.0", Some("GPU-a"))));
        assert!(!known.same(&gpu("41:00.0", Some("GPU-b"))));
        assert!(known.same(&gpu("41:00.0", None)));
        let mut assignment = GpuAssignment { gpus: vec![known], ..GpuAssignment::default() };
        assignment.join(&GpuAssignment {
            gpus: vec![gpu("42:00.0", Some("GPU-a"))],
            ..GpuAssignment::default()
        });
        assert_eq!(assignment.gpus, [gpu("42:00.0", Some("GPU-a"))]);
    }
}
