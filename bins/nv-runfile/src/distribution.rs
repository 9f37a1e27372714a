//! Where a root file system's distribution has its libraries, and what of
//! another packaging of the driver is in it.

use ::cli::{Exit, Failure, fail};
use host::{FileKind, Machine};
use runfile::Arch;

/// How a root file system is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The loader's directory for 64-bit libraries.
    pub libraries: String,
}

/// What glibc's loader is called.
fn loader(arch: Arch) -> Option<(&'static str, &'static str)> {
    match arch {
        Arch::X86_64 => Some(("/lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu")),
        Arch::Aarch64 => Some(("/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu")),
        Arch::Ppc64le | Arch::X86 | Arch::Armv7l => None,
    }
}

impl Layout {
    /// Finds out. Errors: NVIDIA's libraries cannot work in it.
    pub fn of(root: &Machine, name: &str, arch: Arch) -> Result<Layout, Failure> {
        let refuse = |what: String| fail(Exit::Refused, format!("{name}: {what}"));
        let (loader, triplet) = loader(arch).ok_or_else(|| {
            refuse(format!("containers for {} are not known here", arch.as_str()))
        })?;
        if !root.exists(loader) {
            let musl = root.list("/lib").unwrap_or_default();
            let musl = musl.iter().any(|name| name.starts_with("ld-musl-"));
            let what = match musl {
                true => "it uses musl; NVIDIA's libraries need glibc".into(),
                false => format!("it has no {} glibc ('{loader}')", arch.as_str()),
            };
            return Err(refuse(what).hint("use a container of Debian, Ubuntu, Fedora, ..."));
        }
        let multiarch = format!("/usr/lib/{triplet}");
        // a link at /usr/lib64 (Arch Linux) leads to /usr/lib
        for path in [multiarch.as_str(), "/usr/lib64", "/usr/lib"] {
            match root.lstat(path) {
                Ok(stat) if stat.kind == FileKind::Dir => {
                    return Ok(Layout { libraries: path.into() });
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                // libraries in the next best directory would be beside those that are there
                Err(error) => return Err(error.into()),
            }
        }
        Err(refuse("it has no /usr/lib".into()))
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

/// The version that a .run installer installed, by its own record.
pub fn run_install(root: &Machine) -> Option<String> {
    nvidia::RunInstallation::read(root).ok()??.version
}

/// Another packaging of the driver: what it is, and how to get rid of it.
pub fn other_packaging(root: &Machine) -> Option<(String, String)> {
    if root.exists("/var/lib/nvidia/log") {
        let what = "the driver was installed in it with a .run installer";
        return Some((what.into(), "run 'nvidia-uninstall' inside".into()));
    }
    driver_packages(root)
}

/// Packages of the driver's userspace, and how to get rid of them.
pub fn driver_packages(root: &Machine) -> Option<(String, String)> {
    // hostile or not: a list of packages has a few MB
    let status = root.read_text("/var/lib/dpkg/status", 64 << 20).unwrap_or_default();
    let mut found = Vec::new();
    for stanza in status.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let Some(name) = field("Package").filter(|name| is_driver_package(name)) else { continue };
        if field("Status").is_some_and(|status| status.ends_with(" installed")) {
            found.push(name);
        }
    }
    if found.is_empty() {
        return None;
    }
    let names = found.join(" ");
    Some((
        format!("packages of the driver are installed in it ({names})"),
        format!("remove them inside: apt-get purge {names}"),
    ))
}
