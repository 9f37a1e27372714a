//! The attributes of functions and groups that are read: what the reader and
//! the parser of its answers agree on.

use record::Address;

/// Where sysfs lists all functions.
pub const DEVICES: &str = "/sys/bus/pci/devices";
/// Where sysfs has the IOMMU groups.
pub const GROUPS: &str = "/sys/kernel/iommu_groups";

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What a verdict needs: of functions neither links nor NUMA nodes, and reset
    /// methods only of displays.
    Verdict,
    /// All of the functions, of groups what a verdict needs.
    Functions,
    /// Everything.
    Full,
}

/// What one read is of. The order is about that of reading: what may block on
/// some kernel comes last.
pub mod tag {
    pub const LINK: u8 = 1;
    pub const DIR: u8 = 2;
    pub const MODALIAS: u8 = 3;
    pub const VENDOR: u8 = 4;
    pub const DEVICE: u8 = 5;
    pub const SUBVENDOR: u8 = 6;
    pub const SUBDEVICE: u8 = 7;
    pub const CLASS: u8 = 8;
    pub const REVISION: u8 = 9;
    pub const DRIVER: u8 = 10;
    pub const GROUP: u8 = 11;
    pub const PHYSFN: u8 = 12;
    pub const BUS: u8 = 13;
    pub const VGPU: u8 = 14;
    pub const MDEV: u8 = 15;
    pub const VFIO: u8 = 16;
    pub const DRM: u8 = 17;
    pub const BOOT_VGA: u8 = 18;
    pub const NUMA: u8 = 19;
    pub const RESET: u8 = 20;
    pub const SPEED: u8 = 21;
    pub const WIDTH: u8 = 22;
    pub const MAX_SPEED: u8 = 23;
    pub const MAX_WIDTH: u8 = 24;
    pub const TOTALVFS: u8 = 25;
    pub const VFS: u8 = 26;
    pub const NUMVFS: u8 = 27;
    pub const OVERRIDE: u8 = 28;
    pub const SHARED_LINK: u8 = 29;
    pub const GROUP_MEMBERS: u8 = 30;
    pub const BOOT_DISPLAY: u8 = 31;

    /// The attribute's name, for messages.
    pub fn name(tag: u8) -> &'static str {
        match tag {
            LINK | DIR => "its directory",
            MODALIAS => "modalias",
            VENDOR => "vendor",
            DEVICE => "device",
            SUBVENDOR => "subsystem_vendor",
            SUBDEVICE => "subsystem_device",
            CLASS => "class",
            REVISION => "revision",
            DRIVER => "driver",
            GROUP => "iommu_group",
            PHYSFN => "physfn",
            BUS => "pci_bus",
            VGPU => "nvidia",
            MDEV => "mdev_supported_types",
            VFS => "virtfn*",
            VFIO => "vfio-dev",
            DRM => "drm",
            BOOT_VGA => "boot_vga",
            BOOT_DISPLAY => "boot_display",
            NUMA => "numa_node",
            RESET => "reset_method",
            SPEED => "current_link_speed",
            WIDTH => "current_link_width",
            MAX_SPEED => "max_link_speed",
            MAX_WIDTH => "max_link_width",
            TOTALVFS => "sriov_totalvfs",
            NUMVFS => "sriov_numvfs",
            OVERRIDE => "driver_override",
            GROUP_MEMBERS => "iommu_group/devices",
            _ => "an attribute",
        }
    }
}

/// What one read of a group is of.
pub mod group_tag {
    pub const MEMBERS: u8 = 1;
    pub const RESERVED: u8 = 2;
    pub const NAME: u8 = 3;
    pub const TYPE: u8 = 4;
}

/// The bridge above a function, from what its link in the list of all leads to.
pub fn parent(target: &str) -> Option<Address> {
    target.rsplit('/').nth(1).and_then(Address::from_sysfs)
}
