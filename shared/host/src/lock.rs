//! Lock files: Proxmox VE's on a container's configuration, and our own.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::child_read::wait_for;
use crate::error::errno_error;
use crate::{FileError, FileKind, Machine, Stat};

/// How long PVE itself waits for this lock (pve-container, PVE::Tools::lock_file).
pub const GUEST_LOCK_WAIT: Duration = Duration::from_secs(10);

/// The directory of these tools' own locks.
const TOOL_LOCKS: &str = "/run/pve-gpu-tools";

/// A flock(2) on a lock file, held until dropped or until the process ends. The
/// file is never removed: a removed one would let two writers in, and Proxmox VE
/// never removes its own.
pub struct FileLock {
    file: File,
}

impl Drop for FileLock {
    /// Unlocks for all who share the open file: a reader forked since then that
    /// hangs in the kernel must not keep the lock. Where this fails, closing
    /// the file unlocks it as soon as no process shares it.
    fn drop(&mut self) {
        let _ = flock(&self.file, libc::LOCK_UN);
    }
}

/// flock(2). Not nix's guard, which panics where unlocking fails.
pub(crate) fn flock(file: &impl AsRawFd, operation: i32) -> io::Result<()> {
    // SAFETY: flock(2) on a descriptor that `file` keeps open.
    match unsafe { libc::flock(file.as_raw_fd(), operation) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Why there is no lock.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it and did not release it in time.
    Busy {
        /// The lock file.
        path: String,
        /// Who, where the kernel says so.
        holder: Option<String>,
        /// How long we waited.
        waited: Duration,
    },
    /// The lock file cannot be made or locked.
    File(FileError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Busy { path, holder, waited } => {
                write!(f, "'{path}' is still locked after {} s", waited.as_secs())?;
                match holder {
                    Some(holder) => write!(f, ", by {holder}"),
                    None => Ok(()),
                }
            }
            LockError::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

impl Machine {
    /// Takes the lock that PVE takes before it reads and writes
    /// `/etc/pve/lxc/<ctid>.conf`: flock(2), not fcntl(2), on
    /// `/run/lock/lxc/pve-config-<ctid>.lock`. Waits at most `wait`, less where
    /// `stop` says so.
    pub fn lock_guest_config(
        &self,
        ctid: u32,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<FileLock, LockError> {
        self.lock_file(&format!("/run/lock/lxc/pve-config-{ctid}.lock"), wait, stop)
    }

    /// Takes the lock `name` of these tools, `/run/pve-gpu-tools/<name>.lock`:
    /// in a directory of root's own, since in /run/lock every user may make the
    /// file first and hold its lock for good. Waits at most `wait`, less where
    /// `stop` says so. Errors also where others could write in the directory.
    pub fn lock_tool(
        &self,
        name: &str,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<FileLock, LockError> {
        let path = format!("{TOOL_LOCKS}/{name}.lock");
        self.make_parents(TOOL_LOCKS).map_err(LockError::File)?;
        let error = |source| LockError::File(self.error("use", TOOL_LOCKS, source));
        self.make_dir_with(TOOL_LOCKS, 0o700).map_err(error)?;
        let found = self.lstat(TOOL_LOCKS).map_err(LockError::File)?;
        let me = nix::unistd::geteuid().as_raw();
        if found.kind != FileKind::Dir {
            return Err(error(io::Error::other("it is not a directory")));
        }
        if found.uid != 0 && found.uid != me {
            return Err(error(io::Error::other("it belongs to another user")));
        }
        if found.mode & 0o022 != 0 {
            return Err(error(io::Error::other("other users can write to it")));
        }
        self.lock_path(&path, 0o600, wait, stop)
    }

    /// Takes flock(2) on a lock file, made with its directories where it does
    /// not exist. Waits at most `wait`, less where `stop` says so.
    pub fn lock_file(
        &self,
        path: &str,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<FileLock, LockError> {
        self.make_parents(path).map_err(LockError::File)?;
        self.lock_path(path, 0o644, wait, stop)
    }

    /// The same with a file that only its owner may open.
    pub(crate) fn lock_private(
        &self,
        path: &str,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<FileLock, LockError> {
        self.make_parents(path).map_err(LockError::File)?;
        self.lock_path(path, 0o600, wait, stop)
    }

    fn lock_path(
        &self,
        path: &str,
        mode: u32,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<FileLock, LockError> {
        let error = |source| LockError::File(self.error("lock", path, source));
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW;
        let fd = self.open(path, flags, Mode::from_bits_truncate(mode)).map_err(error)?;
        let file = File::from(fd);
        if mode == 0o600 {
            // an earlier version made it readable for all
            let private = nix::sys::stat::fchmod(file.as_fd(), Mode::from_bits_truncate(mode));
            private.map_err(|errno| error(errno_error(errno)))?;
        }
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => Ok(FileLock { file }),
            Err(busy) if busy.raw_os_error() == Some(libc::EWOULDBLOCK) => {
                self.wait_for_lock(file, path, wait, stop)
            }
            Err(other) => Err(error(other)),
        }
    }

    /// Queues up for the lock as PVE does, with a blocking flock(2), so that a
    /// steady stream of others cannot starve us. A child waits on the shared
    /// open file: what it locks stays locked for us when it ends, and it can be
    /// ended when time is up, without signals and timers of our own.
    fn wait_for_lock(
        &self,
        file: File,
        path: &str,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<FileLock, LockError> {
        let start = Instant::now();
        let granted = wait_for(wait, stop, || flock(&file, libc::LOCK_EX).is_ok());
        let error = |source| LockError::File(self.error("lock", path, source));
        if !granted.map_err(error)? {
            let holder = self.lock_holder(&file);
            let waited = start.elapsed();
            return Err(LockError::Busy { path: self.shown(path), holder, waited });
        }
        // granted to the child means granted to the open file that we share
        flock(&file, libc::LOCK_EX | libc::LOCK_NB).map_err(error)?;
        Ok(FileLock { file })
    }

    /// Who holds a flock(2) on this file, from /proc/locks of the running host.
    fn lock_holder(&self, file: &File) -> Option<String> {
        let stat = nix::sys::stat::fstat(file.as_fd()).ok()?;
        let inode = Stat::from(stat).inode;
        let (major, minor) = (libc::major(stat.st_dev), libc::minor(stat.st_dev));
        let key = format!("{major:02x}:{minor:02x}:{inode}");
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let pid = locks.lines().filter(|line| !line.contains("->")).find_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            (words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&key.as_str()))
                .then(|| words.get(4).copied())?
        })?;
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(match command.trim() {
            "" => format!("process {pid}"),
            command => format!("process {pid} ({command})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_lock_excludes_others_and_is_given_back() {
        let dir = std::env::temp_dir().join(format!("host-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        let never = || false;
        let held = machine.lock_guest_config(901, GUEST_LOCK_WAIT, &never).unwrap();
        let start = Instant::now();
        let wait = Duration::from_millis(200);
        let Err(error) = machine.lock_guest_config(901, wait, &never) else {
            panic!("locked twice")
        };
        assert!(start.elapsed() >= wait);
        let text = error.to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        machine.lock_guest_config(902, wait, &never).unwrap();
        let waiter = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });
        machine.lock_guest_config(901, Duration::from_secs(5), &never).unwrap();
        waiter.join().unwrap();
        assert!(dir.join("run/lock/lxc/pve-config-901.lock").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_tools_lock_is_in_a_directory_that_nobody_else_can_write_to() {
        let dir = std::env::temp_dir().join(format!("host-lock-tool-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        let lock = || machine.lock_tool("some-tool", Duration::ZERO, &|| false);
        let held = lock().unwrap();
        assert!(matches!(lock(), Err(LockError::Busy { .. })));
        drop(held);
        drop(lock().unwrap());
        let mode = |path: &str| machine.stat(path).unwrap().mode;
        assert_eq!(mode("/run/pve-gpu-tools"), 0o700);
        assert_eq!(mode("/run/pve-gpu-tools/some-tool.lock"), 0o600);
        let locks = dir.join("run/pve-gpu-tools");
        std::fs::set_permissions(&locks, std::fs::Permissions::from_mode(0o1777)).unwrap();
        let refused = lock().err().unwrap().to_string();
        assert!(refused.ends_with("other users can write to it"), "{refused}");
        std::fs::remove_dir_all(&locks).unwrap();
        std::os::unix::fs::symlink("/tmp", &locks).unwrap();
        assert!(lock().err().unwrap().to_string().ends_with("it is not a directory"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
