//! Hints that several findings share.

use advice::{external, lxc_gpu_conf, nv_runfile};
use record::Hint;

use crate::collect::checked_root::CheckedRoot;

/// Installs a driver on the host.
pub fn install_on_host(version: &str) -> Hint {
    Hint::commands([nv_runfile::fetch(version), nv_runfile::install_on_host(version)])
}

/// Gives a root file system the libraries of a version.
pub fn install_in(root: &CheckedRoot, version: &str) -> Hint {
    match root.ctid {
        // its configuration mounts the host's libraries
        Some(ctid) if !root.mounted.is_empty() => Hint::command(lxc_gpu_conf::sync(ctid)),
        Some(ctid) => Hint::commands([
            nv_runfile::fetch(version),
            nv_runfile::install_in_container(version, ctid),
        ]),
        None => Hint::command(nv_runfile::fetch(version)).because(format!(
            "replace its driver libraries with those of {version}, extracted from the installer"
        )),
    }
}

/// Rebuilds the dynamic linker's cache and links of a root file system.
pub fn ldconfig_in(root: &CheckedRoot) -> Hint {
    match (root.ctid, &root.dir) {
        (Some(ctid), _) => Hint::command(external::pct_exec(ctid, external::ldconfig())),
        (None, Some(dir)) => Hint::command(external::ldconfig_in(dir)),
        (None, None) => Hint::command(external::ldconfig()),
    }
}
