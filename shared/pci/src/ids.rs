//! Names from pci.ids.

use std::collections::HashMap;

use host::Machine;
use memchr::{memchr, memmem};

use crate::Function;

/// Where distributions keep the file, in the order we look.
const PLACES: [&str; 3] =
    ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids"];

/// The file is 1.5 MB today.
const MOST: usize = 32 << 20;

/// Names of one function; `None` where the file does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Of the subclass, else of the class.
    pub class: Option<String>,
    /// Of the vendor.
    pub vendor: Option<String>,
    /// Of the device.
    pub device: Option<String>,
    /// Of the subsystem.
    pub subsystem: Option<String>,
}

impl Names {
    /// What the function is called: by its device, else by the model that its
    /// driver knows, else by vendor and class. A bridge is a bridge whoever made it.
    pub fn of_function(&self, function: &Function, model: Option<&str>) -> Option<String> {
        let known = self.device.as_deref().or(model);
        let vendor = self.vendor.as_deref().or_else(|| vendor_name(function.vendor?));
        let vendor = vendor.filter(|_| !function.is_bridge());
        let class = self.class.as_deref().or_else(|| class_name(function.class16()?));
        match (known, vendor, class) {
            (Some(name), _, _) => Some(name.to_string()),
            (None, Some(vendor), Some(class)) => Some(format!("{vendor} {class}")),
            (None, vendor, class) => vendor.or(class).map(str::to_string),
        }
    }
}

/// The makers of what these tools are about, for a host without pci.ids; spelt as
/// there.
fn vendor_name(vendor: u16) -> Option<&'static str> {
    Some(match vendor {
        0x1002 => "Advanced Micro Devices, Inc. [AMD/ATI]",
        0x1022 => "Advanced Micro Devices, Inc. [AMD]",
        0x102b => "Matrox Electronics Systems Ltd.",
        0x10de => "NVIDIA Corporation",
        0x1a03 => "ASPEED Technology, Inc.",
        0x8086 => "Intel Corporation",
        _ => return None,
    })
}

/// The classes that are beside GPUs; spelt as in pci.ids.
fn class_name(class: u16) -> Option<&'static str> {
    Some(match class {
        0x0106 => "SATA controller",
        0x0108 => "Non-Volatile memory controller",
        0x0200 => "Ethernet controller",
        0x0300 => "VGA compatible controller",
        0x0302 => "3D controller",
        0x0380 => "Display controller",
        0x0403 => "Audio device",
        0x0600 => "Host bridge",
        0x0601 => "ISA bridge",
        0x0604 => "PCI bridge",
        0x0680 => "Bridge",
        0x0c03 => "USB controller",
        0x0c80 => "Serial bus controller",
        0x1080 => "Encryption controller",
        _ => return None,
    })
}

/// The part of pci.ids that names some functions.
#[derive(Debug, Default)]
pub struct PciIds {
    vendors: HashMap<u16, String>,
    devices: HashMap<(u16, u16), String>,
    subsystems: HashMap<(u16, u16, u16, u16), String>,
    classes: HashMap<u8, String>,
    subclasses: HashMap<u16, String>,
}

impl PciIds {
    /// Loads what names `functions`; empty where there is no such file.
    pub fn load(machine: &Machine, functions: &[Function]) -> PciIds {
        for place in PLACES {
            if let Ok(text) = machine.table(place, MOST) {
                return PciIds::parse(&text, functions);
            }
        }
        PciIds::default()
    }

    /// Goes from vendor to vendor that `functions` need, then to the classes, and
    /// keeps only what they need.
    ///
    /// Its lines: `vvvv  name`, `\tdddd  name`, `\t\tvvvv dddd  name`,
    /// `C cc  name`, `\tss  name` (pci.ids(5)).
    pub fn parse(text: &[u8], functions: &[Function]) -> PciIds {
        let mut wanted: HashMap<u16, Vec<&Function>> = HashMap::new();
        for function in functions {
            if let Some(vendor) = function.vendor {
                wanted.entry(vendor).or_default().push(function);
            }
        }
        let mut ids = PciIds::default();
        for vendor in wanted.keys() {
            let lower = format!("{vendor:04x} ");
            let found = line_with(text, lower.as_bytes())
                .or_else(|| line_with(text, lower.to_ascii_uppercase().as_bytes()));
            if let Some(at) = found {
                ids.read_from(&text[at..], &wanted, |line| entry_number(line, 4) == Some(*vendor));
            }
        }
        if let Some(at) = line_with(text, b"C ") {
            ids.read_from(&text[at..], &wanted, |line| line.starts_with(b"C "));
        }
        ids
    }

    /// Reads from a line on that begins a section, to the first that begins one
    /// which is not wanted.
    fn read_from(
        &mut self,
        text: &[u8],
        wanted: &HashMap<u16, Vec<&Function>>,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) {
        let mut section = Section::Skip;
        let mut rest = text;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            match line {
                [] | [b'#', ..] => {}
                [b'\t', b'\t', line @ ..] => self.third(line, &section, wanted),
                [b'\t', line @ ..] => self.second(line, &mut section, wanted),
                line if is_wanted(line) => section = self.first(line, wanted),
                _ => return,
            }
        }
    }

    fn first(&mut self, line: &[u8], wanted: &HashMap<u16, Vec<&Function>>) -> Section {
        if let Some(class) = line.strip_prefix(b"C ") {
            let Some((class, name)) = entry(class, 2) else {
                return Section::Skip;
            };
            self.classes.insert(class as u8, name);
            return Section::Class(class as u8);
        }
        match entry_number(line, 4) {
            Some(vendor) if wanted.contains_key(&vendor) => {
                if let Some((_, name)) = entry(line, 4) {
                    self.vendors.insert(vendor, name);
                }
                Section::Vendor(vendor, None)
            }
            _ => Section::Skip,
        }
    }

    fn second(
        &mut self,
        line: &[u8],
        section: &mut Section,
        wanted: &HashMap<u16, Vec<&Function>>,
    ) {
        match section {
            Section::Skip => {}
            Section::Class(class) => {
                if let Some((sub, name)) = entry(line, 2) {
                    self.subclasses.insert(u16::from(*class) << 8 | sub, name);
                }
            }
            Section::Vendor(vendor, current) => {
                let device = entry_number(line, 4).filter(|device| {
                    wanted.get(vendor).is_some_and(|f| f.iter().any(|f| f.device == Some(*device)))
                });
                *current = device;
                if let (Some(device), Some((_, name))) = (device, entry(line, 4)) {
                    self.devices.insert((*vendor, device), name);
                }
            }
        }
    }

    fn third(&mut self, line: &[u8], section: &Section, wanted: &HashMap<u16, Vec<&Function>>) {
        let Section::Vendor(vendor, Some(device)) = section else {
            return;
        };
        let Some(subvendor) = entry_number(line, 4) else {
            return;
        };
        let Some((subdevice, name)) = line.get(5..).and_then(|rest| entry(rest, 4)) else {
            return;
        };
        let used = wanted.get(vendor).is_some_and(|functions| {
            functions.iter().any(|f| {
                f.subsystem_vendor == Some(subvendor) && f.subsystem_device == Some(subdevice)
            })
        });
        if used {
            self.subsystems.insert((*vendor, *device, subvendor, subdevice), name);
        }
    }

    /// Names of one function.
    pub fn names(&self, of: &Function) -> Names {
        let class = of.class16().and_then(|class| {
            let base = || self.classes.get(&((class >> 8) as u8));
            self.subclasses.get(&class).or_else(base).cloned()
        });
        let (Some(vendor), Some(device)) = (of.vendor, of.device) else {
            return Names { class, ..Names::default() };
        };
        let subsystem = of
            .subsystem_vendor
            .zip(of.subsystem_device)
            .and_then(|(v, d)| self.subsystems.get(&(vendor, device, v, d)).cloned());
        Names {
            class,
            vendor: self.vendors.get(&vendor).cloned(),
            device: self.devices.get(&(vendor, device)).cloned(),
            subsystem,
        }
    }
}

/// Where the first line begins that begins so.
fn line_with(text: &[u8], start: &[u8]) -> Option<usize> {
    if text.starts_with(start) {
        return Some(0);
    }
    let mut line = vec![b'\n'];
    line.extend_from_slice(start);
    memmem::find(text, &line).map(|at| at + 1)
}

enum Section {
    Skip,
    Vendor(u16, Option<u16>),
    Class(u8),
}

/// The number at the start of a line.
fn entry_number(line: &[u8], digits: usize) -> Option<u16> {
    let number = line.get(..digits)?;
    if !number.iter().all(u8::is_ascii_hexdigit) || line.get(digits) != Some(&b' ') {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()
}

/// Number and name of a line.
fn entry(line: &[u8], digits: usize) -> Option<(u16, String)> {
    let number = entry_number(line, digits)?;
    let name = String::from_utf8_lossy(line[digits..].trim_ascii()).into_owned();
    (!name.is_empty()).then_some((number, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"# comment\n\
        10de  NVIDIA Corporation\n\
        \t2204  GA102 [GeForce RTX 3090]\n\
        \t\t1458 403b  Some Board\n\
        \t\t10de 147d  GeForce RTX 3090\n\
        \t2205  GA102 [GeForce RTX 3080 20GB]\n\
        8086  Intel Corporation\n\
        \t2204  Not this one\n\
        C 03  Display controller\n\
        \t00  VGA compatible controller\n\
        \t\t00  VGA controller\n\
        C 04  Multimedia controller\n";

    fn gpu() -> Function {
        let mut gpu = Function::bare("41:00.0".parse().unwrap());
        gpu.vendor = Some(0x10de);
        gpu.device = Some(0x2204);
        gpu.subsystem_vendor = Some(0x1458);
        gpu.subsystem_device = Some(0x403b);
        gpu.class = Some(0x030000);
        gpu
    }

    #[test]
    fn a_function_gets_its_four_names() {
        let names = PciIds::parse(FILE, &[gpu()]).names(&gpu());
        assert_eq!(names.vendor.as_deref(), Some("NVIDIA Corporation"));
        assert_eq!(names.device.as_deref(), Some("GA102 [GeForce RTX 3090]"));
        assert_eq!(names.subsystem.as_deref(), Some("Some Board"));
        assert_eq!(names.class.as_deref(), Some("VGA compatible controller"));
    }

    #[test]
    fn what_the_file_does_not_know_has_no_name() {
        let mut odd = gpu();
        odd.device = Some(0xffff);
        odd.class = Some(0x040900);
        let names = PciIds::parse(FILE, &[odd.clone()]).names(&odd);
        assert_eq!(names.vendor.as_deref(), Some("NVIDIA Corporation"));
        assert_eq!(names.device, None);
        assert_eq!(names.subsystem, None);
        assert_eq!(names.class.as_deref(), Some("Multimedia controller"));
        assert_eq!(PciIds::parse(b"\xff\xfe\t\n10de", &[gpu()]).names(&gpu()), Names::default());
    }
}
