//! The record types. Each field's meaning stands in the JSON Schema of its
//! type, from which pve-gpu-records(5) is made; here stands what a program in
//! Rust needs to know beyond that.

use serde::{Deserialize, Serialize};

use crate::{Address, Runfile, RunfileEntry, Slot};

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// One PCI function.
    PciDevice(Box<PciDevice>),
    /// One IOMMU group.
    IommuGroup(IommuGroup),
    /// One step of a change.
    Change(Change),
    /// One comparison.
    Check(Check),
    /// One GPU as one container sees it.
    LxcGpu(Box<LxcGpu>),
    /// One installer.
    Runfile(Box<Runfile>),
    /// One thing in an installer.
    RunfileEntry(Box<RunfileEntry>),
    /// One GPU, virtual function or mediated device with its vGPU profile.
    Vgpu(Box<Vgpu>),
    /// One profile that a GPU offers.
    VgpuType(VgpuType),
    /// Which profile a virtual function or a GPU is to have.
    VgpuAssignment(VgpuAssignment),
    /// Why the stream ends here.
    Error(ErrorRecord),
}

impl Record {
    /// The value of the `type` key.
    pub fn type_name(&self) -> &'static str {
        match self {
            Record::PciDevice(_) => "pci-device",
            Record::IommuGroup(_) => "iommu-group",
            Record::Change(_) => "change",
            Record::Check(_) => "check",
            Record::LxcGpu(_) => "lxc-gpu",
            Record::Runfile(_) => "runfile",
            Record::RunfileEntry(_) => "runfile-entry",
            Record::Vgpu(_) => "vgpu",
            Record::VgpuType(_) => "vgpu-type",
            Record::VgpuAssignment(_) => "vgpu-assignment",
            Record::Error(_) => "error",
        }
    }
}

/// What a function is to somebody who wants to use a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Display class, 03xx.
    Gpu,
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
            class_name: None,
            vendor_name: None,
            device_name: None,
            subsystem_name: None,
            driver: None,
            driver_override: None,
            modules: Vec::new(),
            boot_vga: None,
            numa_node: None,
            reset_methods: Vec::new(),
            link: None,
            sriov: None,
            vfio_device: None,
            drm_nodes: Vec::new(),
            nvidia: None,
            vgpu_interface: None,
            passthrough: None,
        }
    }
}

/// PCI Express link, now and at most. Idle GPUs train down: a low `speed_gts`
/// is no fault by itself.
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
    /// No endpoint of another slot shares the group. `None`: it cannot be known.
    pub isolated: Option<bool>,
    /// The kernel would hand the group out now.
    pub viable: Option<bool>,
    /// It would once all functions of this slot are on vfio-pci.
    pub viable_once_bound: Option<bool>,
    /// What stands in the way, function by function.
    pub blockers: Vec<Blocker>,
}

/// One thing that stands in the way of passing a group through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocker {
    /// Full address, name of a non-PCI member, or `None` where it is the machine.
    pub function: Option<String>,
    /// The driver it is bound to.
    pub driver: Option<String>,
    /// Binding the asked function's own slot to vfio-pci removes this one.
    pub own_slot: bool,
    /// In words.
    pub why: String,
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
    /// Names of members that are no PCI functions.
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
    /// What stands in the way.
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

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeStatus {
    /// Already so.
    Unchanged,
    /// Dry run or check: would be done.
    Planned,
    /// Done and read back.
    Changed,
    /// Not ours to do here.
    Skipped,
    /// Refused for safety.
    Refused,
    /// Tried and failed.
    Failed,
    /// Done and undone again.
    RolledBack,
}

impl ChangeStatus {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeStatus::Unchanged => "unchanged",
            ChangeStatus::Planned => "planned",
            ChangeStatus::Changed => "changed",
            ChangeStatus::Skipped => "skipped",
            ChangeStatus::Refused => "refused",
            ChangeStatus::Failed => "failed",
            ChangeStatus::RolledBack => "rolled-back",
        }
    }
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The tool that speaks.
    pub tool: String,
    /// What is changed: `ct 901`, an address, a path.
    pub target: String,
    /// Which property of it: a configuration key, an attribute.
    pub property: String,
    /// Value before, `None` where there was none.
    pub from: Option<String>,
    /// Value after, `None` where there is none.
    pub to: Option<String>,
    /// How far it has come.
    pub status: ChangeStatus,
    /// Why, where the status asks for it.
    pub reason: Option<String>,
    /// What to do next, where we know.
    pub hint: Option<String>,
}

/// Outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As expected.
    Ok,
    /// Not as expected.
    Drift,
    /// Could not be found out.
    Unknown,
}

/// How much a difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    Info,
    /// Works now, may stop working.
    Warning,
    /// Does not work.
    Error,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: an address, `ct 901`, `host`.
    pub subject: String,
    /// Which property of it.
    pub property: String,
    /// What it should be.
    pub expected: Option<String>,
    /// What it is.
    pub actual: Option<String>,
    /// Outcome.
    pub status: CheckStatus,
    /// How much it matters.
    pub severity: Severity,
    /// Name of what is wrong, for scripts: `stale-rule`. `None` where all is well
    /// and where the property says it all.
    pub cause: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
    /// What to do next, where we know.
    pub hint: Option<String>,
}

impl Check {
    /// A comparison that found what it should.
    pub fn ok(subject: &str, property: &str, value: impl Into<Option<String>>) -> Check {
        let value = value.into();
        Check {
            subject: subject.into(),
            property: property.into(),
            expected: value.clone(),
            actual: value,
            status: CheckStatus::Ok,
            severity: Severity::Info,
            cause: None,
            reason: None,
            hint: None,
        }
    }
}

/// How a container is given a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LxcStyle {
    /// PVE's `dev[n]`.
    Dev,
    /// `lxc.mount.entry`, with device rules where the container is privileged.
    Mount,
    /// `lxc.cgroup.*` keys, which do nothing on cgroup v2.
    CgroupV1,
    /// More than one of these.
    Mixed,
}

impl LxcStyle {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            LxcStyle::Dev => "dev",
            LxcStyle::Mount => "mount",
            LxcStyle::CgroupV1 => "cgroup-v1",
            LxcStyle::Mixed => "mixed",
        }
    }
}

/// One GPU as one container sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LxcGpu {
    /// Container id.
    pub ctid: u32,
    /// Cluster node that owns the container.
    pub node: Option<String>,
    /// Whether its root is mapped to an unprivileged user of the host.
    pub unprivileged: bool,
    /// Address of the GPU, `None` where its minor belongs to no GPU of this host.
    pub gpu: Option<Address>,
    /// Minor of /dev/nvidia<minor>.
    pub minor: Option<u32>,
    /// `GPU-` and a UUID.
    pub uuid: Option<String>,
    /// Product name.
    pub model: Option<String>,
    /// How the nodes are given.
    pub style: LxcStyle,
    /// The GPU's own nodes and those that all GPUs share.
    pub nodes: Vec<LxcNode>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// One device node that a container is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LxcNode {
    /// Path on the host.
    pub path: String,
    /// Configuration key that gives it.
    pub key: String,
    /// Major number on the host now.
    pub major: Option<u32>,
    /// Minor number on the host now.
    pub minor: Option<u32>,
    /// Octal mode inside the container, where the configuration says it.
    pub mode: Option<String>,
    /// The host has a character device there now. `None`: the container is
    /// another node's.
    pub present: Option<bool>,
}

/// What a [`Vgpu`] record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VgpuKind {
    /// A whole GPU: a physical function.
    Gpu,
    /// A virtual function.
    Vf,
    /// A mediated device.
    Mdev,
}

impl VgpuKind {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            VgpuKind::Gpu => "gpu",
            VgpuKind::Vf => "vf",
            VgpuKind::Mdev => "mdev",
        }
    }
}

/// One GPU, virtual function or mediated device with its vGPU profile. As input
/// `address` and `profile` count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vgpu {
    /// Of the function; of a mediated device its parent's.
    pub address: Address,
    /// What it is.
    pub kind: VgpuKind,
    /// Address of the GPU.
    #[serde(default)]
    pub gpu: Option<Address>,
    /// Number of the virtual function (`virtfnN`).
    #[serde(default)]
    pub index: Option<u32>,
    /// UUID of a mediated device.
    #[serde(default)]
    pub uuid: Option<String>,
    /// How profiles are set on it.
    #[serde(default)]
    pub interface: Option<VgpuInterface>,
    /// The driver it is bound to.
    #[serde(default)]
    pub driver: Option<String>,
    /// Product name of a GPU.
    #[serde(default)]
    pub model: Option<String>,
    /// Virtual functions that a GPU can have.
    #[serde(default)]
    pub vfs_total: Option<u32>,
    /// Virtual functions that it has now.
    #[serde(default)]
    pub vfs_enabled: Option<u32>,
    /// Id of the profile set now.
    #[serde(default)]
    pub profile_id: Option<u32>,
    /// Its name without `NVIDIA` or `GRID` in front.
    #[serde(default)]
    pub profile: Option<String>,
    /// What could be set now.
    #[serde(default)]
    pub creatable: Vec<String>,
    /// Where on the GPU the driver put it.
    #[serde(default)]
    pub placement_id: Option<u32>,
    /// The MIG instance that the driver chose.
    #[serde(default)]
    pub gpu_instance_id: Option<u32>,
    /// Who uses it.
    #[serde(default)]
    pub holder: Option<VgpuHolder>,
    /// VMs of Proxmox VE that set and clear its profile themselves.
    #[serde(default)]
    pub managed_by: Vec<u32>,
    /// Whether the GPU takes profiles of different sizes at once.
    #[serde(default)]
    pub heterogeneous: Option<bool>,
    /// MIG instances of the GPU; 0 where there are none.
    #[serde(default)]
    pub mig_instances: Option<u32>,
}

/// Who uses a virtual function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuHolder {
    /// A process that has its VFIO node open.
    pub pid: Option<u32>,
    /// Its command name.
    pub command: Option<String>,
    /// The VM of Proxmox VE for which it is reserved.
    pub vm: Option<u32>,
}

/// One profile that a GPU offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VgpuType {
    /// Address of the GPU.
    pub gpu: Address,
    /// How it is set.
    pub interface: VgpuInterface,
    /// The driver's id, for this card and this driver version only.
    pub id: u32,
    /// The driver's name for it.
    pub name: String,
    /// The name without `NVIDIA` or `GRID` in front.
    pub profile: String,
    /// Framebuffer in bytes, from the name.
    pub framebuffer: Option<u64>,
    /// Slices of a MIG instance that it lives in.
    pub mig_slices: Option<u32>,
    /// Virtual functions or mediated devices that could have it now.
    pub available: u32,
}

/// Which profile a virtual function or a GPU is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuAssignment {
    /// A virtual function or a mediated device's parent; with `count` the GPU.
    pub address: Address,
    /// Name or id; `none` for no profile.
    pub profile: String,
    /// How many of the GPU's virtual functions are to have it. `None`: it is
    /// `address` itself that is to have it.
    #[serde(default)]
    pub count: Option<u32>,
}

/// Why a stream ends here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The tool that failed.
    pub tool: String,
    /// In words.
    pub message: String,
    /// Its exit code.
    pub exit: u8,
}
