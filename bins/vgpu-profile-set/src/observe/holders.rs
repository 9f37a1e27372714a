//! Who uses a virtual function or a mediated device.

use host::{KernelFiles, NodeHolder, OpenNodes};
use pve::Reservations;
use record::{Address, VgpuHolder};

use crate::observe::unread::unknown;
use crate::sysfs::{function_path, link_name};

/// Processes with VFIO nodes open, and functions that Proxmox VE has reserved.
pub(crate) struct Holders {
    open: OpenNodes,
    reserved: Reservations,
    /// Why there may be one that was not found.
    pub unknown: Option<String>,
}

impl Holders {
    /// Looks once at all processes.
    pub fn read(files: &dyn KernelFiles) -> Holders {
        let open = OpenNodes::scan(files, &|node| node.path.starts_with("/dev/vfio/"));
        let mut unknown = unknown(&open.unread);
        let reserved = Reservations::read(files).unwrap_or_else(|error| {
            unknown.get_or_insert(error.to_string());
            Reservations::default()
        });
        Holders { open, reserved, unknown }
    }

    /// Who uses a function.
    pub fn of(&self, files: &dyn KernelFiles, address: Address) -> Option<VgpuHolder> {
        let nodes = vfio_nodes(files, address, "");
        let process = self.process(files, &nodes);
        let reserved = self.reserved.vm_of(address);
        if process.is_none() && reserved.is_none() {
            return None;
        }
        Some(VgpuHolder {
            pid: process.map(|process| process.pid),
            command: process.map(|process| process.name.clone()),
            vm: reserved.or(process.and_then(|process| process.vm)),
        })
    }

    /// Who uses a mediated device.
    pub fn of_mdev(
        &self,
        files: &dyn KernelFiles,
        parent: Address,
        uuid: &str,
    ) -> Option<VgpuHolder> {
        let nodes = vfio_nodes(files, parent, &format!("{uuid}/"));
        let process = self.process(files, &nodes)?;
        Some(VgpuHolder {
            pid: Some(process.pid),
            command: Some(process.name.clone()),
            vm: process.vm,
        })
    }

    fn process(&self, files: &dyn KernelFiles, nodes: &[String]) -> Option<&NodeHolder> {
        nodes.iter().find_map(|node| self.open.of_path(files, node).into_iter().next())
    }
}

/// The VFIO nodes of a function, or of the mediated device in a directory of it.
fn vfio_nodes(files: &dyn KernelFiles, address: Address, dir: &str) -> Vec<String> {
    let devices = function_path(address, &format!("{dir}vfio-dev"));
    let devices = files.list(&devices).unwrap_or_default();
    let devices = devices.iter().map(|name| format!("/dev/vfio/devices/{name}"));
    let group = link_name(files, address, &format!("{dir}iommu_group"));
    devices.chain(group.map(|group| format!("/dev/vfio/{group}"))).collect()
}
