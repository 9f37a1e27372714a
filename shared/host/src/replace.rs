//! Replacing a file as a whole: a crash at any instruction leaves the old file
//! or the new one.
//!
//! The recipe is the one that pmxcfs (/etc/pve) takes, which is stricter than a
//! disk file system: a temporary with a name in the same directory (O_TMPFILE
//! is ENOTSUP there), rename without flags, chmod and chown only where they
//! would change something (anything but 0640 root:www-data is EPERM there).

use std::fmt;
use std::io::{self, Write};

use nix::fcntl::OFlag;
use std::os::fd::AsFd;

use crate::dir::Dir;
use crate::error::{errno_error, reason};
use crate::machine::{FileKind, Machine, read_capped, split};
use crate::{FileError, Stat};

/// Why a file was not replaced. In every case but [`ReplaceError::Unsure`] the
/// old file is untouched.
#[derive(Debug)]
pub enum ReplaceError {
    /// The file is not what the caller read before: another process wrote it.
    Changed {
        /// The file.
        path: String,
    },
    /// A step failed.
    File(FileError),
    /// The new file is in place, but the kernel would not say that it is on disk.
    Unsure(FileError),
}

impl fmt::Display for ReplaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplaceError::Changed { path } => {
                write!(f, "'{path}' was modified by another process")
            }
            ReplaceError::File(error) => error.fmt(f),
            ReplaceError::Unsure(error) => {
                write!(f, "{error}; the new content may not survive a power failure")
            }
        }
    }
}

impl std::error::Error for ReplaceError {}

impl ReplaceError {
    /// The error number behind it, 0 where there is none.
    pub fn errno(&self) -> i32 {
        match self {
            ReplaceError::Changed { .. } => 0,
            ReplaceError::File(error) | ReplaceError::Unsure(error) => error.errno(),
        }
    }
}

impl Machine {
    /// Replaces an existing regular file whose content is `old` by `new`, mode
    /// and owner kept. `ready` is asked at the last moment before the rename;
    /// false stops everything (a signal came in).
    ///
    /// The caller holds whatever lock protects the file. `old` is still compared,
    /// once before and once after the new content is written, because an editor
    /// takes no lock.
    pub fn replace(
        &self,
        path: &str,
        old: &[u8],
        new: &[u8],
        ready: &dyn Fn() -> bool,
    ) -> Result<(), ReplaceError> {
        let (parent, name) = split(path);
        let dir = self.dir(parent).map_err(ReplaceError::File)?;
        let fail =
            |action| move |source: io::Error| ReplaceError::File(self.error(action, path, source));
        let before = same_as(&dir, name, old)
            .map_err(fail("read"))?
            .ok_or_else(|| ReplaceError::Changed { path: self.shown(path) })?;
        let temporary = format!("{name}.tmp.{}", std::process::id());
        let swap = || -> Result<(), ReplaceError> {
            write_temporary(&dir, &temporary, new, &before).map_err(fail("write a copy of"))?;
            same_as(&dir, name, old)
                .map_err(fail("read"))?
                .ok_or_else(|| ReplaceError::Changed { path: self.shown(path) })?;
            if !ready() {
                return Err(fail("replace")(io::Error::from_raw_os_error(libc::EINTR)));
            }
            dir.rename(&temporary, name).map_err(fail("replace"))
        };
        if let Err(error) = swap() {
            // the first error is the one to tell; a leftover has a name that is
            // no container's and is removed by the next run
            let _ = dir.unlink(&temporary);
            return Err(error);
        }
        dir.sync().map_err(|error| ReplaceError::Unsure(self.error("sync", parent, error)))
    }

    /// Makes or replaces a small file of our own as a whole, its directories
    /// made where needed; mode 0644, root's own.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.put_mode(path, bytes, 0o644)
    }

    /// The same with a mode, for scripts.
    pub fn put_mode(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        self.make_parents(path)?;
        // in a directory of hooks a killed writer's copy would be one more hook
        self.remove_leftovers(path)?;
        let (parent, name) = split(path);
        let dir = self.dir(parent)?;
        let temporary = format!("{name}.tmp.{}", std::process::id());
        let like = Stat { mode, ..OWN };
        let put = || -> io::Result<()> {
            write_temporary(&dir, &temporary, bytes, &like)?;
            dir.rename(&temporary, name)?;
            dir.sync()
        };
        put().map_err(|error| {
            let _ = dir.unlink(&temporary);
            self.error("write", path, error)
        })
    }

    /// Removes a file, for good: a power cut does not bring it back. One that does
    /// not exist is no error.
    pub fn remove(&self, path: &str) -> Result<(), FileError> {
        let (parent, name) = split(path);
        let remove = || {
            let dir = self.dir(parent)?;
            self.remove_leftovers(path)?;
            dir.unlink(name).map_err(|error| self.error("remove", path, error))?;
            dir.sync().map_err(|error| self.error("sync", parent, error))
        };
        match remove() {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Removes what a killed writer left behind for `path`: files named
    /// `<name>.tmp.<pid>` whose process is gone. Only for a caller that holds
    /// the lock of `path`. Gives the names removed.
    pub fn remove_leftovers(&self, path: &str) -> Result<Vec<String>, FileError> {
        let (parent, name) = split(path);
        let dir = self.dir(parent)?;
        let prefix = format!("{name}.tmp.");
        let mut removed = Vec::new();
        for entry in dir.list()? {
            let Some(pid) = entry.strip_prefix(&prefix).and_then(|p| p.parse::<i32>().ok()) else {
                continue;
            };
            if pid > 0 && !alive(pid) && dir.unlink(&entry).is_ok() {
                removed.push(entry);
            }
        }
        Ok(removed)
    }
}

pub(crate) fn alive(pid: i32) -> bool {
    let answer = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    answer != Err(nix::errno::Errno::ESRCH)
}

/// A file that keeps the owner of the process that makes it.
const OWN: Stat = Stat {
    kind: FileKind::File,
    mode: 0,
    uid: u32::MAX,
    gid: u32::MAX,
    size: 0,
    rdev: 0,
    inode: 0,
};

/// The file's stat where its content is `expected`, `None` where it is not.
fn same_as(dir: &Dir<'_>, name: &str, expected: &[u8]) -> io::Result<Option<Stat>> {
    let stat = dir.stat(name)?;
    if stat.kind != FileKind::File {
        return Err(crate::error::irregular());
    }
    let file = dir.open(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0)?;
    match read_capped(file.into(), expected.len()) {
        Ok(bytes) if bytes == expected => Ok(Some(stat)),
        Ok(_) => Ok(None),
        // larger than expected is simply another content
        Err(error) if error.raw_os_error().is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_temporary(dir: &Dir<'_>, name: &str, bytes: &[u8], like: &Stat) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mut tries = 0;
    let mut file = loop {
        // no other user may read it before it has the old file's mode
        match dir.open(name, flags, 0o600) {
            Ok(file) => break file,
            // our own process id in the name: left by a dead process that had it
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && tries < 3 => {
                tries += 1;
                dir.unlink(name)?;
            }
            Err(error) => return Err(error),
        }
    };
    file.write_all(bytes)?;
    let made: Stat = nix::sys::stat::fstat(&file).map_err(errno_error)?.into();
    let own = like.uid == u32::MAX;
    if !own && (made.uid, made.gid) != (like.uid, like.gid) {
        let owner = nix::unistd::Uid::from_raw(like.uid);
        let group = nix::unistd::Gid::from_raw(like.gid);
        nix::unistd::fchown(file.as_fd(), Some(owner), Some(group)).map_err(errno_error)?;
    }
    if made.mode != like.mode {
        let mode = nix::sys::stat::Mode::from_bits_truncate(like.mode);
        nix::sys::stat::fchmod(file.as_fd(), mode).map_err(errno_error)?;
    }
    file.sync_all()
}

impl From<ReplaceError> for String {
    fn from(error: ReplaceError) -> String {
        error.to_string()
    }
}

impl ReplaceError {
    /// Only the reason, without path and action.
    pub fn reason(&self) -> String {
        match self {
            ReplaceError::Changed { .. } => "modified by another process".into(),
            ReplaceError::File(error) | ReplaceError::Unsure(error) => reason(&error.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::PathBuf;

    fn tree(name: &str) -> (PathBuf, Machine) {
        let dir = std::env::temp_dir().join(format!("host-replace-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("901.conf"), "old\n").unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        (dir, machine)
    }

    fn names(dir: &PathBuf) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn mode_and_owner_are_kept_and_nothing_is_left_over() {
        let (dir, machine) = tree("mode");
        let file = dir.join("901.conf");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let root = nix::unistd::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&file, Some(0), Some(33)).unwrap();
        }
        machine.replace("/901.conf", b"old\n", b"new\n", &|| true).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new\n");
        let after = std::fs::metadata(&file).unwrap();
        assert_eq!(after.mode() & 0o7777, 0o640);
        if root {
            assert_eq!((after.uid(), after.gid()), (0, 33));
        }
        assert_eq!(names(&dir), ["901.conf"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_someone_else_changed_is_left_alone() {
        let (dir, machine) = tree("changed");
        for other in ["o", "old\nmore\n", "new\n"] {
            std::fs::write(dir.join("901.conf"), other).unwrap();
            let error = machine.replace("/901.conf", b"old\n", b"new\n", &|| true).unwrap_err();
            assert!(matches!(error, ReplaceError::Changed { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(dir.join("901.conf")).unwrap(), other);
        }
        // between the first look and the rename
        std::fs::write(dir.join("901.conf"), "old\n").unwrap();
        let error = machine.replace("/901.conf", b"old\n", b"new\n", &|| false).unwrap_err();
        assert_eq!(error.errno(), libc::EINTR);
        assert_eq!(names(&dir), ["901.conf"]);
        assert_eq!(std::fs::read_to_string(dir.join("901.conf")).unwrap(), "old\n");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_a_killed_writer_left_goes_with_the_next_write_and_with_the_file() {
        let (dir, machine) = tree("leftovers-of-our-own");
        for change in [true, false] {
            // no process has such a number
            std::fs::write(dir.join("hook.tmp.4194305"), "#!/bin/sh\n").unwrap();
            match change {
                true => machine.put_mode("/hook", b"new", 0o755).unwrap(),
                false => machine.remove("/hook").unwrap(),
            }
            assert!(!dir.join("hook.tmp.4194305").exists());
            assert_eq!(dir.join("hook").exists(), change);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn files_of_our_own_are_made_replaced_and_removed() {
        let (dir, machine) = tree("put");
        for text in ["one\n", "two\n"] {
            machine.put("/run/a/b/c", text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(dir.join("run/a/b/c")).unwrap(), text);
            assert_eq!(std::fs::metadata(dir.join("run/a/b/c")).unwrap().mode() & 0o777, 0o644);
        }
        machine.remove("/run/a/b/c").unwrap();
        machine.remove("/run/a/b/c").unwrap();
        machine.remove("/none/such").unwrap();
        assert!(names(&dir.join("run/a/b")).is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn links_and_missing_files_are_not_replaced() {
        let (dir, machine) = tree("links");
        symlink("901.conf", dir.join("902.conf")).unwrap();
        assert!(machine.replace("/902.conf", b"old\n", b"new\n", &|| true).is_err());
        assert!(machine.replace("/903.conf", b"", b"new\n", &|| true).is_err());
        assert_eq!(names(&dir), ["901.conf", "902.conf"]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not() {
        let (dir, machine) = tree("leftovers");
        let mine = format!("901.conf.tmp.{}", std::process::id());
        // no process has a number beyond the kernel's highest
        for name in ["901.conf.tmp.4194305", "901.conf.tmp.x", "902.conf.tmp.4194305", &mine] {
            std::fs::write(dir.join(name), "x").unwrap();
        }
        assert_eq!(machine.remove_leftovers("/901.conf").unwrap(), ["901.conf.tmp.4194305"]);
        assert_eq!(names(&dir).len(), 4);
        // a leftover with our own number does not stop us
        machine.replace("/901.conf", b"old\n", b"new\n", &|| true).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
