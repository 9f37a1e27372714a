//! Putting files into a root file system that is not ours to trust: a
//! container's.
//!
//! Every path is resolved again inside that root, links included, so that a
//! process that moves things at the same time can mislead us only within it. The last
//! component is never followed, new files are new, and who shall own one is set
//! on the open file.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, fsync, symlinkat, unlinkat};

use crate::atomic_dir::NewFile;
use crate::error::errno_error;
use crate::machine::split;
use crate::{FileError, InputFile, Machine, Owner, Stat};

fn ids(owner: Owner) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
}

impl Machine {
    /// Makes a directory where nothing is, its parent existing already. Whether
    /// it had to be made. Errors: the path is something else, or the kernel's.
    pub fn make_dir_as(&self, path: &str, mode: u32, owner: Owner) -> Result<bool, FileError> {
        let made = self.at(path, |parent, name| {
            match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
                Err(Errno::EEXIST) => return Ok(false),
                other => other.map_err(errno_error)?,
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let dir = openat(parent, name, flags, Mode::empty()).map_err(errno_error)?;
            self.own(dir.as_fd(), owner)?;
            fchmod(dir.as_fd(), Mode::from_bits_truncate(mode)).map_err(errno_error)?;
            Ok(true)
        });
        let made = made.map_err(|error| self.error("make", path, error))?;
        // what a link leads to is as good as a directory, within the root
        if !made {
            self.dir(path).map(drop)?;
        }
        Ok(made)
    }

    /// Gives a directory that was just made to its owner. With that owner's rights it has
    /// it already, and one that has another is not the one that was made: another
    /// process put it in its place.
    fn own(&self, dir: BorrowedFd<'_>, owner: Owner) -> io::Result<()> {
        if self.rights_of == Some(owner) && owner.0 != 0 {
            let found = Stat::from(fstat(dir).map_err(errno_error)?);
            return match found.uid == owner.0 {
                true => Ok(()),
                false => Err(io::Error::other("another process replaced it")),
            };
        }
        let (uid, gid) = ids(owner);
        fchown(dir, uid, gid).map_err(errno_error)
    }

    /// Makes a file where nothing is. Only root may read it until
    /// [`NewFile::finish`].
    pub fn new_file(&self, path: &str) -> Result<NewFile, FileError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let made = self.at(path, |parent, name| {
            let mode = Mode::from_bits_truncate(0o600);
            openat(parent, name, flags | OFlag::O_CLOEXEC, mode).map_err(errno_error)
        });
        match made {
            Ok(fd) => Ok(NewFile::of(fd.into(), self.shown(path))),
            Err(error) => Err(self.error("make", path, error)),
        }
    }

    /// Makes a symbolic link where nothing is.
    pub fn new_link(&self, path: &str, target: &str, owner: Owner) -> Result<(), FileError> {
        let made = self.at(path, |parent, name| {
            symlinkat(target, parent, name).map_err(errno_error)?;
            if self.rights_of == Some(owner) {
                return Ok(());
            }
            let (uid, gid) = ids(owner);
            fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(errno_error)
        });
        made.map_err(|error| self.error("make", path, error))
    }

    /// Gives what is at `path` another name in the same directory, in place of
    /// what has it.
    pub fn rename_beside(&self, path: &str, name: &str) -> Result<(), FileError> {
        let renamed = self.at(path, |parent, old| {
            renameat(parent, old, parent, OsStr::new(name)).map_err(errno_error)
        });
        renamed.map_err(|error| self.error("rename", path, error))
    }

    /// Removes a directory that is empty. Whether it is gone; one that holds
    /// something stays.
    pub fn remove_empty_dir(&self, path: &str) -> Result<bool, FileError> {
        let removed =
            self.at(path, |parent, name| match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => Ok(true),
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => Ok(false),
                Err(other) => Err(errno_error(other)),
            });
        match removed {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
            other => other.map_err(|error| self.error("remove", path, error)),
        }
    }

    /// Opens a regular file for reading from its beginning to its end. The last
    /// component is not followed, and a FIFO does not block us.
    pub fn open_file(&self, path: &str) -> Result<InputFile, FileError> {
        let open = || -> io::Result<std::fs::File> {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
            Ok(self.open(path, flags, Mode::empty())?.into())
        };
        let file = open().map_err(|error| self.error("read", path, error))?;
        let shown = self.shown(path);
        let opened = InputFile::of(file).map_err(|source| self.error("read", path, source))?;
        Ok(opened.named(shown))
    }

    /// Brings everything that was written to the file system of a path to disk.
    pub fn sync_file_system(&self, path: &str) -> Result<(), FileError> {
        let sync = || -> io::Result<()> {
            let dir = self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
            // SAFETY: a descriptor that `dir` keeps open.
            match unsafe { libc::syncfs(dir.as_raw_fd()) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        sync().map_err(|error| self.error("sync", path, error))
    }

    /// Writes a small file as a whole, in place of what has that name:
    /// a crash leaves the old one or the new one.
    pub fn put_as(
        &self,
        path: &str,
        bytes: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<(), FileError> {
        let (parent, name) = split(path);
        let temporary = format!("{}/.{name}.tmp", parent.trim_end_matches('/'));
        self.remove(&temporary)?;
        let put = || -> Result<(), FileError> {
            let mut file = self.new_file(&temporary)?;
            file.write(bytes)?;
            file.finish_synced(mode, owner)?;
            self.rename_beside(&temporary, name)?;
            let dir = self.dir(parent)?;
            fsync(dir.fd.as_fd()).map_err(|errno| self.error("sync", parent, errno_error(errno)))
        };
        put().inspect_err(|_| {
            // the first error is the one to tell
            let _ = self.remove(&temporary);
        })
    }

    /// The same machine, except that no path leads over a mount point: a running
    /// container may have mounted anything anywhere.
    pub fn on_one_mount(mut self) -> Machine {
        self.one_mount = true;
        self
    }

    /// The same machine, accessed with the rights of this user alone: a container's root.
    /// Only root can take another user's rights; another user has only his own.
    pub fn with_rights_of(mut self, owner: Owner) -> Machine {
        self.rights_of = Some(owner);
        self
    }

    pub(crate) fn how(&self, flags: OFlag, mode: Mode) -> OpenHow {
        use nix::fcntl::ResolveFlag;
        // IN_ROOT means no magic links today, which need not stay so (openat2(2))
        let mut resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if self.one_mount {
            resolve |= ResolveFlag::RESOLVE_NO_XDEV;
        }
        OpenHow::new().flags(flags).mode(mode).resolve(resolve)
    }
}

#[cfg(test)]
#[path = "untrusted_root_tests.rs"]
mod tests;
