//! The key that a repository is signed with.

use std::io::Read;
use std::path::Path;

use ::cli::{Exit, Failure, fail};
use host::{InputFile, Machine};

use crate::cli::{Patience, Toolkit};
use crate::fetch;
use crate::toolkit::openpgp::{Keys, keys};
use crate::toolkit::repository::{Manager, Repository};

/// NVIDIA's have 2 to 4 KB.
const MOST: usize = 1 << 20;

/// A key as it is to be in the container.
pub struct Key {
    /// The file's bytes; `None` where they were not fetched, only looking.
    pub bytes: Option<Vec<u8>>,
    /// What it is known by.
    pub fingerprint: String,
}

/// The key of a repository: the user's, else the one that is in the container
/// already, else the repository's own. Errors: it is not the one it should be,
/// or not to be had.
pub fn key(
    toolkit: &Toolkit,
    repository: &Repository,
    root: &Machine,
    path: &str,
    only_look: bool,
) -> Result<Key, Failure> {
    if let Some(path) = &toolkit.key {
        let (raw, keys) = from_file(path)?;
        return of(raw, keys, repository.manager, &path.display().to_string());
    }
    let (file, fingerprint) = repository.key.ok_or_else(|| {
        let of = &repository.distribution;
        let message = format!("the fingerprint of the repository's key is not known for {of}");
        fail(Exit::Refused, message).hint("get the key, verify it, and name it with --key")
    })?;
    if let Ok(raw) = root.read(path, MOST) {
        if keys(&raw).is_ok_and(|keys| keys.fingerprints == [fingerprint]) {
            return Ok(Key { bytes: Some(raw), fingerprint: fingerprint.into() });
        }
    }
    if only_look {
        return Ok(Key { bytes: None, fingerprint: fingerprint.into() });
    }
    from_repository(repository, file, fingerprint, toolkit.patience)
}

fn from_repository(
    repository: &Repository,
    file: &str,
    fingerprint: &str,
    patience: Patience,
) -> Result<Key, Failure> {
    let url = format!("{}{file}", repository.url);
    let raw = fetch::text(&url, patience, MOST)
        .map_err(|failure| failure.hint("--key names one that was got another way"))?;
    let bad = |why: String| fail(Exit::System, format!("'{url}': {why}"));
    let keys = keys(raw.as_bytes()).map_err(bad)?;
    if keys.fingerprints != [fingerprint] {
        let found = keys.fingerprints.join(", ");
        let message = format!("'{url}' is the key {found}, not {fingerprint}");
        return Err(fail(Exit::Refused, message)
            .hint("a repository with a key of its own wants it named with --key"));
    }
    of(raw.into_bytes(), keys, repository.manager, &url)
}

/// In the form that the package manager reads.
fn of(raw: Vec<u8>, keys: Keys, manager: Manager, shown: &str) -> Result<Key, Failure> {
    let fingerprint = keys.fingerprints.join(", ");
    let bytes = match (manager, keys.armored) {
        (Manager::Apt, _) => keys.binary,
        (Manager::Dnf, true) => raw,
        (Manager::Dnf, false) => {
            let message = format!("'{shown}' has no armor, which rpm wants");
            return Err(fail(Exit::Usage, message).hint("write it with 'gpg --armor --export'"));
        }
    };
    Ok(Key { bytes: Some(bytes), fingerprint })
}

fn from_file(path: &Path) -> Result<(Vec<u8>, Keys), Failure> {
    let mut file = InputFile::open(path).map_err(|error| {
        let exit = if error.is_not_found() { Exit::Usage } else { Exit::System };
        fail(exit, error.to_string())
    })?;
    let mut raw = Vec::new();
    let read = (&mut file).take(MOST as u64 + 1).read_to_end(&mut raw);
    read.map_err(|error| Failure::from(file.error(error)))?;
    let bad = |why: String| fail(Exit::Usage, format!("'{}': {why}", path.display()));
    if raw.len() > MOST {
        return Err(bad("too large for a key".into()));
    }
    let keys = keys(&raw).map_err(bad)?;
    Ok((raw, keys))
}
