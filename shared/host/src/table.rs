//! Large tables of the system: mapped, not read. Of a file with megabytes a
//! search needs a few pages.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsRawFd;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::{FileError, Machine};

/// The bytes of a file.
pub struct TableFile(Bytes);

enum Bytes {
    Read(Vec<u8>),
    Mapped { start: *const u8, length: usize },
}

impl Deref for TableFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Read(bytes) => bytes,
            // SAFETY: the mapping has this length and lives as long as `self`.
            Bytes::Mapped { start, length } => unsafe {
                std::slice::from_raw_parts(*start, *length)
            },
        }
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if let Bytes::Mapped { start, length } = self.0 {
            // SAFETY: the mapping is ours, and nothing borrows from it any more.
            unsafe { libc::munmap(start.cast_mut().cast(), length) };
        }
    }
}

impl Machine {
    /// The bytes of a regular file of at most `cap` bytes that packages and
    /// `depmod` replace by a rename and never cut short: a mapped file that is
    /// ends its reader (SIGBUS). Below a tree, which may be hostile, the file is
    /// read. Errors: as [`Machine::read`].
    pub fn table(&self, path: &str, cap: usize) -> Result<TableFile, FileError> {
        if let Some(mapped) = self.is_host().then(|| self.map(path, cap)).flatten() {
            return Ok(TableFile(mapped));
        }
        Ok(TableFile(Bytes::Read(self.read(path, cap)?)))
    }

    /// `None`: it is read, which also says why it cannot be.
    fn map(&self, path: &str, cap: usize) -> Option<Bytes> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::from(self.open(path, flags, Mode::empty()).ok()?);
        let stat = file.metadata().ok()?;
        let length = usize::try_from(stat.len()).ok()?;
        if !stat.is_file() || length == 0 || length > cap {
            return None;
        }
        // SAFETY: a new private mapping of a file that we have open for reading.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        (start != libc::MAP_FAILED).then(|| Bytes::Mapped { start: start.cast(), length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_table_has_the_bytes_of_the_file() {
        let host = Machine::new(None).unwrap();
        let path = "/proc/self/exe";
        let program = host.read_link(path).unwrap();
        let table = host.table(&program, 1 << 30).unwrap();
        assert_eq!(&table[..4], b"\x7fELF");
        assert!(host.table(&program, 10).is_err(), "larger than the limit");
        assert!(host.table("/proc", 10).is_err());
        // an attribute has no size to map
        assert!(!host.table("/proc/version", 1 << 20).unwrap().is_empty());
    }
}
