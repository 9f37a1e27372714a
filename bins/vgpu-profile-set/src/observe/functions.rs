//! One GPU with its virtual functions and mediated devices, from sysfs and
//! /proc/driver/nvidia.

use std::collections::BTreeMap;

use host::KernelFiles;
use nvidia::{GpuInfo, parse_creatable};
use record::{Address, VgpuInterface};

use crate::observe::model::{Gpu, Mdev, MdevType, ReadDepth, VgpuFunction};
use crate::sysfs::{function_path, link_name, number, virtual_functions};

/// Reads the GPU at this address.
pub(crate) fn read_gpu(files: &dyn KernelFiles, address: Address, depth: ReadDepth) -> Gpu {
    let attr = |name: &str| files.read_attr(&function_path(address, name)).ok();
    let count = |name: &str| attr(name).and_then(|text| number(&text));
    let information = format!("/proc/driver/nvidia/gpus/{address}/information");
    let information = files.read_attr(&information).unwrap_or_default();
    let info = GpuInfo::parse(address, &information);
    let mut gpu = Gpu {
        address,
        device: count("device").map(|id| id as u16),
        subsystem: count("subsystem_device")
            .zip(count("subsystem_vendor"))
            .map(|(device, vendor)| (device as u16, vendor as u16)),
        model: info.model,
        driver: link_name(files, address, "driver"),
        total_vfs: count("sriov_totalvfs").unwrap_or(0),
        vf_offset: count("sriov_offset").zip(count("sriov_stride")),
        functions: Vec::new(),
        types: BTreeMap::new(),
        complete: false,
        most: BTreeMap::new(),
        mig_requested: None,
        heterogeneous: None,
        host_module: host_module(files),
        mig_instances: info.minor.map_or(0, |minor| mig_instances(files, minor)),
    };
    let own = read_function(files, address, 0, depth, true);
    if own.interface.is_some() {
        gpu.functions.push(own);
    }
    if gpu.total_vfs > 0 {
        for (index, vf) in virtual_functions(files, address) {
            // one list is valid for the others
            let list = depth == ReadDepth::Full || gpu.functions.iter().all(|f| f.offers.is_none());
            gpu.functions.push(read_function(files, vf, index, depth, list));
        }
    }
    collect_types(&mut gpu);
    gpu
}

/// Whether nvidia_vgpu_vfio is loaded.
fn host_module(files: &dyn KernelFiles) -> Option<bool> {
    let modules = files.read_attr("/proc/modules").ok()?;
    Some(modules.lines().any(|line| line.starts_with("nvidia_vgpu_vfio ")))
}

fn mig_instances(files: &dyn KernelFiles, minor: u32) -> u32 {
    let dir = format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig");
    let names = files.list(&dir).unwrap_or_default();
    let instance =
        |name: &&String| name.strip_prefix("gi").is_some_and(|n| n.parse::<u32>().is_ok());
    names.iter().filter(instance).count() as u32
}

fn read_function(
    files: &dyn KernelFiles,
    address: Address,
    index: u32,
    depth: ReadDepth,
    list: bool,
) -> VgpuFunction {
    let path = |name: &str| function_path(address, name);
    let mut function = VgpuFunction::bare(address, index);
    match files.read_attr(&path("nvidia/current_vgpu_type")) {
        Ok(text) => {
            function.interface = Some(VgpuInterface::Vendor);
            match number(&text) {
                Some(id) => function.current = id,
                None => {
                    function.unreadable = Some(format!("current_vgpu_type reads '{}'", text.trim()))
                }
            }
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => {
            function.interface = Some(VgpuInterface::Vendor);
            function.unreadable = Some(error.to_string());
        }
    }
    if function.interface.is_none() || depth == ReadDepth::Full {
        function.driver = link_name(files, address, "driver");
    }
    if function.interface.is_none() {
        read_mdevs(files, &mut function);
        return function;
    }
    if function.current == 0 && list {
        let text = files.read_attr(&path("nvidia/creatable_vgpu_types")).ok();
        function.offers = text.map(|text| parse_creatable(&text));
    }
    if function.current != 0 && depth == ReadDepth::Full {
        // ENXIO until there is a vGPU; all bits set where no MIG instance is used
        let id = |name: &str| {
            let text = files.read_attr(&path(name)).ok()?;
            number(&text).filter(|id| *id != u32::MAX)
        };
        function.placement_id = id("nvidia/placement_id");
        function.gpu_instance_id = id("nvidia/gpu_instance_id");
    }
    function
}

fn read_mdevs(files: &dyn KernelFiles, function: &mut VgpuFunction) {
    let types = function_path(function.address, "mdev_supported_types");
    for dir in files.list(&types).unwrap_or_default() {
        let Some(id) = dir.rsplit('-').next().and_then(|id| id.parse().ok()) else { continue };
        let attr = |name: &str| files.read_attr(&format!("{types}/{dir}/{name}")).ok();
        let description = attr("description").unwrap_or_default();
        let most = description.split("max_instance=").nth(1);
        let most = most.map(|rest| rest.split([',', ' ', '\n']).next().unwrap_or_default());
        for uuid in files.list(&format!("{types}/{dir}/devices")).unwrap_or_default() {
            let ours = Mdev::number_of(function.address, &uuid);
            function.mdevs.push(Mdev { uuid, dir: dir.clone(), ours, holder: None });
        }
        function.mdev_types.push(MdevType {
            id,
            name: attr("name").unwrap_or_default().trim().to_string(),
            available: attr("available_instances").and_then(|n| number(&n)).unwrap_or(0),
            most: most.and_then(number),
            dir,
        });
    }
    if !function.mdev_types.is_empty() {
        function.interface = Some(VgpuInterface::Mdev);
        function.mdev_types.sort_by_key(|of| of.id);
        function.mdevs.sort_by_key(|mdev| (mdev.ours.is_none(), mdev.ours, mdev.uuid.clone()));
    }
}

/// Names from all lists; complete where nothing is set that could hide one.
fn collect_types(gpu: &mut Gpu) {
    for function in &gpu.functions {
        for offer in function.offers.iter().flatten() {
            gpu.types.insert(offer.id, offer.name.clone());
        }
        for of in &function.mdev_types {
            gpu.types.insert(of.id, of.name.clone());
            gpu.most.extend(of.most.map(|most| (of.id, most)));
        }
    }
    let mdev = gpu.interface() == Some(VgpuInterface::Mdev);
    let empty = gpu.functions.iter().all(|f| f.current == 0 && f.unreadable.is_none());
    gpu.complete = !gpu.types.is_empty() && (mdev || empty);
}
