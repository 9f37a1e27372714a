//! Which file the dynamic loader of a root file system takes for a soname. The
//! root may be hostile: names, links and the loader's cache are read, nothing
//! is executed.

use host::{FileKind, Machine};

use crate::ldcache;
use crate::userspace::LIBRARY_DIRS;

/// ld.so.cache of a desktop has 200 KB.
const MOST_CACHE: usize = 16 << 20;
/// Links in a chain.
const MOST_LINKS: usize = 16;

/// Where the loader looks for what its cache does not have.
const DEFAULT_DIRS: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The loader of a root file system.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    cache: Option<Vec<u8>>,
}

impl Loader {
    /// Reads its cache; with what is wrong with that, in words.
    pub fn of(machine: &Machine) -> (Loader, Option<String>) {
        match machine.read("/etc/ld.so.cache", MOST_CACHE) {
            Ok(bytes) => (Loader { cache: Some(bytes) }, None),
            Err(error) if error.is_not_found() => (Loader::default(), None),
            Err(error) => (Loader::default(), Some(error.to_string())),
        }
    }

    /// Where it looks for a soname, in its order: the cache's entries, then its
    /// own directories. A root file system without a cache is one of musl, or
    /// was never started: there all directories of packagings count.
    pub fn places(&self, soname: &str) -> Vec<String> {
        let cached = self.cache.as_deref().and_then(|bytes| ldcache::lookup(bytes, soname));
        let known = cached.is_some();
        let more = LIBRARY_DIRS.iter().filter(|_| !known);
        let dirs = DEFAULT_DIRS.iter().chain(more).map(|dir| format!("{dir}/{soname}"));
        cached.into_iter().flatten().chain(dirs).collect()
    }
}

/// Whether a path is that of a library for forward compatibility, which is of
/// another version than the module by intent.
pub fn is_compat(path: &str) -> bool {
    path.contains("/compat/")
}

/// What is at the end of a chain of links.
pub enum End {
    /// A regular file that is not empty.
    File(String),
    /// An empty file.
    Stub,
    /// There is nothing.
    Nothing,
    /// It cannot be followed, in words.
    Trouble(String),
}

/// Follows a chain of links inside the machine's root.
pub fn follow(machine: &Machine, path: &str) -> End {
    let mut path = path.to_string();
    for _ in 0..MOST_LINKS {
        let stat = match machine.lstat(&path) {
            Ok(stat) => stat,
            Err(error) if error.is_not_found() => return End::Nothing,
            Err(error) => return End::Trouble(error.to_string()),
        };
        match stat.kind {
            FileKind::File if stat.size == 0 => return End::Stub,
            FileKind::File => return End::File(path),
            FileKind::Link => {}
            _ => return End::Trouble(format!("'{}' is no regular file", machine.shown(&path))),
        }
        let Ok(target) = machine.read_link(&path) else { return End::Nothing };
        path = match target.starts_with('/') {
            true => target,
            // not normalised: the kernel resolves what is in front, inside the root
            false => format!("{}/{target}", path.rsplit_once('/').map_or("", |(dir, _)| dir)),
        };
    }
    End::Trouble(format!("'{}' is a loop of links", machine.shown(&path)))
}
