//! A directory of our own with files by single names: a cache. No other user may
//! write in it, and no name in it is followed out.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fchmod, fstatat};

use crate::error::errno_error;
use crate::exclusive::Exclusive;
use crate::lock::{FileLock, LockError};
use crate::machine::{FileKind, Machine, Stat};
use crate::replace::alive;
use crate::{FileError, InputFile};

/// A directory that only its owner writes in.
pub struct PrivateDir {
    machine: Machine,
}

/// Why a directory cannot be one.
#[derive(Debug)]
pub enum PrivateDirError {
    /// Another user could change what is in it.
    Foreign {
        /// The directory or file.
        path: String,
        /// What is wrong, for a message.
        why: String,
    },
    /// The kernel's answer.
    File(FileError),
}

impl fmt::Display for PrivateDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrivateDirError::Foreign { path, why } => write!(f, "'{path}' {why}"),
            PrivateDirError::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PrivateDirError {}

impl From<FileError> for PrivateDirError {
    fn from(error: FileError) -> PrivateDirError {
        PrivateDirError::File(error)
    }
}

/// What lies in a store under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateFile {
    /// Kind of file; a link is not followed.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Time of its last change, nanoseconds since 1970.
    pub mtime: i64,
}

impl PrivateDir {
    /// Opens the directory that `path` names on `machine`, or makes it with
    /// those above it. `None`: it does not exist and was not to be made. Errors:
    /// it or a directory above it is another user's, or others may write in it, also by an
    /// access control list.
    pub fn open(
        machine: &Machine,
        path: &str,
        make: bool,
    ) -> Result<Option<PrivateDir>, PrivateDirError> {
        if make {
            machine.make_parents(&format!("{}/x", path.trim_end_matches('/')))?;
        }
        let machine = match machine.container_root(path) {
            Ok(machine) => machine,
            Err(error) if error.is_not_found() && !make => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let store = PrivateDir { machine };
        // below --root a link may lead elsewhere than its text says: the open directory counts
        let dir = store.machine.dir("/")?;
        let opened = format!("/proc/self/fd/{}", dir.fd.as_raw_fd());
        let found = Exclusive::of(Path::new(&opened))?;
        if let Some((path, why)) = found.open_to_others {
            let path = path.display().to_string();
            return Err(PrivateDirError::Foreign { path, why: why.into() });
        }
        drop(dir);
        Ok(Some(store))
    }

    /// Where it is.
    pub fn dir(&self) -> String {
        self.shown("").trim_end_matches('/').to_string()
    }

    /// Where the file of a name is.
    pub fn shown(&self, name: &str) -> String {
        self.machine.shown(&format!("/{name}"))
    }

    fn fail<T>(
        &self,
        action: &'static str,
        name: &str,
        result: io::Result<T>,
    ) -> Result<T, FileError> {
        result.map_err(|source| self.machine.error(action, &format!("/{name}"), source))
    }

    /// What a name stands for; `None` for nothing.
    pub fn stat(&self, name: &str) -> Result<Option<PrivateFile>, FileError> {
        let dir = self.machine.dir("/")?;
        match fstatat(dir.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(errno) => self.fail("stat", name, Err(errno_error(errno))),
            Ok(found) => {
                let mtime = found.st_mtime.saturating_mul(1_000_000_000);
                let mtime = mtime.saturating_add(found.st_mtime_nsec);
                let Stat { kind, size, .. } = found.into();
                Ok(Some(PrivateFile { kind, size, mtime }))
            }
        }
    }

    /// Names in it, sorted.
    pub fn list(&self) -> Result<Vec<String>, FileError> {
        self.machine.list("/")
    }

    /// A small file as text; `None` where it does not exist or is not such a file.
    pub fn small(&self, name: &str) -> Option<String> {
        let found = self.stat(name).ok().flatten()?;
        let bytes = match found.kind {
            FileKind::File => self.machine.read(&format!("/{name}"), 64 << 10).ok()?,
            _ => return None,
        };
        String::from_utf8(bytes).ok()
    }

    /// Makes or replaces a small file as a whole.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.machine.put(&format!("/{name}"), bytes)
    }

    /// Removes a file. One that does not exist is no error.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        self.machine.remove(&format!("/{name}"))
    }

    /// Removes files named `<name>.<pid>` of processes that are gone.
    pub fn remove_abandoned(&self) -> Result<(), FileError> {
        for name in self.list()? {
            let pid = name.rsplit_once('.').and_then(|(_, pid)| pid.parse::<i32>().ok());
            if pid.is_some_and(|pid| pid > 0 && !alive(pid)) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Gives a file its final name, for good when this returns.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        let dir = self.machine.dir("/")?;
        self.fail("make", to, dir.rename(from, to).and_then(|()| dir.sync()))
    }

    /// Bytes that a file of this user may still take on its file system.
    pub fn free(&self) -> Result<u64, FileError> {
        let dir = self.machine.dir("/")?;
        self.fail("ask the file system of", "", dir.free())
    }

    /// Takes the lock that stands for a name. No other user may open its file: who may
    /// read a file may lock it for good.
    pub fn lock(
        &self,
        name: &str,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<FileLock, LockError> {
        self.machine.lock_private(&format!("/{name}"), wait, stop)
    }

    /// Whether some process has the file open. A kernel or file system that
    /// cannot tell counts as no.
    pub fn in_use(&self, name: &str) -> bool {
        let Ok(dir) = self.machine.dir("/") else { return false };
        let Ok(file) = dir.open(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0) else { return false };
        // a process that opens the file while the lease is held has the kernel send us
        // SIGIO, which would end this one
        // SAFETY: no handler, and no other code of these programs uses the signal.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        // a write lease is granted where no other process has the file open (fcntl(2))
        // SAFETY: fcntl(2) with an integer on a descriptor that `file` keeps open.
        let lease = |kind: i32| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if lease(libc::F_WRLCK) == 0 {
            lease(libc::F_UNLCK);
            return false;
        }
        io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
    }

    /// Opens a file for reading.
    pub fn input(&self, name: &str) -> Result<InputFile, FileError> {
        let dir = self.machine.dir("/")?;
        let open = || InputFile::of(dir.open(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0)?);
        let input = self.fail("read", name, open())?;
        Ok(input.named(self.shown(name)))
    }

    /// Opens a file that is being written, or makes it; only its owner may read
    /// it. Errors: what exists is not a regular file with one name.
    pub fn growing(&self, name: &str) -> Result<PartialFile, PrivateDirError> {
        let dir = self.machine.dir("/")?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let path = self.shown(name);
        let file = match dir.open(name, flags, 0o600) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(PrivateDirError::Foreign { path, why: "is a link".into() });
            }
            other => self.fail("write", name, other)?,
        };
        let found = self.fail("write", name, file.metadata())?;
        if !found.is_file() || found.nlink() != 1 {
            let why = "is not a regular file with one name".into();
            return Err(PrivateDirError::Foreign { path, why });
        }
        Ok(PartialFile { file, path })
    }
}

/// A file of a store that is being written.
pub struct PartialFile {
    file: File,
    path: String,
}

impl PartialFile {
    fn fail<T>(&self, action: &'static str, result: io::Result<T>) -> Result<T, FileError> {
        result.map_err(|source| FileError { action, path: self.path.clone(), source })
    }

    /// Bytes in it.
    pub fn size(&self) -> Result<u64, FileError> {
        Ok(self.fail("stat", self.file.metadata())?.len())
    }

    /// Calls `each` with all that is in it, from its beginning; false ends it.
    /// What is written next goes behind what was read.
    pub fn replay(&mut self, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), FileError> {
        let mut buffer = vec![0; 256 << 10];
        let mut read = || -> io::Result<()> {
            self.file.rewind()?;
            loop {
                match self.file.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(used) if each(&buffer[..used]) => {}
                    Ok(_) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        };
        let read = read();
        self.fail("read", read)
    }

    /// Writes behind what was read or written last.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.file.write_all(bytes);
        self.fail("write", written)
    }

    /// Truncates it and begins again at its start.
    pub fn clear(&mut self) -> Result<(), FileError> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        self.fail("write", cleared).map(drop)
    }

    /// Lets all read it and brings it to disk.
    pub fn finish(&self) -> Result<(), FileError> {
        let mode = Mode::from_bits_truncate(0o644);
        let done = fchmod(self.file.as_fd(), mode).map_err(errno_error);
        self.fail("sync", done.and_then(|()| self.file.sync_all()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn store(name: &str) -> (std::path::PathBuf, Machine) {
        let dir = std::env::temp_dir().join(format!("host-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        (dir, machine)
    }

    #[test]
    fn a_directory_that_others_may_write_in_is_none_of_ours() {
        let (dir, machine) = store("foreign");
        assert!(PrivateDir::open(&machine, "/cache", false).unwrap().is_none());
        PrivateDir::open(&machine, "/cache", true).unwrap().unwrap();
        let cache = dir.join("cache");
        for mode in [0o1777, 0o757] {
            std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(
                PrivateDir::open(&machine, "/cache", true),
                Err(PrivateDirError::Foreign { .. })
            ));
        }
        std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&cache, Some(12345), None).unwrap();
            let error = PrivateDir::open(&machine, "/cache", true).err().unwrap();
            assert!(error.to_string().contains("another user"), "{error}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_grows_and_is_replayed_and_links_are_not_written_through() {
        let (dir, machine) = store("grow");
        let store = PrivateDir::open(&machine, "/", true).unwrap().unwrap();
        let mut file = store.growing("a").unwrap();
        file.write(b"one").unwrap();
        let mut file = store.growing("a").unwrap();
        let mut seen = Vec::new();
        file.replay(&mut |bytes| {
            seen.extend_from_slice(bytes);
            true
        })
        .unwrap();
        file.write(b"two").unwrap();
        assert_eq!((seen.as_slice(), file.size().unwrap()), (&b"one"[..], 6));
        file.clear().unwrap();
        file.write(b"x").unwrap();
        file.finish().unwrap();
        store.rename("a", "b").unwrap();
        assert_eq!(std::fs::read(dir.join("b")).unwrap(), b"x");
        symlink("/etc/shadow", dir.join("link")).unwrap();
        assert!(matches!(store.growing("link"), Err(PrivateDirError::Foreign { .. })));
        std::fs::hard_link(dir.join("b"), dir.join("c")).unwrap();
        assert!(matches!(store.growing("c"), Err(PrivateDirError::Foreign { .. })));
        assert_eq!(store.stat("link").unwrap().unwrap().kind, FileKind::Link);
        assert!(store.small("link").is_none());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_is_open_elsewhere_is_in_use() {
        let (dir, machine) = store("use");
        let store = PrivateDir::open(&machine, "/", true).unwrap().unwrap();
        store.put("a", b"x").unwrap();
        // a child that another test forked meanwhile has it open for a moment
        let let_go = || {
            (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                !store.in_use("a")
            })
        };
        assert!(let_go() && !store.in_use("none"));
        let held = File::open(dir.join("a")).unwrap();
        assert!(store.in_use("a"));
        drop(held);
        assert!(let_go());
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// The kernel sends SIGIO to the holder of a lease: another user who opened the files
    /// of a cache ended `prune` half-way.
    #[test]
    fn whoever_opens_a_file_does_not_end_the_process_that_asks() {
        let (dir, machine) = store("lease");
        let store = PrivateDir::open(&machine, "/", true).unwrap().unwrap();
        store.put("a", b"x").unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(File::open(dir.join("a")));
                }
            });
            for _ in 0..20_000 {
                store.in_use("a");
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn no_other_user_can_lock_what_is_ours_or_write_above_it() {
        let (dir, machine) = store("locks");
        let store = PrivateDir::open(&machine, "/cache", true).unwrap().unwrap();
        let lock = dir.join("cache/a.lock");
        std::fs::write(&lock, "").unwrap();
        drop(store.lock("a.lock", Duration::ZERO, &|| false).unwrap());
        assert_eq!(std::fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
        // a directory above it that others can write in: they can put another one there
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            PrivateDir::open(&machine, "/cache", true),
            Err(PrivateDirError::Foreign { .. })
        ));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
