//! The facts of a host that matter to a driver's installer.

use std::collections::BTreeSet;

use host::{FileError, Machine, NodeHolder, OpenNodes};
use nvidia::{Nouveau, RunInstallation, driver_part, is_driver_dkms_module};
use pci::{Depth, Function, NVIDIA};
use pve::{Packages, Vms};

/// The firmware's variable: four bytes of attributes, then 1 if Secure Boot is on.
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

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
    pub secure_boot: bool,
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

    pub fn read(machine: &Machine) -> HostFacts {
        let running = machine.kernel_release();
        let installed = nvidia::installed_kernels(machine, running.as_deref());
        // if the boot loader does not tell, it is most likely the newest
        let next = nvidia::next_boot(machine, &installed);
        let next = next.ok().map(|next| next.release).or_else(|| installed.last().cloned());
        let kernel = |release: String| {
            let headers = has_headers(machine, &release);
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
            compiler: program("gcc") || program("cc"),
            make: program("make"),
            dkms: program("dkms"),
            nouveau: Nouveau::read(machine),
            packages: packages.unwrap_or_default(),
            dkms_modules: dkms_modules(machine),
            holders: holders(machine),
            secure_boot: machine.attr(SECURE_BOOT).is_ok_and(|v| v.as_bytes().last() == Some(&1)),
            gpus: gpus.unwrap_or_default(),
            vms: running_vms(machine),
        }
    }
}

fn has_headers(machine: &Machine, release: &str) -> bool {
    let named = ["linux-headers", "proxmox-headers", "pve-headers"];
    machine.exists(&format!("/lib/modules/{release}/build/Makefile"))
        || named.iter().any(|name| machine.exists(&format!("/usr/src/{name}-{release}/Makefile")))
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
