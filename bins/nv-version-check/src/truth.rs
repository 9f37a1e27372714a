//! The version that everything is held against.

use crate::host_facts::Host;

/// The version that everything is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// `None`: nobody says any.
    pub version: Option<String>,
    /// What says so, in words.
    pub by: &'static str,
    /// It was asked for by --pin.
    pub pinned: bool,
}

/// A pin wins; with --next-boot it is what the next boot brings; else the loaded
/// module, since the library must equal it exactly; else the module on disk.
pub fn truth(host: &Host, pin: Option<&str>, next_boot: bool) -> Truth {
    let of = |version: Option<&str>, by: &'static str| Truth {
        version: version.map(str::to_string),
        by,
        pinned: false,
    };
    if let Some(pin) = pin {
        return Truth { version: Some(pin.into()), by: "the pin", pinned: true };
    }
    if next_boot {
        // where the next kernel has none, that is said of it; the rest is held
        // against what the host is set up for
        return match host.next_version() {
            Some(version) => of(Some(version), "the module that the next boot loads"),
            None => of(host.installed(), "the installed driver"),
        };
    }
    match (&host.loaded, host.on_disk(), host.root.version()) {
        (Some(loaded), _, _) => of(Some(loaded), "the loaded module"),
        (None, Some(on_disk), _) => of(Some(on_disk), "the module on disk"),
        (None, None, version) => of(version, "the host's libraries"),
    }
}
