//! The list of functions that are bound at boot: the one file from which all
//! others are made.

use std::fmt::Write as _;

use clap::ValueEnum;
use pci::Function;
use record::Address;

pub const LIST: &str = "/etc/gpu-vfio-bind.list";

/// How a function is recognised at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum MatchBy {
    /// By its address, if its ids are still the same; else it is left alone
    #[default]
    Address,
    /// By its ids, at any address: every identical GPU
    Id,
}

impl MatchBy {
    fn as_str(self) -> &'static str {
        match self {
            MatchBy::Address => "address",
            MatchBy::Id => "id",
        }
    }
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootEntry {
    pub address: Address,
    /// Vendor, device, subsystem vendor and subsystem device, as sysfs prints them.
    pub ids: [String; 4],
    pub driver: String,
    pub by: MatchBy,
}

impl BootEntry {
    /// `None` where the ids of the function are unknown.
    pub fn of(function: &Function, driver: &str, by: MatchBy) -> Option<BootEntry> {
        let hex = |id: u16| format!("0x{id:04x}");
        Some(BootEntry {
            address: function.address,
            ids: [
                hex(function.vendor?),
                hex(function.device?),
                hex(function.subsystem_vendor.unwrap_or(0)),
                hex(function.subsystem_device.unwrap_or(0)),
            ],
            driver: driver.to_string(),
            by,
        })
    }

    /// Whether this is the function that was meant.
    pub fn is(&self, function: &Function) -> bool {
        BootEntry::of(function, &self.driver, self.by).is_some_and(|now| match self.by {
            MatchBy::Address => now.address == self.address && now.ids == self.ids,
            MatchBy::Id => now.ids[..2] == self.ids[..2],
        })
    }

    /// `10de:1e07`, as in options of modprobe.
    pub fn short_ids(&self) -> String {
        let short = |id: &str| id.trim_start_matches("0x").to_string();
        format!("{}:{}", short(&self.ids[0]), short(&self.ids[1]))
    }
}

/// The first line of every file that is not a script.
pub const HEAD: &str = "# Written by gpu-vfio-bind; 'gpu-vfio-bind unpersist' removes entries.\n";

/// Reads the list. Lines that cannot be parsed are left out, as by the script.
pub fn parse_list(text: &str) -> Vec<BootEntry> {
    let mut entries: Vec<BootEntry> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [address, vendor, device, subvendor, subdevice, driver, by] = words[..] else {
                return None;
            };
            let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            Some(BootEntry {
                address: Address::from_sysfs(address)?,
                ids: [vendor, device, subvendor, subdevice].map(str::to_string),
                driver: driver.bytes().all(name).then(|| driver.to_string())?,
                by: match by {
                    "address" => MatchBy::Address,
                    "id" => MatchBy::Id,
                    _ => return None,
                },
            })
        })
        .collect();
    entries.sort();
    entries
}

pub fn format_list(entries: &[BootEntry]) -> String {
    let mut text = String::from(HEAD);
    text.push_str("# address vendor device subsystem_vendor subsystem_device driver by\n");
    for entry in entries {
        let ids = entry.ids.join(" ");
        let (driver, by) = (&entry.driver, entry.by.as_str());
        let _ = writeln!(text, "{} {ids} {driver} {by}", entry.address);
    }
    text
}

/// The driver that a function will have after the next boot, `None` where the
/// list does not name it.
pub fn next_boot_driver(entries: &[BootEntry], function: &Function) -> Option<String> {
    entries.iter().find(|entry| entry.is(function)).map(|entry| entry.driver.clone())
}

/// Whether another function is now at the address of an entry.
pub fn is_replaced(entries: &[BootEntry], function: &Function) -> bool {
    let at = |entry: &&BootEntry| entry.by == MatchBy::Address && entry.address == function.address;
    entries.iter().find(at).is_some_and(|entry| !entry.is(function))
}

/// An entry for tests.
#[cfg(test)]
pub fn example(address: &str, device: &str) -> BootEntry {
    BootEntry {
        address: address.parse().unwrap(),
        ids: ["0x10de", device, "0x1458", "0x37a9"].map(str::to_string),
        driver: "vfio-pci".into(),
        by: MatchBy::Address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str, device: &str, by: MatchBy) -> BootEntry {
        BootEntry { by, ..example(address, device) }
    }

    #[test]
    fn the_list_is_read_as_it_is_written() {
        let entries = [
            entry("0000:2b:00.0", "0x1e07", MatchBy::Address),
            entry("10000:2c:00.0", "0x10f7", MatchBy::Id),
        ];
        assert_eq!(parse_list(&format_list(&entries)), entries);
        let junk = "x\n0000:2b:00.0 a b c d vfio-pci maybe\n0000:2b:00.0 a b c d $(reboot) id\n";
        assert!(parse_list(junk).is_empty());
    }

    #[test]
    fn an_entry_knows_its_function_by_address_and_ids() {
        let mut f = Function::bare("2b:00.0".parse().unwrap());
        f.vendor = Some(0x10de);
        f.device = Some(0x1e07);
        f.subsystem_vendor = Some(0x1458);
        f.subsystem_device = Some(0x37a9);
        let by_address = BootEntry::of(&f, "vfio-pci", MatchBy::Address).unwrap();
        let by_id = BootEntry::of(&f, "vfio-pci", MatchBy::Id).unwrap();
        assert!(by_address.is(&f) && by_id.is(&f));
        let mut elsewhere = f.clone();
        elsewhere.address = "2c:00.0".parse().unwrap();
        assert!(!by_address.is(&elsewhere) && by_id.is(&elsewhere));
        let mut other = f.clone();
        other.subsystem_device = Some(1);
        assert!(!by_address.is(&other) && by_id.is(&other));
    }
}
