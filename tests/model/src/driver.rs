//! Drivers: what they match, and how they differ where a tool notices.

/// One row of a driver's table, as `struct pci_device_id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// `None` is PCI_ANY_ID.
    pub vendor: Option<u32>,
    pub device: Option<u32>,
    pub subvendor: Option<u32>,
    pub subdevice: Option<u32>,
    pub class: u32,
    pub mask: u32,
}

/// What a function says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    pub vendor: u32,
    pub device: u32,
    pub subvendor: u32,
    pub subdevice: u32,
    pub class: u32,
}

/// What a driver's probe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It takes the function.
    Binds,
    /// EPROBE_DEFER: not yet.
    Defers,
    /// It refuses with this error number.
    Fails(i32),
}

/// A registered driver.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    pub name: String,
    pub module: String,
    pub ids: Vec<Id>,
    pub dynamic: Vec<Id>,
    /// All of `ids` are PCI_DRIVER_OVERRIDE_DEVICE_VFIO rows.
    pub override_only: bool,
    /// `.driver_managed_dma`: binding it claims no DMA for the host.
    pub managed_dma: bool,
    /// A VFIO driver: it makes nodes for VMs.
    pub vfio: bool,
    /// It makes DRM nodes.
    pub drm: bool,
    /// It has `.sriov_configure`.
    pub sriov: bool,
    /// It disables SR-IOV when it is removed. Where a driver does not, VFs stay
    /// ("driver left SR-IOV enabled after remove", iov.c): so sriov-manage makes
    /// them under pci-pf-stub and goes back to nvidia.
    pub drops_vfs: bool,
    pub probe: Probe,
}

impl Id {
    pub fn exact(vendor: u32, device: u32) -> Id {
        let (vendor, device) = (Some(vendor), Some(device));
        Id { vendor, device, subvendor: None, subdevice: None, class: 0, mask: 0 }
    }

    pub fn class(vendor: Option<u32>, class: u32, mask: u32) -> Id {
        Id { vendor, device: None, subvendor: None, subdevice: None, class, mask }
    }

    /// pci_match_one_device() in drivers/pci/pci.h.
    pub fn matches(&self, ids: &Ids) -> bool {
        let same = |row: Option<u32>, value: u32| row.is_none_or(|row| row == value);
        same(self.vendor, ids.vendor)
            && same(self.device, ids.device)
            && same(self.subvendor, ids.subvendor)
            && same(self.subdevice, ids.subdevice)
            && (self.class ^ ids.class) & self.mask == 0
    }
}

impl Ids {
    /// From `pci:v000010DEd00001E07sv00001458sd000037A9bc03sc00i00`.
    pub fn from_modalias(text: &str) -> Option<Ids> {
        let hex = |from: usize, to: usize| u32::from_str_radix(text.get(from..to)?, 16).ok();
        text.starts_with("pci:v").then_some(())?;
        Some(Ids {
            vendor: hex(5, 13)?,
            device: hex(14, 22)?,
            subvendor: hex(24, 32)?,
            subdevice: hex(34, 42)?,
            class: hex(44, 46)? << 16 | hex(48, 50)? << 8 | hex(51, 53)?,
        })
    }

    pub fn modalias(&self) -> String {
        format!(
            "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
            self.vendor,
            self.device,
            self.subvendor,
            self.subdevice,
            self.class >> 16,
            self.class >> 8 & 0xff,
            self.class & 0xff
        )
    }
}

impl Driver {
    /// A driver that the model knows nothing of: it matches what it is given.
    pub fn plain(name: &str) -> Driver {
        Driver {
            name: name.to_string(),
            module: name.replace('-', "_"),
            ids: Vec::new(),
            dynamic: Vec::new(),
            override_only: false,
            managed_dma: false,
            vfio: false,
            drm: matches!(name, "ast" | "bochs-drm" | "mgag200" | "amdgpu" | "i915" | "xe"),
            sriov: matches!(name, "igb" | "ixgbe" | "i40e" | "ice" | "bnxt_en" | "nvme"),
            drops_vfs: matches!(name, "igb" | "ixgbe" | "i40e" | "ice" | "bnxt_en" | "vfio-pci"),
            probe: Probe::Binds,
        }
    }

    /// A driver by its name, with the table that its source has.
    pub fn new(name: &str) -> Driver {
        /// NVIDIA.
        const NV: Option<u32> = Some(0x10de);
        let mut driver = Driver::plain(name);
        match name {
            // kernel-open/nvidia/nv-pci-table.c: VGA and 3D controllers
            "nvidia" => {
                driver.drm = true;
                driver.ids =
                    vec![Id::class(NV, 0x030000, 0xffff00), Id::class(NV, 0x030200, 0xffff00)];
            }
            // nouveau_drm.c: any display class of NVIDIA's
            "nouveau" => {
                driver.drm = true;
                driver.ids = vec![Id::class(NV, 0x030000, 0xff0000)];
            }
            "nvidia-gpu" => {
                driver.module = "i2c_nvidia_gpu".to_string();
                driver.ids = vec![Id::class(NV, 0x0c8000, 0xffff00)];
            }
            "snd_hda_intel" => driver.ids = vec![Id::class(None, 0x040300, 0xffff00)],
            "xhci_hcd" => {
                driver.module = "xhci_pci".to_string();
                driver.ids = vec![Id::class(None, 0x0c0330, 0xffffff)];
            }
            // drivers/gpu/drm/tiny/bochs.c
            "bochs-drm" => {
                driver.module = "bochs".to_string();
                driver.ids = vec![Id::exact(0x1234, 0x1111)];
            }
            "nvme" => driver.ids = vec![Id::class(None, 0x010802, 0xffffff)],
            "ahci" => driver.ids = vec![Id::class(None, 0x010601, 0xffffff)],
            // vfio_pci.c: PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID)
            "vfio-pci" => {
                (driver.vfio, driver.managed_dma, driver.override_only) = (true, true, true);
                driver.sriov = true;
                driver.ids = vec![Id::class(None, 0, 0)];
            }
            // drivers/vfio/pci/nvgrace-gpu/main.c: .name = KBUILD_MODNAME, as all
            // variants have it, and that has underscores
            "nvgrace_gpu_vfio_pci" => {
                (driver.vfio, driver.managed_dma, driver.override_only) = (true, true, true);
                driver.ids = [0x2342, 0x2345, 0x2348, 0x2941]
                    .map(|device| Id::exact(0x10de, device))
                    .to_vec();
            }
            // pci-stub.c: no table, driver_managed_dma
            "pci-stub" => driver.managed_dma = true,
            // pci-pf-stub.c: pci_sriov_configure_simple
            "pci-pf-stub" => {
                driver.sriov = true;
                driver.ids = vec![Id::exact(0x1d0f, 0x0053)];
            }
            // pcie/portdrv.c
            "pcieport" => {
                driver.managed_dma = true;
                driver.ids = vec![Id::class(None, 0x060400, 0xffffff)];
            }
            _ => {}
        }
        driver
    }

    /// Names of the drivers that a module registers.
    pub fn of_module(module: &str) -> Option<Driver> {
        const NAMES: &[&str] = &[
            "nvidia",
            "nouveau",
            "nvidia-gpu",
            "snd_hda_intel",
            "xhci_hcd",
            "nvme",
            "ahci",
            "bochs-drm",
            "vfio-pci",
            "nvgrace_gpu_vfio_pci",
            "pci-stub",
            "pci-pf-stub",
        ];
        let drivers = NAMES.iter().map(|name| Driver::new(name));
        drivers.into_iter().find(|driver| driver.module == module)
    }

    /// pci_match_device() in drivers/pci/pci-driver.c: an override names one
    /// driver and matches it always; dynamic ids come before the table; rows
    /// that are override_only count only with an override.
    pub fn matches(&self, ids: &Ids, driver_override: Option<&str>) -> bool {
        if let Some(wanted) = driver_override {
            return wanted == self.name;
        }
        self.dynamic.iter().any(|id| id.matches(ids))
            || !self.override_only && self.ids.iter().any(|id| id.matches(ids))
    }
}
