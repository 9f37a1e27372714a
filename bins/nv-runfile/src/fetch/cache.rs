//! The cache: one file for each installer, and a note beside it that says where
//! its SHA-256 comes from.
//!
//! Only a complete file with a known origin has its final name. A download is
//! `NAME.part`, with `NAME.part.json` about its origin; a process that works on
//! NAME holds `NAME.lock`, which is never removed.

use std::path::Path;

use ::cli::{Exit, Failure, fail};
use host::{FileKind, Machine, PrivateDir, PrivateDirError, PrivateFile};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cli::Options;

/// The directory of the cache unless --cache names another.
pub const CACHE: &str = advice::nv_runfile::CACHE;
/// The property of records about a file of the cache.
pub const PROPERTY: &str = "runfile";

/// What is known about a complete file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheNote {
    /// Bytes when its digest was computed.
    pub size: u64,
    /// Its last change at that time, in nanoseconds since 1970.
    pub mtime: i64,
    /// Of the whole file.
    pub sha256: String,
    /// Who stated the SHA-256: `vouched_by` of the record.
    pub vouched_by: String,
    /// Where it was downloaded; `None` if it was copied into the cache.
    pub url: Option<String>,
}

impl CacheNote {
    /// Whether the file was not modified since.
    pub fn fits(&self, stored: &PrivateFile) -> bool {
        (self.size, self.mtime) == (stored.size, stored.mtime)
    }
}

/// What is known about a file that is not complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNote {
    /// Where its bytes come from.
    pub url: String,
    /// The value for If-Range.
    pub validator: Option<String>,
    /// Bytes of the whole file.
    pub total: Option<u64>,
}

/// The note about an installer.
pub fn note_name(name: &str) -> String {
    format!("{name}.json")
}

/// The part of an installer that is downloaded so far.
pub fn part_name(name: &str) -> String {
    format!("{name}.part")
}

/// The note about that part.
pub fn part_note_name(name: &str) -> String {
    format!("{name}.part.json")
}

pub fn lock_name(name: &str) -> String {
    format!("{name}.lock")
}

/// Opens the cache. `None` if it does not exist and `make` is not set.
pub fn open(
    options: &Options,
    given: Option<&Path>,
    make: bool,
) -> Result<Option<PrivateDir>, Failure> {
    let opened = match given {
        None => PrivateDir::open(&options.common.machine()?, CACHE, make),
        // a directory that the user names is not below --root
        Some(path) => {
            let path = std::path::absolute(path)
                .map_err(|error| fail(Exit::System, format!("'{}': {error}", path.display())))?;
            let Some(path) = path.to_str() else {
                let message = format!("'{}' is not UTF-8", path.display());
                return Err(fail(Exit::Usage, message));
            };
            let machine = Machine::new(None)?;
            PrivateDir::open(&machine, path, make)
        }
    };
    opened.map_err(store_failure)
}

/// Why the cache cannot be used.
pub fn store_failure(error: PrivateDirError) -> Failure {
    match error {
        PrivateDirError::Foreign { .. } => fail(Exit::Refused, error.to_string())
            .hint("name a directory that only you can write in: --cache DIR"),
        PrivateDirError::File(error) if error.errno() == libc::EACCES => {
            Failure::from(error).hint("run as root, or name a directory of your own: --cache DIR")
        }
        PrivateDirError::File(error) => error.into(),
    }
}

/// Reads a note. `None` if there is none or it is damaged.
pub fn read_note<T: DeserializeOwned>(store: &PrivateDir, name: &str) -> Option<T> {
    serde_json::from_str(&store.small(name)?).ok()
}

pub fn write_note<T: Serialize>(store: &PrivateDir, name: &str, note: &T) -> Result<(), Failure> {
    let mut text = serde_json::to_string(note)
        .map_err(|error| fail(Exit::System, format!("'{}': {error}", store.shown(name))))?;
    text.push('\n');
    Ok(store.put(name, text.as_bytes())?)
}

/// The complete file of a name. Errors: it is not a regular file.
pub fn complete(store: &PrivateDir, name: &str) -> Result<Option<PrivateFile>, Failure> {
    match store.stat(name)? {
        Some(stored) if stored.kind != FileKind::File => {
            let message = format!("'{}' is not a regular file", store.shown(name));
            Err(fail(Exit::Refused, message)
                .hint("fetch did not create it; check it, and remove it"))
        }
        other => Ok(other),
    }
}
