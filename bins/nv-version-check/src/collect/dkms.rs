//! DKMS's own tree, read without running dkms: what is registered, built and
//! installed for which kernel.

use host::{FileKind, Machine};
use nvidia::{is_driver_dkms_module, is_version};

const TOP: &str = "/var/lib/dkms";

/// How far DKMS has got with a module for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DkmsState {
    /// Its source is missing.
    Broken,
    /// Registered, not built.
    Added,
    /// Built, not installed.
    Built,
    /// Installed.
    Installed,
}

impl DkmsState {
    /// The word that `dkms status` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            DkmsState::Broken => "broken",
            DkmsState::Added => "added",
            DkmsState::Built => "built",
            DkmsState::Installed => "installed",
        }
    }
}

/// What a build that failed has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedBuild {
    /// Path of its make.log.
    pub log: String,
    /// The kernel that it was for.
    pub kernel: Option<String>,
    /// The first error of the compiler or of make.
    pub error: Option<String>,
}

/// One version of a driver module that DKMS has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkmsModule {
    /// `nvidia`, `nvidia-current`, `nvidia-current-open`, `nvidia-tesla-470`, ...
    pub module: String,
    /// Its version.
    pub version: String,
    /// Its source exists, or cannot be examined.
    pub source: bool,
    /// The last build failed and left a log.
    pub failed: Option<FailedBuild>,
    /// Names of the links in the module's directory that say for which kernels this
    /// version is installed.
    pub links: Vec<String>,
    /// Kernels for which it is built or installed.
    pub kernels: Vec<(String, DkmsState)>,
}

impl DkmsModule {
    /// Its state for a kernel.
    pub fn state(&self, kernel: &str) -> DkmsState {
        let state = self.kernels.iter().find(|(k, _)| k == kernel).map(|(_, state)| *state);
        state.unwrap_or(if self.source { DkmsState::Added } else { DkmsState::Broken })
    }

    /// A build for this kernel failed.
    pub fn failed_for(&self, kernel: &str) -> Option<&FailedBuild> {
        self.failed.as_ref().filter(|failed| failed.kernel.as_deref() == Some(kernel))
    }

    /// `nvidia-current/550.163.01`, as dkms prints it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.module, self.version)
    }
}

/// The driver's modules that DKMS knows.
pub fn modules(machine: &Machine) -> Vec<DkmsModule> {
    let mut found = Vec::new();
    let names = machine.list(TOP).unwrap_or_default();
    for name in names.iter().filter(|name| is_driver_dkms_module(name)) {
        let inside = machine.list(&format!("{TOP}/{name}")).unwrap_or_default();
        for version in inside.iter().filter(|version| is_version(version)) {
            found.push(module(machine, name, version, &inside));
        }
    }
    found
}

/// `beside`: names in the module's directory; an installed one has a link
/// `kernel-<release>-<arch>` to `<version>/<release>/<arch>`.
fn module(machine: &Machine, name: &str, version: &str, beside: &[String]) -> DkmsModule {
    let dir = format!("{TOP}/{name}/{version}");
    let mut kernels = Vec::new();
    for release in machine.list(&dir).unwrap_or_default() {
        if matches!(release.as_str(), "source" | "build") {
            continue;
        }
        let arches = machine.list(&format!("{dir}/{release}")).unwrap_or_default();
        // dkms 3.2 builds in `.tmp_<arch>_XXXXXX` and leaves it if the build fails
        for arch in arches.iter().filter(|arch| !arch.starts_with('.')) {
            let link = format!("kernel-{release}-{arch}");
            let leads_here = beside.contains(&link)
                && machine.read_link(&format!("{TOP}/{name}/{link}")).is_ok_and(|to| {
                    to.trim_end_matches('/').ends_with(&format!("{version}/{release}/{arch}"))
                });
            let built = machine
                .stat(&format!("{dir}/{release}/{arch}/module"))
                .is_ok_and(|stat| stat.kind == FileKind::Dir);
            match (leads_here, built) {
                (true, _) => kernels.push((release.clone(), DkmsState::Installed)),
                (false, true) => kernels.push((release.clone(), DkmsState::Built)),
                (false, false) => {}
            }
        }
    }
    let log = format!("{dir}/build/make.log");
    let into_it = |link: &&String| {
        link.starts_with("kernel-")
            && machine
                .read_link(&format!("{TOP}/{name}/{link}"))
                .is_ok_and(|to| to.contains(&format!("{version}/")))
    };
    DkmsModule {
        module: name.into(),
        version: version.into(),
        source: !machine.is_absent(&format!("{dir}/source")),
        failed: machine.exists(&log).then(|| failed_build(machine, log)),
        links: beside.iter().filter(into_it).cloned().collect(),
        kernels,
    }
}

/// Bytes of a make.log; one of the driver has a megabyte.
const MOST_LOG: usize = 16 << 20;
/// Characters of an error that are shown.
const MOST_ERROR: usize = 200;

fn failed_build(machine: &Machine, log: String) -> FailedBuild {
    let text = machine.read_text(&log, MOST_LOG).unwrap_or_default();
    FailedBuild { kernel: kernel_of_log(&text), error: first_error(&text), log }
}

/// `DKMS make.log for nvidia-550.163.01 for kernel 6.17.13-2-pve (x86_64)` (3.0),
/// `DKMS (dkms-3.2.2) make.log for nvidia/550.163.01 for kernel ...` (3.2).
fn kernel_of_log(text: &str) -> Option<String> {
    let line =
        text.lines().find(|line| line.starts_with("DKMS") && line.contains("make.log for"))?;
    let (_, rest) = line.rsplit_once(" for kernel ")?;
    let release = rest.split_ascii_whitespace().next()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+.-_~".contains(&b);
    release.bytes().all(plain).then(|| release.to_string())
}

/// The compiler's first error, else the first line of make that fails. The
/// conftest's own failed compilations are not in the log.
fn first_error(text: &str) -> Option<String> {
    let compiler = |line: &&str| line.contains(": error:") || line.contains(": fatal error:");
    let other = |line: &&str| {
        line.starts_with("ERROR:") || line.starts_with("Error!") || line.contains(": *** ")
    };
    let line = text.lines().find(compiler).or_else(|| text.lines().find(other))?;
    Some(line.trim().chars().take(MOST_ERROR).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The headings are those of dkms 3.0.10 and 3.2.2; the errors are from
    /// NVIDIA/open-gpu-kernel-modules#1272 and #1143.
    #[test]
    fn a_log_says_its_kernel_and_its_first_error() {
        let old = "DKMS make.log for nvidia-current-open-550.163.01 for kernel 6.12.97+deb13-amd64 (x86_64)\n\
            Thu Mar 14 07:38:42 AM MDT 2026\nmake[1]: Entering directory '/x'\n\
            nvidia/nv-pci.c:237:13: error: too few arguments to function 'pci_resize_resource'\n\
            make[3]: *** [scripts/Makefile.build:287: nvidia/nv-pci.o] Error 1\n";
        assert_eq!(kernel_of_log(old).as_deref(), Some("6.12.97+deb13-amd64"));
        assert!(first_error(old).unwrap().starts_with("nvidia/nv-pci.c:237:13: error: too few"));
        let new = "DKMS (dkms-3.2.2) make.log for nvidia/550.163.01 for kernel 6.17.13-2-pve (x86_64)\n\
            make[3]: *** [/usr/src/linux-headers-6.17.13-2-pve/Makefile:2016: .] Error 2\n";
        assert_eq!(kernel_of_log(new).as_deref(), Some("6.17.13-2-pve"));
        assert!(first_error(new).unwrap().contains("Error 2"));
        assert_eq!((kernel_of_log(""), first_error("CC [M] x.o\n")), (None, None));
    }
}
