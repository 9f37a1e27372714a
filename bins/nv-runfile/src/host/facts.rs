//! The facts of a host that matter to a driver's installer.

use std::collections::BTreeSet;

use host::{FileError, Machine, NodeHolder, OpenNodes};
use nvidia::{Nouveau, RunInstallation, driver_part, is_driver_dkms_module};
use pci::{Depth, Function, NVIDIA};
use pve::{Packages, Vms};

use crate::host::signing::Signing;

/// A kernel that the module is needed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKernel {
    pub release: String,
    /// Its headers are installed.
    pub headers: bool,
}

/// A package of the driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverPackage {
    pub name: String,
    /// It is installed and configured, not left half-way.
    pub complete: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFacts {
    /// Version of the loaded module.
    pub loaded: Option<String>,
    /// Version that a .run installer installed.
    pub installed: Option<String>,
    pub running: Option<HostKernel>,
    /// The next-boot kernel.
    pub next: Option<HostKernel>,
    pub compiler: bool,
    pub make: bool,
    pub dkms: bool,
    pub nouveau: Nouveau,
    /// Packages of the driver, also those that are not completely installed.
    pub packages: Vec<DriverPackage>,
    /// Why it is unknown which drivers are installed.
    pub unread: Option<String>,
    /// NVIDIA modules that DKMS has: name and version.
    pub dkms_modules: Vec<(String, String)>,
    /// Processes that have NVIDIA device nodes open.
    pub holders: Vec<String>,
    pub signing: Signing,
    /// The headers of the C library, which the installer compiles with.
    pub libc_headers: bool,
    /// Process id of a running X server.
    pub x_server: Option<u32>,
    /// The host runs the driver that gives vGPUs to VMs.
    pub vgpu_host: bool,
    /// Bytes that can be written below /usr; `None`: not known.
    pub free: Option<u64>,
    /// No program can be executed in /tmp, where the installer unpacks itself.
    pub tmp_noexec: bool,
    /// The module is to be built for this kernel alone.
    pub only_kernel: Option<String>,
    /// Kernels that have the driver's module.
    pub with_module: Vec<String>,
    /// NVIDIA's GPUs.
    pub gpus: Vec<Function>,
    /// Running VMs that have PCI functions.
    pub vms: Vec<u32>,
}

impl HostFacts {
    /// Whether a version is installed and loaded.
    pub fn has(&self, version: &str) -> bool {
        [&self.installed, &self.loaded].iter().all(|have| have.as_deref() == Some(version))
    }

    /// Modules in DKMS that a `.run` installer did not register: it registers the
    /// driver as `nvidia`, and removes its own modules itself.
    pub fn foreign_dkms_modules(&self) -> impl Iterator<Item = &(String, String)> {
        let own = |name: &str, version: &String| {
            name == "nvidia" && self.installed.as_ref() == Some(version)
        };
        self.dkms_modules.iter().filter(move |(name, version)| !own(name, version))
    }

    /// Whether a version is installed, and a kernel has its module.
    pub fn has_for(&self, version: &str, kernel: &str) -> bool {
        self.installed.as_deref() == Some(version) && self.with_module.iter().any(|k| k == kernel)
    }

    /// The facts for a module that is built for one kernel.
    pub fn for_kernel(self, machine: &Machine, release: &str) -> HostFacts {
        let kernel = Some(HostKernel {
            release: release.into(),
            headers: nvidia::has_kernel_headers(machine, release),
        });
        let only_kernel = Some(release.to_string());
        HostFacts { running: kernel.clone(), next: kernel, only_kernel, ..self }
    }

    pub fn read(machine: &Machine) -> HostFacts {
        let running = machine.kernel_release();
        let installed = nvidia::installed_kernels(machine, running.as_deref());
        // if the boot loader does not tell, it is most likely the newest
        let next = nvidia::next_boot(machine, &installed);
        let next = next.ok().map(|next| next.release).or_else(|| installed.last().cloned());
        let kernel = |release: String| {
            let headers = nvidia::has_kernel_headers(machine, &release);
            HostKernel { release, headers }
        };
        let program = |name: &str| {
            ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
                .iter()
                .any(|dir| machine.exists(&format!("{dir}/{name}")))
        };
        let gpus = pci::scan(machine, Depth::Functions).map(|system| {
            let gpus = system.functions.into_values();
            gpus.filter(|function| function.is_gpu() && function.vendor == Some(NVIDIA)).collect()
        });
        let packages = driver_packages(machine);
        let record = RunInstallation::read(machine);
        let unread = packages.as_ref().err().or(record.as_ref().err());
        HostFacts {
            unread: unread.map(FileError::to_string),
            loaded: nvidia::module_version(machine),
            installed: record.ok().flatten().and_then(|run| run.version),
            running: running.map(kernel),
            next: next.map(kernel),
            // nvidia-installer looks for this name (kernel.c)
            compiler: program("cc"),
            make: program("make"),
            dkms: program("dkms"),
            nouveau: Nouveau::read(machine),
            packages: packages.unwrap_or_default(),
            dkms_modules: dkms_modules(machine),
            holders: holders(machine),
            signing: Signing::read(machine),
            libc_headers: machine.exists("/usr/include/stdlib.h"),
            x_server: x_server(machine),
            vgpu_host: VGPU_HOST.iter().any(|path| machine.exists(path)),
            free: machine.dir("/usr").ok().and_then(|dir| dir.free().ok()),
            tmp_noexec: is_noexec(machine, "/tmp"),
            only_kernel: None,
            with_module: installed.into_iter().filter(|r| has_module(machine, r)).collect(),
            gpus: gpus.unwrap_or_default(),
            vms: running_vms(machine),
        }
    }
}

/// What only a vGPU host has: the module, and the programs of NVIDIA's package for it.
const VGPU_HOST: [&str; 3] =
    ["/sys/module/nvidia_vgpu_vfio", "/usr/bin/nvidia-vgpu-mgr", "/usr/bin/nvidia-vgpud"];

/// Whether depmod found the driver's module for a kernel.
fn has_module(machine: &Machine, release: &str) -> bool {
    let path = format!("/lib/modules/{release}/modules.dep");
    let list = machine.read_text(&path, 64 << 20).unwrap_or_default();
    list.lines().filter_map(|line| line.split(':').next()).any(|file| {
        let name = file.rsplit('/').next().unwrap_or_default();
        name == "nvidia.ko" || name.starts_with("nvidia.ko.")
    })
}

/// An X server by its lock file (Xserver(1)), which holds its process id.
fn x_server(machine: &Machine) -> Option<u32> {
    let names = machine.list("/tmp").unwrap_or_default();
    let locks = names.iter().filter(|name| name.starts_with(".X") && name.ends_with("-lock"));
    let pids = locks.filter_map(|name| {
        let text = machine.read_text(&format!("/tmp/{name}"), 100).ok()?;
        text.trim().parse::<u32>().ok()
    });
    pids.into_iter().find(|pid| machine.exists(&format!("/proc/{pid}")))
}

fn is_noexec(machine: &Machine, dir: &str) -> bool {
    let mounts = machine.attr("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let options = words.get(3).copied().unwrap_or_default();
        words.get(1) == Some(&dir) && options.split(',').any(|option| option == "noexec")
    })
}

fn driver_packages(machine: &Machine) -> Result<Vec<DriverPackage>, FileError> {
    let packages = Packages::read(machine)?.unwrap_or_default();
    let driver = packages.present().filter(|package| driver_part(&package.name).is_some());
    // of several architectures one that is not complete counts
    let driver = driver.map(|package| DriverPackage {
        name: package.name.clone(),
        complete: package.state.is_complete(),
    });
    let mut found: Vec<DriverPackage> = driver.collect::<BTreeSet<_>>().into_iter().collect();
    found.dedup_by(|next, first| next.name == first.name);
    Ok(found)
}

/// /var/lib/dkms/<module>/<version>.
fn dkms_modules(machine: &Machine) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let names = machine.list("/var/lib/dkms").unwrap_or_default();
    for name in names.iter().filter(|name| is_driver_dkms_module(name)) {
        for version in machine.list(&format!("/var/lib/dkms/{name}")).unwrap_or_default() {
            if runfile::is_version(&version) {
                found.push((name.clone(), version));
            }
        }
    }
    found
}

/// Processes that have an NVIDIA device node open.
fn holders(machine: &Machine) -> Vec<String> {
    let open = OpenNodes::scan(machine, &|node| node.path.starts_with("/dev/nvidia"));
    open.holders.iter().map(NodeHolder::describe).collect()
}

fn running_vms(machine: &Machine) -> Vec<u32> {
    let vms = Vms::read(machine).all.into_iter();
    vms.filter(|vm| vm.running && !vm.hostpci.is_empty()).map(|vm| vm.id).collect()
}
