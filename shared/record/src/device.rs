//! Records about PCI functions and their IOMMU groups.

use serde::{Deserialize, Serialize};

use crate::{Address, Slot};

/// What a function is to a user of GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Display class, 03xx.
    Gpu,
    /// The display of a server's management controller (ASPEED, Matrox G200).
    BmcDisplay,
    /// HD audio (0403) in a GPU's slot.
    GpuAudio,
    /// USB controller (0c03) in a GPU's slot.
    GpuUsb,
    /// USB-C port controller (0c80) in a GPU's slot.
    GpuUcsi,
    /// PCI bridge, whatever its class says.
    Bridge,
    /// NVIDIA NVSwitch (0680).
    Nvswitch,
    /// Anything else.
    Other,
}

impl Role {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Gpu => "gpu",
            Role::BmcDisplay => "bmc-display",
            Role::GpuAudio => "gpu-audio",
            Role::GpuUsb => "gpu-usb",
            Role::GpuUcsi => "gpu-ucsi",
            Role::Bridge => "bridge",
            Role::Nvswitch => "nvswitch",
            Role::Other => "other",
        }
    }
}

/// One PCI function. As input only `address` is required: a tool looks the rest
/// up on the machine it runs on, never in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PciDevice {
    /// Full address.
    pub address: Address,
    /// The slot, that is the address without its function.
    #[serde(default)]
    pub slot: Option<Slot>,
    /// PCI domain.
    #[serde(default)]
    pub domain: Option<u32>,
    /// Bus number.
    #[serde(default)]
    pub bus: Option<u8>,
    /// Device number.
    #[serde(default)]
    pub device_number: Option<u8>,
    /// Function number.
    #[serde(default)]
    pub function_number: Option<u8>,
    /// The bridge above, `None` on a root bus.
    #[serde(default)]
    pub parent: Option<Address>,
    /// Other functions of the slot.
    #[serde(default)]
    pub siblings: Vec<Address>,
    /// IOMMU group number.
    #[serde(default)]
    pub group: Option<u32>,
    /// What it is to a user of GPUs.
    #[serde(default)]
    pub role: Option<Role>,
    /// `0x` and six hex digits: base class, subclass, programming interface.
    #[serde(default)]
    pub class: Option<String>,
    /// `0x` and four hex digits.
    #[serde(default)]
    pub vendor: Option<String>,
    /// `0x` and four hex digits.
    #[serde(default)]
    pub device: Option<String>,
    /// `0x` and four hex digits.
    #[serde(default)]
    pub subsystem_vendor: Option<String>,
    /// `0x` and four hex digits.
    #[serde(default)]
    pub subsystem_device: Option<String>,
    /// `0x` and two hex digits.
    #[serde(default)]
    pub revision: Option<String>,
    /// What it is called: the name of the device in pci.ids, else NVIDIA's model,
    /// else vendor and class.
    #[serde(default)]
    pub name: Option<String>,
    /// From pci.ids.
    #[serde(default)]
    pub class_name: Option<String>,
    /// From pci.ids.
    #[serde(default)]
    pub vendor_name: Option<String>,
    /// From pci.ids.
    #[serde(default)]
    pub device_name: Option<String>,
    /// From pci.ids.
    #[serde(default)]
    pub subsystem_name: Option<String>,
    /// The driver it is bound to.
    #[serde(default)]
    pub driver: Option<String>,
    /// The kernel's `(null)` is `None`.
    #[serde(default)]
    pub driver_override: Option<String>,
    /// Modules that claim it, from modules.alias.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Whether the firmware used it as the boot display.
    #[serde(default)]
    pub boot_vga: Option<bool>,
    /// Whether a display on it showed the boot, as kernels since 6.17 say.
    #[serde(default)]
    pub boot_display: Option<bool>,
    /// NUMA node; the kernel's -1 is `None`.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// Reset methods in the kernel's order of preference.
    #[serde(default)]
    pub reset_methods: Vec<String>,
    /// PCI Express link.
    #[serde(default)]
    pub link: Option<Link>,
    /// SR-IOV role.
    #[serde(default)]
    pub sriov: Option<Sriov>,
    /// Its VFIO character device (`vfio0` of `/dev/vfio/devices/vfio0`).
    #[serde(default)]
    pub vfio_device: Option<String>,
    /// DRM nodes below /dev/dri.
    #[serde(default)]
    pub drm_nodes: Vec<String>,
    /// What NVIDIA's driver says of it.
    #[serde(default)]
    pub nvidia: Option<NvidiaGpu>,
    /// How vGPU profiles are set on it.
    #[serde(default)]
    pub vgpu_interface: Option<VgpuInterface>,
    /// Whether it may be passed through.
    #[serde(default)]
    pub passthrough: Option<Passthrough>,
    /// Who uses it; `None` for a bridge.
    #[serde(default)]
    pub usage: Option<FunctionUsage>,
}

impl PciDevice {
    /// A record that names a function and says nothing of it.
    pub fn bare(address: Address) -> PciDevice {
        PciDevice {
            address,
            slot: Some(address.slot()),
            domain: Some(address.domain),
            bus: Some(address.bus),
            device_number: Some(address.device),
            function_number: Some(address.function),
            parent: None,
            siblings: Vec::new(),
            group: None,
            role: None,
            class: None,
            vendor: None,
            device: None,
            subsystem_vendor: None,
            subsystem_device: None,
            revision: None,
            name: None,
            class_name: None,
            vendor_name: None,
            device_name: None,
            subsystem_name: None,
            driver: None,
            driver_override: None,
            modules: Vec::new(),
            boot_vga: None,
            boot_display: None,
            numa_node: None,
            reset_methods: Vec::new(),
            link: None,
            sriov: None,
            vfio_device: None,
            drm_nodes: Vec::new(),
            nvidia: None,
            vgpu_interface: None,
            passthrough: None,
            usage: None,
        }
    }
}

/// PCI Express link, now and at most. Idle GPUs train down: a low `speed_gts`
/// is not a fault by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Gigatransfers a second.
    pub speed_gts: Option<f64>,
    /// Lanes.
    pub width: Option<u32>,
    /// Gigatransfers a second.
    pub max_speed_gts: Option<f64>,
    /// Lanes.
    pub max_width: Option<u32>,
}

/// SR-IOV role of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Sriov {
    /// A physical function that can have VFs.
    Pf {
        /// VFs that the hardware offers.
        total: Option<u32>,
        /// VFs that exist now.
        enabled: Option<u32>,
        /// Their addresses, in VF order.
        vfs: Vec<Address>,
    },
    /// A virtual function.
    Vf {
        /// Its physical function.
        pf: Option<Address>,
    },
}

/// What NVIDIA's driver says of a GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NvidiaGpu {
    /// Minor of /dev/nvidia<minor>; not nvidia-smi's index.
    pub minor: Option<u32>,
    /// `GPU-` and a UUID.
    pub uuid: Option<String>,
    /// Product name.
    pub model: Option<String>,
}

/// How vGPU profiles are set on a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VgpuInterface {
    /// A `nvidia/` directory with `current_vgpu_type` (SR-IOV VFs).
    Vendor,
    /// `mdev_supported_types/`.
    Mdev,
}

/// The verdict on passing a function's slot through to a VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passthrough {
    /// Nothing is against it: the slot is on VFIO, or `gpu-vfio-bind bind` would
    /// not be refused. `None`: it cannot be known.
    #[serde(default)]
    pub possible: Option<bool>,
    /// No endpoint of another slot shares the group. `None`: it cannot be known.
    pub isolated: Option<bool>,
    /// The kernel would hand the group out now.
    pub viable: Option<bool>,
    /// It would once all functions of this slot are on vfio-pci.
    pub viable_once_bound: Option<bool>,
    /// What prevents it, function by function.
    pub blockers: Vec<Blocker>,
    /// What does not prevent it and should be known.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One thing that prevents passing a group through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocker {
    /// Its kind, for scripts.
    #[serde(default)]
    pub kind: Option<BlockerKind>,
    /// Full address, name of a non-PCI member, or `None` where it is the machine.
    pub function: Option<String>,
    /// The driver it is bound to.
    pub driver: Option<String>,
    /// Binding the asked function's own slot to vfio-pci removes this one.
    pub own_slot: bool,
    /// Why, for a message.
    pub why: String,
}

/// What kind of thing prevents passing a slot through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockerKind {
    /// The IOMMU is off.
    IommuOff,
    /// The function has no IOMMU group.
    NoGroup,
    /// A member of the group is on a driver of the host.
    GroupMember,
    /// A bridge of the group has a driver of which the kernel's answer is unknown.
    UnknownBridge,
    /// The group has a range that is mapped one to one.
    ReservedRegion,
    /// Interrupts are not remapped.
    Interrupts,
    /// Groups are no proof of isolation.
    AcsOverride,
    /// It has virtual functions, which would go away.
    VirtualFunctions,
    /// A virtual function without a vGPU profile.
    NoProfile,
    /// Something uses it.
    InUse,
    /// Whether something uses it is not known.
    Unknown,
}

/// Something that uses a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedBy {
    /// What it is.
    pub kind: UsedByKind,
    /// Its name: `/dev/sda1`, `eno1`, `VM 100`.
    pub name: String,
    /// What it does with the function, in words that follow the name.
    pub what: String,
    /// Process id.
    pub pid: Option<u32>,
    /// The container that it is, or whose process it is.
    pub ctid: Option<u32>,
    /// The VM that it is, or whose process or device it is.
    pub vm: Option<u32>,
    /// A guest that runs now; `None`: not a guest.
    pub running: Option<bool>,
}

/// What kind of user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsedByKind {
    /// A block device that is mounted, swapped to or part of another.
    Disk,
    /// A network interface that is in use.
    Network,
    /// The local console.
    Display,
    /// A process with an open device node.
    Process,
    /// A kernel module that holds it.
    KernelModule,
    /// A driver in the middle of its removal.
    Removal,
    /// A container that is given one of its nodes.
    Container,
    /// A VM that is given the function.
    Vm,
    /// A mediated device.
    MediatedDevice,
}

/// Who uses a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUsage {
    /// Its users.
    pub users: Vec<UsedBy>,
    /// What could not be found out, in words.
    pub unknown: Vec<String>,
}

/// One IOMMU group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IommuGroup {
    /// Group number; numbers have holes.
    pub group: u32,
    /// Domain type of the kernel: `DMA-FQ`, `DMA`, `identity`, ...
    pub domain_type: Option<String>,
    /// Set for special groups only, such as `vfio-noiommu`.
    pub name: Option<String>,
    /// Its PCI functions.
    pub members: Vec<GroupMember>,
    /// Names of members that are not PCI functions.
    pub other_members: Vec<String>,
    /// Reserved address ranges.
    pub reserved_regions: Vec<ReservedRegion>,
    /// The kernel's rule for handing a group out: `driver` before 5.19, `dma-owner` since.
    pub rule: ViabilityRule,
    /// The kernel would hand the group out now.
    pub viable: Option<bool>,
    /// All its endpoints sit in one slot.
    pub isolated: Option<bool>,
    /// An ACS override is active: groups prove nothing.
    pub acs_override: bool,
    /// What prevents passing it through.
    pub blockers: Vec<Blocker>,
}

/// One PCI function of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Full address.
    pub address: Address,
    /// What it is to a user of GPUs.
    pub role: Role,
    /// `0x` and six hex digits.
    pub class: Option<String>,
    /// `0x` and four hex digits.
    pub vendor: Option<String>,
    /// `0x` and four hex digits.
    pub device: Option<String>,
    /// From pci.ids.
    pub device_name: Option<String>,
    /// The driver it is bound to.
    pub driver: Option<String>,
}

/// A reserved range of I/O virtual addresses, both ends included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReservedRegion {
    /// First address, `0x` and 16 hex digits.
    pub start: String,
    /// Last address, `0x` and 16 hex digits.
    pub end: String,
    /// `direct` blocks assignment; `direct-relaxable`, `reserved` and `msi` do not.
    pub kind: String,
}

/// How the running kernel decides whether a group may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViabilityRule {
    /// Before 5.19: each member driverless, on a VFIO driver or pci-stub, or any bridge.
    Driver,
    /// 5.19 and newer: no member on a driver that uses kernel-managed DMA.
    DmaOwner,
}
