//! The tool's own memory: what `add` was asked to give each container.
//! Configuration lines contain device numbers, which change, and Proxmox VE moves
//! comments, so neither can hold it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use host::{FileError, Machine};
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Section};
use serde::{Deserialize, Serialize};

use crate::config::access::{Access, is_driver_file};
use crate::config::assignment::GpuAssignment;
use crate::config::device_numbers::DeviceNumbers;
use crate::host_facts::HostFacts;

/// One file for each container.
const DIR: &str = "/var/lib/pve-gpu-tools/lxc";
/// Larger files are not ours.
const MOST: usize = 1 << 20;

/// What is stored for one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAssignment {
    /// Version of the file format.
    pub version: u32,
    /// The container.
    pub ctid: u32,
    /// What it is to have.
    #[serde(rename = "wish")]
    pub assignment: GpuAssignment,
    /// Path of each node of a GPU when the configuration was last written.
    pub names: BTreeMap<String, String>,
    /// Volume of the root file system: a CTID may be used again for another
    /// container. Empty where it was not stored.
    #[serde(default)]
    pub rootfs: String,
    /// Device rules with a dynamic major that are known to be about NVIDIA's nodes.
    #[serde(default)]
    pub rules: BTreeSet<String>,
}

const VERSION: u32 = 1;

fn path(ctid: u32) -> String {
    format!("{DIR}/{ctid}.json")
}

/// Reads what is stored, where many containers are looked at: the directory is
/// listed once.
pub struct Store<'a> {
    machine: &'a Machine,
    files: OnceCell<BTreeSet<String>>,
}

impl<'a> Store<'a> {
    /// The store of a host.
    pub fn of(machine: &'a Machine) -> Store<'a> {
        Store { machine, files: OnceCell::new() }
    }

    /// What is stored for a container, where it can be read.
    pub fn get(&self, ctid: u32) -> Option<StoredAssignment> {
        let files = self
            .files
            .get_or_init(|| self.machine.list(DIR).unwrap_or_default().into_iter().collect());
        let exists = files.contains(&format!("{ctid}.json"));
        if exists { read(self.machine, ctid).ok().flatten() } else { None }
    }
}

/// Reads what is stored for a container; `None` where there is no file, or none
/// in a form that this version knows, or that of another container with the same
/// CTID: the configuration alone counts then.
/// Errors: the file exists and cannot be read. Treating that as `None` would
/// overwrite it.
pub fn load(
    machine: &Machine,
    ctid: u32,
    conf: &Conf,
) -> Result<Option<StoredAssignment>, FileError> {
    Ok(read(machine, ctid)?.filter(|stored| stored.is_of(conf)))
}

fn read(machine: &Machine, ctid: u32) -> Result<Option<StoredAssignment>, FileError> {
    let bytes = match machine.read(&path(ctid), MOST) {
        Err(error) if error.is_not_found() || error.is_irregular() => return Ok(None),
        read => read?,
    };
    let state = serde_json::from_slice::<StoredAssignment>(&bytes).ok();
    let ours = |state: &StoredAssignment| {
        state.version == VERSION && state.ctid == ctid && state.is_plain()
    };
    Ok(state.filter(ours))
}

impl StoredAssignment {
    /// Whether it was stored for the container that has this configuration.
    pub fn is_of(&self, conf: &Conf) -> bool {
        self.rootfs.is_empty() || self.rootfs == rootfs_volume(conf)
    }

    /// Whether the file holds only what `add` would have accepted: no control
    /// characters, which would add lines, and no paths outside /dev.
    fn is_plain(&self) -> bool {
        let text = |text: &str| !text.chars().any(char::is_control);
        let node = |path: &str| path.starts_with("/dev/") && text(path);
        let assignment = &self.assignment;
        assignment.mode.as_deref().is_none_or(|mode| crate::cli::mode(mode).is_ok())
            && assignment.userspace.iter().filter_map(|u| u.dir.as_deref()).all(text)
            && self.names.values().all(|path| node(path))
    }

    /// Drops what the configuration no longer gives.
    pub fn forget(&mut self, access: &Access, facts: &HostFacts<'_>) {
        let given = |path: &str| access.dev(path).is_some() || access.mounted(path).is_some();
        let StoredAssignment { assignment, names, .. } = self;
        names.retain(|_, path| given(path));
        assignment.gpus.retain(|gpu| names.contains_key(&format!("{}/gpu", gpu.key())));
        assignment.mig.retain(|mig| names.contains_key(&mig.name()));
        assignment.imex.retain(|id| given(&format!("/dev/nvidia-caps-imex-channels/channel{id}")));
        let monitor = facts.mig().minor(Capability::Monitor).map(nvidia::cap_path);
        assignment.mig_monitor &= monitor.is_some_and(|path| given(&path));
        let mut paths = access.targets();
        assignment.fabric &= paths.any(|path| classify(path).is_some_and(NodeClass::is_fabric));
        assignment.graphics &= names.keys().any(|name| name.contains("/drm-"));
        if !access.mounts.iter().any(|mount| is_driver_file(&mount.target)) {
            assignment.userspace = None;
        }
        if !access.has_nvidia() {
            *assignment = GpuAssignment::default();
        }
    }
}

/// The volume of the root file system, without its options.
fn rootfs_volume(conf: &Conf) -> String {
    let keys = conf.keys(&Section::Main);
    let first = keys.get("rootfs").and_then(|value| value.split(',').next()).unwrap_or_default();
    first.strip_prefix("volume=").unwrap_or(first).to_string()
}

/// Stores an assignment for the container with this configuration, or removes the
/// file of an empty one. Errors: of the file system.
pub fn save(
    facts: &HostFacts<'_>,
    ctid: u32,
    conf: &Conf,
    mut stored: StoredAssignment,
) -> Result<(), FileError> {
    let (machine, path) = (facts.machine, path(ctid));
    let assignment = &stored.assignment;
    if assignment.gpus.is_empty() && assignment.mig.is_empty() && assignment.userspace.is_none() {
        return if machine.exists(&path) { machine.remove(&path) } else { Ok(()) };
    }
    let access = Access::of(conf);
    stored.rules.extend(DeviceNumbers::of(&access, facts).dynamic_rules());
    stored.rules.retain(|text| access.rules.iter().any(|rule| rule.allow && rule.text == *text));
    (stored.version, stored.ctid, stored.rootfs) = (VERSION, ctid, rootfs_volume(conf));
    if read(machine, ctid)?.as_ref() == Some(&stored) {
        return Ok(());
    }
    let mut text = serde_json::to_vec(&stored).unwrap_or_default();
    text.push(b'\n');
    machine.put_mode(&path, &text, 0o600)
}

/// Removes what is stored for containers that are no longer on this host.
pub fn remove_others(machine: &Machine, ctids: &[u32]) {
    for name in machine.list(DIR).unwrap_or_default() {
        let id = name.strip_suffix(".json").and_then(|id| id.parse::<u32>().ok());
        if id.is_some_and(|id| !ctids.contains(&id)) {
            // a file that cannot be removed does no harm
            let _ = machine.remove(&format!("{DIR}/{name}"));
        }
    }
}
