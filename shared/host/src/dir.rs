//! Open directories, and what is read through them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use crate::error::errno_error;
use crate::machine::{DIR, split};
use crate::{FileError, Machine, Stat};

/// An open directory. Names are single components; none is followed out.
pub struct Dir<'a> {
    machine: &'a Machine,
    pub(crate) fd: OwnedFd,
    path: String,
}

impl<'a> Dir<'a> {
    pub(crate) fn new(machine: &'a Machine, fd: OwnedFd, path: &str) -> Dir<'a> {
        Dir { machine, fd, path: path.to_string() }
    }

    /// A directory below this one, several components away. No link is
    /// followed: where there is one, that is an error (ELOOP), below `--root`
    /// at any component and on the host, whose links are trusted, at the last.
    pub fn below(&self, path: &str) -> io::Result<Dir<'a>> {
        let fd = self.open_below(path, DIR)?;
        Ok(Dir { machine: self.machine, fd, path: format!("{}/{path}", self.path) })
    }

    fn open_below(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let _rights = self.machine.rights()?;
        if self.machine.is_host() || !path.contains('/') {
            return openat(self.fd.as_fd(), path, flags, Mode::empty()).map_err(errno_error);
        }
        let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let resolve = match self.machine.one_mount {
            true => inside | ResolveFlag::RESOLVE_NO_XDEV,
            false => inside,
        };
        let how = OpenHow::new().flags(flags).resolve(resolve);
        openat2(self.fd.as_fd(), path, how).map_err(errno_error)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn error(&self, action: &'static str, name: &str, source: io::Error) -> FileError {
        self.machine.error(action, &format!("{}/{name}", self.path.trim_end_matches('/')), source)
    }

    /// Names in it, sorted. To be called once: the position in the directory
    /// is that of the open file.
    pub fn list(&self) -> Result<Vec<String>, FileError> {
        names(self.fd.as_fd()).map_err(|source| FileError {
            action: "list",
            path: self.machine.shown(&self.path),
            source,
        })
    }

    /// The bytes of one attribute, at most 64 KiB: the kernel gives a page, and
    /// procfs files that we read are small. It may lie further below, with no
    /// link on the way (see [`Dir::below`]).
    pub fn attr(&self, path: &str) -> io::Result<Vec<u8>> {
        let fd = self.open_below(path, OFlag::O_RDONLY)?;
        // hundreds are read, and nearly all have a few bytes
        let mut page = [0u8; 4096];
        let mut bytes = Vec::new();
        loop {
            let got = match nix::unistd::read(fd.as_fd(), &mut page) {
                Ok(got) => got,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno_error(errno)),
            };
            bytes.extend_from_slice(&page[..got]);
            // A page not filled is the whole of an attribute: spare the second read.
            if got < page.len() || bytes.len() >= 64 << 10 {
                break;
            }
        }
        Ok(bytes)
    }

    /// Whether there is anything of that name.
    pub fn has(&self, name: &str) -> bool {
        self.stat(name).is_ok()
    }

    /// Where a link points, unresolved.
    pub fn read_link(&self, name: &str) -> io::Result<String> {
        let target = readlinkat(self.fd.as_fd(), name).map_err(errno_error)?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// Last component of what a link points to, which in sysfs names the driver,
    /// group or function.
    pub fn link_name(&self, name: &str) -> io::Result<String> {
        let target = readlinkat(self.fd.as_fd(), name).map_err(errno_error)?;
        let bytes = target.as_bytes();
        let at = bytes.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        Ok(String::from_utf8_lossy(&bytes[at..]).into_owned())
    }

    /// Names in a directory directly below this one, sorted.
    pub fn list_below(&self, name: &str) -> Result<Vec<String>, FileError> {
        self.below(name).map_err(|error| self.error("open", name, error))?.list()
    }

    /// Bytes that a file of this user may still take on its file system.
    pub fn free(&self) -> io::Result<u64> {
        let found = nix::sys::statvfs::fstatvfs(self.fd.as_fd()).map_err(errno_error)?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    }

    pub(crate) fn stat(&self, name: &str) -> io::Result<Stat> {
        let stat = fstatat(self.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW);
        Ok(stat.map_err(errno_error)?.into())
    }

    pub(crate) fn unlink(&self, name: &str) -> io::Result<()> {
        let _rights = self.machine.rights()?;
        nix::unistd::unlinkat(self.fd.as_fd(), name, nix::unistd::UnlinkatFlags::NoRemoveDir)
            .map_err(errno_error)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _rights = self.machine.rights()?;
        nix::fcntl::renameat(self.fd.as_fd(), from, self.fd.as_fd(), to).map_err(errno_error)
    }

    pub(crate) fn open(&self, name: &str, flags: OFlag, mode: u32) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let _rights = self.machine.rights()?;
        let fd = openat(self.fd.as_fd(), name, flags, Mode::from_bits_truncate(mode))
            .map_err(errno_error)?;
        Ok(File::from(fd))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        nix::unistd::fsync(self.fd.as_fd()).map_err(errno_error)
    }
}

impl Machine {
    /// Opens a directory. Errors: as open(2).
    pub fn dir(&self, path: &str) -> Result<Dir<'_>, FileError> {
        match self.open(path, DIR, Mode::empty()) {
            Ok(fd) => Ok(Dir::new(self, fd, path)),
            Err(error) => Err(self.error("open", path, error)),
        }
    }

    /// Names in a directory, sorted; an absent directory has none.
    pub fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        match self.dir(path) {
            Ok(dir) => dir.list(),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Makes the directories above a path that do not exist, and has their
    /// names written to the disk: a file that is safe in a directory that is not
    /// would be lost with it.
    pub(crate) fn make_parents(&self, path: &str) -> Result<(), FileError> {
        let ends = path.char_indices().filter(|(at, c)| *c == '/' && *at > 0).map(|(at, _)| at);
        for end in ends {
            let dir = &path[..end];
            if !self.exists(dir) {
                self.make_dir(dir).map_err(|source| self.error("make", dir, source))?;
                // /run is empty at the next boot
                if path.starts_with("/run/") {
                    continue;
                }
                let (above, _) = split(dir);
                let synced = self.dir(above)?.sync();
                synced.map_err(|source| self.error("sync", above, source))?;
            }
        }
        Ok(())
    }

    /// Makes one directory where none is, its parent existing already.
    pub(crate) fn make_dir(&self, path: &str) -> io::Result<()> {
        self.make_dir_with(path, 0o755)
    }

    /// The same with a mode. A directory that exists keeps its own.
    pub(crate) fn make_dir_with(&self, path: &str, mode: u32) -> io::Result<()> {
        let made = self.at(path, |dir, name| {
            nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(mode)).map_err(errno_error)
        });
        match made {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }
}

/// Names in an open directory, sorted, without `.` and `..`: getdents64(2) as
/// it is, since opendir(3) takes three more calls, and a machine has hundreds
/// of directories to list.
fn names(fd: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    /// Offsets in struct linux_dirent64: d_reclen, d_name.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    /// A directory with more is a trap.
    const MOST: usize = 1 << 20;
    let mut buffer = [0u8; 16 << 10];
    let mut names = Vec::new();
    loop {
        // SAFETY: the kernel writes at most the buffer's length.
        let got = unsafe {
            libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
        };
        let filled = match usize::try_from(got) {
            Ok(0) => break,
            Ok(filled) => filled,
            Err(_) => return Err(io::Error::last_os_error()),
        };
        let mut rest = &buffer[..filled];
        while let Some(length) = rest.get(LENGTH..LENGTH + 2) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let Some(name) = rest.get(NAME..length) else { break };
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            if !matches!(&name[..end], b"." | b"..") {
                names.push(String::from_utf8_lossy(&name[..end]).into_owned());
            }
            rest = &rest[length..];
        }
        if names.len() > MOST {
            return Err(io::Error::other(format!("more than {MOST} names")));
        }
    }
    names.sort_unstable();
    Ok(names)
}
