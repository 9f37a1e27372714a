//! Who uses a virtual function or a mediated device.

use std::collections::BTreeMap;

use host::KernelFiles;
use record::{Address, VgpuHolder};

use crate::sysfs::DEVICES;

/// Processes with VFIO nodes open, and functions that Proxmox VE has reserved.
pub struct Holders {
    open: BTreeMap<String, (u32, String)>,
    reserved: BTreeMap<Address, u32>,
}

impl Holders {
    /// Looks once at all processes.
    pub fn read(files: &dyn KernelFiles) -> Holders {
        let mut open = BTreeMap::new();
        for name in files.list("/proc").unwrap_or_default() {
            let Ok(pid) = name.parse::<u32>() else { continue };
            // a process may end while we look: then it holds nothing
            for fd in files.list(&format!("/proc/{pid}/fd")).unwrap_or_default() {
                let Ok(target) = files.read_link(&format!("/proc/{pid}/fd/{fd}")) else { continue };
                if target.starts_with("/dev/vfio/") {
                    let command = files.read_attr(&format!("/proc/{pid}/comm"));
                    open.insert(target, (pid, command.unwrap_or_default().trim().to_string()));
                }
            }
        }
        let text = files.read_attr("/run/qemu-server/pci-id-reservations").unwrap_or_default();
        Holders { open, reserved: reservations(&text) }
    }

    /// Who uses a function.
    pub fn of(&self, files: &dyn KernelFiles, address: Address) -> Option<VgpuHolder> {
        let dir = format!("{DEVICES}/{address}");
        let process = self.process(files, &dir);
        let vm = self.reserved.get(&address).copied();
        if process.is_none() && vm.is_none() {
            return None;
        }
        let (pid, command) = process.unzip();
        Some(VgpuHolder { pid, command, vm })
    }

    /// Who uses a mediated device.
    pub fn of_mdev(
        &self,
        files: &dyn KernelFiles,
        parent: Address,
        uuid: &str,
    ) -> Option<VgpuHolder> {
        let (pid, command) = self.process(files, &format!("{DEVICES}/{parent}/{uuid}"))?;
        Some(VgpuHolder { pid: Some(pid), command: Some(command), vm: None })
    }

    fn process(&self, files: &dyn KernelFiles, dir: &str) -> Option<(u32, String)> {
        if self.open.is_empty() {
            return None;
        }
        let group = files.read_link(&format!("{dir}/iommu_group")).ok();
        let group = group.and_then(|link| Some(format!("/dev/vfio/{}", link.rsplit('/').next()?)));
        let nodes = files.list(&format!("{dir}/vfio-dev")).unwrap_or_default();
        let nodes = nodes.iter().map(|name| format!("/dev/vfio/devices/{name}"));
        nodes.chain(group).find_map(|node| self.open.get(&node).cloned())
    }
}

/// `BDF VMID time:EPOCH` or `BDF VMID pid:PID` (qemu-server, PCI.pm).
fn reservations(text: &str) -> BTreeMap<Address, u32> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
