//! What the host has: GPUs, the functions that can have vGPU profiles, mediated
//! devices.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::{Profile, VgpuOffer, short_name};
use pve::{HostPci, HostPciMode};
use record::{Address, VgpuHolder, VgpuInterface};
use uuid::Uuid;

/// How much to read of each virtual function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadDepth {
    /// What a plan needs: on each GPU the list of profiles of the first
    /// function without one is valid for all of them.
    Plan,
    /// Everything.
    Full,
}

/// One NVIDIA GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// Address of its physical function.
    pub address: Address,
    pub device: Option<u16>,
    /// Subsystem device and vendor id.
    pub subsystem: Option<(u16, u16)>,
    pub model: Option<String>,
    pub driver: Option<String>,
    /// Virtual functions that it can have; 0 for one without SR-IOV.
    pub total_vfs: u32,
    /// Offset and stride of the addresses of its virtual functions: known
    /// before they are enabled.
    pub vf_offset: Option<(u32, u32)>,
    /// What can have profiles: its virtual functions, or the GPU itself.
    pub functions: Vec<VgpuFunction>,
    /// Names of profiles by id, as far as they are known.
    pub types: BTreeMap<u32, String>,
    /// `types` holds all that the GPU offers.
    pub complete: bool,
    /// How many of a profile an empty GPU takes, by id, where its driver says it.
    pub most: BTreeMap<u32, u32>,
    /// Whether it takes different framebuffer sizes at once.
    pub heterogeneous: Option<bool>,
    pub mig_instances: u32,
    /// How many it will have once its settings are applied, where these are requested.
    pub mig_requested: Option<u32>,
    /// The vGPU host driver's second module, nvidia_vgpu_vfio, is loaded; `None`: unknown.
    pub host_module: Option<bool>,
}

/// A VM of Proxmox VE that is given a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBy {
    pub vm: u32,
    pub hostpci: HostPci,
    /// Whether this Proxmox VE knows `driver=keep`; `None`: unknown.
    pub keep_known: Option<bool>,
}

/// A function that can have a profile, or on which mediated devices are made.
#[derive(Clone, Debug, PartialEq)]
pub struct VgpuFunction {
    pub address: Address,
    /// N of `virtfnN`; 0 for the GPU itself.
    pub index: u32,
    /// How profiles are set; `None` for a VF that the vGPU host driver is not
    /// bound to.
    pub interface: Option<VgpuInterface>,
    /// The driver it is bound to; with [`ReadDepth::Plan`] only where it has no
    /// interface, because the driver may be the reason.
    pub driver: Option<String>,
    /// `current_vgpu_type`; 0 for none.
    pub current: u32,
    /// Why that could not be read.
    pub unreadable: Option<String>,
    /// What it offers now, where that was read.
    pub offers: Option<Vec<VgpuOffer>>,
    pub placement_id: Option<u32>,
    pub gpu_instance_id: Option<u32>,
    pub holder: Option<VgpuHolder>,
    /// Why there may be a holder that was not found.
    pub users_unknown: Option<String>,
    /// VMs of Proxmox VE whose hostpci lines name it.
    pub vms: Vec<NamedBy>,
    /// Why there may be such a VM that was not found.
    pub vms_unknown: Option<String>,
    pub mdev_types: Vec<MdevType>,
    pub mdevs: Vec<Mdev>,
}

impl VgpuFunction {
    /// One of which nothing else is known.
    pub fn bare(address: Address, index: u32) -> VgpuFunction {
        VgpuFunction {
            address,
            index,
            interface: None,
            driver: None,
            current: 0,
            unreadable: None,
            offers: None,
            placement_id: None,
            gpu_instance_id: None,
            holder: None,
            users_unknown: None,
            vms: Vec::new(),
            vms_unknown: None,
            mdev_types: Vec::new(),
            mdevs: Vec::new(),
        }
    }

    /// VMs for which Proxmox VE sets its profile itself.
    pub fn managed_by(&self) -> Vec<u32> {
        let manages = |of: &&NamedBy| of.hostpci.mode() == HostPciMode::Mdev;
        self.vms.iter().filter(manages).map(|of| of.vm).collect()
    }

    /// Nothing is set on it, and it can get a profile.
    pub fn is_free(&self) -> bool {
        self.current == 0
            && self.interface.is_some()
            && self.unreadable.is_none()
            && self.managed_by().is_empty()
    }

    /// The type of mediated device with this directory name.
    pub fn mdev_type(&self, dir: &str) -> Option<&MdevType> {
        self.mdev_types.iter().find(|of| of.dir == dir)
    }
}

/// A type of mediated device on one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MdevType {
    /// The number in `nvidia-36`.
    pub id: u32,
    /// `nvidia-36`.
    pub dir: String,
    /// `GRID T4-2Q`.
    pub name: String,
    /// How many more can be made now.
    pub available: u32,
    /// How many there can be at most, where the description says it.
    pub most: Option<u32>,
}

/// A mediated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mdev {
    pub uuid: String,
    /// `nvidia-36`.
    pub dir: String,
    /// Its number on its parent, where this tool made it.
    pub ours: Option<u32>,
    pub holder: Option<VgpuHolder>,
}

impl Mdev {
    /// The VM of a device that Proxmox VE made: `00000000-0000-0000-0000-000000000100`,
    /// the number of the hostpci line and the VM's id (qemu-server, PCI/Mdev.pm).
    pub fn pve_vm(&self) -> Option<u32> {
        let (line, vm) = self.uuid.split_once("-0000-0000-0000-")?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        (line.len() == 8 && vm.len() == 12 && digits(line) && digits(vm))
            .then(|| vm.parse().ok())?
    }
}

/// This tool's UUID namespace; made at random, once.
const MDEV_NAMESPACE: Uuid = Uuid::from_u128(0x6a0e_515c_6b4f_4d0b_9b5c_3f1e_807c_d241);

/// How many devices of this tool one parent can have: even the smallest profile
/// of the largest GPU fits fewer times.
const MOST_MDEVS: u32 = 128;

impl Mdev {
    /// The UUID of a parent's device with this number: a version 5 UUID
    /// (RFC 9562), so that a host has the same ones after every boot.
    pub fn uuid_of(parent: Address, number: u32) -> String {
        Uuid::new_v5(&MDEV_NAMESPACE, format!("{parent}/{number}").as_bytes()).to_string()
    }

    /// The number of a device on its parent, if this tool made its UUID.
    pub fn number_of(parent: Address, uuid: &str) -> Option<u32> {
        (0..MOST_MDEVS).find(|number| Mdev::uuid_of(parent, *number).eq_ignore_ascii_case(uuid))
    }
}

impl Gpu {
    /// The short name of a type id.
    pub fn name_of(&self, id: u32) -> Option<&str> {
        self.types.get(&id).map(|name| short_name(name))
    }

    /// What the name of a type id says.
    pub fn profile_of(&self, id: u32) -> Option<Profile> {
        self.types.get(&id).and_then(|name| Profile::parse(name))
    }

    /// The ids with this name. `DC-3Q` is the end of a longer name; a full name
    /// wins over one that only ends so.
    pub fn ids_named(&self, name: &str) -> Vec<u32> {
        let equal = |test: &dyn Fn(&str) -> bool| -> Vec<u32> {
            self.types.iter().filter(|(_, known)| test(known)).map(|(id, _)| *id).collect()
        };
        let whole = equal(&|known| known == name);
        if whole.is_empty() { equal(&|known| short_name(known) == short_name(name)) } else { whole }
    }

    /// Framebuffer for vGPUs in MiB: that of the largest profile. Known only
    /// where all profiles are.
    pub fn mib(&self) -> Option<u64> {
        let plain = self.types.values().filter_map(|name| Profile::parse(name));
        let largest = plain.filter(|p| p.slices().is_none()).map(|p| p.mib()).max();
        largest.filter(|_| self.complete)
    }

    /// Whether what is set, or is offered beside it, has several framebuffer sizes:
    /// then heterogeneous mode is on. `None`: it does not show.
    pub fn shows_heterogeneous(&self) -> Option<bool> {
        let plain = |profile: Option<Profile>| {
            Some(profile.filter(|profile| profile.slices().is_none())?.mib())
        };
        let set = self.functions.iter().filter(|function| function.current != 0);
        let set: BTreeSet<u64> =
            set.filter_map(|function| plain(self.profile_of(function.current))).collect();
        // without a profile the driver offers all sizes in any mode
        let any = set.first()?;
        let offers = self.functions.iter().flat_map(|function| function.offers.iter().flatten());
        let mut offered = offers.filter_map(|offer| plain(Profile::parse(&offer.name)));
        (set.len() > 1 || offered.any(|mib| mib != *any)).then_some(true)
    }

    /// How profiles are set on it, if anything on it can have one now.
    pub fn interface(&self) -> Option<VgpuInterface> {
        self.functions.iter().find_map(|function| function.interface)
    }

    /// MIG instances on which vGPUs are planned.
    pub fn planned_mig_instances(&self) -> u32 {
        self.mig_requested.unwrap_or(self.mig_instances)
    }

    pub fn enabled_vfs(&self) -> u32 {
        self.functions.iter().filter(|function| function.address != self.address).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_stable_and_their_numbers_are_found_again() {
        let parent = "0000:3b:00.0".parse().unwrap();
        let uuid = Mdev::uuid_of(parent, 7);
        assert_eq!(Mdev::number_of(parent, &uuid), Some(7));
        assert_eq!(Mdev::number_of("0000:3c:00.0".parse().unwrap(), &uuid), None);
        // what earlier versions made is found after an update
        assert_eq!(Mdev::uuid_of(parent, 0), "fa298896-45d9-5c03-90ac-78186bea196e");
    }
}
