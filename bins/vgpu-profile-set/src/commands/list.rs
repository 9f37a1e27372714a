//! `list`: prints GPUs, virtual functions and mediated devices with their
//! profiles.

use ::cli::{Exit, fail};
use advice::gpu_iommu_groups;
use nvidia::{Profile, short_name};
use record::{Address, Hint, Record, Vgpu, VgpuInterface, VgpuKind, VgpuType, print_text};

use crate::cli::{ExportFormat, ListOptions};
use crate::export::{kubevirt, pve_mapping};
use crate::observe::model::{Gpu, Mdev, ReadDepth, VgpuFunction};
use crate::session::{Session, operand};

/// The verb.
pub fn run(options: &ListOptions, session: Session<'_>) -> anyhow::Result<Exit> {
    let mut gpus = session.observe(ReadDepth::Full)?;
    session.read_heterogeneous(&mut gpus);
    let mut named: Vec<Address> = Vec::new();
    for text in &options.operands {
        named.push(operand(text)?);
    }
    for address in &named {
        check_exists(*address, &gpus)?;
    }
    match options.format {
        Some(ExportFormat::Kubevirt) => print_text(&kubevirt(session.machine, &gpus))?,
        Some(ExportFormat::PveMapping) => print_text(&pve_mapping(session.machine, &gpus))?,
        None => {
            if gpus.is_empty() {
                let lister = record::shell_words(&gpu_iommu_groups::list_all());
                session.say.note(&format!("no NVIDIA GPU on this host; '{lister}' lists all GPUs"));
            }
            for record in gpus.iter().flat_map(|gpu| records(options, gpu, &named)) {
                session.writer.put(record)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn check_exists(address: Address, gpus: &[Gpu]) -> anyhow::Result<()> {
    let has =
        |gpu: &Gpu| gpu.address == address || gpu.functions.iter().any(|f| f.address == address);
    if gpus.iter().any(has) {
        return Ok(());
    }
    let known: Vec<String> = gpus.iter().map(|gpu| gpu.address.to_string()).collect();
    let hint = match known.is_empty() {
        true => Hint::command(gpu_iommu_groups::list_all()).because("this host has no NVIDIA GPU"),
        false => Hint::words(format!("NVIDIA GPUs of this host: {}", known.join(", "))),
    };
    let message = format!("no NVIDIA GPU or virtual function at {address}");
    Err(fail(Exit::Usage, message).advise(hint).into())
}

/// The records of one GPU, or of those of its functions that are named.
fn records(options: &ListOptions, gpu: &Gpu, named: &[Address]) -> Vec<Record> {
    let all = named.is_empty() || named.contains(&gpu.address);
    if options.types {
        let types = if all { types(gpu) } else { Vec::new() };
        return types.into_iter().map(Record::VgpuType).collect();
    }
    let mut vgpus: Vec<Vgpu> = Vec::new();
    vgpus.extend(all.then(|| gpu_record(gpu)));
    for function in gpu.functions.iter().filter(|f| all || named.contains(&f.address)) {
        if function.address != gpu.address {
            vgpus.push(function_record(gpu, function));
        }
        vgpus.extend(function.mdevs.iter().map(|mdev| mdev_record(gpu, function, mdev)));
    }
    vgpus.into_iter().map(|vgpu| Record::Vgpu(Box::new(vgpu))).collect()
}

fn bare(address: Address, kind: VgpuKind, gpu: &Gpu) -> Vgpu {
    Vgpu {
        address,
        kind,
        gpu: Some(gpu.address),
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

fn gpu_record(gpu: &Gpu) -> Vgpu {
    let own = gpu.functions.iter().find(|function| function.address == gpu.address);
    Vgpu {
        interface: gpu.interface(),
        driver: gpu.driver.clone(),
        model: gpu.model.clone(),
        vfs_total: Some(gpu.total_vfs),
        vfs_enabled: Some(gpu.enabled_vfs()),
        creatable: own.map(mdev_offers).unwrap_or_default(),
        heterogeneous: gpu.heterogeneous,
        mig_instances: Some(gpu.mig_instances),
        ..bare(gpu.address, VgpuKind::Gpu, gpu)
    }
}

fn mdev_offers(function: &VgpuFunction) -> Vec<String> {
    let offered = function.mdev_types.iter().filter(|of| of.available > 0);
    offered.map(|of| short_name(&of.name).to_string()).collect()
}

fn function_record(gpu: &Gpu, function: &VgpuFunction) -> Vgpu {
    let offers = function.offers.iter().flatten().map(|offer| short_name(&offer.name).to_string());
    let creatable = match function.interface {
        Some(VgpuInterface::Mdev) => mdev_offers(function),
        _ => offers.collect(),
    };
    Vgpu {
        index: Some(function.index),
        interface: function.interface,
        driver: function.driver.clone(),
        profile_id: Some(function.current).filter(|id| *id != 0),
        profile: gpu.name_of(function.current).map(str::to_string),
        creatable,
        placement_id: function.placement_id,
        gpu_instance_id: function.gpu_instance_id,
        holder: function.holder.clone(),
        managed_by: function.managed_by.clone(),
        ..bare(function.address, VgpuKind::Vf, gpu)
    }
}

fn mdev_record(gpu: &Gpu, function: &VgpuFunction, mdev: &Mdev) -> Vgpu {
    let of = function.mdev_type(&mdev.dir);
    Vgpu {
        index: mdev.ours,
        uuid: Some(mdev.uuid.clone()),
        interface: Some(VgpuInterface::Mdev),
        profile_id: of.map(|of| of.id),
        profile: of.map(|of| short_name(&of.name).to_string()),
        holder: mdev.holder.clone(),
        ..bare(function.address, VgpuKind::Mdev, gpu)
    }
}

/// All profiles of a GPU, with the number of functions that list each now.
fn types(gpu: &Gpu) -> Vec<VgpuType> {
    let Some(interface) = gpu.interface() else { return Vec::new() };
    gpu.types
        .iter()
        .map(|(id, name)| {
            let profile = Profile::parse(name);
            let lists = |function: &&VgpuFunction| {
                function.offers.iter().flatten().any(|offer| offer.id == *id)
            };
            let vfs = gpu.functions.iter().filter(lists).count() as u32;
            let mdevs = gpu.functions.iter().flat_map(|function| &function.mdev_types);
            let mdevs: u32 = mdevs.filter(|of| of.id == *id).map(|of| of.available).sum();
            VgpuType {
                gpu: gpu.address,
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
