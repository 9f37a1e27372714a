//! What a service needs: notice of a file's changes, and the messages to the
//! service manager.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::errno_error;

/// Notices changes of one file, however it is changed: written to, replaced, or
/// behind a link that is swapped, as Kubernetes does it. So the directory is
/// watched, and an event means that the file may have changed.
pub struct FileWatch {
    inotify: Inotify,
    dir: PathBuf,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// Time is up.
    Timeout,
    /// Something happened in the file's directory.
    Changed,
    /// The other descriptor can be read.
    Other,
}

impl FileWatch {
    /// Begins to watch. Errors: the directory does not exist, or inotify's limits.
    pub fn new(path: &Path) -> io::Result<FileWatch> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let watch = FileWatch { inotify: Inotify::init(flags).map_err(errno_error)?, dir };
        watch.renew()?;
        Ok(watch)
    }

    /// Watches the directory that has the path now, in case it was replaced.
    fn renew(&self) -> io::Result<()> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM;
        self.inotify.add_watch(&self.dir, flags).map_err(errno_error)?;
        Ok(())
    }

    /// Waits for a change, for `other` to become readable, or for time to pass.
    pub fn wait(&self, limit: Duration, other: BorrowedFd<'_>) -> io::Result<WakeReason> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let ms = left.as_millis().saturating_add(1).min(i32::MAX as u128) as i32;
            let mut fds = [
                PollFd::new(other, PollFlags::POLLIN),
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            ];
            let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno_error(errno)),
                Ok(_) if fds[0].any() == Some(true) => return Ok(WakeReason::Other),
                Ok(0) => {
                    // a directory that was replaced gives no event: watch the new one
                    let _ = self.renew();
                    return Ok(WakeReason::Timeout);
                }
                Ok(_) => {}
            }
            // all events so far are one change
            while self.inotify.read_events().is_ok() {}
            return Ok(WakeReason::Changed);
        }
    }
}

/// sd_notify(3): a message to the service manager, where there is one. `state` is
/// like `READY=1` or `STATUS=all is well`, one a line. Errors: those of the socket.
pub fn notify_service_manager(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_heard_of_however_it_changes() {
        let dir = std::env::temp_dir().join(format!("host-watch-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("one")).unwrap();
        let path = dir.join("file");
        std::fs::write(&path, "a").unwrap();
        let watch = FileWatch::new(&path).unwrap();
        let (quiet, _to) = nix::unistd::pipe().unwrap();
        let wait = |ms| watch.wait(Duration::from_millis(ms), quiet.as_fd()).unwrap();
        assert_eq!(wait(50), WakeReason::Timeout);
        std::fs::write(&path, "b").unwrap();
        assert_eq!(wait(5000), WakeReason::Changed);
        std::fs::write(dir.join("new"), "c").unwrap();
        std::fs::rename(dir.join("new"), &path).unwrap();
        assert_eq!(wait(5000), WakeReason::Changed);
        std::os::unix::fs::symlink("one", dir.join("..data")).unwrap();
        assert_eq!(wait(5000), WakeReason::Changed);
        assert_eq!(wait(50), WakeReason::Timeout);
        let (readable, to) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&to, b"!").unwrap();
        let woken = watch.wait(Duration::from_secs(5), readable.as_fd()).unwrap();
        assert_eq!(woken, WakeReason::Other);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
