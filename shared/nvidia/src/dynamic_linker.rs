//! Which files the dynamic linker of a root file system takes for a soname. The
//! root may be hostile: names, links and the linker's cache are read, nothing
//! is executed.

use host::{FileError, Machine};

use crate::ldcache::{self, LibraryBits};
use crate::library_dirs::{LIBRARY_DIRS, LINKER_DIRS};

/// Bytes of a cache; a desktop's ld.so.cache has 200 KB.
const MOST_CACHE: usize = 16 << 20;

/// The dynamic linker of a root file system: its cache, where it has one.
#[derive(Clone, Debug, Default)]
pub struct DynamicLinker {
    cache: Option<Vec<u8>>,
}

impl DynamicLinker {
    /// Reads /etc/ld.so.cache. A cache that exists and cannot be read is treated
    /// as absent, and the error is returned beside.
    pub fn read(machine: &Machine) -> (DynamicLinker, Option<FileError>) {
        match machine.read("/etc/ld.so.cache", MOST_CACHE) {
            Ok(bytes) => (DynamicLinker { cache: Some(bytes) }, None),
            Err(error) if error.is_not_found() => (DynamicLinker::default(), None),
            Err(error) => (DynamicLinker::default(), Some(error)),
        }
    }

    /// Paths at which it looks for a soname, in its order: the entries of the
    /// cache, then its own directories. A root file system without a cache uses
    /// musl or was never started; there the directories of all packagings count
    /// as well.
    pub fn candidates(&self, soname: &str) -> Vec<String> {
        let lookup = |bytes| ldcache::lookup(bytes, soname, LibraryBits::SixtyFour);
        let cached = self.cache.as_deref().and_then(lookup);
        let known = cached.is_some();
        let more = LIBRARY_DIRS.iter().filter(|_| !known);
        let dirs = LINKER_DIRS.iter().chain(more).map(|dir| format!("{dir}/{soname}"));
        cached.into_iter().flatten().chain(dirs).collect()
    }

    /// Paths that its cache has for a soname, of 64-bit or of 32-bit libraries.
    pub fn cached(&self, soname: &str, is_64: bool) -> Vec<String> {
        let bits = if is_64 { LibraryBits::SixtyFour } else { LibraryBits::ThirtyTwo };
        let lookup = |bytes| ldcache::lookup(bytes, soname, bits);
        self.cache.as_deref().and_then(lookup).unwrap_or_default()
    }
}

/// Whether a path is that of a library for forward compatibility
/// (/usr/local/cuda-*/compat), which is of another version than the kernel
/// module by intent.
pub fn is_compat(path: &str) -> bool {
    path.contains("/compat/")
}
