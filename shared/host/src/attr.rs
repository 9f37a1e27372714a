//! Writing kernel attributes.

use std::io;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::error::errno_error;
use crate::{FileError, Machine};

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

    /// Writes one attribute and reads it back; gives what it reads as.
    pub fn set_attr(&self, path: &str, value: &str) -> Result<String, FileError> {
        self.write_attr(path, value)?;
        self.attr(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_never_created() {
        let dir = std::env::temp_dir().join(format!("host-attr-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        assert!(machine.write_attr("/numvfs", "4").unwrap_err().is_not_found());
        assert!(!dir.join("numvfs").exists());
        std::fs::write(dir.join("numvfs"), "0\n").unwrap();
        assert_eq!(machine.set_attr("/numvfs", "4\n").unwrap(), "4");
        assert_eq!(machine.write_attr("/numvfs", "").unwrap_err().errno(), libc::EINVAL);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
