//! What the host itself has: the loaded modules, those on disk, DKMS,
//! firmware. Read once, without nvidia-smi.

use host::Machine;
use nvidia::module_version;

use crate::dkms::{self, Entry};
use crate::kernels::{self, Kernel};
use crate::root::{self, Root};

/// Modules that must be of the main module's version. nvidia-modeset refuses
/// another one, the others do what they like.
const FAMILY: [&str; 5] =
    ["nvidia_modeset", "nvidia_drm", "nvidia_uvm", "nvidia_peermem", "nvidia_vgpu_vfio"];

/// The host.
pub struct Host {
    /// Version of the loaded module.
    pub loaded: Option<String>,
    /// Why that is not known, where it is not.
    pub unread: Option<String>,
    /// It is an open module.
    pub open: bool,
    /// Loaded modules of the family that say their version.
    pub family: Vec<(String, String)>,
    /// nouveau is loaded.
    pub nouveau: bool,
    /// The running kernel.
    pub running: Option<String>,
    /// The installed kernels.
    pub kernels: Vec<Kernel>,
    /// The one that boots next.
    pub next: Result<nvidia::NextBoot, String>,
    /// DKMS's tree.
    pub dkms: Vec<Entry>,
    /// The host's own userspace.
    pub root: Root,
    /// Versions of GSP firmware, from the names of their directories.
    pub firmware: Vec<String>,
    /// NVIDIA's vGPU manager is installed or loaded.
    pub vgpu: bool,
}

/// What the loaded module shows of itself.
const LOADED: [&str; 2] = ["/proc/driver/nvidia/version", "/sys/module/nvidia/version"];

impl Host {
    /// Reads it.
    pub fn read(machine: &Machine, cuda: bool) -> Host {
        let proc = machine.attr(LOADED[0]).unwrap_or_default();
        let family = FAMILY.iter().filter_map(|name| {
            let version = machine.attr(&format!("/sys/module/{name}/version")).ok()?;
            let version = version.trim().to_string();
            nvidia::is_version(&version).then(|| (name.replace('_', "-"), version))
        });
        let running = machine.kernel_release();
        let kernels = kernels::installed(machine, running.as_deref());
        let loaded = module_version(machine);
        // no such file: not loaded; any other answer tells nothing
        let unread = LOADED.iter().find_map(|path| machine.attr(path).err());
        let unread = unread.filter(|error| loaded.is_none() && !error.is_not_found());
        Host {
            loaded,
            unread: unread.map(|error| error.to_string()),
            open: proc.contains("Open Kernel Module"),
            family: family.collect(),
            nouveau: machine.exists("/sys/module/nouveau"),
            next: {
                let releases: Vec<String> = kernels.iter().map(|k| k.release.clone()).collect();
                nvidia::next_boot(machine, &releases)
            },
            running,
            kernels,
            dkms: dkms::entries(machine),
            root: root::look(machine, cuda),
            firmware: firmware(machine),
            vgpu: machine.exists("/sys/module/nvidia_vgpu_vfio")
                || machine.exists("/usr/bin/nvidia-vgpu-mgr"),
        }
    }

    /// A kernel by its release.
    pub fn kernel(&self, release: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.release == release)
    }

    /// The running kernel's entry.
    pub fn running_kernel(&self) -> Option<&Kernel> {
        self.kernel(self.running.as_deref()?)
    }

    /// Version of the module that the running kernel has on disk.
    pub fn on_disk(&self) -> Option<&str> {
        self.running_kernel()?.version()
    }

    /// The version that the host is set up for: what an upgrade left on disk
    /// rather than what is still loaded.
    pub fn installed(&self) -> Option<&str> {
        self.on_disk()
            .or(self.loaded.as_deref())
            .or_else(|| self.root.version())
            .or_else(|| self.dkms.last().map(|entry| entry.version.as_str()))
    }

    /// Nothing of NVIDIA's driver is on this host.
    pub fn is_bare(&self) -> bool {
        self.loaded.is_none()
            && self.unread.is_none()
            && self.root.is_empty()
            && self.dkms.is_empty()
            && self.kernels.iter().all(|kernel| matches!(kernel.module, Ok(None)))
    }

    /// Version of the module that the kernel that boots next has on disk.
    pub fn next_version(&self) -> Option<&str> {
        self.kernel(&self.next.as_ref().ok()?.release)?.version()
    }
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
