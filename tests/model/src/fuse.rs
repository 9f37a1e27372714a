//! FUSE requests, answered by the model.

use std::ffi::OsStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::attr::Attr;
use crate::blocked::WriteOutcome;
use crate::caller::kill;
use crate::files::Node;
use crate::inodes::{Inodes, Open, lock};
use crate::{ModelKernel, NodeView};

/// The kernel keeps nothing: what is there changes behind its back.
const TTL: Duration = Duration::ZERO;

pub(crate) struct ModelFs {
    pub model: Arc<ModelKernel>,
    /// Set when the mount goes away: nobody may be kept waiting any more.
    pub stop: Arc<AtomicBool>,
    /// Whether callers that are killed wait on.
    pub uninterruptible: Arc<AtomicBool>,
    inodes: Mutex<Inodes>,
    pub open: Arc<Mutex<Open>>,
}

fn kind_of(view: &NodeView) -> FileType {
    match view {
        NodeView::Dir(_) => FileType::Directory,
        NodeView::File => FileType::RegularFile,
        NodeView::Link(_) => FileType::Symlink,
    }
}

impl ModelFs {
    pub fn new(
        model: Arc<ModelKernel>,
        stop: Arc<AtomicBool>,
        uninterruptible: Arc<AtomicBool>,
    ) -> ModelFs {
        let (inodes, open) = (Mutex::default(), Arc::default());
        let fs = ModelFs { model, stop, uninterruptible, inodes, open };
        fs.number("/", FileType::Directory);
        fs
    }

    fn number(&self, path: &str, kind: FileType) -> INodeNo {
        INodeNo(lock(&self.inodes).number(path, kind as u8))
    }

    /// The canonical path of an inode.
    fn path(&self, inode: INodeNo) -> Result<String, Errno> {
        lock(&self.inodes).path(u64::from(inode)).ok_or(Errno::ENOENT)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<String, Errno> {
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        Ok(format!("{}/{name}", self.path(parent)?.trim_end_matches('/')))
    }

    fn view(&self, path: &str) -> Result<NodeView, Errno> {
        self.model.lookup(path, false).map_err(Errno::from_i32)
    }

    fn attributes(&self, path: &str) -> Result<FileAttr, Errno> {
        let view = self.view(path)?;
        let state = self.model.lock();
        let attr = state.attribute(path);
        let length = state.files.bytes(path).map_or(0, <[u8]>::len) as u64;
        let (perm, size) = match (&view, &attr) {
            (NodeView::Dir(_), _) => (0o755, 0),
            (NodeView::Link(target), _) => (0o777, target.len() as u64),
            // a page, as sysfs says; also, the kernel lets writes inside the
            // size of a file go on side by side
            (NodeView::File, Some(attr)) if attr.write_only() => (0o200, 4096),
            (NodeView::File, Some(_)) => (0o644, 4096),
            (NodeView::File, None) if path.starts_with("/sys/") => (0o444, length.max(4096)),
            (NodeView::File, None) => (0o644, length),
        };
        drop(state);
        Ok(FileAttr {
            ino: self.number(path, kind_of(&view)),
            size,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: kind_of(&view),
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn refuse(&self) -> Errno {
        self.model.lock().counters.refused += 1;
        Errno::EPERM
    }

    fn open_file(&self, inode: INodeNo, mode: OpenAccMode) -> Result<u64, Errno> {
        let path = self.path(inode)?;
        let state = self.model.lock();
        if !matches!(state.files.node(&path), Some(Node::File(_))) {
            return Err(Errno::ENOENT);
        }
        // kernfs_fop_open(): what has no such function cannot be opened for it
        let attr = state.attribute(&path);
        let (read, write) = (mode != OpenAccMode::O_WRONLY, mode != OpenAccMode::O_RDONLY);
        if read && attr.as_ref().is_some_and(Attr::write_only) || write && attr.is_none() {
            return Err(Errno::EACCES);
        }
        drop(state);
        Ok(lock(&self.open).add())
    }
}

impl Filesystem for ModelFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.child(parent, name).and_then(|path| self.attributes(&path)) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.path(inode).and_then(|path| self.attributes(&path)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if size.is_none() || !self.model.lock().truncates {
            return reply.error(self.refuse());
        }
        match self.path(inode).and_then(|path| self.attributes(&path)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        match self.path(inode).and_then(|path| self.view(&path)) {
            Ok(NodeView::Link(target)) => reply.data(target.as_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let parallel = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        match self.open_file(inode, flags.acc_mode()) {
            Ok(handle) => reply.opened(FileHandle(handle), parallel),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let handle = u64::from(handle);
        if offset == 0 {
            let path = match self.path(inode) {
                Ok(path) => path,
                Err(errno) => return reply.error(errno),
            };
            match self.model.try_read(&path) {
                Ok(Some(bytes)) => {
                    if let Some(handle) = lock(&self.open).handles.get_mut(&handle) {
                        handle.content = bytes;
                    }
                }
                Ok(None) => return self.read_later(path, request.pid(), handle, reply),
                // an attribute that went away while it was open
                Err(libc::ENOENT) => return reply.error(Errno::ENODEV),
                Err(errno) => return reply.error(Errno::from_i32(errno)),
            }
        }
        let open = lock(&self.open);
        let content = open.handles.get(&handle).map_or(&[][..], |handle| &handle.content);
        let rest = content.get(offset as usize..).unwrap_or_default();
        reply.data(&rest[..rest.len().min(size as usize)]);
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let path = match self.path(inode) {
            Ok(path) => path,
            Err(errno) => return reply.error(errno),
        };
        let size = data.len() as u32;
        let attr = self.model.lock().attribute(&path);
        if let Some(Attr::UnbindLock(_)) = attr {
            if let Some(handle) = lock(&self.open).handles.get_mut(&u64::from(handle)) {
                handle.at_close = Some(data.to_vec());
            }
            return reply.written(size);
        }
        match self.model.write(&path, data) {
            Ok(WriteOutcome::Done) => reply.written(size),
            Ok(WriteOutcome::Blocked(ticket)) => {
                self.answer_later(ticket, request.pid(), size, reply);
            }
            Ok(WriteOutcome::Died) => {
                kill(request.pid());
                reply.error(Errno::EINTR);
            }
            Err(libc::ENOENT) if attr.is_none() => reply.error(Errno::ENODEV),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        }
    }

    /// Comes before close(2) returns, unlike release.
    fn flush(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        let mut open = lock(&self.open);
        let handle = open.handles.get_mut(&u64::from(handle));
        let value = handle.and_then(|handle| handle.at_close.take());
        drop(open);
        if let (Some(value), Ok(path)) = (value, self.path(inode)) {
            match self.model.write(&path, &value) {
                Ok(WriteOutcome::Died) => kill(request.pid()),
                Err(errno) => return reply.error(Errno::from_i32(errno)),
                Ok(_) => {}
            }
        }
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.open).handles.remove(&u64::from(handle));
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let path = match self.path(inode) {
            Ok(path) => path,
            Err(errno) => return reply.error(errno),
        };
        let names = match self.view(&path) {
            Ok(NodeView::Dir(names)) => names,
            Ok(_) => return reply.error(Errno::ENOTDIR),
            Err(errno) => return reply.error(errno),
        };
        let dots = [".", ".."].map(|name| (inode, FileType::Directory, name.to_string()));
        let below = path.trim_end_matches('/');
        let entries = names.into_iter().filter_map(|name| {
            let path = format!("{below}/{name}");
            let kind = kind_of(&self.view(&path).ok()?);
            Some((self.number(&path, kind), kind, name))
        });
        for (at, (inode, kind, name)) in
            dots.into_iter().chain(entries).enumerate().skip(offset as usize)
        {
            if reply.add(inode, at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(self.refuse());
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refuse());
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refuse());
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refuse());
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse());
    }
}
