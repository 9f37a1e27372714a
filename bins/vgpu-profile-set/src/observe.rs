//! What vGPUs the machine has and could have. Reads only, and only through
//! [`KernelFiles`], so that a model of the kernel can stand in for it.

use std::collections::{BTreeMap, BTreeSet};

use host::KernelFiles;
use nvidia::{GpuInfo, Profile, VgpuOffer, parse_creatable, short_name};
use record::{Address, VgpuHolder, VgpuInterface};

use crate::holders::Holders;
use crate::managed::Managed;
use crate::uuid;

/// Where the kernel shows PCI functions.
pub const DEVICES: &str = "/sys/bus/pci/devices";

/// How much to read of each virtual function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What a plan needs: on each card the first free function's list of
    /// profiles stands for those of all.
    Plan,
    /// Everything.
    Full,
}

/// One GPU of NVIDIA's.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Address of its physical function.
    pub address: Address,
    /// Device id.
    pub device: Option<u16>,
    /// Product name.
    pub model: Option<String>,
    /// The driver it is bound to.
    pub driver: Option<String>,
    /// Virtual functions that it can have; 0 for one without SR-IOV.
    pub total_vfs: u32,
    /// Where its virtual functions will be, before they are there.
    pub vf_offset: Option<(u32, u32)>,
    /// What can have profiles: its virtual functions, or itself.
    pub slots: Vec<Slot>,
    /// Profiles by id, as far as they are known.
    pub types: BTreeMap<u32, String>,
    /// All that it offers is known.
    pub complete: bool,
    /// Different sizes at once.
    pub heterogeneous: Option<bool>,
    /// MIG instances.
    pub mig_instances: u32,
}

/// A function that can have a profile, or on which mediated devices are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its address.
    pub address: Address,
    /// N of `virtfnN`; 0 for the GPU itself.
    pub index: u32,
    /// How profiles are set; `None` for a VF that no vGPU host driver has.
    pub interface: Option<VgpuInterface>,
    /// The driver it is bound to; with [`Depth::Plan`] only where it has no
    /// interface, and that may be why.
    pub driver: Option<String>,
    /// `current_vgpu_type`; 0 for none.
    pub current: u32,
    /// Why that could not be read.
    pub unreadable: Option<String>,
    /// What it offers now, where that was read.
    pub offers: Option<Vec<VgpuOffer>>,
    /// `placement_id`.
    pub placement_id: Option<u32>,
    /// `gpu_instance_id`.
    pub gpu_instance_id: Option<u32>,
    /// Who uses it.
    pub holder: Option<VgpuHolder>,
    /// VMs for which Proxmox VE sets and clears its profile.
    pub managed_by: Vec<u32>,
    /// Types of mediated devices.
    pub mdev_types: Vec<MdevType>,
    /// Mediated devices.
    pub mdevs: Vec<Mdev>,
}

impl Slot {
    /// One of which nothing else is known.
    pub fn bare(address: Address, index: u32) -> Slot {
        Slot {
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
            managed_by: Vec::new(),
            mdev_types: Vec::new(),
            mdevs: Vec::new(),
        }
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
    /// Its UUID.
    pub uuid: String,
    /// `nvidia-36`.
    pub dir: String,
    /// Its number on its parent, where this tool made it.
    pub ours: Option<u32>,
    /// Who uses it.
    pub holder: Option<VgpuHolder>,
}

impl Card {
    /// The short name of a type id.
    pub fn name_of(&self, id: u32) -> Option<&str> {
        self.types.get(&id).map(|name| short_name(name))
    }

    /// What a type id says of itself.
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

    /// Whether anything on it can have a profile now.
    pub fn interface(&self) -> Option<VgpuInterface> {
        self.slots.iter().find_map(|slot| slot.interface)
    }

    /// Number of virtual functions.
    pub fn enabled_vfs(&self) -> u32 {
        self.slots.iter().filter(|slot| slot.address != self.address).count() as u32
    }
}

/// A number in decimal or with 0x.
fn number(text: &str) -> Option<u32> {
    match text.trim().strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.trim().parse().ok(),
    }
}

/// Reads all GPUs of NVIDIA's, by address.
pub fn observe(files: &dyn KernelFiles, depth: Depth) -> Result<Vec<Card>, host::FileError> {
    let mut cards: Vec<Card> = Vec::new();
    let mut addresses: Vec<Address> =
        files.list(DEVICES)?.iter().filter_map(|name| Address::from_sysfs(name)).collect();
    addresses.sort_unstable();
    let mut known = BTreeSet::new();
    for address in addresses {
        // a hundred VFs follow their GPU: they need not be asked what they are
        if known.contains(&address) {
            continue;
        }
        let attr = |name: &str| files.read_attr(&format!("{DEVICES}/{address}/{name}")).ok();
        // the VFs come with their GPU
        if files.read_link(&format!("{DEVICES}/{address}/physfn")).is_ok() {
            continue;
        }
        let gpu = attr("vendor").is_some_and(|vendor| vendor.trim() == "0x10de")
            && attr("class").is_some_and(|class| class.starts_with("0x03"));
        if gpu {
            let card = card(files, address, &attr, depth);
            known.extend(card.slots.iter().map(|slot| slot.address));
            cards.push(card);
        }
    }
    if cards.iter().any(|card| !card.slots.is_empty()) {
        let holders = Holders::read(files);
        let managed = Managed::read(files);
        for card in &mut cards {
            for slot in &mut card.slots {
                let busy = slot.current != 0 || slot.unreadable.is_some();
                slot.holder = if busy { holders.of(files, slot.address) } else { None };
                slot.managed_by = managed.of(slot.address);
                for mdev in &mut slot.mdevs {
                    mdev.holder = holders.of_mdev(files, slot.address, &mdev.uuid);
                }
            }
        }
    }
    Ok(cards)
}

fn card(
    files: &dyn KernelFiles,
    address: Address,
    attr: &dyn Fn(&str) -> Option<String>,
    depth: Depth,
) -> Card {
    let information = format!("/proc/driver/nvidia/gpus/{address}/information");
    let information = files.read_attr(&information).unwrap_or_default();
    let info = GpuInfo::parse(address, &information);
    let mig = info.minor.map(|minor| {
        let dir = format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig");
        let names = files.list(&dir).unwrap_or_default();
        let instance =
            |name: &&String| name.strip_prefix("gi").is_some_and(|n| n.parse::<u32>().is_ok());
        names.iter().filter(instance).count() as u32
    });
    let offset = attr("sriov_offset").and_then(|text| number(&text));
    let stride = attr("sriov_stride").and_then(|text| number(&text));
    let mut card = Card {
        address,
        device: attr("device").and_then(|text| number(&text)).map(|id| id as u16),
        model: info.model,
        driver: driver(files, address),
        total_vfs: attr("sriov_totalvfs").and_then(|text| number(&text)).unwrap_or(0),
        vf_offset: offset.zip(stride),
        slots: Vec::new(),
        types: BTreeMap::new(),
        complete: false,
        heterogeneous: None,
        mig_instances: mig.unwrap_or(0),
    };
    let own = slot(files, address, 0, depth, true);
    if own.interface.is_some() {
        card.slots.push(own);
    }
    if card.total_vfs > 0 {
        for (index, vf) in virtual_functions(files, address) {
            // one list stands for the others
            let list = depth == Depth::Full || card.slots.iter().all(|s| s.offers.is_none());
            card.slots.push(slot(files, vf, index, depth, list));
        }
    }
    learn(&mut card);
    card
}

/// The VFs in their order; the links' names do not sort by number.
pub fn virtual_functions(files: &dyn KernelFiles, pf: Address) -> Vec<(u32, Address)> {
    let names = files.list(&format!("{DEVICES}/{pf}")).unwrap_or_default();
    let mut found: Vec<(u32, Address)> = names
        .iter()
        .filter_map(|name| {
            let index = name.strip_prefix("virtfn")?.parse().ok()?;
            let target = files.read_link(&format!("{DEVICES}/{pf}/{name}")).ok()?;
            Some((index, Address::from_sysfs(target.rsplit('/').next()?)?))
        })
        .collect();
    found.sort_unstable();
    found
}

fn driver(files: &dyn KernelFiles, address: Address) -> Option<String> {
    let target = files.read_link(&format!("{DEVICES}/{address}/driver")).ok()?;
    target.rsplit('/').next().map(str::to_string)
}

fn slot(files: &dyn KernelFiles, address: Address, index: u32, depth: Depth, list: bool) -> Slot {
    let path = |name: &str| format!("{DEVICES}/{address}/{name}");
    let mut slot = Slot::bare(address, index);
    match files.read_attr(&path("nvidia/current_vgpu_type")) {
        Ok(text) => {
            slot.interface = Some(VgpuInterface::Vendor);
            match number(&text) {
                Some(id) => slot.current = id,
                None => {
                    slot.unreadable = Some(format!("current_vgpu_type reads '{}'", text.trim()))
                }
            }
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => {
            slot.interface = Some(VgpuInterface::Vendor);
            slot.unreadable = Some(error.to_string());
        }
    }
    if slot.interface.is_none() || depth == Depth::Full {
        slot.driver = driver(files, address);
    }
    if slot.interface.is_none() {
        mdev_files(files, &mut slot, &path("mdev_supported_types"));
        return slot;
    }
    if slot.current == 0 && list {
        let text = files.read_attr(&path("nvidia/creatable_vgpu_types")).ok();
        slot.offers = text.map(|text| parse_creatable(&text));
    }
    if slot.current != 0 && depth == Depth::Full {
        // ENXIO until there is a vGPU; all ones is no MIG instance
        let id = |name: &str| {
            let text = files.read_attr(&path(name)).ok()?;
            number(&text).filter(|id| *id != u32::MAX)
        };
        slot.placement_id = id("nvidia/placement_id");
        slot.gpu_instance_id = id("nvidia/gpu_instance_id");
    }
    slot
}

fn mdev_files(files: &dyn KernelFiles, slot: &mut Slot, types: &str) {
    for dir in files.list(types).unwrap_or_default() {
        let Some(id) = dir.rsplit('-').next().and_then(|id| id.parse().ok()) else { continue };
        let attr = |name: &str| files.read_attr(&format!("{types}/{dir}/{name}")).ok();
        let description = attr("description").unwrap_or_default();
        let most = description.split("max_instance=").nth(1);
        let most = most.map(|rest| rest.split([',', ' ', '\n']).next().unwrap_or_default());
        for uuid in files.list(&format!("{types}/{dir}/devices")).unwrap_or_default() {
            let ours = uuid::number_of(slot.address, &uuid);
            slot.mdevs.push(Mdev { uuid, dir: dir.clone(), ours, holder: None });
        }
        slot.mdev_types.push(MdevType {
            id,
            name: attr("name").unwrap_or_default().trim().to_string(),
            available: attr("available_instances").and_then(|n| number(&n)).unwrap_or(0),
            most: most.and_then(number),
            dir,
        });
    }
    if !slot.mdev_types.is_empty() {
        slot.interface = Some(VgpuInterface::Mdev);
        slot.mdev_types.sort_by_key(|of| of.id);
        slot.mdevs.sort_by_key(|mdev| (mdev.ours.is_none(), mdev.ours, mdev.uuid.clone()));
    }
}

/// Names from all lists; complete where nothing is set that could hide one.
fn learn(card: &mut Card) {
    for slot in &card.slots {
        for offer in slot.offers.iter().flatten() {
            card.types.insert(offer.id, offer.name.clone());
        }
        for of in &slot.mdev_types {
            card.types.insert(of.id, of.name.clone());
        }
    }
    let mdev = card.interface() == Some(VgpuInterface::Mdev);
    let empty = card.slots.iter().all(|slot| slot.current == 0 && slot.unreadable.is_none());
    card.complete = !card.types.is_empty() && (mdev || empty);
}
