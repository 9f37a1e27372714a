//! Command lines of `gpu-iommu-groups`.

use record::CommandLine;

use crate::command;

/// Lists the functions of a vendor, by its PCI id in hexadecimal.
pub fn of_vendor(vendor: &str) -> CommandLine {
    command(&["gpu-iommu-groups", "--vendor", vendor])
}

/// Lists a function, a slot or an IOMMU group.
pub fn list(operand: &str) -> CommandLine {
    command(&["gpu-iommu-groups", operand])
}

/// Lists all functions of the host.
pub fn list_all() -> CommandLine {
    command(&["gpu-iommu-groups", "--all"])
}

/// Lists the IOMMU groups of the GPUs.
pub fn groups() -> CommandLine {
    command(&["gpu-iommu-groups", "--groups"])
}

/// Shows one IOMMU group with its members and blockers.
pub fn group(id: u32) -> CommandLine {
    command(&["gpu-iommu-groups", "--groups", &format!("group:{id}")])
}
