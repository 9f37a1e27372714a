//! The kernel's files as a tool that changes a machine sees them, small enough
//! that the tests can put a model of the kernel in their place.

use std::time::Duration;

use crate::child_read::wait_for_state;
use crate::{FileError, Machine};

/// How a write with a deadline ended.
#[derive(Debug)]
pub enum Written {
    /// The kernel took it.
    Done,
    /// It did not come back in time. It cannot be taken back: it may still
    /// happen whenever the kernel lets it.
    TimedOut {
        /// What the writer was doing: `D` is waiting where no signal ends it.
        state: Option<char>,
    },
}

/// Attributes, links and directories of sysfs and procfs by absolute path.
pub trait KernelFiles {
    /// The text of an attribute without its final newline.
    fn read_attr(&self, path: &str) -> Result<String, FileError>;

    /// One write(2) of a whole value into an existing attribute.
    fn write_attr(&self, path: &str, value: &str) -> Result<(), FileError>;

    /// The same for what the kernel may block forever (unbind): given up after
    /// `deadline`.
    fn write_attr_within(
        &self,
        path: &str,
        value: &str,
        deadline: Duration,
    ) -> Result<Written, FileError>;

    /// Where a link points, unresolved.
    fn read_link(&self, path: &str) -> Result<String, FileError>;

    /// Names in a directory, sorted; an absent directory has none.
    fn list(&self, path: &str) -> Result<Vec<String>, FileError>;

    /// Whether a path leads to anything, a device node in a list included.
    fn exists(&self, path: &str) -> bool;
}

impl KernelFiles for Machine {
    fn read_attr(&self, path: &str) -> Result<String, FileError> {
        self.attr(path)
    }

    fn write_attr(&self, path: &str, value: &str) -> Result<(), FileError> {
        Machine::write_attr(self, path, value)
    }

    fn write_attr_within(
        &self,
        path: &str,
        value: &str,
        deadline: Duration,
    ) -> Result<Written, FileError> {
        // The child writes; what went wrong comes back as the error number,
        // which is all that the kernel said.
        let (from, to) = nix::unistd::pipe()
            .map_err(|errno| self.error("write", path, crate::error::errno_error(errno)))?;
        let finished = wait_for_state(deadline, &|| false, || {
            let errno = match Machine::write_attr(self, path, value) {
                Ok(()) => 0,
                Err(error) => error.source.raw_os_error().unwrap_or(libc::EIO),
            };
            nix::unistd::write(&to, &errno.to_le_bytes()).is_ok()
        });
        drop(to);
        match finished {
            Err(error) => Err(self.error("write", path, error)),
            Ok(Err(state)) => Ok(Written::TimedOut { state }),
            Ok(Ok(_)) => {
                let mut errno = [0u8; 4];
                let got = nix::unistd::read(&from, &mut errno).unwrap_or(0);
                match i32::from_le_bytes(errno) {
                    0 if got == errno.len() => Ok(Written::Done),
                    0 => Err(self.error("write", path, std::io::Error::other("no answer"))),
                    errno => {
                        let source = std::io::Error::from_raw_os_error(errno);
                        Err(self.error("write", path, source))
                    }
                }
            }
        }
    }

    fn read_link(&self, path: &str) -> Result<String, FileError> {
        Machine::read_link(self, path)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        Machine::list(self, path)
    }

    fn exists(&self, path: &str) -> bool {
        self.node(path).is_ok_and(|node| node.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_write_that_blocks_is_given_up_and_one_that_fails_says_why() {
        let dir = std::env::temp_dir().join(format!("host-kernel-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("attr"), "").unwrap();
        nix::unistd::mkfifo(&dir.join("stuck"), nix::sys::stat::Mode::from_bits_truncate(0o644))
            .unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        let second = Duration::from_secs(1);
        let write = |path: &str| machine.write_attr_within(path, "x", second);
        assert!(matches!(write("/attr"), Ok(Written::Done)));
        assert_eq!(std::fs::read_to_string(dir.join("attr")).unwrap(), "x");
        assert!(write("/none").unwrap_err().is_not_found());
        // nobody reads the FIFO: open(2) blocks
        let start = Instant::now();
        assert!(matches!(write("/stuck"), Ok(Written::TimedOut { state: Some(_) })));
        assert!(start.elapsed() < Duration::from_secs(5));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
