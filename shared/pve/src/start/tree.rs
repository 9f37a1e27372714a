//! The paths of a container while LXC sets it up: `/dev` is a new file system, which
//! mount entries, hooks and dev[n] fill in this order (conf.c, lxc_setup).

use std::collections::BTreeMap;

use host::{Node, NodeKind};

use crate::start::model::{Outcome, StartHost};
use crate::start::mount_line::{MountLine, normal};

/// What is at a path of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Nothing,
    /// An empty file or a directory that was made there.
    Made(NodeKind),
    /// What the host has at a path.
    Host(String, Option<Node>),
    /// The container's own file system, which is not looked at; or why else it is not known.
    Unknown(String),
}

/// What a mount entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// At its target.
    pub place: Place,
    /// Why it could not be mounted.
    pub failed: Option<String>,
    /// A file that it leaves in a directory of the host.
    pub stub_on_host: Option<String>,
}

/// The paths.
pub struct Tree<'a> {
    host: &'a dyn StartHost,
    unprivileged: bool,
    /// `/dev` is the container's own directory and no new file system.
    own_dev: bool,
    /// Bind mounts and made files and directories, by path.
    places: BTreeMap<String, Place>,
}

impl<'a> Tree<'a> {
    /// Before anything is mounted.
    pub fn new(host: &'a dyn StartHost, unprivileged: bool, own_dev: bool) -> Tree<'a> {
        Tree { host, unprivileged, own_dev, places: BTreeMap::new() }
    }

    fn look(&self, path: &str) -> Place {
        match self.host.node(path) {
            Ok(None) => Place::Nothing,
            Ok(node) => Place::Host(path.to_string(), node),
            Err(why) => Place::Unknown(why),
        }
    }

    /// What is at a path now.
    pub fn at(&self, path: &str) -> Place {
        if let Some(place) = self.places.get(path) {
            return place.clone();
        }
        // a directory of the host that is mounted above it
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            match self.places.get(parent) {
                Some(Place::Host(source, _)) => {
                    return self.look(&format!("{source}{}", &path[parent.len()..]));
                }
                Some(Place::Made(_)) => return Place::Nothing,
                Some(other @ Place::Unknown(_)) => return other.clone(),
                _ => above = parent,
            }
        }
        match !self.own_dev && path.starts_with("/dev/") {
            true => Place::Nothing,
            false => Place::Unknown("the container's own files are not looked at".into()),
        }
    }

    /// The directory of the host that is mounted above a path, with the path in it.
    fn below_host(&self, path: &str) -> Option<String> {
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            match self.places.get(parent) {
                Some(Place::Host(source, _)) => {
                    return Some(format!("{source}{}", &path[parent.len()..]));
                }
                Some(_) => return None,
                None => above = parent,
            }
        }
        None
    }

    fn make_parents(&mut self, path: &str) {
        let Some((parent, _)) = path.rsplit_once('/') else { return };
        if parent.starts_with("/dev/")
            && self.at(parent) == Place::Nothing
            && self.below_host(parent).is_none()
        {
            self.make_parents(parent);
            self.places.insert(parent.into(), Place::Made(NodeKind::Dir));
        }
    }

    /// Makes an empty file or directory where there is nothing. Errors: it cannot be.
    pub fn make(&mut self, path: &str, kind: NodeKind) -> Result<Option<String>, String> {
        if self.at(path) != Place::Nothing {
            return Ok(None);
        }
        if let Some(on_host) = self.below_host(path) {
            if self.unprivileged {
                return Err(format!("{path} cannot be created in a directory of the host"));
            }
            self.places.insert(path.into(), Place::Made(kind));
            return Ok(Some(on_host));
        }
        self.make_parents(path);
        self.places.insert(path.into(), Place::Made(kind));
        Ok(None)
    }

    /// One mount entry whose target is this path (conf.c, mount_entry_on_generic).
    pub fn mount(&mut self, line: &MountLine, path: &str) -> Mounted {
        let failed = |tree: &Tree<'_>, why: String, stub| Mounted {
            place: tree.at(path),
            failed: Some(why),
            stub_on_host: stub,
        };
        let mut stub = None;
        for (option, kind) in [("dir", NodeKind::Dir), ("file", NodeKind::NoDevice)] {
            if line.options.split(',').any(|one| one.strip_prefix("create=") == Some(option)) {
                match self.make(path, kind) {
                    Ok(made) => stub = made.or(stub),
                    Err(why) => return failed(self, why, stub),
                }
            }
        }
        let target_is_dir = match self.at(path) {
            Place::Nothing => {
                let why = format!(
                    "{path} does not exist in the container, and 'create=file' or 'create=dir' is not among the options"
                );
                return failed(self, why, stub);
            }
            Place::Made(kind) => Some(kind == NodeKind::Dir),
            Place::Host(_, node) => node.map(|node| node.kind == NodeKind::Dir),
            Place::Unknown(_) => None,
        };
        if !line.is_bind() {
            let kinds = ["tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2"];
            if !kinds.contains(&line.kind.as_str()) {
                return failed(self, "'bind' is not among the options".into(), stub);
            }
            let place = Place::Made(NodeKind::Dir);
            self.places.insert(path.into(), place.clone());
            return Mounted { place, failed: None, stub_on_host: stub };
        }
        if line.has("relative") {
            let place = Place::Unknown("its source is in the container".into());
            self.places.insert(path.into(), place.clone());
            return Mounted { place, failed: None, stub_on_host: stub };
        }
        let source = normal(&line.source);
        let place = self.look(&source);
        let source_is_dir = match &place {
            Place::Nothing => {
                return failed(self, format!("{source} does not exist on the host"), stub);
            }
            Place::Host(_, node) => node.map(|node| node.kind == NodeKind::Dir),
            _ => None,
        };
        if let (Some(source_is_dir), Some(target_is_dir)) = (source_is_dir, target_is_dir) {
            if source_is_dir != target_is_dir {
                let (is, other) = match source_is_dir {
                    true => ("a directory", "a file"),
                    false => ("not a directory", "a directory"),
                };
                return failed(self, format!("{source} is {is} and its target is {other}"), stub);
            }
        }
        self.places.retain(|other, _| !other.starts_with(&format!("{path}/")));
        self.places.insert(path.into(), place.clone());
        Mounted { place, failed: None, stub_on_host: stub }
    }

    /// dev[n]: a file is made, which must not exist, and the node mounted on it
    /// (lxc-pve-autodev-hook). False where something has the path.
    pub fn place_dev(&mut self, path: &str) -> bool {
        if self.at(path) != Place::Nothing {
            return false;
        }
        self.make_parents(path);
        self.places.insert(path.into(), Place::Made(NodeKind::Char));
        true
    }
}

/// What a place is for the container, where it is no device.
pub fn outcome_of(place: &Place) -> Outcome {
    match place {
        Place::Nothing => Outcome::Nothing("nothing is created there".into()),
        Place::Made(NodeKind::Dir) => Outcome::EmptyDir,
        Place::Made(_) => Outcome::EmptyFile,
        Place::Host(..) => Outcome::Other,
        Place::Unknown(why) => Outcome::Unknown(why.clone()),
    }
}
