//! The model in place of a machine, in process.

use std::io;
use std::time::Duration;

use host::{FileError, KernelFiles, Written};

use crate::blocked::WriteOutcome;
use crate::{ModelKernel, NodeView};

fn error(action: &'static str, path: &str, errno: i32) -> FileError {
    let source = io::Error::from_raw_os_error(errno);
    FileError { action, path: path.to_string(), source }
}

impl ModelKernel {
    /// Nothing comes back to a process that is dead.
    fn alive(&self) -> Result<(), i32> {
        if self.dead() { Err(libc::ESRCH) } else { Ok(()) }
    }

    fn write_once(&self, path: &str, value: &str) -> Result<WriteOutcome, FileError> {
        let write = || {
            self.alive()?;
            // as host::Machine, which never makes a write that does nothing
            if value.is_empty() {
                return Err(libc::EINVAL);
            }
            let outcome = self.write(path, value.as_bytes())?;
            if outcome == WriteOutcome::Died {
                self.lock().dead = true;
                return Err(libc::ESRCH);
            }
            Ok(outcome)
        };
        write().map_err(|errno| error("write", path, errno))
    }

    /// What a path of /dev leads to: whether a node, and below what path others lie.
    fn device_at(&self, path: &str) -> bool {
        let state = self.lock();
        let below = format!("{path}/");
        state.files.devices().keys().any(|known| known == path || known.starts_with(&below))
    }
}

impl KernelFiles for ModelKernel {
    fn read_attr(&self, path: &str) -> Result<String, FileError> {
        let read = || {
            self.alive()?;
            self.read(path)
        };
        let bytes = read().map_err(|errno| error("read", path, errno))?;
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A write that blocks would never come back to a caller without a
    /// deadline: it is counted as hung, and fails with EINTR.
    fn write_attr(&self, path: &str, value: &str) -> Result<(), FileError> {
        match self.write_once(path, value)? {
            WriteOutcome::Blocked(_) => {
                self.lock().counters.hung += 1;
                Err(error("write", path, libc::EINTR))
            }
            _ => Ok(()),
        }
    }

    /// No time passes: what blocks has timed out.
    fn write_attr_within(
        &self,
        path: &str,
        value: &str,
        _deadline: Duration,
    ) -> Result<Written, FileError> {
        match self.write_once(path, value)? {
            WriteOutcome::Blocked(_) => Ok(Written::TimedOut { state: Some('S'), pid: 4242 }),
            _ => Ok(Written::Done),
        }
    }

    fn read_link(&self, path: &str) -> Result<String, FileError> {
        let view = self.alive().and_then(|()| self.lookup(path, false));
        match view.map_err(|errno| error("read link", path, errno))? {
            NodeView::Link(target) => Ok(target),
            _ => Err(error("read link", path, libc::EINVAL)),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        let mut names = match self.alive().and_then(|()| self.lookup(path, true)) {
            Ok(NodeView::Dir(names)) => names,
            Ok(_) | Err(libc::ENOENT | libc::ENOTDIR) => Vec::new(),
            Err(errno) => return Err(error("open", path, errno)),
        };
        let below = format!("{}/", path.trim_end_matches('/'));
        let state = self.lock();
        for known in state.files.devices().keys() {
            let name = known.strip_prefix(&below).and_then(|rest| rest.split('/').next());
            names.extend(name.map(str::to_string));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn exists(&self, path: &str) -> bool {
        !self.dead() && (self.lookup(path, true).is_ok() || self.device_at(path))
    }
}
