//! One shape for every failed file access: what was tried, on which path, why
//! it failed.

use std::fmt;
use std::io;

use record::{Exit, Failure, fail};

/// A file access that failed.
#[derive(Debug)]
pub struct FileError {
    /// What was tried: `read`, `write`, `open`, ...
    pub action: &'static str,
    /// The path as a person knows it, below `--root` with that directory in front.
    pub path: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl FileError {
    /// The error number, 0 where the error is not the kernel's.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// Whether nothing exists at that path.
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), libc::ENOENT | libc::ENOTDIR)
    }

    /// Whether the path leads to something that is not a regular file.
    pub fn is_irregular(&self) -> bool {
        self.source.get_ref().is_some_and(|error| error.is::<Irregular>())
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} '{}': {}", self.action, self.path, reason(&self.source))?;
        let denied = self.source.kind() == io::ErrorKind::PermissionDenied;
        match denied && !nix::unistd::geteuid().is_root() {
            true => f.write_str(" (root is required)"),
            false => Ok(()),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A file access that failed while a tool was looking: the system refused.
impl From<FileError> for Failure {
    fn from(error: FileError) -> Failure {
        fail(Exit::System, error.to_string())
    }
}

/// The path leads to something that is not a regular file.
#[derive(Debug)]
struct Irregular;

impl fmt::Display for Irregular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a regular file")
    }
}

impl std::error::Error for Irregular {}

/// For a path that leads to a directory, a device or the like.
pub(crate) fn irregular() -> io::Error {
    io::Error::other(Irregular)
}

/// The kernel's words without Rust's "(os error N)" behind them.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_lowercase_first(),
        None => text,
    }
}

trait LowercaseFirst {
    fn to_lowercase_first(&self) -> String;
}

impl LowercaseFirst for str {
    fn to_lowercase_first(&self) -> String {
        let mut chars = self.chars();
        match chars.next() {
            // leave "I/O error" alone
            Some(c) if chars.as_str().starts_with(|n: char| n.is_lowercase()) => {
                c.to_lowercase().collect::<String>() + chars.as_str()
            }
            _ => self.to_string(),
        }
    }
}

pub(crate) fn errno_error(errno: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}
