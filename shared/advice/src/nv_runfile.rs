//! Command lines of `nv-runfile`.
//!
//! Where a pipeline would be `fetch V | install --ct N`, the hint has both as
//! two commands in order: `install` names the file that `fetch` leaves in the
//! cache.

use record::CommandLine;

use crate::command;

/// The directory of the cache unless `--cache` names another.
pub const CACHE: &str = "/var/cache/pve-gpu-tools/runfiles";

/// The name that `fetch` gives a driver's installer for this host's
/// architecture.
pub fn installer_name(version: &str) -> String {
    format!("NVIDIA-Linux-{}-{version}.run", std::env::consts::ARCH)
}

fn cached(version: &str) -> String {
    format!("{CACHE}/{}", installer_name(version))
}

/// Downloads the installer of a version into the cache.
pub fn fetch(version: &str) -> CommandLine {
    command(&["nv-runfile", "fetch", version])
}

/// Downloads an installer although its SHA-256 is not known: a version or a
/// URL.
pub fn fetch_unverified(what: &str) -> CommandLine {
    command(&["nv-runfile", "fetch", what, "--unverified"])
}

/// Computes the digests of an installer.
pub fn verify(file: &str) -> CommandLine {
    command(&["nv-runfile", "verify", file])
}

/// Lists the contents of an installer.
pub fn list(file: &str) -> CommandLine {
    command(&["nv-runfile", "list", file])
}

/// Installs a driver from the cache in a container.
pub fn install_in_container(version: &str, ctid: u32) -> CommandLine {
    command(&["nv-runfile", "install", &cached(version), "--ct", &ctid.to_string()])
}

/// The same although the loaded module has another version.
pub fn install_in_container_forced(version: &str, ctid: u32) -> CommandLine {
    let mut words = install_in_container(version, ctid);
    words.push("--force".into());
    words
}

/// Installs a driver from the cache on the host, after removing what was
/// installed by other means.
pub fn install_on_host_purging(version: &str) -> CommandLine {
    command(&["nv-runfile", "install", &cached(version), "--host", "--purge"])
}

/// Installs a driver from the cache on the host.
pub fn install_on_host(version: &str) -> CommandLine {
    command(&["nv-runfile", "install", &cached(version), "--host"])
}

/// Builds the kernel module of a driver that is installed on the host for one more kernel.
pub fn install_on_host_for(version: &str, release: &str) -> CommandLine {
    let mut words = install_on_host(version);
    words.extend(["--kernel".into(), release.into()]);
    words
}

/// Unpacks a driver from the cache into a directory for all containers.
pub fn install_shared(version: &str, dir: &str) -> CommandLine {
    command(&["nv-runfile", "install", &cached(version), "--share", dir])
}

/// Removes the files that `install` placed in a container.
pub fn uninstall(ctid: u32) -> CommandLine {
    command(&["nv-runfile", "uninstall", "--ct", &ctid.to_string()])
}

/// Removes all installers from a cache directory that are not in use, except the
/// newest ones of each kind.
pub fn prune(cache: &str, keep: usize) -> CommandLine {
    command(&["nv-runfile", "prune", "--cache", cache, "--keep", &keep.to_string()])
}

/// Unpacks an installer into a new directory.
pub fn extract(file: &str, dir: &str) -> CommandLine {
    command(&["nv-runfile", "extract", file, dir])
}

/// Installs the CUDA toolkit of a release such as `12-4` in a container.
pub fn toolkit(ctid: u32, release: &str) -> CommandLine {
    command(&["nv-runfile", "toolkit", "--ct", &ctid.to_string(), "--cuda", release])
}
