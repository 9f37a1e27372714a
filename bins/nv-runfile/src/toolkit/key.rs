//! The key that a repository is signed with.

use std::io::Read;
use std::path::Path;

use ::cli::{Exit, Failure, fail};
use host::{InputFile, Machine};

use crate::cli::{Patience, Toolkit};
use crate::fetch::stream::text;
use crate::toolkit::openpgp::{Keys, keys};
use crate::toolkit::repository::{CudaRepository, PackageManager};

/// NVIDIA's have 2 to 4 KB.
const MOST: usize = 1 << 20;

/// A key, as it is written into the container.
pub struct RepositoryKey {
    /// `None` if the key was not downloaded in a dry run.
    pub bytes: Option<Vec<u8>>,
    pub fingerprint: String,
}

/// The key of a repository: the user's, otherwise the one in the container,
/// otherwise the repository's own. Errors: it has another fingerprint, or cannot
/// be downloaded.
pub fn key(
    toolkit: &Toolkit,
    repository: &CudaRepository,
    root: &Machine,
    path: &str,
    only_look: bool,
) -> Result<RepositoryKey, Failure> {
    if let Some(path) = &toolkit.key {
        let keys = from_file(path)?;
        return of(keys, repository.manager, &path.display().to_string());
    }
    let (file, fingerprint) = repository.key.ok_or_else(|| {
        let of = &repository.distribution;
        let message = format!("the fingerprint of the repository's key is not known for {of}");
        fail(Exit::Refused, message).hint("download the key, verify it, and name it with --key")
    })?;
    if let Ok(raw) = root.read(path, MOST) {
        if let Ok(keys) = keys(&raw).map(|keys| Keys { armored: true, ..keys }) {
            // the container's file may hold more than the key that was found in it
            if keys.fingerprints == [fingerprint] {
                return of(keys, repository.manager, path);
            }
        }
    }
    if only_look {
        return Ok(RepositoryKey { bytes: None, fingerprint: fingerprint.into() });
    }
    from_repository(repository, file, fingerprint, toolkit.patience)
}

fn from_repository(
    repository: &CudaRepository,
    file: &str,
    fingerprint: &str,
    patience: Patience,
) -> Result<RepositoryKey, Failure> {
    let url = format!("{}{file}", repository.url);
    let raw = text(&url, patience, MOST)
        .map_err(|failure| failure.hint("use --key to name a key file"))?;
    let bad = |why: String| fail(Exit::System, format!("'{url}': {why}"));
    let keys = keys(raw.as_bytes()).map_err(bad)?;
    if keys.fingerprints != [fingerprint] {
        let found = keys.fingerprints.join(", ");
        let message = format!("'{url}' is the key {found}, not {fingerprint}");
        return Err(fail(Exit::Refused, message)
            .hint("if the repository has its own key, name it with --key"));
    }
    of(keys, repository.manager, &url)
}

/// A key in the form that the package manager reads: only what was parsed, written again.
/// The file itself may hold more, such as a second block behind the first, which rpm would
/// import as well.
fn of(keys: Keys, manager: PackageManager, shown: &str) -> Result<RepositoryKey, Failure> {
    let fingerprint = keys.fingerprints.join(", ");
    let bytes = match (manager, keys.armored) {
        (PackageManager::Apt, _) => keys.binary,
        (PackageManager::Dnf, true) => keys.armor(),
        (PackageManager::Dnf, false) => {
            let message = format!("'{shown}' has no ASCII armor, which rpm needs");
            return Err(
                fail(Exit::Usage, message).hint("export it again with 'gpg --armor --export'")
            );
        }
    };
    Ok(RepositoryKey { bytes: Some(bytes), fingerprint })
}

fn from_file(path: &Path) -> Result<Keys, Failure> {
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
    keys(&raw).map_err(bad)
}
