//! The cache: one file for each installer, and beside it a few words about who
//! vouched for it.
//!
//! A final name is only ever that of a complete and vouched file. What is being
//! downloaded is `NAME.part`, with `NAME.part.json` about where it comes from;
//! `NAME.lock` is held by whoever works on NAME, and stays.

use std::path::Path;

use ::cli::{Exit, Failure, fail};
use host::{FileKind, Machine, PrivateDir, PrivateDirError, PrivateFile};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cli::Options;

/// Where it is unless --cache says otherwise.
pub const CACHE: &str = "/var/cache/pve-gpu-tools/runfiles";

/// What is known of a complete file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Bytes when it was vouched for.
    pub size: u64,
    /// Nanoseconds since 1970 of its last change then.
    pub mtime: i64,
    /// Of the whole file.
    pub sha256: String,
    /// As in the record.
    pub vouched_by: String,
    /// Where it came from; `None` where somebody put it there.
    pub url: Option<String>,
}

impl Note {
    /// Whether the file has not been touched since.
    pub fn fits(&self, stored: &PrivateFile) -> bool {
        (self.size, self.mtime) == (stored.size, stored.mtime)
    }
}

/// What is known of a file that is not complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNote {
    /// Where its bytes came from.
    pub url: String,
    /// What If-Range may name.
    pub validator: Option<String>,
    /// Bytes of the whole file.
    pub total: Option<u64>,
}

/// Names beside the one of an installer.
pub fn note_name(name: &str) -> String {
    format!("{name}.json")
}

/// What is being downloaded.
pub fn part_name(name: &str) -> String {
    format!("{name}.part")
}

/// Where that comes from.
pub fn part_note_name(name: &str) -> String {
    format!("{name}.part.json")
}

/// The lock.
pub fn lock_name(name: &str) -> String {
    format!("{name}.lock")
}

/// Opens the cache; `None` where it is not there and not to be made.
pub fn open(
    options: &Options,
    given: Option<&Path>,
    make: bool,
) -> Result<Option<PrivateDir>, Failure> {
    let opened = match given {
        None => PrivateDir::open(&options.common.machine()?, CACHE, make),
        // what the user names is taken as given, not below --root
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

/// A store that cannot be used, in words.
pub fn store_failure(error: PrivateDirError) -> Failure {
    match error {
        PrivateDirError::Foreign { .. } => fail(Exit::Refused, error.to_string())
            .hint("name a directory that only you write in: --cache DIR"),
        PrivateDirError::File(error) if error.errno() == libc::EACCES => {
            Failure::from(error).hint("run as root, or name a directory of yours: --cache DIR")
        }
        PrivateDirError::File(error) => error.into(),
    }
}

/// Reads a note; a damaged one is none.
pub fn read_note<T: DeserializeOwned>(store: &PrivateDir, name: &str) -> Option<T> {
    serde_json::from_str(&store.small(name)?).ok()
}

/// Writes a note.
pub fn write_note<T: Serialize>(store: &PrivateDir, name: &str, note: &T) -> Result<(), Failure> {
    let mut text = serde_json::to_string(note)
        .map_err(|error| fail(Exit::System, format!("'{}': {error}", store.shown(name))))?;
    text.push('\n');
    Ok(store.put(name, text.as_bytes())?)
}

/// The file that bears a name. Errors: it is none.
pub fn complete(store: &PrivateDir, name: &str) -> Result<Option<PrivateFile>, Failure> {
    match store.stat(name)? {
        Some(stored) if stored.kind != FileKind::File => {
            let message = format!("'{}' is not a regular file", store.shown(name));
            Err(fail(Exit::Refused, message).hint("it is not fetch that made it: look at it"))
        }
        other => Ok(other),
    }
}
