//! What `add` was asked for, kept beside the tools' other state on this host:
//! configuration lines carry numbers, and comments do not stay where they are.

use std::collections::BTreeMap;

use host::{FileError, Machine};
use nvidia::{Capability, NodeClass, classify};
use serde::{Deserialize, Serialize};

use crate::access::{Access, is_userspace};
use crate::facts::Facts;
use crate::wish::Wish;

/// Where it is kept, a file a container.
pub const DIR: &str = "/var/lib/pve-gpu-tools/lxc";
const MOST: usize = 1 << 20;

/// What is remembered of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Form of this file.
    pub version: u32,
    /// The container.
    pub ctid: u32,
    /// What it is to have.
    pub wish: Wish,
    /// Path of each node of a card when it was last right.
    pub names: BTreeMap<String, String>,
}

const VERSION: u32 = 1;

fn path(ctid: u32) -> String {
    format!("{DIR}/{ctid}.json")
}

/// Reads it. `None` where nothing is remembered, or nothing that we understand:
/// then the configuration alone counts. Errors: it is there and cannot be read;
/// whoever went on as if it were not would overwrite what is in it.
pub fn load(machine: &Machine, ctid: u32) -> Result<Option<State>, FileError> {
    let bytes = match machine.read(&path(ctid), MOST) {
        Err(error) if error.is_not_found() || error.is_irregular() => return Ok(None),
        read => read?,
    };
    let state = serde_json::from_slice::<State>(&bytes).ok();
    let ours = |state: &State| state.version == VERSION && state.ctid == ctid && state.is_plain();
    Ok(state.filter(ours))
}

impl State {
    /// What goes into configurations from here is what `add` would have taken:
    /// no line more, no path elsewhere.
    fn is_plain(&self) -> bool {
        let text = |text: &str| !text.chars().any(char::is_control);
        let node = |path: &str| path.starts_with("/dev/") && text(path);
        let wish = &self.wish;
        wish.mode.as_deref().is_none_or(|mode| crate::cli::mode(mode).is_ok())
            && wish.userspace.iter().filter_map(|u| u.dir.as_deref()).all(text)
            && self.names.values().all(|path| node(path))
    }
}

impl State {
    /// Forgets what is no longer given: taken away, or by other hands.
    pub fn forget(&mut self, access: &Access, facts: &Facts<'_>) {
        let given = |path: &str| access.dev(path).is_some() || access.mounted(path).is_some();
        let State { wish, names, .. } = self;
        names.retain(|_, path| given(path));
        wish.gpus.retain(|gpu| names.contains_key(&format!("{}/gpu", gpu.key())));
        wish.mig.retain(|mig| names.contains_key(&mig.name()));
        wish.imex.retain(|id| given(&format!("/dev/nvidia-caps-imex-channels/channel{id}")));
        let monitor = facts.mig().minor(Capability::Monitor).map(nvidia::cap_path);
        wish.mig_monitor &= monitor.is_some_and(|path| given(&path));
        let devs = access.devs.values().map(|dev| &dev.path);
        let mut paths = devs.chain(access.mounts.iter().map(|mount| &mount.target));
        wish.fabric &= paths.any(|path| classify(path).is_some_and(NodeClass::is_fabric));
        wish.graphics &= names.keys().any(|name| name.contains("/drm-"));
        if !access.mounts.iter().any(|mount| is_userspace(&mount.target)) {
            wish.userspace = None;
        }
        if !access.has_nvidia() {
            *wish = Wish::default();
        }
    }
}

/// Writes it, or removes it where nothing is left to remember. Errors: as the
/// file system says.
pub fn save(
    machine: &Machine,
    ctid: u32,
    wish: &Wish,
    names: BTreeMap<String, String>,
) -> Result<(), FileError> {
    let path = path(ctid);
    if wish.gpus.is_empty() && wish.mig.is_empty() && wish.userspace.is_none() {
        return if machine.exists(&path) { machine.remove(&path) } else { Ok(()) };
    }
    let state = State { version: VERSION, ctid, wish: wish.clone(), names };
    if load(machine, ctid)?.as_ref() == Some(&state) {
        return Ok(());
    }
    let mut text = serde_json::to_vec(&state).unwrap_or_default();
    text.push(b'\n');
    machine.put_mode(&path, &text, 0o600)
}

/// Forgets containers that are no longer on this host.
pub fn forget_others(machine: &Machine, ctids: &[u32]) {
    for name in machine.list(DIR).unwrap_or_default() {
        let id = name.strip_suffix(".json").and_then(|id| id.parse::<u32>().ok());
        if id.is_some_and(|id| !ctids.contains(&id)) {
            // what cannot be removed does no harm
            let _ = machine.remove(&format!("{DIR}/{name}"));
        }
    }
}
