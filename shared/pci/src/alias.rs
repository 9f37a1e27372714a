//! modules.alias: which kernel modules claim a function.

use std::collections::HashMap;
use std::fmt;

use memchr::memchr;

use crate::alias_index::candidates;

/// The numbers in a PCI modalias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Modalias {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem device id.
    pub subsystem_device: u16,
    /// Base class, subclass, programming interface: 24 bits.
    pub class: u32,
}

impl fmt::Display for Modalias {
    /// As the kernel writes it (drivers/pci/pci-sysfs.c, modalias_show()).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
            self.vendor,
            self.device,
            self.subsystem_vendor,
            self.subsystem_device,
            self.class >> 16,
            self.class >> 8 & 0xff,
            self.class & 0xff
        )
    }
}

impl Modalias {
    /// Parses `pci:v000010DEd00002204sv00001458sd0000403Bbc03sc00i00`.
    pub fn parse(text: &str) -> Option<Modalias> {
        let pattern = Pattern::parse(text.strip_prefix("pci:")?.as_bytes())?;
        let base = pattern.base?;
        Some(Modalias {
            vendor: pattern.vendor? as u16,
            device: pattern.device? as u16,
            subsystem_vendor: pattern.subsystem_vendor? as u16,
            subsystem_device: pattern.subsystem_device? as u16,
            class: base << 16 | pattern.sub? << 8 | pattern.interface?,
        })
    }
}

/// One line's pattern; `None` is `*`.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    vendor: Option<u32>,
    device: Option<u32>,
    subsystem_vendor: Option<u32>,
    subsystem_device: Option<u32>,
    base: Option<u32>,
    sub: Option<u32>,
    interface: Option<u32>,
}

impl Pattern {
    /// Parses what follows `pci:`, as file2alias writes it: each field is hex
    /// digits or `*`, with a final `*`.
    fn parse(text: &[u8]) -> Option<Pattern> {
        let mut rest = text;
        let mut field = |name: &[u8], digits: usize| -> Option<Option<u32>> {
            rest = rest.strip_prefix(name)?;
            if let Some(after) = rest.strip_prefix(b"*") {
                rest = after;
                return Some(None);
            }
            let number = rest.get(..digits)?;
            rest = &rest[digits..];
            let number = std::str::from_utf8(number).ok()?;
            u32::from_str_radix(number, 16).ok().map(Some)
        };
        let pattern = Pattern {
            vendor: field(b"v", 8)?,
            device: field(b"d", 8)?,
            subsystem_vendor: field(b"sv", 8)?,
            subsystem_device: field(b"sd", 8)?,
            base: field(b"bc", 2)?,
            sub: field(b"sc", 2)?,
            interface: field(b"i", 2)?,
        };
        matches!(rest, b"" | b"*").then_some(pattern)
    }

    fn open_fields(&self) -> usize {
        let fields = [
            self.vendor,
            self.device,
            self.subsystem_vendor,
            self.subsystem_device,
            self.base,
            self.sub,
            self.interface,
        ];
        fields.iter().filter(|field| field.is_none()).count()
    }

    fn matches(&self, of: &Modalias) -> bool {
        let is = |pattern: Option<u32>, value: u32| pattern.is_none_or(|p| p == value);
        is(self.vendor, u32::from(of.vendor))
            && is(self.device, u32::from(of.device))
            && is(self.subsystem_vendor, u32::from(of.subsystem_vendor))
            && is(self.subsystem_device, u32::from(of.subsystem_device))
            && is(self.base, of.class >> 16)
            && is(self.sub, of.class >> 8 & 0xff)
            && is(self.interface, of.class & 0xff)
    }
}

/// The PCI part of a modules.alias file, reduced to some vendors.
#[derive(Debug, Default)]
pub struct ModuleAliases {
    by_vendor: HashMap<u32, Vec<(Pattern, String)>>,
    any_vendor: Vec<(Pattern, String)>,
}

impl ModuleAliases {
    /// The lines that match some functions, from modules.alias.bin. `None`: it is
    /// no index that we can read, and modules.alias has the same.
    pub fn of_index(index: &[u8], functions: &[Modalias]) -> Option<ModuleAliases> {
        let mut aliases = ModuleAliases::default();
        for of in functions {
            let own = aliases.by_vendor.entry(u32::from(of.vendor)).or_default();
            for (alias, module) in candidates(index, &of.to_string())? {
                let pattern = alias.strip_prefix("pci:").map(str::as_bytes);
                if let Some(pattern) = pattern.and_then(Pattern::parse).filter(|p| p.matches(of)) {
                    own.push((pattern, module));
                }
            }
        }
        Some(aliases)
    }

    /// Reads the lines that can match one of `vendors`; all others cost a glance.
    pub fn parse(text: &[u8], vendors: &[u16]) -> ModuleAliases {
        ModuleAliases::with_prefix(text, b"alias pci:", vendors)
    }

    /// The same for VFIO drivers, whose lines begin with `vfio_pci:` so that
    /// nothing loads them by itself.
    pub fn parse_vfio(text: &[u8], vendors: &[u16]) -> ModuleAliases {
        ModuleAliases::with_prefix(text, b"alias vfio_pci:", vendors)
    }

    fn with_prefix(text: &[u8], prefix: &[u8], vendors: &[u16]) -> ModuleAliases {
        let mut aliases = ModuleAliases::default();
        for vendor in vendors {
            aliases.by_vendor.entry(u32::from(*vendor)).or_default();
        }
        let mut rest = text;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            let Some(line) = line.strip_prefix(prefix) else {
                continue;
            };
            let Some(space) = memchr(b' ', line) else {
                continue;
            };
            if line.starts_with(b"v0") && !aliases.wants(&line[1..]) {
                continue;
            }
            let Some(pattern) = Pattern::parse(&line[..space]) else {
                continue;
            };
            let module = String::from_utf8_lossy(line[space + 1..].trim_ascii()).into_owned();
            match pattern.vendor {
                None => aliases.any_vendor.push((pattern, module)),
                Some(vendor) => {
                    if let Some(list) = aliases.by_vendor.get_mut(&vendor) {
                        list.push((pattern, module));
                    }
                }
            }
        }
        aliases
    }

    fn wants(&self, digits: &[u8]) -> bool {
        let vendor = digits.get(..8).and_then(|d| std::str::from_utf8(d).ok());
        vendor
            .and_then(|v| u32::from_str_radix(v, 16).ok())
            .is_some_and(|v| self.by_vendor.contains_key(&v))
    }

    /// The module that claims a function most exactly: the fewest fields left
    /// open, as libvirt chooses VFIO variants too.
    pub fn best(&self, of: &Modalias) -> Option<String> {
        let own = self.by_vendor.get(&u32::from(of.vendor)).map_or(&[][..], Vec::as_slice);
        own.iter()
            .chain(&self.any_vendor)
            .filter(|(pattern, _)| pattern.matches(of))
            .min_by_key(|(pattern, _)| pattern.open_fields())
            .map(|(_, module)| module.clone())
    }

    /// Names of the modules that claim a function, sorted, each once.
    pub fn modules(&self, of: &Modalias) -> Vec<String> {
        let own = self.by_vendor.get(&u32::from(of.vendor)).map_or(&[][..], Vec::as_slice);
        let mut names: Vec<String> = own
            .iter()
            .chain(&self.any_vendor)
            .filter(|(pattern, _)| pattern.matches(of))
            .map(|(_, module)| module.clone())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"# Aliases extracted from modules themselves.\n\
        alias pci:v000010DEd*sv*sd*bc03sc00i00* nvidia\n\
        alias pci:v000010DEd*sv*sd*bc03sc*i* nouveau\n\
        alias pci:v00008086d00001533sv*sd*bc*sc*i* igb\n\
        alias pci:v*d*sv*sd*bc0Csc03i30* xhci_pci\n\
        alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n\
        alias pci:v000010DEd00002204sv00001458sd0000403Bbc*sc*i* special\n\
        alias pci:garbage x\nalias pci:v000010DE\nalias usb:v1 y";

    #[test]
    fn modules_are_found_by_ids_and_by_class() {
        let aliases = ModuleAliases::parse(FILE, &[0x10de]);
        let of = |text: &str| aliases.modules(&Modalias::parse(text).unwrap());
        let gpu = "pci:v000010DEd00002204sv00001458sd0000403Bbc03sc00i00";
        assert_eq!(of(gpu), ["nouveau", "nvidia", "special"]);
        let headless = "pci:v000010DEd000020B5sv000010DEsd00001533bc03sc02i00";
        assert_eq!(of(headless), ["nouveau"]);
        let usb = "pci:v000010DEd00001AD6sv00000000sd00000000bc0Csc03i30";
        assert_eq!(of(usb), ["xhci_pci"]);
        // a vendor that was not asked for has no lines of its own
        assert!(of("pci:v00008086d00001533sv00000000sd00000000bc02sc00i00").is_empty());
    }

    #[test]
    fn the_most_exact_vfio_driver_is_the_best() {
        let file = b"alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n\
            alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n";
        let aliases = ModuleAliases::parse_vfio(file, &[0x10de]);
        let best = |device: &str| {
            let text = format!("pci:v000010DEd0000{device}sv00000000sd00000000bc03sc02i00");
            aliases.best(&Modalias::parse(&text).unwrap()).unwrap()
        };
        assert_eq!(best("2342"), "nvgrace_gpu_vfio_pci");
        assert_eq!(best("2204"), "vfio_pci");
    }

    #[test]
    fn only_whole_modaliases_are_parsed() {
        for text in [
            "",
            "pci:",
            "usb:v1",
            "pci:v000010DE",
            "pci:v000010DEd*sv*sd*bc03sc00i00*",
            "pci:v000010DEd00002204sv00001458sd0000403Bbc03sc00i00x",
        ] {
            assert!(Modalias::parse(text).is_none(), "{text}");
        }
    }
}
