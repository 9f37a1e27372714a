//! FUSE requests. Every one is logged, and fails where a fault, an error of the
//! database or the lack of quorum says so.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};

use crate::attributes::{GROUP, kind, private, seconds};
use crate::fault::{Logged, Op};
use crate::state::{State, lock};
use crate::store::{Content, MOST_BYTES, MOST_FILES, Store};

pub(crate) struct Served(pub Arc<Mutex<State>>);

/// Where a request goes to.
#[derive(Clone, Copy)]
enum At<'a> {
    Inode(INodeNo),
    Name(INodeNo, &'a str),
}

impl Served {
    /// Answers one request and logs it.
    fn ask<T>(
        &self,
        request: &Request,
        op: Op,
        at: At<'_>,
        act: impl FnOnce(&mut State) -> Result<T, i32>,
    ) -> Result<T, Errno> {
        self.ask_two(request, op, at, None, act)
    }

    fn ask_two<T>(
        &self,
        request: &Request,
        op: Op,
        at: At<'_>,
        to: Option<(INodeNo, &str)>,
        act: impl FnOnce(&mut State) -> Result<T, i32>,
    ) -> Result<T, Errno> {
        let mut state = lock(&self.0);
        let path = match at {
            At::Inode(inode) => state.store.path(inode.into()).unwrap_or_else(|| "?".to_string()),
            At::Name(parent, name) => state.store.below(parent.into(), name),
        };
        let to = to.map(|(parent, name)| state.store.below(parent.into(), name));
        let answer = state.gate(op).and_then(|()| act(&mut state));
        let errno = *answer.as_ref().err().unwrap_or(&0);
        state.log.push(Logged { op, path, to, errno, pid: request.pid() });
        answer.map_err(Errno::from_i32)
    }

    fn ttl(&self) -> Duration {
        lock(&self.0).cache
    }

    fn entry(&self, answer: Result<FileAttr, Errno>, reply: ReplyEntry) {
        match answer {
            Ok(attr) => reply.entry(&self.ttl(), &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }
}

/// Names that are not UTF-8 are nobody's.
fn text(name: &OsStr) -> &str {
    name.to_str().unwrap_or("\u{fffd}")
}

fn done(answer: Result<(), Errno>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// pmxcfs.c, cfs_fuse_open(): no page cache, hence no shared mmap(2).
const OPENED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

/// What is not here is not in pmxcfs either: fsync(2) and close(2) then succeed
/// in the kernel, extended attributes, O_TMPFILE and fallocate(2) are
/// EOPNOTSUPP, copy_file_range(2) is done by the kernel, locks are its own.
impl Filesystem for Served {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // libfuse 2 with big_writes; a smaller limit of the kernel's stands
        let _ = config.set_max_write(128 << 10);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = text(name);
        let answer = self.ask(request, Op::Lookup, At::Name(parent, name), |state| {
            state.attr(state.store.lookup(parent.into(), name)?)
        });
        self.entry(answer, reply);
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let answer =
            self.ask(request, Op::Getattr, At::Inode(inode), |state| state.attr(inode.into()));
        match answer {
            Ok(attr) => reply.attr(&self.ttl(), &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let at = At::Inode(inode);
        let number = u64::from(inode);
        let set = || -> Result<FileAttr, Errno> {
            if let Some(mode) = mode {
                self.ask(request, Op::Chmod, at, |state| {
                    let path = state.store.path(number).ok_or(libc::ENOENT)?;
                    let only = if private(&path) { 0o600 } else { 0o640 };
                    if mode & 0o7777 == only { Ok(()) } else { Err(libc::EPERM) }
                })?;
            }
            if uid.is_some() || gid.is_some() {
                self.ask(request, Op::Chown, at, |_| {
                    let allowed = uid.unwrap_or(0) == 0 && gid.unwrap_or(GROUP) == GROUP;
                    if allowed { Ok(()) } else { Err(libc::EPERM) }
                })?;
            }
            if let Some(size) = size {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                self.ask(request, Op::Truncate, at, |state| state.store.truncate(number, size))?;
            }
            // libfuse 2 passes on both times or none
            if let (Some(_), Some(mtime)) = (atime, mtime) {
                let mtime = seconds(mtime);
                self.ask(request, Op::Utimens, at, |state| state.store.touch(number, mtime))?;
            }
            lock(&self.0).attr(number).map_err(Errno::from_i32)
        };
        match set() {
            Ok(attr) => reply.attr(&self.ttl(), &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let answer = self.ask(request, Op::Readlink, At::Inode(inode), |state| {
            match state.store.get(inode.into()).map(|node| &node.content) {
                Some(Content::Link(target)) => Ok(target.clone()),
                Some(_) => Err(libc::EACCES),
                None => Err(libc::ENOENT),
            }
        });
        match answer {
            Ok(target) => reply.data(target.as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let write = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let op = if write { Op::OpenWrite } else { Op::OpenRead };
        // no quorum needed: only write(2) fails (cfs-plug-memdb.c, open), and the
        // missing write bits do not stop root
        let answer = self.ask(request, op, At::Inode(inode), |state| {
            state.store.get_mut(inode.into()).ok_or(libc::ENOENT)?.opens += 1;
            Ok(())
        });
        match answer {
            Ok(()) => reply.opened(FileHandle(0), OPENED),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let answer = self.ask(request, Op::Read, At::Inode(inode), |state| {
            let bytes = match &state.store.get(inode.into()).ok_or(libc::ENOENT)?.content {
                Content::File(bytes) => bytes.clone(),
                Content::Report(report) => report.text(&state.store, state.quorate).into_bytes(),
                Content::Dir(_) | Content::Link(_) => return Err(libc::EACCES),
            };
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            Ok(rest[..rest.len().min(size as usize)].to_vec())
        });
        match answer {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let answer = self.ask(request, Op::Write, At::Inode(inode), |state| {
            let offset = usize::try_from(offset).map_err(|_| libc::EFBIG)?;
            state.store.write(inode.into(), offset, data)
        });
        match answer {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut last = None;
        let _ = self.ask(request, Op::Release, At::Inode(inode), |state| {
            let node = state.store.get_mut(inode.into()).ok_or(libc::ENOENT)?;
            node.opens = node.opens.saturating_sub(1);
            if node.hidden && node.opens == 0 {
                last = Some((node.parent, node.name.clone()));
            }
            Ok(())
        });
        if let Some((parent, name)) = last {
            // without quorum it stays
            let at = At::Name(INodeNo(parent), &name);
            let _ = self.ask(request, Op::Unlink, at, |state| state.store.remove(parent, &name));
        }
        reply.ok();
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let answer = self.ask(request, Op::Readdir, At::Inode(inode), |state| {
            let children = state.store.children(inode.into())?;
            let entries = children.iter().filter_map(|(name, child)| {
                let kind = kind(&state.store.get(*child)?.content);
                Some((INodeNo(*child), kind, name.clone()))
            });
            Ok(entries.collect::<Vec<_>>())
        });
        let entries = match answer {
            Ok(entries) => entries,
            Err(errno) => return reply.error(errno),
        };
        let dots = [".", ".."].map(|name| (inode, FileType::Directory, name.to_string()));
        let all = dots.into_iter().chain(entries).enumerate().skip(offset as usize);
        for (at, (inode, kind, name)) in all {
            if reply.add(inode, at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let name = text(name);
        let answer = self.ask(request, Op::Create, At::Name(parent, name), |state| {
            let inode = state.store.create(parent.into(), name)?;
            state.store.get_mut(inode).ok_or(libc::EIO)?.opens += 1;
            state.attr(inode)
        });
        match answer {
            Ok(attr) => reply.created(&self.ttl(), &attr, Generation(0), FileHandle(0), OPENED),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let name = text(name);
        let answer = self.ask(request, Op::Mkdir, At::Name(parent, name), |state| {
            let inode = state.store.mkdir(parent.into(), name)?;
            state.attr(inode)
        });
        self.entry(answer, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = text(name);
        let answer = self.ask(request, Op::Unlink, At::Name(parent, name), |state| {
            if is_open(&state.store, parent, name) {
                return state.store.hide(parent.into(), name);
            }
            state.store.remove(parent.into(), name)
        });
        done(answer, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = text(name);
        let answer = self.ask(request, Op::Rmdir, At::Name(parent, name), |state| {
            state.store.remove(parent.into(), name)
        });
        done(answer, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, new_name) = (text(name), text(new_name));
        let (at, to) = (At::Name(parent, name), Some((new_parent, new_name)));
        let answer = self.ask_two(request, Op::Rename, at, to, |state| {
            // libfuse 2 has no renameat2(2); onto an existing file the kernel
            // says EEXIST to RENAME_NOREPLACE before it asks
            if !flags.is_empty() {
                return Err(libc::EINVAL);
            }
            if is_open(&state.store, new_parent, new_name) {
                state.store.hide(new_parent.into(), new_name)?;
            }
            state.store.rename((parent.into(), name), (new_parent.into(), new_name))
        });
        done(answer, reply);
    }

    fn link(&self, request: &Request, inode: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        self.entry(self.ask(request, Op::Link, At::Inode(inode), |_| Err(libc::EPERM)), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: &Path,
        reply: ReplyEntry,
    ) {
        let at = At::Name(parent, text(name));
        self.entry(self.ask(request, Op::Symlink, at, |_| Err(libc::ENOSYS)), reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (bytes, files) = lock(&self.0).store.usage();
        let blocks = MOST_BYTES as u64 / 4096;
        let free = blocks.saturating_sub(bytes.div_ceil(4096) as u64);
        let inodes = MOST_FILES as u64;
        let free_inodes = inodes.saturating_sub(files as u64);
        reply.statfs(blocks, free, free, inodes, free_inodes, 4096, 256, 4096);
    }
}

fn is_open(store: &Store, parent: INodeNo, name: &str) -> bool {
    let inode = store.lookup(parent.into(), name).ok();
    inode.and_then(|inode| store.get(inode)).is_some_and(|node| node.opens > 0)
}
