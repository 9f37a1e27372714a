//! One PCI function as its sysfs directory shows it.

use record::{Address, Link, Role};

use crate::alias::Modalias;

/// NVIDIA's vendor id.
pub const NVIDIA: u16 = 0x10de;

const ASPEED: u16 = 0x1a03;
const MATROX: u16 = 0x102b;
const HUAWEI: u16 = 0x19e5;

/// One PCI function. What could not be read is `None` or empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its address.
    pub address: Address,
    /// The bridge above it, `None` on a root bus.
    pub parent: Option<Address>,
    /// Vendor id.
    pub vendor: Option<u16>,
    /// Device id.
    pub device: Option<u16>,
    /// Subsystem vendor id.
    pub subsystem_vendor: Option<u16>,
    /// Subsystem device id.
    pub subsystem_device: Option<u16>,
    /// Base class, subclass, programming interface: 24 bits.
    pub class: Option<u32>,
    /// Revision.
    pub revision: Option<u8>,
    /// The driver it is bound to.
    pub driver: Option<String>,
    /// The only driver that may bind it.
    pub driver_override: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// It has a bus behind it.
    pub bridge: bool,
    /// The firmware used it as boot display; only VGA class functions say.
    pub boot_vga: Option<bool>,
    /// The firmware or the boot console used a display on it (Linux 6.17 and newer:
    /// drivers/pci/pci-sysfs.c, boot_display_show()); any display class says.
    pub boot_display: Option<bool>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Reset methods in the kernel's order of preference.
    pub reset_methods: Vec<String>,
    /// PCI Express link.
    pub link: Option<Link>,
    /// VFs that the hardware offers; `Some` makes it a PF.
    pub sriov_total: Option<u32>,
    /// VFs that exist now.
    pub sriov_enabled: Option<u32>,
    /// Its VFs in VF order.
    pub vfs: Vec<Address>,
    /// Its PF; `Some` makes it a VF.
    pub pf: Option<Address>,
    /// Name of its VFIO character device.
    pub vfio_device: Option<String>,
    /// Names of its DRM nodes (`card1`, `renderD128`).
    pub drm: Vec<String>,
    /// It has NVIDIA's vGPU directory.
    pub vgpu_vendor: bool,
    /// The id of its vGPU profile; 0 is none, `None` unknown or not such a function.
    pub vgpu_type: Option<u32>,
    /// It has mediated device types.
    pub mdev: bool,
    /// What could not be read and why, for people.
    pub warnings: Vec<String>,
}

impl Function {
    /// A function of which nothing but its address is known.
    pub fn bare(address: Address) -> Function {
        Function {
            address,
            parent: None,
            vendor: None,
            device: None,
            subsystem_vendor: None,
            subsystem_device: None,
            class: None,
            revision: None,
            driver: None,
            driver_override: None,
            group: None,
            bridge: false,
            boot_vga: None,
            boot_display: None,
            numa_node: None,
            reset_methods: Vec::new(),
            link: None,
            sriov_total: None,
            sriov_enabled: None,
            vfs: Vec::new(),
            pf: None,
            vfio_device: None,
            drm: Vec::new(),
            vgpu_vendor: false,
            vgpu_type: None,
            mdev: false,
            warnings: Vec::new(),
        }
    }

    /// Base class and subclass, 16 bits.
    pub fn class16(&self) -> Option<u16> {
        self.class.map(|class| (class >> 8) as u16)
    }

    /// Display class, 03xx, of any vendor.
    pub fn is_gpu(&self) -> bool {
        self.class.is_some_and(|class| class >> 16 == 0x03)
    }

    /// The display of a server's management controller (BMC): what shows there is
    /// seen through the network, and no VM has a use for it. The ids are those of
    /// the kernel's drivers for them: ast (all of its vendor), hibmc (1711), and
    /// the G200 of servers in mgag200's table, without the cards 0520 and 0521.
    pub fn is_bmc_display(&self) -> bool {
        let (Some(vendor), Some(device)) = (self.vendor, self.device) else { return false };
        self.is_gpu()
            && match vendor {
                ASPEED => true,
                HUAWEI => device == 0x1711,
                MATROX => (0x0522..=0x0538).contains(&device) && device != 0x0525,
                _ => false,
            }
    }

    /// A PCI bridge: by the bus behind it, or by class where that is not shown.
    pub fn is_bridge(&self) -> bool {
        self.bridge || self.class16() == Some(0x0604)
    }

    /// Whether it stays with the host whatever it shares: vfio-pci refuses
    /// bridges (EINVAL for header type 1), and behind a host or ISA bridge is
    /// the board itself.
    pub fn stays_with_host(&self) -> bool {
        self.is_bridge() || matches!(self.class16(), Some(0x0600 | 0x0601 | 0x0607 | 0x0609))
    }

    /// A switch of NVIDIA's NVLink fabric.
    pub fn is_nvswitch(&self) -> bool {
        self.class16() == Some(0x0680) && self.vendor == Some(NVIDIA)
    }

    /// Of a class that a graphics card has beside its display: audio, USB, UCSI.
    pub(crate) fn is_card_class(&self) -> bool {
        matches!(self.class16(), Some(0x0403 | 0x0c03 | 0x0c80))
    }

    /// Whether it is driven by VFIO: by a vfio driver, or registered with VFIO
    /// by its own (NVIDIA's vGPU VFs stay on `nvidia`).
    pub fn on_vfio(&self) -> bool {
        self.vfio_device.is_some()
            || self.driver.as_deref().is_some_and(is_vfio_driver)
            || (self.vgpu_vendor && self.pf.is_some() && self.driver.as_deref() == Some("nvidia"))
    }

    /// What it is to a user of GPUs; `gpu_in_slot` says whether a GPU shares its slot.
    pub fn role(&self, gpu_in_slot: bool) -> Role {
        match self.class16() {
            _ if self.is_bmc_display() => Role::BmcDisplay,
            _ if self.is_gpu() => Role::Gpu,
            _ if self.is_bridge() => Role::Bridge,
            Some(0x0403) if gpu_in_slot => Role::GpuAudio,
            Some(0x0c03) if gpu_in_slot => Role::GpuUsb,
            Some(0x0c80) if gpu_in_slot => Role::GpuUcsi,
            _ if self.is_nvswitch() => Role::Nvswitch,
            _ => Role::Other,
        }
    }

    /// Its modalias, from what is known of it.
    pub fn modalias(&self) -> Option<Modalias> {
        Some(Modalias {
            vendor: self.vendor?,
            device: self.device?,
            subsystem_vendor: self.subsystem_vendor.unwrap_or(0),
            subsystem_device: self.subsystem_device.unwrap_or(0),
            class: self.class?,
        })
    }
}

/// `vfio-pci` and its variants (`mlx5_vfio_pci`, `nvgrace_gpu_vfio_pci`, ...).
pub fn is_vfio_driver(name: &str) -> bool {
    let name = name.replace('_', "-");
    name == "vfio-pci" || name.ends_with("-vfio-pci") || name.starts_with("vfio-pci-")
}
