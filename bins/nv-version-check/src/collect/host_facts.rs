//! What the host itself has: the loaded modules, those on disk, DKMS, firmware.

use host::Machine;
use nvidia::{NextBoot, Nouveau, module_version};

use crate::collect::dkms::{self, DkmsModule};
use crate::collect::driver_messages::{self, RefusedGpu};
use crate::collect::gpus::{self, HostGpu};
use crate::collect::kernel_modules::{self, InstalledKernel};
use crate::collect::root_facts::RootFacts;
use crate::collect::secure_boot::SecureBoot;

/// Modules that must be of the main module's version. nvidia-modeset refuses to
/// load beside another one; the others fail later.
const FAMILY: [&str; 5] =
    ["nvidia_modeset", "nvidia_drm", "nvidia_uvm", "nvidia_peermem", "nvidia_vgpu_vfio"];

/// The host.
pub struct HostFacts {
    /// Version of the loaded module.
    pub loaded: Option<String>,
    /// Why the loaded module is unknown; `None` where it is known.
    pub unread: Option<String>,
    /// The loaded module is an open one.
    pub open: bool,
    /// The other loaded modules of the driver with their versions.
    pub family: Vec<(String, String)>,
    /// nouveau is loaded, or kept from being loaded.
    pub nouveau: Nouveau,
    /// The running kernel.
    pub running: Option<String>,
    /// The installed kernels.
    pub kernels: Vec<InstalledKernel>,
    /// The kernel that boots next; `Err`: why it is unknown.
    pub next: Result<NextBoot, String>,
    /// The driver's modules that DKMS knows.
    pub dkms: Vec<DkmsModule>,
    /// The host's own root file system.
    pub root: RootFacts,
    /// Versions of GSP firmware, from the names of their directories.
    pub firmware: Vec<String>,
    /// The root has no directory of kernel modules, as a recording of a host without
    /// its large files: which modules it has is unknown.
    pub no_module_files: bool,
    /// NVIDIA's GPUs that are not passed through.
    pub gpus: Vec<HostGpu>,
    /// GPUs that the module says it does not drive.
    pub refused_gpus: Vec<RefusedGpu>,
    /// What the kernel demands of modules.
    pub secure_boot: SecureBoot,
    /// Product names of the driver's GPUs.
    pub models: Vec<String>,
    /// A compiler, make and the C library's headers are installed.
    pub compiler: bool,
    /// Proxmox VE's tool for boot loaders can pin a kernel.
    pub pins_kernels: bool,
    /// NVIDIA's vGPU manager is installed or its module is loaded.
    pub vgpu: bool,
}

/// Files in which the loaded module shows its version.
const LOADED: [&str; 2] = ["/proc/driver/nvidia/version", "/sys/module/nvidia/version"];

impl HostFacts {
    /// Reads them; `cuda`: also CUDA toolkits.
    pub fn read(machine: &Machine, cuda: bool) -> HostFacts {
        let proc = machine.attr(LOADED[0]).unwrap_or_default();
        let family = FAMILY.iter().filter_map(|name| {
            let version = machine.attr(&format!("/sys/module/{name}/version")).ok()?;
            let version = version.trim().to_string();
            nvidia::is_version(&version).then(|| (name.replace('_', "-"), version))
        });
        let running = machine.kernel_release();
        let kernels = kernel_modules::installed(machine, running.as_deref());
        let loaded = module_version(machine);
        // no such file: not loaded; after any other error it may be loaded
        let unread = LOADED.iter().find_map(|path| machine.attr(path).err());
        let unread = unread.filter(|error| loaded.is_none() && !error.is_not_found());
        let releases: Vec<String> = kernels.iter().map(|k| k.release.clone()).collect();
        HostFacts {
            loaded,
            unread: unread.map(|error| error.to_string()),
            open: proc.contains("Open Kernel Module"),
            family: family.collect(),
            nouveau: Nouveau::read(machine),
            next: nvidia::next_boot(machine, &releases),
            running,
            kernels,
            dkms: dkms::modules(machine),
            root: RootFacts::read(machine, cuda),
            firmware: firmware(machine),
            no_module_files: !machine.exists("/lib/modules"),
            gpus: gpus::read(machine),
            refused_gpus: driver_messages::read(machine),
            secure_boot: SecureBoot::read(machine),
            models: models(machine),
            compiler: has_compiler(machine),
            pins_kernels: ["/etc/pve", "/usr/sbin/proxmox-boot-tool"]
                .iter()
                .any(|path| machine.exists(path)),
            vgpu: machine.exists("/sys/module/nvidia_vgpu_vfio")
                || machine.exists("/usr/bin/nvidia-vgpu-mgr"),
        }
    }

    /// A kernel by its release.
    pub fn kernel(&self, release: &str) -> Option<&InstalledKernel> {
        self.kernels.iter().find(|kernel| kernel.release == release)
    }

    /// The running kernel, as installed.
    pub fn running_kernel(&self) -> Option<&InstalledKernel> {
        self.kernel(self.running.as_deref()?)
    }

    /// Version of the module that the running kernel has on disk.
    pub fn on_disk(&self) -> Option<&str> {
        self.running_kernel()?.version()
    }

    /// The version of the loaded module, where the host's libraries are of it too:
    /// then programs work.
    pub fn working(&self) -> Option<&str> {
        let loaded = self.loaded.as_deref()?;
        (self.root.libraries.version() == Some(loaded)).then_some(loaded)
    }

    /// The version that is installed. Where loaded module and libraries match, it
    /// is theirs: a module of another version on disk is then the fault. Otherwise
    /// after an upgrade that on disk, not the one that is still loaded.
    pub fn installed(&self) -> Option<&str> {
        self.working()
            .or_else(|| self.on_disk())
            .or(self.loaded.as_deref())
            .or_else(|| self.root.libraries.version())
            .or_else(|| self.dkms.last().map(|module| module.version.as_str()))
    }

    /// Whether the driver's modules are open ones: the loaded module, else that on
    /// disk.
    pub fn is_open(&self) -> Option<bool> {
        match self.loaded {
            Some(_) => Some(self.open),
            None => self.running_kernel()?.module()?.info.is_open(),
        }
    }

    /// The host has nothing of NVIDIA's driver.
    pub fn is_bare(&self) -> bool {
        self.loaded.is_none()
            && self.unread.is_none()
            && self.root.libraries.is_empty()
            && self.dkms.is_empty()
            && self.kernels.iter().all(|k| k.modules.as_ref().is_ok_and(Vec::is_empty))
    }

    /// The version that a reboot loads, where it is another than the loaded one and
    /// the host's libraries are of it too, so that the reboot makes them match.
    pub fn mended_by_reboot(&self) -> Option<&str> {
        let next = match &self.next {
            Ok(_) => self.next_version(),
            // one kernel only: it boots
            Err(_) if self.kernels.len() == 1 => self.on_disk(),
            Err(_) => None,
        }?;
        let fits = self.root.libraries.version().is_none_or(|libraries| libraries == next);
        (fits && self.loaded.as_deref() != Some(next)).then_some(next)
    }

    /// Version of the module that the kernel that boots next has on disk.
    pub fn next_version(&self) -> Option<&str> {
        self.kernel(&self.next.as_ref().ok()?.release)?.version()
    }
}

fn models(machine: &Machine) -> Vec<String> {
    let (gpus, _) = nvidia::read_gpus(machine);
    gpus.into_values().filter_map(|gpu| gpu.model).collect()
}

fn has_compiler(machine: &Machine) -> bool {
    let program = |name: &str| {
        ["/usr/bin", "/bin", "/usr/local/bin"]
            .iter()
            .any(|d| machine.exists(&format!("{d}/{name}")))
    };
    program("cc") && program("make") && machine.exists("/usr/include/stdlib.h")
}

fn firmware(machine: &Machine) -> Vec<String> {
    let top = "/lib/firmware/nvidia";
    let names = machine.list(top).unwrap_or_default();
    let gsp = |version: &String| {
        let files = machine.list(&format!("{top}/{version}")).unwrap_or_default();
        files.iter().any(|file| file.starts_with("gsp") && file.contains(".bin"))
    };
    names.into_iter().filter(|name| nvidia::is_version(name)).filter(gsp).collect()
}
