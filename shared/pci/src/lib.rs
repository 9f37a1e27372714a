//! PCI functions, IOMMU groups and SR-IOV as the kernel's sysfs shows them,
//! names from pci.ids, and the verdict on passing a function through.
//!
//! [`scan`] reads a machine; everything after it is pure.

mod alias;
mod alias_index;
mod function;
mod group;
mod ids;
mod iommu;
mod operand;
mod scan;
mod verdict;

pub use alias::{Modalias, ModuleAliases};
pub use function::{Function, NVIDIA, is_vfio_driver};
pub use group::{Group, OtherMember};
pub use ids::{Names, PciIds};
pub use iommu::{Iommu, viability_rule};
pub use operand::{OperandError, gpus_hint, group_operand};
pub use scan::{Depth, System, scan, scan_slots};
pub use verdict::{
    GroupObstacle, GroupObstacleKind, group_obstacles, group_verdict, passthrough, shares_group,
};
