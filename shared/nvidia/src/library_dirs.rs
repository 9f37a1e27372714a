//! Directories of libraries: where packagings of the driver put theirs, where
//! the dynamic linker looks without a cache, and which one a root file system
//! takes for its 64-bit libraries.

use std::fmt;

use host::{FileError, FileKind, Machine};

/// Directories in which the packagings of the driver put libraries, the usual
/// ones first: Debian's and Ubuntu's multiarch directories with the
/// alternatives below them, then those of Fedora and Arch Linux.
pub const LIBRARY_DIRS: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib64",
    "/usr/lib64/nvidia",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/lib",
    "/usr/local/lib",
];

/// Directories in which the dynamic linker looks for what its cache does not
/// have (ld.so(8), with Debian's multiarch directories).
pub const LINKER_DIRS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// An architecture for which NVIDIA makes 64-bit driver libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryArch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl LibraryArch {
    /// The architecture of this program, and so of the host.
    pub const HOST: LibraryArch =
        if cfg!(target_arch = "aarch64") { LibraryArch::Aarch64 } else { LibraryArch::X86_64 };

    /// Path of glibc's dynamic linker, which each program names (psABI of the
    /// architecture).
    pub fn linker(self) -> &'static str {
        match self {
            LibraryArch::X86_64 => "/lib64/ld-linux-x86-64.so.2",
            LibraryArch::Aarch64 => "/lib/ld-linux-aarch64.so.1",
        }
    }

    /// The multiarch directory of Debian and its derivatives.
    pub fn multiarch_dir(self) -> &'static str {
        match self {
            LibraryArch::X86_64 => "/usr/lib/x86_64-linux-gnu",
            LibraryArch::Aarch64 => "/usr/lib/aarch64-linux-gnu",
        }
    }
}

impl fmt::Display for LibraryArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LibraryArch::X86_64 => "x86_64",
            LibraryArch::Aarch64 => "aarch64",
        })
    }
}

/// Why a root file system cannot take NVIDIA's libraries.
#[derive(Debug)]
pub enum LibraryDirError {
    /// It uses musl, and NVIDIA's libraries need glibc.
    Musl,
    /// It has no glibc of the architecture; with the missing file.
    NoGlibc(&'static str),
    /// It has none of the usual library directories.
    NoDirectory,
    /// A directory cannot be examined. The next best one would be wrong:
    /// libraries there would lie beside those that exist.
    File(FileError),
}

impl fmt::Display for LibraryDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LibraryDirError::Musl => f.write_str("it uses musl; NVIDIA's libraries need glibc"),
            LibraryDirError::NoGlibc(linker) => write!(f, "glibc is missing ('{linker}')"),
            LibraryDirError::NoDirectory => f.write_str("/usr/lib is missing"),
            LibraryDirError::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LibraryDirError {}

/// The directory in which the dynamic linker of a root file system finds 64-bit
/// libraries without a cache, judged by the root's files alone: an image of any
/// distribution may run under any `ostype` of Proxmox VE.
///
/// Errors: the root has no glibc of `arch` or no library directory, or one of
/// them cannot be examined.
pub fn library_dir(root: &Machine, arch: LibraryArch) -> Result<&'static str, LibraryDirError> {
    if !root.exists(arch.linker()) {
        let names = root.list("/lib").unwrap_or_default();
        return Err(match names.iter().any(|name| name.starts_with("ld-musl-")) {
            true => LibraryDirError::Musl,
            false => LibraryDirError::NoGlibc(arch.linker()),
        });
    }
    // a link at /usr/lib64 (Arch Linux) leads to /usr/lib
    for path in [arch.multiarch_dir(), "/usr/lib64", "/usr/lib"] {
        match root.lstat(path) {
            Ok(stat) if stat.kind == FileKind::Dir => return Ok(path),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(LibraryDirError::File(error)),
        }
    }
    Err(LibraryDirError::NoDirectory)
}
