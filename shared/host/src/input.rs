//! A large file that the user names: read from its beginning to its end, never
//! held as a whole.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
    /// it is not a regular file (a FIFO does not block us).
    pub fn open(path: &Path) -> Result<InputFile, FileError> {
        let shown = path.display().to_string();
        let open = || {
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            InputFile::of(File::options().read(true).custom_flags(flags).open(path)?)
        };
        let opened: io::Result<InputFile> = open();
        let input =
            opened.map_err(|source| FileError { action: "read", path: shown.clone(), source })?;
        Ok(input.named(shown))
    }

    /// A file that is open. Errors: it is not a regular file.
    pub(crate) fn of(file: File) -> io::Result<InputFile> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(crate::error::irregular());
        }
        // SAFETY: a descriptor that `file` keeps open; advice only, so that an
        // error costs nothing but time.
        let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL) };
        Ok(InputFile { file, path: String::new(), size: found.len() })
    }

    /// The same under the path that messages show.
    pub(crate) fn named(self, path: String) -> InputFile {
        InputFile { path, ..self }
    }

    /// Its size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether two open files are the same one, under whatever names. What the kernel
    /// does not say counts as no.
    pub fn same_file(&self, other: &InputFile) -> bool {
        let id = |file: &File| file.metadata().ok().map(|found| (found.dev(), found.ino()));
        id(&self.file).is_some() && id(&self.file) == id(&other.file)
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
