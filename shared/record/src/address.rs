//! PCI addresses: full and lower case on the way out, the forms that people and
//! other tools use on the way in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The address of one PCI function: domain, bus, device number, function number.
///
/// Shown as sysfs names it, `0000:41:00.0`: the domain has at least four hex
/// digits, and more where it needs them (Intel VMD domains start at `10000`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// PCI domain (segment), 0 on most machines.
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number on the bus, 0 to 31.
    pub device: u8,
    /// Function number in the slot, 0 to 7.
    pub function: u8,
}

/// A slot: all functions of one device number on one bus, `0000:41:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// PCI domain (segment).
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number on the bus, 0 to 31.
    pub device: u8,
}

/// Text that is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a PCI address (like 0000:41:00.0 or 41:00.0)", self.0)?;
        match address_hint(&self.0) {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AddressError {}

/// What to do next for a user who typed `text` as an address; `None` where that
/// cannot be guessed.
pub fn address_hint(text: &str) -> Option<String> {
    if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("gpu-")) && text.len() > 4 {
        return Some("name the GPU by address; gpu-iommu-groups shows both".into());
    }
    if text.contains([',', ' ']) {
        return Some("separate addresses with spaces, not with commas".into());
    }
    // 0000:41:00:0, 0000.41.00.0, pci_0000_41_00_0, a path in /sys
    let tail = text.rsplit('/').next().unwrap_or(text);
    let tail = tail.strip_prefix("pci").unwrap_or(tail);
    let parts: Vec<&str> =
        tail.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let joined = match parts[..] {
        [bus, device, function] => format!("{bus}:{device}.{function}"),
        [domain, bus, device, function] => format!("{domain}:{bus}:{device}.{function}"),
        _ => return None,
    };
    if let Ok(address) = joined.parse::<Address>() {
        return Some(format!("did you mean {address}?"));
    }
    let (slot, function) = joined.rsplit_once('.')?;
    let number = function.parse::<u32>().ok().filter(|number| *number > 7)?;
    let slot = slot.parse::<Slot>().ok()?;
    Some(format!("slot {slot} has functions 0 to 7, not {number}"))
}

impl Address {
    /// The slot that this function sits in.
    pub fn slot(self) -> Slot {
        Slot { domain: self.domain, bus: self.bus, device: self.device }
    }

    /// Parses the exact form of sysfs only: lower case, full domain.
    pub fn from_sysfs(text: &str) -> Option<Address> {
        let address = Address::from_str(text).ok()?;
        (address.to_string() == text).then_some(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Accepts `0000:41:00.0`, `41:00.0`, upper case, and the eight-digit
    /// domains that nvidia-smi prints (`00000000:41:00.0`).
    fn from_str(text: &str) -> Result<Address, AddressError> {
        let bad = || AddressError(text.chars().take(40).collect());
        let (slot, function) = text.rsplit_once('.').ok_or_else(bad)?;
        let slot: Slot = slot.parse().map_err(|_| bad())?;
        let function = hex(function, 1).filter(|f| *f < 8).ok_or_else(bad)?;
        Ok(Address {
            domain: slot.domain,
            bus: slot.bus,
            device: slot.device,
            function: function as u8,
        })
    }
}

impl FromStr for Slot {
    type Err = AddressError;

    /// Accepts `0000:41:00` and `41:00`.
    fn from_str(text: &str) -> Result<Slot, AddressError> {
        let bad = || AddressError(text.chars().take(40).collect());
        let (rest, device) = text.rsplit_once(':').ok_or_else(bad)?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
        Ok(Slot {
            domain: hex(domain, 8).ok_or_else(bad)?,
            bus: hex(bus, 2).ok_or_else(bad)? as u8,
            device: hex(device, 2).filter(|d| *d < 32).ok_or_else(bad)? as u8,
        })
    }
}

/// `most` hex digits at the most, no sign, no prefix.
fn hex(text: &str, most: usize) -> Option<u32> {
    if text.is_empty() || text.len() > most || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(text, 16).ok()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            format!("{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function);
        f.pad(&text)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04x}:{:02x}:{:02x}", self.domain, self.bus, self.device))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Slot, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_of_an_address_is_read() {
        for text in ["0000:41:00.0", "41:00.0", "41:0.0", "00000000:41:00.0", "0000:41:00.0"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), "0000:41:00.0", "{text}");
        }
        assert_eq!("00000001:C8:00.0".parse::<Address>().unwrap().to_string(), "0001:c8:00.0");
        assert_eq!("10000:E1:1f.7".parse::<Address>().unwrap().to_string(), "10000:e1:1f.7");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ".",
            ":",
            "41",
            "41:00",
            "41:00.8",
            "41:20.0",
            "41:00.00",
            "141:00.0",
            "0x41:00.0",
            "+1:00.0",
            "0000:41:00.0 ",
            "0000:0000:41:00.0",
            "000000000:41:00.0",
            "41:00.-1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_full_lower_case_form_is_a_sysfs_name() {
        assert!(Address::from_sysfs("0000:41:00.0").is_some());
        assert!(Address::from_sysfs("10000:e1:00.0").is_some());
        assert!(Address::from_sysfs("41:00.0").is_none());
        assert!(Address::from_sysfs("0000:C8:00.0").is_none());
    }

    #[test]
    fn what_was_meant_is_told() {
        for text in
            ["0000:41:00:0", "41.00.0", "pci_0000_41_00_0", "/sys/bus/pci/devices/0000:41:00.0"]
        {
            assert_eq!(address_hint(text).as_deref(), Some("did you mean 0000:41:00.0?"), "{text}");
        }
        assert!(
            address_hint("41:00.9").is_some_and(|hint| hint.contains("functions 0 to 7, not 9"))
        );
        assert!(address_hint("41:00.0,42:00.0").is_some_and(|hint| hint.contains("spaces")));
        assert!(address_hint("GPU-1234").is_some_and(|hint| hint.contains("by address")));
        for text in ["", "RTX", "gpu-", "é:é.é", "list", "1.2.3.4.5"] {
            assert_eq!(address_hint(text), None, "{text}");
        }
    }
}
