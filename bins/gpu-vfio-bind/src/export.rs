//! Functions in the configuration formats of other programs.

use std::collections::{BTreeMap, BTreeSet};

use host::Machine;
use pci::{Function, PciIds, System};

/// Values of `hostpci[n]`: a slot where all its functions are meant, which
/// Proxmox VE gives to the VM as one device, else functions.
pub fn host_pci(system: &System, functions: &[&Function]) -> Vec<String> {
    system.names(functions)
}

/// Commands that give functions to a VM.
pub fn qm(system: &System, functions: &[&Function]) -> String {
    let hosts = host_pci(system, functions);
    let line =
        |(index, host): (usize, &String)| format!("qm set VMID --hostpci{index} {host},pcie=1\n");
    hosts.iter().enumerate().map(line).collect()
}

/// The part of KubeVirt's custom resource that permits the GPUs among them; their
/// other functions go along as devices of the same group.
pub fn kubevirt(machine: &Machine, functions: &[&Function]) -> String {
    let all: Vec<Function> = functions.iter().map(|f| (*f).clone()).collect();
    let names = PciIds::load(machine, &all);
    let mut selectors: BTreeMap<String, String> = BTreeMap::new();
    for gpu in functions.iter().filter(|f| f.is_gpu()) {
        let (Some(vendor), Some(device)) = (gpu.vendor, gpu.device) else { continue };
        let name = names.names(gpu).device.unwrap_or_else(|| format!("{device:04X}"));
        let vendor_name = match vendor {
            pci::NVIDIA => "nvidia.com",
            0x1002 => "amd.com",
            0x8086 => "intel.com",
            _ => "gpu",
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = name.chars().map(plain).collect();
        let resource = format!("{vendor_name}/{}", name.trim_matches('_'));
        selectors.insert(format!("{vendor:04X}:{device:04X}"), resource);
    }
    let mut text = String::from("spec:\n  configuration:\n    permittedHostDevices:\n");
    if selectors.is_empty() {
        return text + "      # no GPU is bound to vfio-pci\n      pciHostDevices: []\n";
    }
    text.push_str("      pciHostDevices:\n");
    for (selector, resource) in selectors {
        text.push_str(&format!(
            "        - pciVendorSelector: \"{selector}\"\n          resourceName: {resource}\n"
        ));
    }
    text
}

/// Sections for /etc/pve/mapping/pci.cfg: one for each kind of GPU, with a line
/// for each slot that has it.
pub fn pve_mapping(machine: &Machine, system: &System, functions: &[&Function]) -> String {
    let node = node_name(machine);
    let gpus: Vec<&Function> = functions.iter().copied().filter(|f| f.is_gpu()).collect();
    let kinds: BTreeSet<(u16, u16)> =
        gpus.iter().filter_map(|gpu| Some((gpu.vendor?, gpu.device?))).collect();
    let mut text = String::new();
    for (vendor, device) in kinds {
        text.push_str(&format!("gpu-{vendor:04x}-{device:04x}\n"));
        for gpu in gpus.iter().filter(|g| (g.vendor, g.device) == (Some(vendor), Some(device))) {
            let card: Vec<&Function> = system.slot(gpu).filter(|f| f.on_vfio()).collect();
            let path = system.names(&card).join(";");
            let group = gpu.group.map_or(String::new(), |group| format!("iommugroup={group},"));
            let subsystem = match (gpu.subsystem_vendor, gpu.subsystem_device) {
                (Some(vendor), Some(device)) => format!(",subsystem-id={vendor:04x}:{device:04x}"),
                _ => String::new(),
            };
            text.push_str(&format!(
                "\tmap id={vendor:04x}:{device:04x},{group}node={node},path={path}{subsystem}\n"
            ));
        }
        text.push('\n');
    }
    text
}

/// The name that the cluster has for this host.
fn node_name(machine: &Machine) -> String {
    let local = machine.read_link("/etc/pve/local").unwrap_or_default();
    match local.rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_string(),
        _ => machine.attr("/proc/sys/kernel/hostname").unwrap_or_else(|_| "NODE".into()),
    }
}
