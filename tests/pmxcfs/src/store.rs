//! What is stored, with the rules that every node of the cluster applies alike
//! (memdb.c). Errors are error numbers.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::guests::{Guest, Guests};

/// MEMDB_MAX_FILE_SIZE.
pub(crate) const MOST: usize = 1 << 20;
/// MEMDB_MAX_FSSIZE and MEMDB_MAX_INODES.
pub(crate) const MOST_BYTES: usize = 128 << 20;
pub(crate) const MOST_FILES: usize = 256 << 10;

pub(crate) const ROOT: u64 = 1;

/// Files in the root directory that pmxcfs makes up when they are read: no
/// change reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Version,
    Members,
    Vmlist,
}

impl Report {
    pub const ALL: [(&'static str, Report); 3] =
        [(".version", Report::Version), (".members", Report::Members), (".vmlist", Report::Vmlist)];
}

#[derive(Debug)]
pub(crate) enum Content {
    Dir(BTreeMap<String, u64>),
    File(Vec<u8>),
    /// Made up by pmxcfs, as [`Content::Report`] is: no change reaches them.
    Link(String),
    Report(Report),
}

#[derive(Debug)]
pub(crate) struct Node {
    pub parent: u64,
    pub name: String,
    pub content: Content,
    /// Seconds since 1970: nothing finer is kept.
    pub mtime: u64,
    /// Open files.
    pub opens: usize,
    /// Removed, but still open: gone with the last close.
    pub hidden: bool,
}

impl Node {
    fn made_up(&self) -> bool {
        matches!(self.content, Content::Link(_) | Content::Report(_))
    }
}

#[derive(Debug)]
pub(crate) struct Store {
    /// The node that this is.
    pub node: String,
    pub started: u64,
    pub guests: Guests,
    nodes: HashMap<u64, Node>,
    /// Inode numbers are not used twice.
    last: u64,
    hidden: u32,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Store {
    pub fn new(node: &str) -> Store {
        let root = Node {
            parent: ROOT,
            name: String::new(),
            content: Content::Dir(BTreeMap::new()),
            mtime: now(),
            opens: 0,
            hidden: false,
        };
        let mut store = Store {
            node: node.to_string(),
            started: now(),
            guests: Guests::default(),
            nodes: HashMap::from([(ROOT, root)]),
            last: ROOT,
            hidden: 0,
        };
        for (name, report) in Report::ALL {
            store.add(ROOT, name, Content::Report(report));
        }
        store.add(ROOT, "local", Content::Link(format!("nodes/{node}")));
        // openvz's directory has been gone for years, its link has not
        for name in ["lxc", "qemu-server", "openvz"] {
            store.add(ROOT, name, Content::Link(format!("nodes/{node}/{name}")));
        }
        for name in ["lxc", "qemu-server", "priv"] {
            store.make_dirs(&format!("nodes/{node}/{name}")).expect("an empty tree");
        }
        store.make_dirs("priv/lock").expect("an empty tree");
        store
    }

    pub fn get(&self, inode: u64) -> Option<&Node> {
        self.nodes.get(&inode)
    }

    pub fn get_mut(&mut self, inode: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&inode)
    }

    pub fn children(&self, inode: u64) -> Result<&BTreeMap<String, u64>, i32> {
        match &self.get(inode).ok_or(libc::ENOENT)?.content {
            Content::Dir(children) => Ok(children),
            _ => Err(libc::ENOTDIR),
        }
    }

    pub fn lookup(&self, parent: u64, name: &str) -> Result<u64, i32> {
        self.children(parent)?.get(name).copied().ok_or(libc::ENOENT)
    }

    /// Follows no links. The empty path is the root.
    pub fn find(&self, path: &str) -> Result<u64, i32> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(ROOT, |at, part| self.lookup(at, part))
    }

    /// Without a leading slash. `None`: gone.
    pub fn path(&self, inode: u64) -> Option<String> {
        let node = self.get(inode)?;
        if inode == ROOT {
            return Some(String::new());
        }
        Some(self.below(node.parent, &node.name))
    }

    /// The path of a name in a directory, whether or not it is there.
    pub fn below(&self, parent: u64, name: &str) -> String {
        match self.path(parent).as_deref() {
            None => format!("?/{name}"),
            Some("") => name.to_string(),
            Some(parent) => format!("{parent}/{name}"),
        }
    }

    /// Names of the cluster's nodes.
    pub fn nodes(&self) -> Vec<String> {
        let children = self.find("nodes").and_then(|nodes| self.children(nodes));
        children.map(|children| children.keys().cloned().collect()).unwrap_or_default()
    }

    /// Bytes and inodes in use.
    pub fn usage(&self) -> (usize, usize) {
        let size = |node: &Node| match &node.content {
            Content::File(bytes) => bytes.len(),
            _ => 0,
        };
        (self.nodes.values().map(size).sum(), self.nodes.len())
    }

    fn add(&mut self, parent: u64, name: &str, content: Content) -> u64 {
        self.last += 1;
        let (inode, name) = (self.last, name.to_string());
        if let Some(Content::Dir(children)) = self.get_mut(parent).map(|node| &mut node.content) {
            children.insert(name.clone(), inode);
        }
        let node = Node { parent, name, content, mtime: now(), opens: 0, hidden: false };
        self.nodes.insert(inode, node);
        inode
    }

    fn detach(&mut self, parent: u64, name: &str) {
        if let Some(Content::Dir(children)) = self.get_mut(parent).map(|node| &mut node.content) {
            children.remove(name);
        }
    }

    pub fn mkdir(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        match self.lookup(parent, name) {
            Ok(_) => Err(libc::EEXIST),
            Err(libc::ENOENT) => Ok(self.add(parent, name, Content::Dir(BTreeMap::new()))),
            Err(errno) => Err(errno),
        }
    }

    fn make_dirs(&mut self, path: &str) -> Result<u64, i32> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(ROOT, |at, part| match self.lookup(at, part) {
            Err(libc::ENOENT) => self.mkdir(at, part),
            other => other,
        })
    }

    pub fn create(&mut self, parent: u64, name: &str) -> Result<u64, i32> {
        if self.lookup(parent, name).is_ok() {
            return Err(libc::EEXIST);
        }
        self.children(parent)?;
        let guest = Guest::of(&self.below(parent, name));
        if guest.as_ref().is_some_and(|guest| self.guests.taken(guest)) {
            return Err(libc::EEXIST);
        }
        let inode = self.add(parent, name, Content::File(Vec::new()));
        guest.into_iter().for_each(|guest| self.guests.register(guest));
        Ok(inode)
    }

    pub fn write(&mut self, inode: u64, offset: usize, data: &[u8]) -> Result<(), i32> {
        self.change_bytes(inode, offset.saturating_add(data.len()), |bytes, end| {
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[offset..end].copy_from_slice(data);
        })
    }

    pub fn truncate(&mut self, inode: u64, size: usize) -> Result<(), i32> {
        self.change_bytes(inode, size, |bytes, end| bytes.resize(end, 0))
    }

    fn change_bytes(
        &mut self,
        inode: u64,
        end: usize,
        change: impl FnOnce(&mut Vec<u8>, usize),
    ) -> Result<(), i32> {
        let guest = self.path(inode).and_then(|path| Guest::of(&path));
        let node = self.get_mut(inode).ok_or(libc::ENOENT)?;
        match &mut node.content {
            Content::File(_) if end > MOST => return Err(libc::EFBIG),
            Content::File(bytes) => change(bytes, end),
            // cfs-plug-func.c: these three take no writes
            Content::Report(_) => return Err(libc::EIO),
            Content::Dir(_) | Content::Link(_) => return Err(libc::EACCES),
        }
        node.mtime = now();
        guest.into_iter().for_each(|guest| self.guests.register(guest));
        Ok(())
    }

    pub fn touch(&mut self, inode: u64, mtime: u64) -> Result<(), i32> {
        match self.get_mut(inode) {
            None => Err(libc::ENOENT),
            Some(node) if node.made_up() => Err(libc::EACCES),
            Some(node) => {
                node.mtime = mtime;
                Ok(())
            }
        }
    }

    /// Removes a file or an empty directory.
    pub fn remove(&mut self, parent: u64, name: &str) -> Result<(), i32> {
        let inode = self.lookup(parent, name)?;
        let path = self.below(parent, name);
        self.removable(inode)?;
        self.detach(parent, name);
        self.nodes.remove(&inode);
        Guest::of(&path).into_iter().for_each(|guest| self.guests.delete(guest.id));
        Ok(())
    }

    fn removable(&self, inode: u64) -> Result<(), i32> {
        match self.get(inode) {
            Some(node) if node.made_up() => Err(libc::EACCES),
            Some(Node { content: Content::Dir(children), .. }) if !children.is_empty() => {
                Err(libc::ENOTEMPTY)
            }
            _ => Ok(()),
        }
    }

    /// A guest's configuration may move to another node under its own id
    /// (migration); anything else may not become one of an id that is taken.
    /// Directories move only while they are empty.
    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), i32> {
        let inode = self.lookup(from.0, from.1)?;
        let (from_path, to_path) = (self.below(from.0, from.1), self.below(to.0, to.1));
        let target = match self.lookup(to.0, to.1) {
            Err(libc::ENOENT) => None,
            other => Some(other?),
        };
        let dir = matches!(self.get(inode).map(|node| &node.content), Some(Content::Dir(_)));
        let was = Guest::of(&from_path);
        let becomes = Guest::of(&to_path).filter(|_| !dir);
        if let Some(guest) = &becomes {
            let moved = was.as_ref().is_some_and(|was| was.id == guest.id);
            if self.guests.taken(guest) && !moved {
                return Err(libc::EEXIST);
            }
        }
        // a cluster-wide lock is such a directory
        if dir && from_path.starts_with("priv/lock/") {
            return Err(libc::EACCES);
        }
        self.removable(inode)?;
        if let Some(target) = target {
            self.removable(target)?;
            self.nodes.remove(&target);
        }
        self.detach(from.0, from.1);
        if let Some(Content::Dir(children)) = self.get_mut(to.0).map(|node| &mut node.content) {
            children.insert(to.1.to_string(), inode);
        }
        if let Some(node) = self.get_mut(inode) {
            (node.parent, node.name, node.mtime) = (to.0, to.1.to_string(), now());
        }
        was.into_iter().for_each(|guest| self.guests.delete(guest.id));
        becomes.into_iter().for_each(|guest| self.guests.register(guest));
        Ok(())
    }

    /// Renames what is to go away but is open, as libfuse does.
    pub fn hide(&mut self, parent: u64, name: &str) -> Result<(), i32> {
        let inode = self.lookup(parent, name)?;
        self.hidden += 1;
        let hidden = format!(".fuse_hidden{inode:08x}{:08x}", self.hidden);
        self.rename((parent, name), (parent, &hidden))?;
        if let Some(node) = self.get_mut(inode) {
            node.hidden = true;
        }
        Ok(())
    }

    /// What another node of the cluster writes.
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), i32> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.make_dirs(dir)?;
        let inode = match self.lookup(dir, name) {
            Err(libc::ENOENT) => self.create(dir, name)?,
            other => other?,
        };
        self.truncate(inode, 0)?;
        self.write(inode, 0, bytes)
    }

    /// Makes directories as another node does.
    pub fn put_dir(&mut self, path: &str) -> Result<(), i32> {
        self.make_dirs(path).map(drop)
    }
}
