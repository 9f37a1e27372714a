//! A large file that the user names: read from its beginning to its end, never
//! held as a whole.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::FileError;

/// A regular file that is open for reading.
pub struct InputFile {
    file: File,
    path: String,
    size: u64,
}

impl InputFile {
    /// Opens what a path leads to, below no `--root`. Errors: the kernel's, or
    /// it is no regular file (a FIFO does not block us).
    pub fn open(path: &Path) -> Result<InputFile, FileError> {
        let shown = path.display().to_string();
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = File::options().read(true).custom_flags(flags).open(path);
        let file =
            file.map_err(|source| FileError { action: "read", path: shown.clone(), source })?;
        InputFile::of(file, shown)
    }

    /// A file that is open at its beginning. Errors: it is no regular file.
    pub(crate) fn of(file: File, shown: String) -> Result<InputFile, FileError> {
        let look = || -> io::Result<u64> {
            let found = file.metadata()?;
            if !found.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            Ok(found.len())
        };
        let size =
            look().map_err(|source| FileError { action: "read", path: shown.clone(), source })?;
        // SAFETY: a descriptor that `file` keeps open; advice only, so that an
        // error costs nothing but time.
        let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL) };
        Ok(InputFile { file, path: shown, size })
    }

    /// Its size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Back to its beginning.
    pub fn rewind(&mut self) -> Result<(), FileError> {
        self.file.rewind().map_err(|source| self.error(source))
    }

    /// An error of reading it with its path.
    pub fn error(&self, source: io::Error) -> FileError {
        FileError { action: "read", path: self.path.clone(), source }
    }
}

impl Read for InputFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}
