//! The kernel's files as a tool that changes a machine sees them, small enough
//! that the tests can put a model of the kernel in their place.

use std::io;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::error::errno_error;
use crate::{DeviceNumber, FileError, Machine};

/// How a write with a deadline ended.
#[derive(Debug)]
pub enum Written {
    /// The kernel took it.
    Done,
    /// It did not finish in time. It cannot be cancelled: the writer is left to
    /// the kernel, which may still complete it at any time.
    TimedOut {
        /// What the writer was doing, as proc(5) has it: `S` or `D` is waiting.
        state: Option<char>,
        /// The writer's process id. It must not be killed.
        pid: u32,
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

    /// The device that a path leads to; `None` for what is not a device, and
    /// where device numbers are not known. See [`Machine::device_number`].
    fn device_number(&self, _path: &str) -> Result<Option<DeviceNumber>, FileError> {
        Ok(None)
    }
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
        self.write_attr_apart(path, value, deadline)
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

    fn device_number(&self, path: &str) -> Result<Option<DeviceNumber>, FileError> {
        Machine::device_number(self, path)
    }
}

impl Machine {
    /// Writes one attribute: opened without create or truncate, one write(2).
    ///
    /// sysfs takes each write as a whole value, so a value split in two is two
    /// wrong values; and an empty write never reaches the kernel's store
    /// function, so an empty `value` is refused (`"\n"` clears a
    /// driver_override). Errors: the kernel's, or a short write.
    pub fn write_attr(&self, path: &str, value: &str) -> Result<(), FileError> {
        let write = || -> io::Result<()> {
            if value.is_empty() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let fd = self.open(path, OFlag::O_WRONLY | OFlag::O_NOCTTY, Mode::empty())?;
            let written = nix::unistd::write(&fd, value.as_bytes()).map_err(errno_error)?;
            if written != value.len() {
                return Err(io::Error::other(format!("took {written} of {} bytes", value.len())));
            }
            Ok(())
        };
        write().map_err(|error| self.error("write", path, error))
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
        let fifo = dir.join("stuck");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        let second = Duration::from_secs(1);
        let write = |path: &str| machine.write_attr_within(path, "x", second);
        assert!(matches!(write("/attr"), Ok(Written::Done)));
        assert_eq!(std::fs::read_to_string(dir.join("attr")).unwrap(), "x");
        assert!(write("/none").unwrap_err().is_not_found());
        // nobody reads the FIFO: open(2) blocks
        let start = Instant::now();
        assert!(matches!(write("/stuck"), Ok(Written::TimedOut { state: Some(_), .. })));
        assert!(start.elapsed() < Duration::from_secs(5));
        // lets the writer end
        assert_eq!(std::fs::read_to_string(fifo).unwrap(), "x");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_attribute_is_never_created() {
        let dir = std::env::temp_dir().join(format!("host-attr-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        assert!(machine.write_attr("/numvfs", "4").unwrap_err().is_not_found());
        assert!(!dir.join("numvfs").exists());
        std::fs::write(dir.join("numvfs"), "0\n").unwrap();
        machine.write_attr("/numvfs", "4\n").unwrap();
        assert_eq!(machine.attr("/numvfs").unwrap(), "4");
        assert_eq!(machine.write_attr("/numvfs", "").unwrap_err().errno(), libc::EINVAL);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
