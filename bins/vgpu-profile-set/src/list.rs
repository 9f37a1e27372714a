//! `list`: what there is, and as what it would be given to VMs elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, fail};
use host::Machine;
use nvidia::{Profile, short_name};
use record::{Address, Record, Vgpu, VgpuInterface, VgpuKind, VgpuType, print_text};

use crate::cli::{Format, List};
use crate::observe::{Card, DEVICES, Depth, Slot};
use crate::run::{Run, look};

/// The verb.
pub fn run(options: &List, run: Run<'_>) -> anyhow::Result<Exit> {
    let machinery = run.machinery();
    let mut cards = look(&machinery, Depth::Full)?;
    for card in cards.iter_mut().filter(|card| !card.slots.is_empty()) {
        card.heterogeneous = machinery.heterogeneous(card.address);
    }
    let wanted: Vec<Address> = options
        .operands
        .iter()
        .map(|text| text.parse().map_err(|error| not_an_address(&error)))
        .collect::<Result<_, _>>()?;
    for address in &wanted {
        let known = |card: &Card| {
            card.address == *address || card.slots.iter().any(|slot| slot.address == *address)
        };
        if !cards.iter().any(known) {
            let message = format!("no GPU or virtual function of NVIDIA's at {address}");
            let gpus: Vec<String> = cards.iter().map(|card| card.address.to_string()).collect();
            let hint = match gpus.is_empty() {
                true => "there is no GPU of NVIDIA's on this machine".into(),
                false => format!("NVIDIA's GPUs: {}", gpus.join(", ")),
            };
            return Err(fail(Exit::Usage, message).hint(hint).into());
        }
    }
    match options.format {
        Some(Format::Kubevirt) => print_text(&kubevirt(run.machine, &cards))?,
        Some(Format::PveMapping) => print_text(&pve_mapping(run.machine, &cards))?,
        None if cards.is_empty() => run
            .say
            .note("no GPU of NVIDIA's on this machine; 'gpu-iommu-groups' shows what there is"),
        None => {}
    }
    if options.format.is_some() {
        return Ok(Exit::Done);
    }
    for card in &cards {
        let all = wanted.is_empty() || wanted.contains(&card.address);
        if options.types {
            if all {
                for of in types(card) {
                    run.writer.put(Record::VgpuType(of))?;
                }
            }
            continue;
        }
        if all {
            run.writer.put(Record::Vgpu(Box::new(gpu(card))))?;
        }
        for slot in card.slots.iter().filter(|slot| all || wanted.contains(&slot.address)) {
            if slot.address != card.address {
                run.writer.put(Record::Vgpu(Box::new(function(card, slot))))?;
            }
            for mdev in mdevs(card, slot) {
                run.writer.put(Record::Vgpu(Box::new(mdev)))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// The failure of an operand that is no address.
pub(crate) fn not_an_address(error: &record::AddressError) -> Failure {
    fail(Exit::Usage, error.to_string()).hint("'vgpu-profile-set list' shows what there is")
}

fn bare(address: Address, kind: VgpuKind, card: &Card) -> Vgpu {
    Vgpu {
        address,
        kind,
        gpu: Some(card.address),
        index: None,
        uuid: None,
        interface: None,
        driver: None,
        model: None,
        vfs_total: None,
        vfs_enabled: None,
        profile_id: None,
        profile: None,
        creatable: Vec::new(),
        placement_id: None,
        gpu_instance_id: None,
        holder: None,
        managed_by: Vec::new(),
        heterogeneous: None,
        mig_instances: None,
    }
}

fn gpu(card: &Card) -> Vgpu {
    let own = card.slots.iter().find(|slot| slot.address == card.address);
    Vgpu {
        interface: card.interface(),
        driver: card.driver.clone(),
        model: card.model.clone(),
        vfs_total: Some(card.total_vfs),
        vfs_enabled: Some(card.enabled_vfs()),
        creatable: own.map(mdev_offers).unwrap_or_default(),
        heterogeneous: card.heterogeneous,
        mig_instances: Some(card.mig_instances),
        ..bare(card.address, VgpuKind::Gpu, card)
    }
}

fn mdev_offers(slot: &Slot) -> Vec<String> {
    let offered = slot.mdev_types.iter().filter(|of| of.available > 0);
    offered.map(|of| short_name(&of.name).to_string()).collect()
}

fn function(card: &Card, slot: &Slot) -> Vgpu {
    let offers = slot.offers.iter().flatten().map(|offer| short_name(&offer.name).to_string());
    let creatable = match slot.interface {
        Some(VgpuInterface::Mdev) => mdev_offers(slot),
        _ => offers.collect(),
    };
    Vgpu {
        index: Some(slot.index),
        interface: slot.interface,
        driver: slot.driver.clone(),
        profile_id: Some(slot.current).filter(|id| *id != 0),
        profile: card.name_of(slot.current).map(str::to_string),
        creatable,
        placement_id: slot.placement_id,
        gpu_instance_id: slot.gpu_instance_id,
        holder: slot.holder.clone(),
        managed_by: slot.managed_by.clone(),
        ..bare(slot.address, VgpuKind::Vf, card)
    }
}

fn mdevs(card: &Card, slot: &Slot) -> Vec<Vgpu> {
    let one = |mdev: &crate::observe::Mdev| {
        let of = slot.mdev_types.iter().find(|of| of.dir == mdev.dir);
        Vgpu {
            index: mdev.ours,
            uuid: Some(mdev.uuid.clone()),
            interface: Some(VgpuInterface::Mdev),
            profile_id: of.map(|of| of.id),
            profile: of.map(|of| short_name(&of.name).to_string()),
            holder: mdev.holder.clone(),
            ..bare(slot.address, VgpuKind::Mdev, card)
        }
    };
    slot.mdevs.iter().map(one).collect()
}

/// All profiles of a card, with how many functions list each now.
fn types(card: &Card) -> Vec<VgpuType> {
    let Some(interface) = card.interface() else { return Vec::new() };
    card.types
        .iter()
        .map(|(id, name)| {
            let profile = Profile::parse(name);
            let lists = |slot: &&Slot| slot.offers.iter().flatten().any(|offer| offer.id == *id);
            let vfs = card.slots.iter().filter(lists).count() as u32;
            let mdevs = card.slots.iter().flat_map(|slot| &slot.mdev_types);
            let mdevs: u32 = mdevs.filter(|of| of.id == *id).map(|of| of.available).sum();
            VgpuType {
                gpu: card.address,
                interface,
                id: *id,
                name: name.clone(),
                profile: short_name(name).to_string(),
                framebuffer: profile.as_ref().map(|p| p.mib() << 20),
                mig_slices: profile.as_ref().and_then(Profile::slices),
                available: vfs + mdevs,
            }
        })
        .collect()
}

/// `10DE:26B9` of a function.
fn selector(machine: &Machine, address: Address) -> String {
    let id = |name: &str| {
        let text = machine.attr(&format!("{DEVICES}/{address}/{name}")).unwrap_or_default();
        text.trim().trim_start_matches("0x").to_uppercase()
    };
    format!("{}:{}", id("vendor"), id("device"))
}

/// What KubeVirt's custom resource wants of the profiles that are set now.
fn kubevirt(machine: &Machine, cards: &[Card]) -> String {
    let mut functions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut mediated: BTreeSet<String> = BTreeSet::new();
    for card in cards {
        for slot in &card.slots {
            if let Some(name) = card.name_of(slot.current) {
                functions.entry(selector(machine, slot.address)).or_default().insert(name.into());
            }
            for mdev in &slot.mdevs {
                let of = slot.mdev_types.iter().find(|of| of.dir == mdev.dir);
                mediated.extend(of.map(|of| of.name.clone()));
            }
        }
    }
    let mut text = String::from("spec:\n  configuration:\n    permittedHostDevices:\n");
    if functions.is_empty() && mediated.is_empty() {
        text.push_str("      # no profile is set on this machine\n      pciHostDevices: []\n");
    }
    if !functions.is_empty() {
        text.push_str("      pciHostDevices:\n");
    }
    for (selector, names) in &functions {
        if names.len() > 1 {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            text.push_str(&format!(
                "        # {} share one selector, which KubeVirt gives one name only\n",
                names.join(", ")
            ));
        }
        let name = names.iter().next().map_or("", String::as_str);
        text.push_str(&format!(
            "        - pciVendorSelector: \"{selector}\"\n          resourceName: nvidia.com/{name}\n"
        ));
    }
    if !mediated.is_empty() {
        text.push_str("      mediatedDevices:\n");
    }
    for name in &mediated {
        text.push_str(&format!(
            "        - mdevNameSelector: \"{name}\"\n          resourceName: nvidia.com/{}\n",
            name.replace(' ', "_")
        ));
    }
    text
}

/// Sections for /etc/pve/mapping/pci.cfg: one a card, all its virtual functions
/// on this node.
fn pve_mapping(machine: &Machine, cards: &[Card]) -> String {
    let local = machine.read_link("/etc/pve/local").unwrap_or_default();
    let node = match local.rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_string(),
        _ => machine.attr("/proc/sys/kernel/hostname").unwrap_or_else(|_| "NODE".into()),
    };
    let mut text = String::new();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for card in cards.iter().filter(|card| !card.slots.is_empty()) {
        let model = card.model.as_deref().map_or("gpu", short_name);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let mut name: String = format!("vgpu-{model}").chars().map(plain).collect();
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            name = format!("{name}-{times}");
        }
        text.push_str(&format!("{name}\n"));
        for slot in &card.slots {
            let attr = |name: &str| {
                let text = machine.attr(&format!("{DEVICES}/{}/{name}", slot.address));
                text.unwrap_or_default().trim().trim_start_matches("0x").to_string()
            };
            let group = machine.read_link(&format!("{DEVICES}/{}/iommu_group", slot.address));
            let group = group
                .ok()
                .and_then(|link| Some(format!("iommugroup={},", link.rsplit('/').next()?)));
            text.push_str(&format!(
                "\tmap id={}:{},{}node={node},path={},subsystem-id={}:{}\n",
                attr("vendor"),
                attr("device"),
                group.unwrap_or_default(),
                slot.address,
                attr("subsystem_vendor"),
                attr("subsystem_device"),
            ));
        }
        text.push_str("\tmdev 1\n\n");
    }
    text
}
