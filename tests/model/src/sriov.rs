//! Virtual functions that come and go (drivers/pci/iov.c).

use record::Address;

use crate::files::{Node, split};
use crate::load;
use crate::state::{DEVICES, GROUPS, State};

/// Routing id plus offset plus index times stride: a VF may lie on another bus.
fn vf_address(pf: Address, offset: u32, stride: u32, index: u32) -> Address {
    let rid = u32::from(pf.bus) << 8 | u32::from(pf.device) << 3 | u32::from(pf.function);
    let rid = rid + offset + index * stride;
    Address {
        domain: pf.domain,
        bus: (rid >> 8) as u8,
        device: (rid >> 3 & 0x1f) as u8,
        function: (rid & 7) as u8,
    }
}

impl State {
    /// pci_enable_sriov().
    pub fn add_vfs(&mut self, pf: Address, count: u32) {
        let Some(sriov) = self.functions[&pf].sriov.clone() else { return };
        for index in 0..count {
            let address = vf_address(pf, sriov.offset, sriov.stride, index);
            self.add_vf(pf, address, sriov.vf_device);
            let dir = self.functions[&pf].dir.clone();
            let link = Node::Link(format!("../{address}"));
            self.files.put(&format!("{dir}/virtfn{index}"), link);
            if let Some(sriov) = &mut self.function_mut(pf).sriov {
                sriov.vfs.push(address);
            }
        }
        let dir = self.functions[&pf].dir.clone();
        self.files.attr(&format!("{dir}/sriov_numvfs"), count);
        if self.autoprobe {
            for index in 0..count {
                let address = vf_address(pf, sriov.offset, sriov.stride, index);
                let _ = self.probe_any(address);
            }
        }
    }

    fn add_vf(&mut self, pf: Address, address: Address, device: u32) {
        let parent = self.functions[&pf].clone();
        let dir = format!("{}/{address}", split(&parent.dir).0);
        let mut ids = parent.ids;
        ids.device = device;
        for name in ["class", "revision", "subsystem_vendor", "subsystem_device", "numa_node"] {
            if let Some(text) = self.files.text(&format!("{}/{name}", parent.dir)) {
                self.files.attr(&format!("{dir}/{name}"), text);
            }
        }
        // the sysfs files show pdev->vendor and pdev->device, which come from the PF
        self.files.attr(&format!("{dir}/vendor"), format_args!("{:#06x}", ids.vendor));
        self.files.attr(&format!("{dir}/device"), format_args!("{device:#06x}"));
        self.files.attr(&format!("{dir}/modalias"), ids.modalias());
        self.files.attr(&format!("{dir}/enable"), 0);
        if let Some(mut config) =
            self.files.bytes(&format!("{}/config", parent.dir)).map(<[u8]>::to_vec)
        {
            // in a VF's own configuration space the ids read all ones
            config[..4].fill(0xff);
            self.files.put(&format!("{dir}/config"), Node::File(config));
        }
        // vfio_pci_bus_notifier(): "Captured SR-IOV VF %s driver_override"
        let captured = if self.on_vfio(&parent) { parent.driver } else { None };
        let shown = captured.as_deref().unwrap_or("(null)");
        self.files.attr(&format!("{dir}/driver_override"), shown);
        if self.files.node(&format!("{}/reset", parent.dir)).is_some() {
            self.files.put(&format!("{dir}/reset"), Node::File(Vec::new()));
            self.files.attr(&format!("{dir}/reset_method"), "flr");
        }
        self.files.link_to(&format!("{dir}/subsystem"), "/sys/bus/pci");
        self.files.put(&format!("{dir}/physfn"), Node::Link(format!("../{pf}")));
        self.files.link_to(&format!("{DEVICES}/{address}"), &dir);
        if let Some(group) = parent.group {
            self.add_group(group, &dir, address);
        }
        if let Some(function) = load::function(&self.files, address) {
            self.functions.insert(address, function);
        }
    }

    /// A group of its own, with the next number.
    fn add_group(&mut self, like: u32, dir: &str, address: Address) {
        let ids = self.files.names(GROUPS);
        let next = ids.iter().filter_map(|id| id.parse::<u32>().ok()).max().map_or(0, |id| id + 1);
        for name in ["type", "reserved_regions"] {
            if let Some(bytes) = self.files.bytes(&format!("{GROUPS}/{like}/{name}")) {
                let node = Node::File(bytes.to_vec());
                self.files.put(&format!("{GROUPS}/{next}/{name}"), node);
            }
        }
        let group = format!("{GROUPS}/{next}");
        self.files.link_to(&format!("{group}/devices/{address}"), dir);
        self.files.link_to(&format!("{dir}/iommu_group"), &group);
    }

    /// pci_disable_sriov(), after the VFs' drivers have let go.
    pub fn remove_vfs(&mut self, pf: Address) {
        let Some(sriov) = &mut self.function_mut(pf).sriov else { return };
        let vfs = std::mem::take(&mut sriov.vfs);
        let dir = self.functions[&pf].dir.clone();
        for (index, address) in vfs.into_iter().enumerate() {
            self.files.remove(&format!("{dir}/virtfn{index}"));
            let Some(function) = self.functions.get(&address).cloned() else { continue };
            if function.driver.is_some() {
                self.detach_begin(address);
                self.detach_end(address);
            }
            self.files.remove(&format!("{DEVICES}/{address}"));
            self.files.remove(&function.dir);
            if let Some(group) = function.group {
                let path = format!("{GROUPS}/{group}");
                self.files.remove(&format!("{path}/devices/{address}"));
                if self.files.names(&format!("{path}/devices")).is_empty() {
                    self.files.remove(&path);
                }
            }
            self.functions.remove(&address);
        }
        self.files.attr(&format!("{dir}/sriov_numvfs"), 0);
    }
}
