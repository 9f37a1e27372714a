//! `list`: prints GPUs, virtual functions and mediated devices with their
//! profiles.

use ::cli::{Exit, fail};
use advice::{external, gpu_iommu_groups};
use nvidia::{Profile, short_name};
use record::{
    Address, Hint, Record, Vgpu, VgpuInterface, VgpuKind, VgpuType, VgpuVm, print_text, shell_words,
};

use crate::cli::{ExportFormat, ListOptions};
use crate::export::{kubevirt, pve_mapping, qm};
use crate::observe::add_supported;
use crate::observe::model::{Gpu, Mdev, NamedBy, ReadDepth, VgpuFunction};
use crate::plan::room;
use crate::session::{Session, operand};

/// The verb.
pub fn run(options: &ListOptions, session: Session<'_>) -> anyhow::Result<Exit> {
    let mut gpus = session.observe(ReadDepth::Full)?;
    session.read_heterogeneous(&mut gpus);
    if options.types {
        // also of a GPU whose virtual functions are disabled, which has no list
        let mute = gpus.iter_mut().filter(|gpu| gpu.types.is_empty() && gpu.total_vfs > 0);
        mute.for_each(|gpu| add_supported(&session.programs(), gpu));
    }
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
        Some(ExportFormat::Qm) => {
            let keep_known = pve::has_driver_keep(session.machine);
            print_text(&qm(&gpus, keep_known))?;
        }
        None => {
            if gpus.is_empty() {
                let lister = record::shell_words(&gpu_iommu_groups::list_all());
                session.say.note(&format!("no NVIDIA GPU on this host; '{lister}' lists all GPUs"));
            }
            if options.types {
                let mute = gpus.iter().filter_map(no_types);
                mute.for_each(|text| session.say.warn(&text));
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
        vms: Vec::new(),
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
        vms: own.map(vms).unwrap_or_default(),
        heterogeneous: gpu.heterogeneous,
        mig_instances: Some(gpu.mig_instances),
        ..bare(gpu.address, VgpuKind::Gpu, gpu)
    }
}

/// VMs of Proxmox VE that are given a function.
fn vms(function: &VgpuFunction) -> Vec<VgpuVm> {
    let of = |of: &NamedBy| VgpuVm {
        vm: of.vm,
        key: of.hostpci.key.clone(),
        mode: of.hostpci.mode().as_str().into(),
    };
    function.vms.iter().map(of).collect()
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
        managed_by: function.managed_by(),
        vms: vms(function),
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
        managed_by: mdev.pve_vm().into_iter().collect(),
        ..bare(function.address, VgpuKind::Mdev, gpu)
    }
}

/// All profiles of a GPU, with how many more of each can be made now.
fn types(gpu: &Gpu) -> Vec<VgpuType> {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let of = |(id, name): (&u32, &String)| {
        let profile = Profile::parse(name);
        VgpuType {
            gpu: gpu.address,
            interface: gpu.interface(),
            id: *id,
            name: name.clone(),
            profile: short_name(name).to_string(),
            framebuffer: profile.as_ref().map(|p| p.mib() << 20),
            mig_slices: profile.as_ref().and_then(Profile::slices),
            available: room::more_now(gpu, *id).map(number),
            max_instances: profile.and_then(|profile| room::most(gpu, &profile)).map(number),
        }
    };
    gpu.types.iter().map(of).collect()
}

/// What to do about a GPU whose driver lists no profile.
fn no_types(gpu: &Gpu) -> Option<String> {
    if !gpu.types.is_empty() || gpu.total_vfs == 0 {
        return None;
    }
    let address = gpu.address;
    Some(match gpu.functions.is_empty() {
        true => {
            let enable = shell_words(&external::sriov_manage_enable(address));
            format!(
                "{address}: no profiles are listed while virtual functions are disabled (hint: {enable})"
            )
        }
        false => format!(
            "{address}: the GPU is full and lists no profiles, and nvidia-smi is not installed"
        ),
    })
}
