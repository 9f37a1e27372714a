//! Device nodes. Below `--root` they may also be given as a list: a tree that
//! was sent to us, or that is unpacked without privileges, cannot hold them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;

use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use crate::machine::{FileKind, Machine, split};
use crate::{FileError, Stat};

/// Path of the list below `--root`: lines `c PATH MAJOR:MINOR MODE UID:GID`
/// (`b` for block devices) and `l PATH TARGET`, as our recording script prints
/// them. It is never looked at on the running host.
pub const DEVICE_LIST: &str = "/dev.list";

/// What is at a path in /dev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Character device, block device, or something that is neither.
    pub kind: NodeKind,
    /// Major number; 0 where it is not a device.
    pub major: u32,
    /// Minor number; 0 where it is not a device.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kinds of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Directory.
    Dir,
    /// Not a device: an empty file left by a failed bind mount.
    NoDevice,
}

/// What identifies a device whatever its node is called: type and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// A block device rather than a character device.
    pub is_block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl DeviceNumber {
    /// Of a character device.
    pub fn character(major: u32, minor: u32) -> DeviceNumber {
        DeviceNumber { is_block: false, major, minor }
    }
}

impl Node {
    /// Type and numbers; `None` for what is not a device.
    pub fn device(&self) -> Option<DeviceNumber> {
        let is_block = match self.kind {
            NodeKind::Char => false,
            NodeKind::Block => true,
            NodeKind::Dir | NodeKind::NoDevice => return None,
        };
        Some(DeviceNumber { is_block, major: self.major, minor: self.minor })
    }

    /// Whether it is a character device.
    pub fn is_char(&self) -> bool {
        self.kind == NodeKind::Char
    }
}

impl Machine {
    /// Makes a character device with exactly these numbers, owner and mode, its
    /// directory too. What has that name now is replaced in one step, so that
    /// the name is never missing; a directory is not. Errors: it cannot be
    /// made.
    pub fn make_char(
        &self,
        path: &str,
        (major, minor): (u32, u32),
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<(), FileError> {
        self.make_parents(path)?;
        let (parent, name) = split(path);
        let dir = self.dir(parent)?;
        let error = |source: io::Error| self.error("make device", path, source);
        let temporary = format!("{name}.tmp.{}", std::process::id());
        let made = || -> nix::Result<()> {
            let bits = Mode::from_bits_truncate(mode);
            let device = makedev(u64::from(major), u64::from(minor));
            mknodat(&dir.fd, temporary.as_str(), SFlag::S_IFCHR, bits, device)?;
            // mknod(2) takes the umask off
            let flags = FchmodatFlags::FollowSymlink;
            fchmodat(&dir.fd, temporary.as_str(), bits, flags)?;
            let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
            let not_followed = AtFlags::AT_SYMLINK_NOFOLLOW;
            fchownat(&dir.fd, temporary.as_str(), Some(owner), Some(group), not_followed)?;
            renameat(&dir.fd, temporary.as_str(), &dir.fd, name)
        };
        made().map_err(|errno| {
            let _ = unlinkat(&dir.fd, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            error(io::Error::from_raw_os_error(errno as i32))
        })
    }
}

impl From<Stat> for Node {
    fn from(stat: Stat) -> Node {
        let kind = match stat.kind {
            FileKind::Char => NodeKind::Char,
            FileKind::Block => NodeKind::Block,
            FileKind::Dir => NodeKind::Dir,
            _ => NodeKind::NoDevice,
        };
        let device = matches!(kind, NodeKind::Char | NodeKind::Block);
        Node {
            kind,
            major: if device { libc::major(stat.rdev) } else { 0 },
            minor: if device { libc::minor(stat.rdev) } else { 0 },
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
        }
    }
}

#[derive(Debug)]
enum ListedNode {
    Node(Node),
    Link(String),
}

/// The parsed list.
#[derive(Debug, Default)]
pub(crate) struct DeviceList {
    entries: BTreeMap<String, ListedNode>,
}

impl DeviceList {
    fn parse(text: &str) -> DeviceList {
        let mut entries = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(kind), Some(path)) = (words.next(), words.next()) else {
                continue;
            };
            let entry = match kind {
                "c" | "b" => device(kind, &mut words).map(ListedNode::Node),
                "l" => words.next().map(|target| ListedNode::Link(target.to_string())),
                _ => None,
            };
            if let Some(entry) = entry {
                entries.insert(path.to_string(), entry);
            }
        }
        DeviceList { entries }
    }

    fn get(&self, path: &str) -> Option<Node> {
        let mut path = path.to_string();
        for _ in 0..8 {
            match self.entries.get(&path) {
                Some(ListedNode::Node(node)) => return Some(*node),
                Some(ListedNode::Link(target)) => path = join(&path, target),
                None => return self.directory(&path),
            }
        }
        None
    }

    /// A path that others lie below is a directory.
    fn directory(&self, path: &str) -> Option<Node> {
        let below = format!("{path}/");
        let (first, _) = self.entries.range(below.clone()..).next()?;
        first.starts_with(&below).then_some(Node {
            kind: NodeKind::Dir,
            major: 0,
            minor: 0,
            mode: 0o755,
            uid: 0,
            gid: 0,
        })
    }
}

/// Where `target` leads from the link at `path`.
fn join(path: &str, target: &str) -> String {
    let start = if target.starts_with('/') { "" } else { crate::machine::split(path).0 };
    let mut parts: Vec<&str> = start.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn device<'a>(kind: &str, words: &mut impl Iterator<Item = &'a str>) -> Option<Node> {
    let (major, minor) = words.next()?.split_once(':')?;
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let (uid, gid) = words.next()?.split_once(':')?;
    Some(Node {
        kind: if kind == "c" { NodeKind::Char } else { NodeKind::Block },
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        mode,
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    })
}

impl Machine {
    /// Read again each time: nodes come and go while a tool works.
    fn device_list(&self) -> DeviceList {
        if !self.listed {
            return DeviceList::default();
        }
        DeviceList::parse(&self.read_text(DEVICE_LIST, 4 << 20).unwrap_or_default())
    }

    /// What a path leads to, `None` where there is nothing. Errors: the path
    /// cannot be looked at.
    pub fn node(&self, path: &str) -> Result<Option<Node>, FileError> {
        match self.stat(path) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(error) if error.is_not_found() => Ok(self.device_list().get(path)),
            Err(error) => Err(error),
        }
    }

    /// The device that a path leads to; `None` for what is not a device. On the
    /// running host the kernel answers from what it knows, without asking a file
    /// server that may never answer; in a tree the target of a recorded link
    /// (`/proc/PID/fd/N`) may stand in the list of devices. Errors: the path
    /// cannot be looked at.
    pub fn device_number(&self, path: &str) -> Result<Option<DeviceNumber>, FileError> {
        if self.is_host() {
            return device_at(path).map_err(|source| self.error("stat", path, source));
        }
        let node = match self.node(path)? {
            Some(node) => Some(node),
            None => match self.read_link(path) {
                Ok(target) => self.node(&target)?,
                Err(_) => None,
            },
        };
        Ok(node.and_then(|node| node.device()))
    }

    /// Whether a path is a symbolic link.
    pub fn is_link(&self, path: &str) -> bool {
        match self.lstat(path) {
            Ok(stat) => stat.kind == FileKind::Link,
            Err(_) => matches!(self.device_list().entries.get(path), Some(ListedNode::Link(_))),
        }
    }

    /// Names directly below a directory of /dev, sorted.
    pub fn nodes_in(&self, dir: &str) -> Result<Vec<String>, FileError> {
        let mut names = self.list(dir)?;
        let prefix = format!("{}/", dir.trim_end_matches('/'));
        for path in self.device_list().entries.keys() {
            if let Some(rest) = path.strip_prefix(&prefix) {
                names.push(rest.split('/').next().unwrap_or(rest).to_string());
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// statx(2) of what a path leads to.
fn device_at(path: &str) -> io::Result<Option<DeviceNumber>> {
    let path = CString::new(path)?;
    let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: a path that ends in NUL, and room for what the kernel writes.
    let found = unsafe {
        let answer =
            libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_TYPE, found.as_mut_ptr());
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        found.assume_init()
    };
    let is_block = match u32::from(found.stx_mode) & libc::S_IFMT {
        libc::S_IFCHR => false,
        libc::S_IFBLK => true,
        _ => return Ok(None),
    };
    let (major, minor) = (found.stx_rdev_major, found.stx_rdev_minor);
    Ok(Some(DeviceNumber { is_block, major, minor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_stands_for_nodes_and_links() {
        let list = DeviceList::parse(
            "# comment\nc /dev/nvidia0 195:0 0666 0:0\nb /dev/sda 8:0 0660 0:6\n\
             l /dev/dri/by-path/pci-0000:17:00.0-card ../card1\nc /dev/dri/card1 226:1 0660 0:44\n\
             l /dev/a b\nl /dev/b a\nc broken\nc /dev/x 1 0666 0:0\n",
        );
        let node = list.get("/dev/nvidia0").unwrap();
        assert!(node.is_char());
        assert_eq!((node.major, node.minor, node.mode), (195, 0, 0o666));
        assert_eq!(list.get("/dev/dri/by-path/pci-0000:17:00.0-card").unwrap().minor, 1);
        assert_eq!(list.get("/dev/sda").unwrap().kind, NodeKind::Block);
        assert!(list.get("/dev/a").is_none());
        assert!(list.get("/dev/x").is_none());
        assert_eq!(list.get("/dev/dri").unwrap().kind, NodeKind::Dir);
        assert!(list.get("/dev/nvidia").is_none());
    }

    #[test]
    fn the_running_host_has_real_nodes_only() {
        let machine = Machine::new(None).unwrap();
        let null = machine.node("/dev/null").unwrap().unwrap();
        assert_eq!((null.kind, null.major, null.minor), (NodeKind::Char, 1, 3));
        assert_eq!(machine.node("/dev/none-such").unwrap(), None);
        assert_eq!(machine.node("/etc").unwrap().unwrap().kind, NodeKind::Dir);
    }
}
