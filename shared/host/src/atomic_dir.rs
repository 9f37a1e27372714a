//! A directory that appears complete or not at all.
//!
//! It is filled under another name beside its place and renamed when all of it
//! is on disk. Paths below it come from archives and are hostile: each is
//! resolved beneath the directory without following any link, by openat2(2).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, RenameFlags, ResolveFlag, open, openat, openat2, renameat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, fsync, linkat, symlinkat, unlinkat};

use crate::FileError;
use crate::error::errno_error;
use crate::lock::flock;
use crate::replace::alive;

const DIR: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Owner, permissions and time of an entry, as they are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// User and group; `None` leaves the caller's.
    pub owner: Option<(u32, u32)>,
    /// Permissions with set-id and sticky bits.
    pub mode: u32,
    /// Seconds since 1970; `None` leaves what it has.
    pub mtime: Option<u64>,
}

/// A directory in the making.
pub struct AtomicDir {
    parent: OwnedFd,
    parent_path: PathBuf,
    name: OsString,
    temporary: OsString,
    root: OwnedFd,
}

/// A file in it that is being written.
pub struct NewFile {
    file: File,
    path: String,
}

impl AtomicDir {
    /// Begins to make `target`. Its parent must be there, it must not. What a
    /// run that was killed left behind for the same target is removed.
    pub fn begin(target: &Path) -> Result<AtomicDir, FileError> {
        let place = NewDirParent::of(target)?;
        let begin = || -> Result<(OsString, OwnedFd), Errno> {
            remove_leftovers(&place.parent_path, &place.name);
            let temporary = temporary_name(&place.name, std::process::id());
            let parent = place.parent.as_fd();
            mkdirat(parent, temporary.as_os_str(), Mode::from_bits_truncate(0o700))?;
            let flags = DIR | OFlag::O_NOFOLLOW;
            let root = openat(parent, temporary.as_os_str(), flags, Mode::empty());
            // says that somebody is at it, also to those who do not see this process
            match root.and_then(|root| lock(&root).map(|()| root)) {
                Ok(root) => Ok((temporary, root)),
                Err(errno) => {
                    // the first error is the one to tell
                    let _ = unlinkat(parent, temporary.as_os_str(), UnlinkatFlags::RemoveDir);
                    Err(errno)
                }
            }
        };
        let (temporary, root) = begin().map_err(|errno| cannot_make(target, errno))?;
        let NewDirParent { parent, parent_path, name } = place;
        Ok(AtomicDir { parent, parent_path, name, temporary, root })
    }

    /// Where it is filled, until it has its name.
    pub fn path(&self) -> PathBuf {
        self.parent_path.join(&self.temporary)
    }

    /// Whether [`AtomicDir::begin`] could begin, as far as can be seen.
    pub fn could_begin(target: &Path) -> Result<(), FileError> {
        NewDirParent::of(target).map(drop)
    }

    fn error(&self, action: &'static str, path: &[u8], errno: Errno) -> FileError {
        let path = self.parent_path.join(&self.name).join(OsStr::from_bytes(path));
        FileError { action, path: path.display().to_string(), source: errno_error(errno) }
    }

    /// Makes a directory with those above it, where it does not exist.
    /// Only the caller may enter it until [`AtomicDir::finish_dir`].
    pub fn dir(&self, path: &[u8]) -> Result<(), FileError> {
        self.make_dir(path).map_err(|errno| self.error("make", path, errno))
    }

    /// Makes a file, in place of an existing file or link.
    pub fn file(&self, path: &[u8]) -> Result<NewFile, FileError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let made = self.in_parent(path, |parent, name| {
            let open =
                || openat(parent, name, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o600));
            match open() {
                Err(Errno::EEXIST) => {
                    unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?;
                    open()
                }
                other => other,
            }
        });
        let fd = made.map_err(|errno| self.error("make", path, errno))?;
        Ok(NewFile { file: File::from(fd), path: self.error("", path, Errno::EIO).path })
    }

    /// Makes a symbolic link, in place of an existing file or link.
    pub fn symlink(
        &self,
        path: &[u8],
        target: &[u8],
        owner: Option<(u32, u32)>,
    ) -> Result<(), FileError> {
        let target = OsStr::from_bytes(target);
        let made = self.in_parent(path, |parent, name| {
            match symlinkat(target, parent, name) {
                Err(Errno::EEXIST) => {
                    unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?;
                    symlinkat(target, parent, name)
                }
                other => other,
            }?;
            let Some((uid, gid)) = owner else { return Ok(()) };
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            fchownat(parent, name, uid, gid, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        });
        made.map_err(|errno| self.error("make", path, errno))
    }

    /// Makes another name of an existing regular file.
    pub fn hardlink(&self, path: &[u8], to: &[u8]) -> Result<(), FileError> {
        let link = || -> Result<(), Errno> {
            // a link's own target must not be what the new name means
            let file = self.beneath(to, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
            let found = nix::sys::stat::fstat(file.as_fd())?;
            if found.st_mode & libc::S_IFMT != libc::S_IFREG {
                return Err(Errno::EPERM);
            }
            let same = nix::fcntl::AtFlags::empty();
            self.in_parent(to, |from, old| {
                self.in_parent(path, |parent, name| match linkat(from, old, parent, name, same) {
                    Err(Errno::EEXIST) if path != to => {
                        unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?;
                        linkat(from, old, parent, name, same)
                    }
                    other => other,
                })
            })
        };
        link().map_err(|errno| self.error("link", path, errno))
    }

    /// Gives a directory its owner, permissions and time; to be called when all
    /// of it is made, those below first. An empty path is the whole.
    pub fn finish_dir(&self, path: &[u8], attributes: Attributes) -> Result<(), FileError> {
        let finish = || -> Result<(), Errno> {
            let fd = self.beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            apply(fd.as_fd(), attributes)
        };
        finish().map_err(|errno| self.error("set the attributes of", path, errno))
    }

    /// Brings everything to disk and gives it its name. Errors: something is
    /// there by that name now, or the kernel's; the caller discards then.
    pub fn commit(&self) -> Result<(), FileError> {
        let commit = || -> Result<(), Errno> {
            // one call for some thousand files instead of one for each
            // SAFETY: a descriptor that `self` keeps open.
            Errno::result(unsafe { libc::syncfs(self.root.as_raw_fd()) })?;
            let flags = RenameFlags::RENAME_NOREPLACE;
            let (from, to) = (self.temporary.as_os_str(), self.name.as_os_str());
            renameat2(self.parent.as_fd(), from, self.parent.as_fd(), to, flags)
        };
        commit().map_err(|errno| self.error("make", b"", errno))?;
        // it exists and is complete; a parent that cannot be synced is an error
        fsync(self.parent.as_fd()).map_err(|errno| self.error("sync", b"", errno))
    }

    /// Removes everything again.
    pub fn discard(&self) -> Result<(), FileError> {
        let path = self.parent_path.join(&self.temporary);
        std::fs::remove_dir_all(&path).map_err(|source| FileError {
            action: "remove",
            path: path.display().to_string(),
            source,
        })
    }

    fn make_dir(&self, path: &[u8]) -> Result<(), Errno> {
        if path.is_empty() {
            return Ok(());
        }
        let made = self.in_parent(path, |parent, name| {
            match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
                Err(Errno::EEXIST) => {
                    openat(parent, name, DIR | OFlag::O_NOFOLLOW, Mode::empty()).map(drop)
                }
                other => other,
            }
        });
        match made {
            // O_NOFOLLOW on a link with O_DIRECTORY
            Err(Errno::ELOOP) => Err(Errno::ENOTDIR),
            other => other,
        }
    }

    /// Calls `f` with the directory that holds `path`, made where needed, and
    /// the last component.
    fn in_parent<T>(
        &self,
        path: &[u8],
        f: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let at = path.iter().rposition(|b| *b == b'/');
        let Some(at) = at else { return f(self.root.as_fd(), OsStr::from_bytes(path)) };
        let (parent, name) = (&path[..at], OsStr::from_bytes(&path[at + 1..]));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let fd = match self.beneath(parent, flags) {
            Err(Errno::ENOENT) => {
                self.make_dir(parent)?;
                self.beneath(parent, flags)?
            }
            other => other?,
        };
        f(fd.as_fd(), name)
    }

    fn beneath(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        openat2(self.root.as_fd(), OsStr::from_bytes(path), how)
    }
}

impl NewFile {
    pub(crate) fn of(file: File, path: String) -> NewFile {
        NewFile { file, path }
    }

    /// Gives it its owner and permissions and brings it to disk.
    pub(crate) fn finish_synced(self, mode: u32, owner: (u32, u32)) -> Result<(), FileError> {
        let attributes = Attributes { owner: Some(owner), mode, mtime: None };
        let finished = apply(self.file.as_fd(), attributes).and_then(|()| fsync(self.file.as_fd()));
        finished.map_err(|errno| FileError {
            action: "write",
            path: self.path,
            source: errno_error(errno),
        })
    }

    /// Writes what follows.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let path = &self.path;
        self.file.write_all(bytes).map_err(|source| FileError {
            action: "write",
            path: path.clone(),
            source,
        })
    }

    /// Gives it its owner, permissions and time.
    pub fn finish(self, attributes: Attributes) -> Result<(), FileError> {
        apply(self.file.as_fd(), attributes).map_err(|errno| FileError {
            action: "set the attributes of",
            path: self.path,
            source: errno_error(errno),
        })
    }
}

/// The owner first: chown(2) takes set-id bits away.
fn apply(fd: BorrowedFd<'_>, attributes: Attributes) -> Result<(), Errno> {
    if let Some((uid, gid)) = attributes.owner {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(fd, Mode::from_bits_truncate(attributes.mode))?;
    let Some(mtime) = attributes.mtime else { return Ok(()) };
    let seconds = i64::try_from(mtime).unwrap_or(i64::MAX);
    let times = [
        libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        libc::timespec { tv_sec: seconds, tv_nsec: 0 },
    ];
    // SAFETY: an open descriptor and an array of two.
    Errno::result(unsafe { libc::futimens(fd.as_raw_fd(), times.as_ptr()) }).map(drop)
}

/// Where a directory is to be.
struct NewDirParent {
    parent: OwnedFd,
    parent_path: PathBuf,
    name: OsString,
}

impl NewDirParent {
    /// Errors: nothing can be made there, or the path exists.
    fn of(target: &Path) -> Result<NewDirParent, FileError> {
        // "dir/." and ".." name no entry of a parent
        let name = target.file_name().ok_or_else(|| cannot_make(target, Errno::EEXIST))?;
        let parent_path = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let no_follow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        let look = || -> Result<OwnedFd, Errno> {
            let parent = open(&parent_path, DIR, Mode::empty())?;
            match nix::sys::stat::fstatat(parent.as_fd(), name, no_follow) {
                Ok(_) => Err(Errno::EEXIST),
                Err(Errno::ENOENT) => Ok(parent),
                Err(other) => Err(other),
            }
        };
        let parent = look().map_err(|errno| cannot_make(target, errno))?;
        Ok(NewDirParent { parent, parent_path, name: name.to_os_string() })
    }
}

fn cannot_make(target: &Path, errno: Errno) -> FileError {
    FileError { action: "make", path: target.display().to_string(), source: errno_error(errno) }
}

/// Locks a directory that is being filled, until it is closed.
fn lock(dir: &OwnedFd) -> Result<(), Errno> {
    flock(dir, libc::LOCK_EX | libc::LOCK_NB)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Hidden, so that no glob takes it for the real one.
fn temporary_name(name: &OsStr, pid: u32) -> OsString {
    let mut bytes = b".".to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(format!(".tmp.{pid}").as_bytes());
    OsString::from_vec(bytes)
}

/// Removes what runs that are gone left behind; what cannot be removed is no
/// reason to fail.
fn remove_leftovers(parent: &Path, name: &OsStr) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let mut prefix = b".".to_vec();
    prefix.extend_from_slice(name.as_bytes());
    prefix.extend_from_slice(b".tmp.");
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.as_bytes().strip_prefix(prefix.as_slice());
        let pid = pid.and_then(|pid| std::str::from_utf8(pid).ok()?.parse::<i32>().ok());
        let ours =
            pid.is_some_and(|pid| pid > 0 && (!alive(pid) || pid == std::process::id() as i32));
        let abandoned = || -> Result<(), Errno> {
            lock(&open(&entry.path(), DIR | OFlag::O_NOFOLLOW, Mode::empty())?)
        };
        // its process may live where its number means nothing to us, in a
        // container: then its lock is held
        if ours && abandoned().is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
#[path = "atomic_dir_tests.rs"]
mod tests;
