//! Records about vGPU profiles.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Address, VgpuInterface};

/// What a [`Vgpu`] record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VgpuKind {
    /// A whole GPU: a physical function.
    Gpu,
    /// A virtual function.
    Vf,
    /// A mediated device.
    Mdev,
}

impl VgpuKind {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            VgpuKind::Gpu => "gpu",
            VgpuKind::Vf => "vf",
            VgpuKind::Mdev => "mdev",
        }
    }
}

/// One GPU, virtual function or mediated device with its vGPU profile. As input
/// `address` and `profile` count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vgpu {
    /// Of the function; of a mediated device its parent's.
    pub address: Address,
    /// What it is.
    pub kind: VgpuKind,
    /// Address of the GPU.
    #[serde(default)]
    pub gpu: Option<Address>,
    /// Number of the virtual function (`virtfnN`).
    #[serde(default)]
    pub index: Option<u32>,
    /// UUID of a mediated device.
    #[serde(default)]
    pub uuid: Option<String>,
    /// How profiles are set on it.
    #[serde(default)]
    pub interface: Option<VgpuInterface>,
    /// The driver it is bound to.
    #[serde(default)]
    pub driver: Option<String>,
    /// Product name of a GPU.
    #[serde(default)]
    pub model: Option<String>,
    /// Virtual functions that a GPU can have.
    #[serde(default)]
    pub vfs_total: Option<u32>,
    /// Virtual functions that it has now.
    #[serde(default)]
    pub vfs_enabled: Option<u32>,
    /// Id of the profile set now.
    #[serde(default)]
    pub profile_id: Option<u32>,
    /// Its name without `NVIDIA` or `GRID` in front.
    #[serde(default)]
    pub profile: Option<String>,
    /// What could be set now.
    #[serde(default)]
    pub creatable: Vec<String>,
    /// Where on the GPU the driver put it.
    #[serde(default)]
    pub placement_id: Option<u32>,
    /// The MIG instance that the driver chose.
    #[serde(default)]
    pub gpu_instance_id: Option<u32>,
    /// Who uses it.
    #[serde(default)]
    pub holder: Option<VgpuHolder>,
    /// VMs of Proxmox VE that set and clear its profile themselves.
    #[serde(default)]
    pub managed_by: Vec<u32>,
    /// VMs of Proxmox VE that are given it, and what Proxmox VE does to it.
    #[serde(default)]
    pub vms: Vec<VgpuVm>,
    /// Whether the GPU takes profiles of different sizes at once.
    #[serde(default)]
    pub heterogeneous: Option<bool>,
    /// MIG instances of the GPU; 0 where there are none.
    #[serde(default)]
    pub mig_instances: Option<u32>,
}

/// A VM of Proxmox VE that is given a virtual function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuVm {
    /// Its id.
    pub vm: u32,
    /// The key in its configuration: `hostpci0`.
    pub key: String,
    /// `mdev`, `keep` or `vfio`.
    pub mode: String,
}

/// Who uses a virtual function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuHolder {
    /// A process that has its VFIO node open.
    pub pid: Option<u32>,
    /// Its command name.
    pub command: Option<String>,
    /// The VM of Proxmox VE for which it is reserved.
    pub vm: Option<u32>,
}

/// `VM 100`, `VM 100 (process 4242)`, `process 4242 (kvm)`.
impl fmt::Display for VgpuHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.vm, self.pid) {
            (Some(vm), Some(pid)) => write!(f, "VM {vm} (process {pid})"),
            (Some(vm), None) => write!(f, "VM {vm}"),
            (None, pid) => {
                let command = self.command.as_deref().unwrap_or("?");
                write!(f, "process {} ({command})", pid.unwrap_or(0))
            }
        }
    }
}

/// One profile that a GPU offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VgpuType {
    /// Address of the GPU.
    pub gpu: Address,
    /// How it is set; `None`: not known before virtual functions are enabled.
    pub interface: Option<VgpuInterface>,
    /// The driver's id, for this card and this driver version only.
    pub id: u32,
    /// The driver's name for it.
    pub name: String,
    /// The name without `NVIDIA` or `GRID` in front.
    pub profile: String,
    /// Framebuffer in bytes, from the name.
    pub framebuffer: Option<u64>,
    /// Slices of a MIG instance that it lives in.
    pub mig_slices: Option<u32>,
    /// How many more of it can be made now; `None`: unknown.
    pub available: Option<u32>,
    /// How many of it an empty GPU takes; `None`: unknown.
    #[serde(default)]
    pub max_instances: Option<u32>,
}

/// Which profile a virtual function or a GPU is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuAssignment {
    /// A virtual function or a mediated device's parent; with `count` the GPU.
    pub address: Address,
    /// Name or id; `none` for no profile.
    pub profile: String,
    /// How many of the GPU's virtual functions are to have it. `None`: it is
    /// `address` itself that is to have it.
    #[serde(default)]
    pub count: Option<u32>,
}
