//! Where devices are in sysfs. The question "what hangs below this function?"
//! is answered from the other end: each class lists its devices as links, and
//! the path behind a link passes through every device above it. A walk down
//! from the function would have to know each bus on the way (ATA, SCSI, USB,
//! NVMe, HID, VMD) and would miss the next one.

use std::collections::BTreeSet;

use host::Machine;
use record::Address;

/// A device of a class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassDevice {
    /// Its name, `sda1`.
    pub name: String,
    /// Its path in sysfs, `/sys/devices/...`.
    pub path: String,
}

/// The devices of a class; an absent class has none. Errors: what could not be
/// read, in words.
pub(crate) fn class_devices(machine: &Machine, class: &str) -> Result<Vec<ClassDevice>, String> {
    let dir = format!("/sys/class/{class}");
    let names = machine.list(&dir).map_err(|error| error.to_string())?;
    let devices = names.into_iter().filter_map(|name| {
        // classes hold files too (net/bonding_masters)
        let path = link_path(machine, &dir, &name)?;
        Some(ClassDevice { name, path })
    });
    Ok(devices.collect())
}

/// The path behind the link `name` in a directory of sysfs.
pub(crate) fn link_path(machine: &Machine, dir: &str, name: &str) -> Option<String> {
    let target = machine.read_link(&format!("{dir}/{name}")).ok()?;
    Some(resolve(dir, &target))
}

/// A relative target of sysfs's, seen from a directory: its links name real
/// directories, so that `..` is what it says.
fn resolve(dir: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_string();
    }
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The directories below which everything belongs to one function: its own and
/// those of its virtual functions, which sysfs shows beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subtree {
    paths: BTreeSet<String>,
    unknown: Vec<String>,
}

impl Subtree {
    /// That of a function and its virtual functions.
    pub fn of(machine: &Machine, address: Address, vfs: &[Address]) -> Subtree {
        const DEVICES: &str = "/sys/bus/pci/devices";
        let mut tree = Subtree::default();
        for address in std::iter::once(&address).chain(vfs) {
            match machine.read_link(&format!("{DEVICES}/{address}")) {
                Ok(target) => drop(tree.paths.insert(resolve(DEVICES, &target))),
                // without its path nothing is found below it
                Err(error) => tree.unknown.push(format!("what is below {address}: {error}")),
            }
        }
        tree
    }

    /// What could not be found out, in words.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Whether a device's path passes through the function.
    pub fn holds(&self, path: &str) -> bool {
        self.paths.iter().any(|above| {
            path.strip_prefix(above.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_by_its_text() {
        let target = "../../devices/pci0000:00/0000:00:17.0/ata1/host0/block/sda";
        let path = resolve("/sys/class/block", target);
        assert_eq!(path, "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/block/sda");
        let paths = ["/sys/devices/pci0000:00/0000:00:17.0".into()].into();
        let below = Subtree { paths, unknown: Vec::new() };
        assert!(below.holds(&path));
        assert!(!below.holds("/sys/devices/pci0000:00/0000:00:17.01/x"));
    }
}
