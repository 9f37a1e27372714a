//! IOMMU groups.

use record::{Address, ReservedRegion};

/// One IOMMU group. Its PCI members are those functions whose `group` it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Group number; numbers have holes.
    pub id: u32,
    /// Set for special groups only (`vfio-noiommu`).
    pub name: Option<String>,
    /// Domain type (`DMA-FQ`, `identity`, ...).
    pub domain_type: Option<String>,
    /// Addresses of its PCI functions, sorted.
    pub members: Vec<Address>,
    /// Members that are no PCI functions (ACPI, platform and mediated devices).
    pub others: Vec<OtherMember>,
    /// Reserved address ranges.
    pub reserved: Vec<ReservedRegion>,
}

/// A member of a group that is not a PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherMember {
    /// Its name in sysfs, `AMDI0020:00`.
    pub name: String,
    /// The driver it is bound to.
    pub driver: Option<String>,
}

impl Group {
    /// A group of which only the number is known.
    pub fn bare(id: u32) -> Group {
        Group {
            id,
            name: None,
            domain_type: None,
            members: Vec::new(),
            others: Vec::new(),
            reserved: Vec::new(),
        }
    }

    /// A range that must be mapped one to one: the kernel hands no such group out.
    pub fn direct_region(&self) -> Option<&ReservedRegion> {
        self.reserved.iter().find(|region| region.kind == "direct")
    }
}

/// Parses `reserved_regions`: lines `0x<16 hex> 0x<16 hex> <kind>`, both ends
/// included.
pub(crate) fn reserved_regions(text: &str) -> Vec<ReservedRegion> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = |word: &str| {
                let digits = word.strip_prefix("0x")?;
                u64::from_str_radix(digits, 16).ok().map(|n| format!("0x{n:016x}"))
            };
            Some(ReservedRegion {
                start: address(words.next()?)?,
                end: address(words.next()?)?,
                kind: words.next()?.to_string(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_regions_are_told_apart_by_kind() {
        let text = "0x00000000fee00000 0x00000000feefffff msi\n\
                    0x000000008d000000 0x000000008f7fffff direct\nnonsense\n";
        let mut group = Group::bare(1);
        group.reserved = reserved_regions(text);
        assert_eq!(group.reserved.len(), 2);
        assert_eq!(group.direct_region().unwrap().start, "0x000000008d000000");
        let relaxable = "0x000000008d000000 0x000000008f7fffff direct-relaxable\n";
        group.reserved = reserved_regions(relaxable);
        assert!(group.direct_region().is_none());
    }
}
