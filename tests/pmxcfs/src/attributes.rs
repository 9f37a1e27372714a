//! What stat(2) says: never what chmod(2) or the mode of open(2) asked for.

use std::time::{Duration, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

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

pub(crate) fn attributes(store: &Store, inode: u64, quorate: bool) -> Option<FileAttr> {
    let node = store.get(inode)?;
    let (kind, size) = match &node.content {
        Content::Dir(_) => (FileType::Directory, 0),
        Content::File(bytes) => (FileType::RegularFile, bytes.len()),
        Content::Link(target) => (FileType::Symlink, target.len()),
        Content::Report(report) => (FileType::RegularFile, report.text(store, quorate).len()),
    };
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
