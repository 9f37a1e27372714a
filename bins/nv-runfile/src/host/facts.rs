//! The facts of a host that matter to a driver's installer.

use std::collections::BTreeSet;

use host::Machine;
use pci::{Depth, Function, NVIDIA};

use crate::install::root_file_system::run_install;

/// Beginnings of names of packages that the installer would collide with.
const PACKAGES: [&str; 19] = [
    "nvidia-driver",
    "nvidia-kernel",
    "nvidia-open",
    "nvidia-dkms",
    "nvidia-smi",
    "nvidia-utils",
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-alternative",
    "nvidia-legacy",
    "nvidia-tesla",
    "nvidia-vulkan",
    "nvidia-opencl-icd",
    "libcuda1",
    "libnvidia-",
    "libnvcuvid",
    "libnvoptix",
    "xserver-xorg-video-nvidia",
    "libglx-nvidia",
];
/// These are not the driver.
const NOT_THE_DRIVER: [&str; 2] = ["libnvidia-container", "nvidia-container"];

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
    pub nouveau_loaded: bool,
    pub nouveau_blacklisted: bool,
    /// Installed packages of the driver.
    pub packages: Vec<String>,
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
        HostFacts {
            loaded: nvidia::module_version(machine),
            installed: run_install(machine).filter(|version| runfile::is_version(version)),
            running: running.map(kernel),
            next: next.map(kernel),
            compiler: program("gcc") || program("cc"),
            make: program("make"),
            dkms: program("dkms"),
            nouveau_loaded: machine.exists("/sys/module/nouveau"),
            nouveau_blacklisted: is_blacklisted(machine, "nouveau"),
            packages: packages(machine),
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

fn is_blacklisted(machine: &Machine, module: &str) -> bool {
    ["/etc/modprobe.d", "/lib/modprobe.d", "/run/modprobe.d"].iter().any(|dir| {
        let names = machine.list(dir).unwrap_or_default();
        names.iter().filter(|name| name.ends_with(".conf")).any(|name| {
            let text = machine.read_text(&format!("{dir}/{name}"), 1 << 20).unwrap_or_default();
            text.lines().any(|line| {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                matches!(words[..], ["blacklist", name, ..] if name == module)
                    || matches!(words[..], ["install", name, "/bin/false" | "/bin/true", ..] if name == module)
            })
        })
    })
}

fn packages(machine: &Machine) -> Vec<String> {
    let status = machine.read_text("/var/lib/dpkg/status", 256 << 20).unwrap_or_default();
    let mut found = BTreeSet::new();
    for stanza in status.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let Some(name) = field("Package") else { continue };
        let ours = PACKAGES.iter().any(|stem| name.starts_with(stem))
            && !NOT_THE_DRIVER.iter().any(|stem| name.starts_with(stem));
        if ours && field("Status").is_some_and(|status| status.ends_with(" installed")) {
            found.insert(name.to_string());
        }
    }
    found.into_iter().collect()
}

/// /var/lib/dkms/<module>/<version>.
fn dkms_modules(machine: &Machine) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let names = machine.list("/var/lib/dkms").unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with("nvidia")) {
        for version in machine.list(&format!("/var/lib/dkms/{name}")).unwrap_or_default() {
            if runfile::is_version(&version) {
                found.push((name.clone(), version));
            }
        }
    }
    found
}

/// Processes with an NVIDIA node open, as `PID (name)`.
fn holders(machine: &Machine) -> Vec<String> {
    let mut found = Vec::new();
    let names = machine.list("/proc").unwrap_or_default();
    for pid in names.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let dir = format!("/proc/{pid}/fd");
        let open = machine.list(&dir).unwrap_or_default().into_iter().any(|fd| {
            let target = machine.read_link(&format!("{dir}/{fd}")).unwrap_or_default();
            target.starts_with("/dev/nvidia")
        });
        if open {
            let name = machine.attr(&format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!("{pid} ({})", name.trim()));
        }
    }
    found
}

fn running_vms(machine: &Machine) -> Vec<u32> {
    let names = machine.list("/run/qemu-server").unwrap_or_default();
    let ids = names.iter().filter_map(|name| name.strip_suffix(".pid")?.parse().ok());
    ids.filter(|id| {
        let path = format!("/etc/pve/qemu-server/{id}.conf");
        let conf = machine.read_text(&path, 1 << 20).unwrap_or_default();
        let main = conf.lines().take_while(|line| !line.starts_with('['));
        main.into_iter().any(|line| line.starts_with("hostpci"))
    })
    .collect()
}
