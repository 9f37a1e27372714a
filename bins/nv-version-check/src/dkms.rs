//! DKMS's own tree, read without running dkms: what is registered, built and
//! installed for which kernel.

use host::{FileKind, Machine};
use nvidia::is_version;

const TOP: &str = "/var/lib/dkms";

/// How far DKMS has come with a module for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its source is gone.
    Broken,
    /// Known, not built.
    Added,
    /// Built, not installed.
    Built,
    /// Installed.
    Installed,
}

impl State {
    /// dkms's own word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Broken => "broken",
            State::Added => "added",
            State::Built => "built",
            State::Installed => "installed",
        }
    }
}

/// One version of a driver module that DKMS has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `nvidia`, `nvidia-current`, `nvidia-current-open`, `nvidia-tesla-470`, ...
    pub module: String,
    /// Its version.
    pub version: String,
    /// Its source is there.
    pub source: bool,
    /// The last build left a log.
    pub failed_log: Option<String>,
    /// Kernels for which there is more than nothing.
    pub kernels: Vec<(String, State)>,
}

impl Entry {
    /// How far it is for a kernel.
    pub fn state(&self, kernel: &str) -> State {
        let state = self.kernels.iter().find(|(k, _)| k == kernel).map(|(_, state)| *state);
        state.unwrap_or(if self.source { State::Added } else { State::Broken })
    }

    /// `nvidia-current/550.163.01`, as dkms has it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.module, self.version)
    }
}

/// The driver's modules that DKMS knows.
pub fn entries(machine: &Machine) -> Vec<Entry> {
    let mut found = Vec::new();
    let modules = machine.list(TOP).unwrap_or_default();
    let modules = modules.iter().filter(|n| *n == "nvidia" || n.starts_with("nvidia-"));
    for module in modules {
        let names = machine.list(&format!("{TOP}/{module}")).unwrap_or_default();
        for version in names.iter().filter(|name| is_version(name)) {
            found.push(entry(machine, module, version, &names));
        }
    }
    found
}

/// `beside`: names in the module's directory; an installed one has a link
/// `kernel-<release>-<arch>` to `<version>/<release>/<arch>`.
fn entry(machine: &Machine, module: &str, version: &str, beside: &[String]) -> Entry {
    let dir = format!("{TOP}/{module}/{version}");
    let mut kernels = Vec::new();
    for release in machine.list(&dir).unwrap_or_default() {
        if matches!(release.as_str(), "source" | "build") {
            continue;
        }
        for arch in machine.list(&format!("{dir}/{release}")).unwrap_or_default() {
            let link = format!("kernel-{release}-{arch}");
            let leads_here = beside.contains(&link)
                && machine.read_link(&format!("{TOP}/{module}/{link}")).is_ok_and(|to| {
                    to.trim_end_matches('/').ends_with(&format!("{version}/{release}/{arch}"))
                });
            let built = machine
                .stat(&format!("{dir}/{release}/{arch}/module"))
                .is_ok_and(|stat| stat.kind == FileKind::Dir);
            match (leads_here, built) {
                (true, _) => kernels.push((release.clone(), State::Installed)),
                (false, true) => kernels.push((release.clone(), State::Built)),
                (false, false) => {}
            }
        }
    }
    let log = format!("{dir}/build/make.log");
    Entry {
        module: module.into(),
        version: version.into(),
        source: !machine.is_absent(&format!("{dir}/source")),
        failed_log: machine.exists(&log).then_some(log),
        kernels,
    }
}
