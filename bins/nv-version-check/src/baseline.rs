//! The baseline: the version that everything must have.

pub mod pin;

use crate::collect::host_facts::HostFacts;

/// The version that everything must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// `None`: neither the host nor a pin gives one.
    pub version: Option<String>,
    /// What gives it, as the end of "older than ...".
    pub by: &'static str,
    /// --pin gives it.
    pub pinned: bool,
}

impl Baseline {
    /// A pin comes first; with --next-boot the version that the next boot loads;
    /// otherwise the loaded module, since the libraries must equal it exactly;
    /// otherwise the module on disk.
    pub fn of(host: &HostFacts, pin: Option<&str>, next_boot: bool) -> Baseline {
        let by = |version: Option<&str>, by: &'static str| Baseline {
            version: version.map(str::to_string),
            by,
            pinned: false,
        };
        if let Some(pin) = pin {
            return Baseline { version: Some(pin.into()), by: "the pin", pinned: true };
        }
        if next_boot {
            // a next-boot kernel without a module is a finding of its own; all else is
            // compared with the installed driver
            return match host.next_version() {
                Some(version) => by(Some(version), "the module that the next boot loads"),
                None => by(host.installed(), "the installed driver"),
            };
        }
        match (&host.loaded, host.on_disk()) {
            (Some(loaded), _) => by(Some(loaded), "the loaded module"),
            (None, Some(on_disk)) => by(Some(on_disk), "the module on disk"),
            (None, None) => by(host.root.libraries.version(), "the host's libraries"),
        }
    }
}
