//! What binds a function at the next boot, from everything that says so: the list
//! of `persist`, driverctl's overrides, and ids= of vfio-pci in modprobe's
//! configuration or on the kernel command line.

use std::collections::{BTreeMap, BTreeSet};

use host::{FileError, Machine};
use pci::{Function, System};
use record::Address;

use super::files::MODPROBE;
use super::list::{BootEntry, is_replaced, next_boot_driver};
use super::modprobe::modprobe_files;
use super::observe::read_list;
use crate::native_driver::NativeDrivers;

const MOST: usize = 1 << 20;
const DRIVERCTL: &str = "/etc/driverctl.d";
const VFIO_PCI: &str = "vfio-pci";

/// What binds one function at the next boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootClaim {
    /// `None`: driverctl keeps it without a driver.
    pub driver: Option<String>,
    pub by: ClaimedBy,
    /// Another module may bind the function first.
    pub rival: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedBy {
    /// The list of `persist`.
    List,
    /// A file of driverctl.
    Driverctl(String),
    /// ids= in a file of modprobe.
    Modprobe(String),
    /// This word of the kernel command line.
    CommandLine(String),
}

impl ClaimedBy {
    /// In words, for messages.
    pub fn text(&self) -> String {
        match self {
            ClaimedBy::List => "the list of persist".into(),
            ClaimedBy::Driverctl(path) => format!("'{path}' (driverctl)"),
            ClaimedBy::Modprobe(path) => format!("ids= in '{path}'"),
            ClaimedBy::CommandLine(word) => format!("'{word}' on the kernel command line"),
        }
    }
}

pub struct BootClaims {
    pub entries: Vec<BootEntry>,
    driverctl: BTreeMap<Address, (String, String)>,
    ids: Vec<(ClaimedBy, Vec<IdPattern>)>,
    /// Modules that modprobe loads after vfio-pci, or never for a device.
    held_back: BTreeSet<String>,
    native: NativeDrivers,
}

impl BootClaims {
    /// Errors: a file exists and cannot be read, which is not the same as an
    /// empty one.
    pub fn read(machine: &Machine, system: &System) -> Result<BootClaims, FileError> {
        let functions: Vec<&Function> = system.functions.values().collect();
        let mut claims = BootClaims {
            entries: read_list(machine)?,
            driverctl: driverctl(machine)?,
            ids: Vec::new(),
            held_back: BTreeSet::new(),
            native: NativeDrivers::read(machine, system, &functions),
        };
        for (path, text) in modprobe_files(machine)? {
            claims.add_modprobe(&path, &text);
        }
        let line = machine.attr("/proc/cmdline").unwrap_or_default();
        for word in line.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else { continue };
            match key.replace('-', "_").as_str() {
                "vfio_pci.ids" => {
                    claims.ids.push((ClaimedBy::CommandLine(word.into()), patterns(value)));
                }
                "modprobe.blacklist" | "module_blacklist" => {
                    claims.held_back.extend(value.split(',').map(|name| name.replace('-', "_")));
                }
                _ => {}
            }
        }
        Ok(claims)
    }

    fn add_modprobe(&mut self, path: &str, text: &str) {
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["options", "vfio-pci" | "vfio_pci", ..] => {
                    // the last of several decides, as for the kernel
                    let ids = words[2..].iter().rev().find_map(|word| word.strip_prefix("ids="));
                    // ours follows from the list
                    if let Some(ids) = ids.filter(|_| path != MODPROBE) {
                        self.ids.push((ClaimedBy::Modprobe(path.into()), patterns(ids)));
                    }
                }
                ["softdep", module, "pre:", ..]
                    if words[3..].iter().any(|word| word.replace('_', "-") == VFIO_PCI) =>
                {
                    self.held_back.insert(module.replace('-', "_"));
                }
                ["blacklist", module, ..] | ["install", module, "/bin/false" | "/bin/true", ..] => {
                    self.held_back.insert(module.replace('-', "_"));
                }
                _ => {}
            }
        }
    }

    /// What binds a function at the next boot; `None`: the kernel decides, as for
    /// any other. driverctl acts last, and its override stays; ids= decide where
    /// nothing sets an override.
    pub fn of(&self, function: &Function) -> Option<BootClaim> {
        self.of_others(function, &|_| true)
    }

    /// The same with some of what binds it left out.
    pub fn of_others(
        &self,
        function: &Function,
        counts: &dyn Fn(&ClaimedBy) -> bool,
    ) -> Option<BootClaim> {
        let driverctl = self.driverctl.get(&function.address).map(|(path, driver)| BootClaim {
            driver: Some(driver.clone()).filter(|name| name != "none"),
            by: ClaimedBy::Driverctl(path.clone()),
            rival: None,
        });
        let listed = || {
            let driver = Some(next_boot_driver(&self.entries, function)?);
            Some(BootClaim { driver, by: ClaimedBy::List, rival: None })
        };
        let by_ids = || {
            let named = |ids: &&(ClaimedBy, Vec<IdPattern>)| {
                counts(&ids.0) && ids.1.iter().any(|pattern| pattern.matches(function))
            };
            let (by, _) = self.ids.iter().find(named)?;
            // where it was bound so at this boot, it will be so at the next one
            let as_now = function.on_vfio() && function.driver_override.is_none();
            let rivals = self.native.modules(function);
            let rival =
                rivals.into_iter().find(|module| !as_now && !self.held_back.contains(module));
            Some(BootClaim { driver: Some(VFIO_PCI.into()), by: by.clone(), rival })
        };
        driverctl
            .filter(|claim| counts(&claim.by))
            .or_else(|| listed().filter(|claim| counts(&claim.by)))
            .or_else(by_ids)
    }

    /// Whether another function is now at the address of an entry of the list.
    pub fn is_replaced(&self, function: &Function) -> bool {
        is_replaced(&self.entries, function)
    }
}

/// driverctl's saved overrides: a file for each function, called by its address
/// or, since 0.95, by bus and address.
fn driverctl(machine: &Machine) -> Result<BTreeMap<Address, (String, String)>, FileError> {
    let mut found = BTreeMap::new();
    for name in machine.list(DRIVERCTL)? {
        let address = name.strip_prefix("pci-").unwrap_or(&name);
        let Some(address) = Address::from_sysfs(address) else { continue };
        let path = format!("{DRIVERCTL}/{name}");
        let driver = machine.read_text(&path, MOST)?.trim().to_string();
        if !driver.is_empty() {
            found.insert(address, (path, driver));
        }
    }
    Ok(found)
}

/// One id of vfio-pci's parameter (drivers/vfio/pci/vfio_pci.c,
/// vfio_pci_fill_ids()): `vendor:device[:subvendor[:subdevice[:class[:mask]]]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IdPattern {
    ids: [Option<u32>; 4],
    class: u32,
    mask: u32,
}

impl IdPattern {
    fn parse(text: &str) -> Option<IdPattern> {
        let mut numbers = text.split(':').map(|part| u32::from_str_radix(part, 16).ok());
        let mut id = || Some(numbers.next()??).filter(|id| *id != u32::MAX);
        let ids = [id(), id(), id(), id()];
        let (class, mask) = (numbers.next().flatten(), numbers.next().flatten());
        let is_whole = text.contains(':') && (ids[0].is_some() || ids[1].is_some());
        is_whole.then(|| IdPattern { ids, class: class.unwrap_or(0), mask: mask.unwrap_or(0) })
    }

    fn matches(&self, function: &Function) -> bool {
        let own = [
            function.vendor,
            function.device,
            function.subsystem_vendor,
            function.subsystem_device,
        ];
        let is = |(wanted, own): (&Option<u32>, Option<u16>)| {
            wanted.is_none_or(|wanted| own.map(u32::from) == Some(wanted))
        };
        let class = function.class.unwrap_or(0);
        self.ids.iter().zip(own).all(is) && (class ^ self.class) & self.mask == 0
    }
}

fn patterns(ids: &str) -> Vec<IdPattern> {
    ids.trim_matches('"').split(',').filter_map(IdPattern::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_match_as_the_kernel_matches_them() {
        let mut gpu = Function::bare("01:00.0".parse().unwrap());
        (gpu.vendor, gpu.device, gpu.class) = (Some(0x10de), Some(0x1e04), Some(0x030000));
        (gpu.subsystem_vendor, gpu.subsystem_device) = (Some(0x1458), Some(0x37a9));
        let named = |ids: &str| patterns(ids).iter().any(|pattern| pattern.matches(&gpu));
        for ids in [
            "10de:1e04",
            "1:2,10DE:1E04",
            "10de:1e04:1458:37a9",
            "10de:ffffffff:ffffffff:ffffffff:30000:ffff00",
        ] {
            assert!(named(ids), "{ids}");
        }
        for ids in ["10de:1e05", "10de:1e04:1043", "", "10de", "10de:ffffffff::::", "x:y"] {
            let is_vendor_only = ids.starts_with("10de:ffff");
            assert!(!named(ids) || is_vendor_only, "{ids}");
        }
    }
}
