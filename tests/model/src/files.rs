//! The file tree that the model shows, with links resolved inside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use testbed::tree::{Entry, Tree};

/// Device nodes below a `--root` directory are lines of this file.
pub(crate) const DEVICE_LIST: &str = "/dev.list";

/// What namei(7) allows before ELOOP.
const MOST_LINKS: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Dir(BTreeSet<String>),
    File(Vec<u8>),
    Link(String),
}

/// Directories, files and links by canonical path; nodes of /dev and the links
/// beside them apart, since a directory tree shows them as a list.
#[derive(Debug)]
pub(crate) struct Files {
    nodes: HashMap<String, Node>,
    devices: BTreeMap<String, Entry>,
}

/// Parent and last component.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

impl Files {
    pub fn from_tree(tree: &Tree) -> Files {
        let root = HashMap::from([("/".to_string(), Node::Dir(BTreeSet::new()))]);
        let mut files = Files { nodes: root, devices: BTreeMap::new() };
        for (path, entry) in &tree.entries {
            match entry {
                Entry::Node(..) => files.device(path, entry.clone()),
                Entry::Link(_) if path.starts_with("/dev/") => files.device(path, entry.clone()),
                Entry::Link(target) => files.put(path, Node::Link(target.clone())),
                Entry::File(bytes) => files.put(path, Node::File(bytes.clone())),
                Entry::Dir => files.dir(path),
            }
        }
        files
    }

    pub fn to_tree(&self) -> Tree {
        let mut tree = Tree { entries: self.devices.clone() };
        for (path, node) in &self.nodes {
            match node {
                _ if path == "/" || path == DEVICE_LIST => {}
                Node::Dir(_) => tree.dir(path),
                Node::File(bytes) => tree.file(path, bytes),
                Node::Link(target) => tree.link(path, target),
            }
        }
        tree
    }

    pub fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        match self.nodes.get(path) {
            Some(Node::File(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The text of an attribute without its newline.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = String::from_utf8_lossy(self.bytes(path)?).into_owned();
        Some(text.strip_suffix('\n').unwrap_or(&text).to_string())
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        match self.nodes.get(path) {
            Some(Node::Dir(names)) => names.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Puts a directory where none is.
    pub fn dir(&mut self, path: &str) {
        if !matches!(self.nodes.get(path), Some(Node::Dir(_))) {
            self.put(path, Node::Dir(BTreeSet::new()));
        }
    }

    pub fn put(&mut self, path: &str, node: Node) {
        let (parent, name) = split(path);
        if path != "/" {
            self.dir(parent);
            if let Some(Node::Dir(names)) = self.nodes.get_mut(parent) {
                names.insert(name.to_string());
            }
        }
        self.nodes.insert(path.to_string(), node);
    }

    pub fn attr(&mut self, path: &str, value: impl std::fmt::Display) {
        self.put(path, Node::File(format!("{value}\n").into_bytes()));
    }

    /// A link to a canonical path, written relative as the kernel does.
    pub fn link_to(&mut self, path: &str, target: &str) {
        let mut one = Tree::default();
        one.link_to(path, target);
        if let Some(Entry::Link(target)) = one.entries.remove(path) {
            self.put(path, Node::Link(target));
        }
    }

    /// Takes away what is at a path and below; gives it back for a later `put`.
    pub fn remove(&mut self, path: &str) -> Vec<(String, Node)> {
        let Some(node) = self.nodes.remove(path) else { return Vec::new() };
        let (parent, name) = split(path);
        if let Some(Node::Dir(names)) = self.nodes.get_mut(parent) {
            names.remove(name);
        }
        let mut removed = vec![(path.to_string(), node.clone())];
        if let Node::Dir(names) = node {
            removed[0].1 = Node::Dir(BTreeSet::new());
            for name in names {
                removed.extend(self.remove(&format!("{path}/{name}")));
            }
        }
        removed
    }

    pub fn devices(&self) -> &BTreeMap<String, Entry> {
        &self.devices
    }

    pub fn device(&mut self, path: &str, entry: Entry) {
        self.devices.insert(path.to_string(), entry);
        self.write_list();
    }

    pub fn remove_device(&mut self, path: &str) -> Option<Entry> {
        let removed = self.devices.remove(path);
        self.write_list();
        removed
    }

    /// The lines that a recorded machine written to a directory has.
    fn write_list(&mut self) {
        let mut list = String::new();
        for (path, entry) in &self.devices {
            match entry {
                Entry::Node(kind, rest) => list.push_str(&format!("{kind} {path} {rest}\n")),
                Entry::Link(target) => list.push_str(&format!("l {path} {target}\n")),
                Entry::Dir | Entry::File(_) => {}
            }
        }
        self.put(DEVICE_LIST, Node::File(list.into_bytes()));
    }

    /// The canonical path that a path leads to; its last link is followed only
    /// where `follow` says so. Errors: ENOENT, ENOTDIR, ELOOP as path_resolution(7).
    pub fn resolve(&self, path: &str, follow: bool) -> Result<String, i32> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_string).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let more = todo.iter().any(|part| !matches!(part.as_str(), "" | "."));
            let next = format!("{at}/{part}");
            match self.nodes.get(&next) {
                None => return Err(libc::ENOENT),
                Some(Node::File(_)) if more => return Err(libc::ENOTDIR),
                Some(Node::Link(target)) if more || follow => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(libc::ELOOP);
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    todo.extend(target.split('/').rev().map(str::to_string));
                }
                Some(_) => at = next,
            }
        }
        Ok(if at.is_empty() { "/".to_string() } else { at })
    }
}
