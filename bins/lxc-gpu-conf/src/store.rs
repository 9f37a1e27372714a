//! The tool's own memory: what `add` was asked to give each container.
//! Configuration lines contain device numbers, which change, and Proxmox VE moves
//! comments, so neither can hold it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use host::{FileError, Machine};
use nvidia::{Capability, NodeClass, classify};
use serde::{Deserialize, Serialize};

use crate::config::access::{Access, is_driver_file};
use crate::config::assignment::GpuAssignment;
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
        if exists { load(self.machine, ctid).ok().flatten() } else { None }
    }
}

/// Reads what is stored for a container; `None` where there is no file, or none
/// in a form that this version knows: the configuration alone counts then.
/// Errors: the file exists and cannot be read. Treating that as `None` would
/// overwrite it.
pub fn load(machine: &Machine, ctid: u32) -> Result<Option<StoredAssignment>, FileError> {
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

/// Stores an assignment, or removes the file of an empty one. Errors: of the file
/// system.
pub fn save(
    machine: &Machine,
    ctid: u32,
    assignment: &GpuAssignment,
    names: BTreeMap<String, String>,
) -> Result<(), FileError> {
    let path = path(ctid);
    if assignment.gpus.is_empty() && assignment.mig.is_empty() && assignment.userspace.is_none() {
        return if machine.exists(&path) { machine.remove(&path) } else { Ok(()) };
    }
    let state = StoredAssignment { version: VERSION, ctid, assignment: assignment.clone(), names };
    if load(machine, ctid)?.as_ref() == Some(&state) {
        return Ok(());
    }
    let mut text = serde_json::to_vec(&state).unwrap_or_default();
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
