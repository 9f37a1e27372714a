//! Paths, links and numbers of PCI functions in sysfs.

use host::{KernelFiles, Machine};
use record::Address;

/// Where the kernel shows PCI functions.
pub const DEVICES: &str = "/sys/bus/pci/devices";

/// The path of a file or directory of a function.
pub fn function_path(address: Address, name: &str) -> String {
    format!("{DEVICES}/{address}/{name}")
}

/// A number in decimal, or in hexadecimal after `0x`.
pub fn number(text: &str) -> Option<u32> {
    match text.trim().strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.trim().parse().ok(),
    }
}

/// The last part of what a link of a function points to.
pub fn link_name(files: &dyn KernelFiles, address: Address, name: &str) -> Option<String> {
    let path = files.read_link(&function_path(address, name)).ok()?;
    path.rsplit('/').next().map(str::to_string)
}

/// The VFs of a physical function with their numbers, in order: the names of
/// the links (`virtfn10`) do not sort by number.
pub fn virtual_functions(files: &dyn KernelFiles, pf: Address) -> Vec<(u32, Address)> {
    let names = files.list(&format!("{DEVICES}/{pf}")).unwrap_or_default();
    let mut found: Vec<(u32, Address)> = names
        .iter()
        .filter_map(|name| {
            let index = name.strip_prefix("virtfn")?.parse().ok()?;
            Some((index, Address::from_sysfs(&link_name(files, pf, name)?)?))
        })
        .collect();
    found.sort_unstable();
    found
}

/// The name of this cluster node: Proxmox VE's, else the host name without its domain.
pub fn node_name(machine: &Machine) -> String {
    let local = machine.read_link("/etc/pve/local").unwrap_or_default();
    match local.rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_string(),
        _ => {
            let name = machine.attr("/proc/sys/kernel/hostname").unwrap_or_else(|_| "NODE".into());
            name.trim().split('.').next().unwrap_or_default().to_string()
        }
    }
}
