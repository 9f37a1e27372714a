//! What stat(2) says: never what chmod(2) or the mode of open(2) asked for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::store::{Content, Store};

/// www-data, on every Debian.
pub(crate) const GROUP: u32 = 33;

/// Only root sees it: `priv` and `nodes/<node>/priv` (cfs-utils.c,
/// path_is_private()).
pub(crate) fn private(path: &str) -> bool {
    let mut parts = path.split('/');
    match parts.next() {
        Some("priv") => true,
        Some("nodes") => parts.nth(1) == Some("priv"),
        _ => false,
    }
}

/// Links lose their write bits with quorum too: that is how Proxmox VE tests it
/// (PVE::Cluster::check_cfs_quorum()).
fn mode(content: &Content, path: &str, quorate: bool) -> u16 {
    let (full, others) = match content {
        Content::Dir(_) | Content::Link(_) => (0o777, 0o755),
        Content::File(_) => (0o666, 0o750),
        // pmxcfs.c, create_symlinks()
        Content::Report(_) => return 0o440,
    };
    let mode = if quorate { full } else { full & 0o555 };
    mode & if private(path) { 0o700 } else { others }
}

pub(crate) fn seconds(time: TimeOrNow) -> u64 {
    let time = match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    };
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(crate) fn kind(content: &Content) -> FileType {
    match content {
        Content::Dir(_) => FileType::Directory,
        Content::Link(_) => FileType::Symlink,
        Content::File(_) | Content::Report(_) => FileType::RegularFile,
    }
}

pub(crate) fn attributes(store: &Store, inode: u64, quorate: bool) -> Option<FileAttr> {
    let node = store.get(inode)?;
    let size = match &node.content {
        Content::Dir(_) => 0,
        Content::File(bytes) => bytes.len(),
        Content::Link(target) => target.len(),
        Content::Report(report) => report.text(store, quorate).len(),
    };
    let kind = kind(&node.content);
    let time = UNIX_EPOCH + Duration::from_secs(node.mtime);
    Some(FileAttr {
        ino: INodeNo(inode),
        size: size as u64,
        blocks: size.div_ceil(4096) as u64,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: mode(&node.content, &store.path(inode)?, quorate),
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: 0,
        gid: GROUP,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}
