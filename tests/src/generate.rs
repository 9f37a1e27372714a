//! Large machines, made up: for what no recorded host is large enough to show.

use record::Address;

use crate::machine::{Function, Machine, PcieLink};

/// A machine with `count` functions: root ports, each with a GPU slot of four
/// functions or a NIC below it, one IOMMU group a slot, ids with holes.
pub fn large(count: usize) -> Machine {
    let mut machine = Machine {
        title: format!("generated, {count} functions"),
        source: vec!["generated".into()],
        notes: String::new(),
        kernel: "6.14.11-4-pve".into(),
        cmdline: "quiet iommu=pt".into(),
        iommu: vec!["ivhd0".into(), "ivhd1".into()],
        mig_minors: false,
        functions: Vec::new(),
        vf_ranges: Vec::new(),
        groups: Vec::new(),
        nvidia: Vec::new(),
        capabilities: Vec::new(),
        nodes: Vec::new(),
        links: Vec::new(),
    };
    let mut slots = 0u32;
    while machine.functions.len() < count {
        let (domain, within) = (slots / 200, slots % 200);
        let port = Address {
            domain,
            bus: 0,
            device: (1 + within / 8) as u8,
            function: (within % 8) as u8,
        };
        let bus = (within + 1) as u8;
        let group = slots * 3;
        let mut bridge = function(port, None, "0x1022", "0x1483", "0x060400", group);
        bridge.header_type = 1;
        bridge.driver = Some("pcieport".into());
        machine.functions.push(bridge);
        let at = |function| Address { domain, bus, device: 0, function };
        let below: &[(&str, &str, &str, &str)] = if slots % 3 == 2 {
            &[("0x8086", "0x1521", "0x020000", "igb"), ("0x8086", "0x1521", "0x020000", "igb")]
        } else {
            &[
                ("0x10de", "0x1e07", "0x030000", "nvidia"),
                ("0x10de", "0x10f7", "0x040300", "snd_hda_intel"),
                ("0x10de", "0x1ad6", "0x0c0330", "xhci_hcd"),
                ("0x10de", "0x1ad7", "0x0c8000", "nvidia-gpu"),
            ]
        };
        for (index, (vendor, device, class, driver)) in below.iter().enumerate() {
            let mut f = function(at(index as u8), Some(port), vendor, device, class, group + 1);
            f.driver = Some((*driver).into());
            f.reset = Some("flr bus".into());
            machine.functions.push(f);
        }
        slots += 1;
    }
    machine.functions.truncate(count);
    machine
}

fn function(
    address: Address,
    parent: Option<Address>,
    vendor: &str,
    device: &str,
    class: &str,
    group: u32,
) -> Function {
    Function {
        address,
        parent,
        vendor: vendor.into(),
        device: device.into(),
        subsystem_vendor: Some("0x1458".into()),
        subsystem_device: Some("0x37a9".into()),
        class: class.into(),
        revision: Some("0xa1".into()),
        driver: None,
        driver_override: None,
        group: Some(group),
        numa_node: Some(0),
        boot_vga: None,
        header_type: 0,
        link: Some(PcieLink {
            speed: "2.5 GT/s PCIe".into(),
            width: 16,
            max_speed: "8.0 GT/s PCIe".into(),
            max_width: 16,
        }),
        reset: None,
        drm: Vec::new(),
        vfio_dev: None,
        sriov: None,
        pf: None,
        vgpu: None,
    }
}
