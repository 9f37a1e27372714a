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

/// One version of a driver module that DKMS has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkmsModule {
    /// `nvidia`, `nvidia-current`, `nvidia-current-open`, `nvidia-tesla-470`, ...
    pub module: String,
    /// Its version.
    pub version: String,
    /// Its source exists, or cannot be examined.
    pub source: bool,
    /// The last build left a log.
    pub failed_log: Option<String>,
    /// Kernels for which it is built or installed.
    pub kernels: Vec<(String, DkmsState)>,
}

impl DkmsModule {
    /// Its state for a kernel.
    pub fn state(&self, kernel: &str) -> DkmsState {
        let state = self.kernels.iter().find(|(k, _)| k == kernel).map(|(_, state)| *state);
        state.unwrap_or(if self.source { DkmsState::Added } else { DkmsState::Broken })
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
        for arch in machine.list(&format!("{dir}/{release}")).unwrap_or_default() {
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
    DkmsModule {
        module: name.into(),
        version: version.into(),
        source: !machine.is_absent(&format!("{dir}/source")),
        failed_log: machine.exists(&log).then_some(log),
        kernels,
    }
}
