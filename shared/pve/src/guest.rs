//! Where containers' configurations are, and whether they may be edited.

use std::time::Duration;

use host::{FileError, FileKind, Machine};
use record::{Exit, Failure, fail};

use crate::conf::boolean;
use crate::{Conf, Packages, Section};

/// pmxcfs takes no larger file (memdb.c, MEMDB_MAX_FILE_SIZE).
pub const MOST: usize = 1 << 20;

/// A container's id from a command line: Proxmox VE's range of guest ids.
/// Errors: a message for the usage error.
pub fn ctid(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(id @ 100..=999_999_999) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(id),
        _ => Err("a container is named by its CTID, from 100 to 999999999 ('pct list')".into()),
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its id.
    pub ctid: u32,
    /// The node that owns it.
    pub node: Option<String>,
    /// That node is this one.
    pub local: bool,
    /// Path of its configuration.
    pub path: String,
}

impl Guest {
    /// Finds it. Errors: pmxcfs is not mounted at /etc/pve (exit 3), or this
    /// node does not have the container (exit 2), with where it is instead.
    pub fn find(machine: &Machine, ctid: u32) -> Result<Guest, Failure> {
        let node = require_cluster(machine)?;
        let path = format!("/etc/pve/lxc/{ctid}.conf");
        match again(|| machine.lstat(&path)) {
            Ok(_) => Ok(Guest { ctid, node, local: true, path }),
            Err(error) if error.is_not_found() => Err(elsewhere(machine, ctid)),
            Err(error) => Err(error.into()),
        }
    }

    /// How records call it.
    pub fn target(&self) -> String {
        format!("ct {}", self.ctid)
    }

    /// Whether it was destroyed or went to another node since it was found.
    pub fn is_gone(&self, machine: &Machine) -> bool {
        again(|| machine.lstat(&self.path)).is_err_and(|error| error.is_not_found())
    }

    /// Reads the configuration. Errors: it cannot be read.
    pub fn read(&self, machine: &Machine) -> Result<Vec<u8>, Failure> {
        Ok(again(|| machine.read(&self.path, MOST))?)
    }
}

/// Asks again where a file is not found: pmxcfs answers ENOENT to a process that
/// looked it up just before a new one was renamed over it (libfuse 2.9, fuse_lib_open()
/// and try_get_path(); since 3.11 it is ESTALE, at which the kernel asks again).
fn again<T>(look: impl Fn() -> Result<T, FileError>) -> Result<T, FileError> {
    for _ in 0..5 {
        match look() {
            Err(error) if error.is_not_found() => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
    look()
}

/// Name of this cluster node. Errors: pmxcfs is not mounted, and
/// /etc/pve is a plain directory in which a change would be lost.
pub fn require_cluster(machine: &Machine) -> Result<Option<String>, Failure> {
    // an I/O error is reported as one: ignored, it would look as if pmxcfs were
    // not mounted, or the container on another node
    let local = match machine.lstat("/etc/pve/local") {
        Err(error) if !error.is_not_found() => return Err(error.into()),
        other => other.ok().filter(|s| s.kind == FileKind::Link),
    };
    if local.is_none() {
        let message = format!(
            "'{}' is not Proxmox VE's cluster file system: nothing is read or written there",
            machine.shown("/etc/pve")
        );
        return Err(fail(Exit::System, message).hint("is pve-cluster running on this host?"));
    }
    // without its name every container would seem to be another node's
    let target = machine.read_link("/etc/pve/local")?;
    Ok(target.rsplit('/').next().map(str::to_string))
}

/// Refuses to write without quorum: pmxcfs then takes the write bit from this
/// link's mode (PVE::Cluster::check_cfs_is_mounted and _quorum).
pub fn require_quorum(machine: &Machine) -> Result<(), Failure> {
    let stat = machine.lstat("/etc/pve/local")?;
    if stat.mode & 0o200 == 0 {
        return Err(fail(Exit::System, "the cluster has no quorum: /etc/pve is read-only")
            .run(advice::external::pvecm_status()));
    }
    Ok(())
}

/// Names of the cluster's nodes.
/// Errors: they cannot be read.
pub fn guest_nodes(machine: &Machine) -> Result<Vec<String>, FileError> {
    machine.list("/etc/pve/nodes")
}

/// All containers of the cluster that /etc/pve shows, by id. Other names than
/// `<digits>.conf` are passed over: copies, and what FUSE leaves of open files.
/// Errors: as [`require_cluster`], or a directory cannot be read.
pub fn all_guests(machine: &Machine) -> Result<Vec<Guest>, Failure> {
    let here = require_cluster(machine)?;
    let mut guests = Vec::new();
    for node in guest_nodes(machine)? {
        let dir = format!("/etc/pve/nodes/{node}/lxc");
        let local = here.as_deref() == Some(node.as_str());
        for name in machine.list(&dir)? {
            let Some(id) = name.strip_suffix(".conf") else { continue };
            let plain = id.bytes().all(|b| b.is_ascii_digit()) && !id.starts_with('0');
            let Some(ctid) = id.parse().ok().filter(|_| plain) else { continue };
            let path = format!("{dir}/{name}");
            guests.push(Guest { ctid, node: Some(node.clone()), local, path });
        }
    }
    guests.sort_by_key(|guest| guest.ctid);
    Ok(guests)
}

fn elsewhere(machine: &Machine, ctid: u32) -> Failure {
    if machine.lstat(&format!("/etc/pve/qemu-server/{ctid}.conf")).is_ok() {
        return fail(Exit::Usage, format!("{ctid} is a VM, not a container"))
            .hint("pass a GPU to a VM with gpu-vfio-bind and 'qm set'");
    }
    for node in machine.list("/etc/pve/nodes").unwrap_or_default() {
        for (kind, what) in [("lxc", "container"), ("qemu-server", "VM")] {
            if machine.lstat(&format!("/etc/pve/nodes/{node}/{kind}/{ctid}.conf")).is_ok() {
                return fail(Exit::Usage, format!("{what} {ctid} is on cluster node {node}"))
                    .hint(format!("run this on {node}"));
            }
        }
    }
    fail(Exit::Usage, format!("container {ctid} does not exist on this cluster node"))
        .hint("see 'pct list'")
}

/// Refuses a configuration that Proxmox VE itself would not change now.
pub fn require_unlocked(guest: &Guest, conf: &Conf) -> Result<(), Failure> {
    match conf.keys(&Section::Main).get("lock") {
        None => Ok(()),
        Some(lock) => {
            let message = format!("{} is locked by Proxmox VE (lock: {lock})", guest.target());
            // 'pct mount' leaves this lock, and 'pct unmount' ends it
            if *lock == "mounted" {
                let command = ["pct", "unmount", &guest.ctid.to_string()];
                let command = command.map(str::to_string).to_vec();
                return Err(fail(Exit::Refused, message).run(command));
            }
            Err(fail(Exit::Refused, message).hint(format!(
                "wait for the running task; 'pct unlock {}' only if it is known to be dead",
                guest.ctid
            )))
        }
    }
}

/// Whether the container's root is an unprivileged user of the host: by its own
/// key, or because it has an id map (PVE::LXC::update_lxc_config).
///
/// A value that is not a boolean is kept as it is and is true for Perl, but for `0`.
pub fn is_unprivileged(conf: &Conf) -> bool {
    let effective = conf.effective();
    let value = effective.get("unprivileged");
    value.is_some_and(|value| boolean(value).unwrap_or(*value != "0"))
        || conf.effective_lxc().any(|(key, _)| key == "lxc.idmap")
}

/// Version of pve-container, from dpkg's own records; `None` where it is not
/// installed. Errors: the records exist and cannot be read.
pub fn pve_container_version(machine: &Machine) -> Result<Option<Vec<u32>>, FileError> {
    let packages = Packages::read(machine)?.unwrap_or_default();
    Ok(packages.get("pve-container").and_then(|package| version(package.version.as_deref()?)))
}

/// Whether Proxmox VE knows `driver=keep` in hostpci lines: since qemu-server 9.0.25
/// (commit aa47045f, 2025-11-12). `None`: its version is unknown.
pub fn has_driver_keep(machine: &Machine) -> Option<bool> {
    let packages = Packages::read(machine).ok()??;
    let installed = version(packages.get("qemu-server")?.version.as_deref()?)?;
    Some(installed.as_slice() >= [9, 0, 25].as_slice())
}

/// The numbers of an upstream version: `5.0.7`, `6.0.10-1`, `5.2.0~rc1`.
fn version(text: &str) -> Option<Vec<u32>> {
    let text = text.rsplit(':').next()?;
    let upstream = text.split(['-', '~', '+']).next()?;
    upstream.split('.').map(|part| part.parse().ok()).collect()
}

/// dev[n] came with 5.0.7 (2023-11-21).
pub fn has_dev(version: &[u32]) -> bool {
    version >= &[5, 0, 7]
}

/// A new dev[n] reaches a running container since 6.0.4 (2025-07-30).
pub fn has_hotplug(version: &[u32]) -> bool {
    version >= &[6, 0, 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        let has = |text: &str| has_dev(&version(text).unwrap());
        assert!(has("5.0.7") && has("5.0.10") && has("5.1.0") && has("6.0.13-1") && has("10.0"));
        assert!(!has("5.0.6") && !has("4.4-7") && !has("5.0"));
        assert!(version("garbage").is_none());
    }
}
