//! What a root file system has: the directory of its libraries, and a driver
//! that is installed by other means.

use ::cli::{Exit, Failure, fail};
use host::{FileKind, Machine};
use runfile::Arch;

/// glibc's loader and Debian's name of the architecture.
fn loader(arch: Arch) -> Option<(&'static str, &'static str)> {
    match arch {
        Arch::X86_64 => Some(("/lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu")),
        Arch::Aarch64 => Some(("/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu")),
        Arch::Ppc64le | Arch::X86 | Arch::Armv7l => None,
    }
}

/// The loader's directory for 64-bit libraries. Errors: NVIDIA's libraries
/// cannot work in this root file system.
pub fn library_dir(root: &Machine, name: &str, arch: Arch) -> Result<String, Failure> {
    let refuse = |what: String| fail(Exit::Refused, format!("{name}: {what}"));
    let (loader, triplet) = loader(arch)
        .ok_or_else(|| refuse(format!("containers for {} are not supported", arch.as_str())))?;
    if !root.exists(loader) {
        let lib = root.list("/lib").unwrap_or_default();
        let what = match lib.iter().any(|name| name.starts_with("ld-musl-")) {
            true => "it uses musl; NVIDIA's libraries need glibc".into(),
            false => format!("it has no {} glibc ('{loader}')", arch.as_str()),
        };
        return Err(refuse(what)
            .hint("use a container of a distribution with glibc, such as Debian or Fedora"));
    }
    let multiarch = format!("/usr/lib/{triplet}");
    // a link at /usr/lib64 (Arch Linux) leads to /usr/lib
    for path in [multiarch.as_str(), "/usr/lib64", "/usr/lib"] {
        match root.lstat(path) {
            Ok(stat) if stat.kind == FileKind::Dir => return Ok(path.into()),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            // the next directory in this list may not be the one that the loader uses
            Err(error) => return Err(error.into()),
        }
    }
    Err(refuse("it has no /usr/lib".into()))
}

/// A driver that is installed by other means than this tool.
pub enum OtherInstallation {
    /// NVIDIA's installer, run inside.
    Runfile,
    /// Packages of the distribution.
    Packages(Vec<String>),
}

impl OtherInstallation {
    /// Why nothing is installed beside it.
    pub fn refusal(&self, name: &str) -> Failure {
        match self {
            OtherInstallation::Runfile => {
                let what = "the driver is already installed with a .run installer";
                fail(Exit::Refused, format!("{name}: {what}"))
                    .hint("run 'nvidia-uninstall' in the container")
            }
            OtherInstallation::Packages(packages) => {
                let names = packages.join(" ");
                let what = format!("driver packages are installed ({names})");
                fail(Exit::Refused, format!("{name}: {what}"))
                    .hint(format!("remove them in the container: apt-get purge {names}"))
            }
        }
    }
}

/// Names of packages of the driver's userspace, as Debian and Ubuntu have them.
fn is_driver_package(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "libcuda1",
        "libnvidia-ml1",
        "nvidia-smi",
        "nvidia-utils",
        "libnvcuvid1",
        "libnvidia-encode1",
        "nvidia-driver-cuda",
        "nvidia-driver-libs",
        "libnvidia-ptxjitcompiler1",
    ];
    const STEMS: [&str; 6] = [
        "libnvidia-compute-",
        "libnvidia-decode-",
        "libnvidia-encode-",
        "libnvidia-gl-",
        "nvidia-utils-",
        "nvidia-compute-utils-",
    ];
    NAMES.contains(&name) || STEMS.iter().any(|stem| name.starts_with(stem))
}

/// The version that a .run installer installed: the first line of its record.
pub fn run_install(root: &Machine) -> Option<String> {
    let log = root.read_text("/var/lib/nvidia/log", 16 << 20).ok()?;
    Some(log.lines().next().unwrap_or_default().trim().to_string())
}

/// The driver that is installed by other means, if there is one.
pub fn other_installation(root: &Machine) -> Option<OtherInstallation> {
    if root.exists("/var/lib/nvidia/log") {
        return Some(OtherInstallation::Runfile);
    }
    driver_packages(root)
}

/// Installed packages of the driver's userspace.
pub fn driver_packages(root: &Machine) -> Option<OtherInstallation> {
    // hostile or not: a list of packages has a few MB
    let status = root.read_text("/var/lib/dpkg/status", 64 << 20).unwrap_or_default();
    let mut found = Vec::new();
    for stanza in status.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let Some(name) = field("Package").filter(|name| is_driver_package(name)) else { continue };
        if field("Status").is_some_and(|status| status.ends_with(" installed")) {
            found.push(name.to_string());
        }
    }
    (!found.is_empty()).then_some(OtherInstallation::Packages(found))
}
