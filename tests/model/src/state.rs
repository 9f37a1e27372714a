//! All that the model knows.

use std::collections::{BTreeMap, BTreeSet};

use record::Address;
use testbed::tree::Entry;

use crate::attr::Pending;
use crate::driver::{Driver, Ids};
use crate::fault::Fault;
use crate::files::{Files, Node};
use crate::vgpu_card::{Current, VgpuCard};

pub(crate) const DEVICES: &str = "/sys/bus/pci/devices";
pub(crate) const DRIVERS: &str = "/sys/bus/pci/drivers";
pub(crate) const GROUPS: &str = "/sys/kernel/iommu_groups";
pub(crate) const GPUS: &str = "/proc/driver/nvidia/gpus";

/// SR-IOV of a physical function.
#[derive(Clone, Debug)]
pub(crate) struct Sriov {
    pub total: u32,
    pub offset: u32,
    pub stride: u32,
    pub vf_device: u32,
    /// sriov_drivers_autoprobe.
    pub autoprobe: bool,
    pub vfs: Vec<Address>,
}

/// What a driver had put into the tree, for when it comes back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    pub nodes: Vec<(String, Node)>,
    pub devices: Vec<(String, Entry)>,
}

/// A PCI function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub address: Address,
    /// Its directory below /sys/devices.
    pub dir: String,
    pub ids: Ids,
    pub bridge: bool,
    /// `dev->driver`; while ->remove runs it stays, though the links are gone.
    pub driver: Option<String>,
    pub driver_override: Option<String>,
    pub group: Option<u32>,
    pub pf: Option<Address>,
    pub sriov: Option<Sriov>,
    /// nvidia's usage count.
    pub usage: u32,
    /// One more user comes when its driver is being removed.
    pub late: bool,
    pub drm: Saved,
    /// Whether its driver makes no DRM nodes for it, as recorded.
    pub no_drm: bool,
    pub gpu: Vec<(String, Node)>,
    /// Its vGPU, while nvidia's vGPU host driver has it as a VF.
    pub vgpu: Option<Current>,
    /// Its mediated devices: UUID and type.
    pub mdevs: BTreeMap<String, String>,
}

/// How often what was done, since the start or [`crate::ModelKernel::reset_counters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Attributes read.
    pub reads: u64,
    /// Reads that the device lock held up.
    pub blocked_reads: u64,
    /// Writes that reached a store function.
    pub writes: u64,
    /// Of these, writes that blocked.
    pub blocked: u64,
    /// Of these, writes by a caller that sets itself no deadline: it would
    /// hang forever.
    pub hung: u64,
    /// Files that somebody tried to create or truncate through a mount.
    pub refused: u64,
    /// Writes by path; below a function its path is `/sys/bus/pci/devices/BDF/`.
    pub writes_by_path: BTreeMap<String, u64>,
    /// Every write that reached a store function, in order.
    pub log: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub files: Files,
    pub functions: BTreeMap<Address, Function>,
    /// In the order in which they registered: the order in which they are asked.
    pub drivers: Vec<Driver>,
    pub autoprobe: bool,
    /// Groups that a VM owns.
    pub taken: BTreeSet<u32>,
    pub old_locking: bool,
    pub strict_probe: bool,
    pub vfio_sriov: bool,
    /// NV_VGPU_KVM_BUILD: nvidia takes VFs.
    pub vgpu_host: bool,
    /// VFs that answer each profile with an errno.
    pub vgpu_refused: BTreeMap<Address, i32>,
    /// Cards that can have vGPUs, by PF.
    pub cards: BTreeMap<Address, VgpuCard>,
    /// Truncating does nothing, as in sysfs, instead of being refused.
    pub truncates: bool,
    pub pending: Vec<Pending>,
    pub finished: BTreeMap<u64, Result<(), i32>>,
    pub next_ticket: u64,
    pub faults: Vec<Fault>,
    pub dead: bool,
    pub counters: Counters,
}

impl State {
    pub fn driver(&self, name: &str) -> Option<&Driver> {
        self.drivers.iter().find(|driver| driver.name == name)
    }

    pub fn driver_mut(&mut self, name: &str) -> Option<&mut Driver> {
        self.drivers.iter_mut().find(|driver| driver.name == name)
    }

    pub fn function_mut(&mut self, address: Address) -> &mut Function {
        self.functions.get_mut(&address).expect("a known function")
    }

    /// The function whose directory this is.
    pub fn function_at(&self, dir: &str) -> Option<&Function> {
        let address = Address::from_sysfs(crate::files::split(dir).1)?;
        self.functions.get(&address).filter(|function| function.dir == dir)
    }

    /// The function whose `uevent` this is.
    pub fn uevent_of(&self, path: &str) -> Option<Address> {
        let (dir, name) = crate::files::split(path);
        (name == "uevent").then(|| self.function_at(dir).map(|function| function.address))?
    }

    pub fn members(&self, group: u32) -> impl Iterator<Item = &Function> {
        self.functions.values().filter(move |function| function.group == Some(group))
    }

    /// Whether the driver of a function is one that VMs use.
    pub fn on_vfio(&self, function: &Function) -> bool {
        let driver = function.driver.as_deref().and_then(|name| self.driver(name));
        driver.is_some_and(|driver| driver.vfio)
    }

    /// Whether ->remove of the function's driver has to wait: nvidia waits for
    /// its usage count (nv-pci.c, nv_pci_remove_helper), VFIO for the VM
    /// (vfio_unregister_group_dev).
    pub fn in_use(&self, address: Address) -> bool {
        let Some(function) = self.functions.get(&address) else { return false };
        match function.driver.as_deref() {
            Some("nvidia") => function.usage != 0,
            Some(_) if self.on_vfio(function) => {
                function.group.is_some_and(|group| self.taken.contains(&group))
            }
            _ => false,
        }
    }

    /// The rule of DMA ownership since 5.19 (iommu_device_use_default_domain):
    /// no member is on a driver that uses DMA for the host.
    pub fn viable(&self, group: u32) -> bool {
        let managed = |name: &String| self.driver(name).is_some_and(|driver| driver.managed_dma);
        self.members(group).all(|function| function.driver.as_ref().is_none_or(managed))
    }

    /// How counters name a canonical path.
    pub fn short(&self, path: &str) -> String {
        let (parent, name) = crate::files::split(path);
        match self.function_at(parent) {
            Some(function) => format!("{DEVICES}/{}/{name}", function.address),
            None => path.to_string(),
        }
    }
}
