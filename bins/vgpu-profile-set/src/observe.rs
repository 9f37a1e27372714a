//! Which vGPUs the host has and could have. Reads only, and only through
//! [`KernelFiles`], so that a model of the kernel can take its place.

mod functions;
pub mod gpu_state;
mod holders;
pub mod model;
pub mod profile_cache;
mod unread;

use std::collections::BTreeSet;

use host::{FileError, KernelFiles};
use pve::Vms;
use record::{Address, VgpuInterface};

use crate::nvidia_programs::NvidiaPrograms;
use crate::observe::functions::read_gpu;
use crate::observe::holders::Holders;
use crate::observe::model::{Gpu, NamedBy, ReadDepth};
use crate::observe::unread::unknown;
use crate::sysfs::{DEVICES, function_path};

/// Reads all NVIDIA GPUs, by address.
pub fn observe(files: &dyn KernelFiles, depth: ReadDepth) -> Result<Vec<Gpu>, FileError> {
    let mut addresses: Vec<Address> =
        files.list(DEVICES)?.iter().filter_map(|name| Address::from_sysfs(name)).collect();
    addresses.sort_unstable();
    let mut gpus: Vec<Gpu> = Vec::new();
    let mut known = BTreeSet::new();
    for address in addresses {
        // the VFs of a GPU, up to hundreds, follow it: their files need not be read
        if !known.contains(&address) && is_gpu(files, address) {
            let gpu = read_gpu(files, address, depth);
            known.extend(gpu.functions.iter().map(|function| function.address));
            gpus.push(gpu);
        }
    }
    if gpus.iter().any(|gpu| !gpu.functions.is_empty()) {
        read_users(files, &mut gpus);
    }
    Ok(gpus)
}

/// Reads all NVIDIA GPUs, and the names of the profiles that are set as far as
/// the cache of this tool or nvidia-smi knows them.
pub fn observe_with_names(
    programs: &NvidiaPrograms<'_>,
    depth: ReadDepth,
) -> Result<Vec<Gpu>, FileError> {
    let mut gpus = observe(programs.files, depth)?;
    for gpu in &mut gpus {
        profile_cache::recall(programs.files, gpu);
        let vendor = gpu.interface() == Some(VgpuInterface::Vendor);
        if vendor && !gpu.complete && gpu.functions.iter().any(|f| f.current != 0) {
            add_supported(programs, gpu);
        }
    }
    Ok(gpus)
}

/// Adds what nvidia-smi knows of all profiles of a GPU.
pub fn add_supported(programs: &NvidiaPrograms<'_>, gpu: &mut Gpu) {
    let supported = programs.supported(gpu.address);
    gpu.complete |= !supported.is_empty();
    for of in supported {
        gpu.most.extend(of.max_instances.map(|most| (of.offer.id, most)));
        gpu.types.insert(of.offer.id, of.offer.name);
    }
}

/// A VF is read with its physical function, not by itself.
fn is_gpu(files: &dyn KernelFiles, address: Address) -> bool {
    let begins = |name: &str, with: &str| {
        let text = files.read_attr(&function_path(address, name));
        text.is_ok_and(|text| text.trim().starts_with(with))
    };
    files.read_link(&function_path(address, "physfn")).is_err()
        && begins("vendor", "0x10de")
        && begins("class", "0x03")
}

fn read_users(files: &dyn KernelFiles, gpus: &mut [Gpu]) {
    let holders = Holders::read(files);
    let vms = Vms::read(files);
    let vms_unknown = unknown(&vms.unread);
    for function in gpus.iter_mut().flat_map(|gpu| &mut gpu.functions) {
        let busy = function.current != 0 || function.unreadable.is_some();
        function.holder = if busy { holders.of(files, function.address) } else { None };
        function.users_unknown = holders.unknown.clone();
        function.vms = named_by(&vms, function.address);
        function.vms_unknown = vms_unknown.clone();
        for mdev in &mut function.mdevs {
            mdev.holder = holders.of_mdev(files, function.address, &mdev.uuid);
        }
    }
}

/// VMs whose hostpci lines name a function.
fn named_by(vms: &Vms, address: Address) -> Vec<NamedBy> {
    let of = |vm: &pve::Vm| {
        let named = vm.hostpci.iter().find(|hostpci| hostpci.names(address))?;
        Some(NamedBy { vm: vm.id, hostpci: named.clone(), keep_known: None })
    };
    vms.all.iter().filter_map(of).collect()
}
