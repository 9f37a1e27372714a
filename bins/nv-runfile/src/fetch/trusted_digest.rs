//! The SHA-256 that an installer must have, and who stated it.

use ::cli::{Exit, Failure, fail};
use host::{InputFile, Machine};
use runfile::{KNOWN, KnownFile, known_files, sha256_sums};
use std::io::Read;
use std::path::Path;

use crate::cli::Fetch;
use crate::fetch::request::RequestedInstaller;

/// The administrator's own rows of the table of known installers.
pub const SITE_TABLE: &str = "/etc/pve-gpu-tools/runfiles";
/// A larger file is not a list of digests.
const MOST: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedDigest {
    /// In lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes, if known.
    pub size: Option<u64>,
    /// `user`, `pin`, `table`, `vendor` or `mirror`.
    pub by: String,
}

/// The table of known installers, followed by the administrator's rows.
pub fn table(machine: &Machine) -> Result<Vec<KnownFile>, Failure> {
    let bad = |path: &str, why: String| fail(Exit::Usage, format!("'{path}': {why}"));
    let mut rows = known_files(KNOWN).map_err(|why| bad("the table", why))?;
    match machine.read_text(SITE_TABLE, MOST as usize) {
        Ok(text) => {
            rows.extend(known_files(&text).map_err(|why| bad(&machine.shown(SITE_TABLE), why))?);
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rows)
}

/// The SHA-256 that is known before any server is asked. Errors: the file of
/// --sha256sums cannot be used; two sources contradict each other.
pub fn known(
    fetch: &Fetch,
    requested: &RequestedInstaller,
    table: &[KnownFile],
) -> Result<Option<TrustedDigest>, Failure> {
    let mut found: Vec<TrustedDigest> = Vec::new();
    let mut add = |sha256: &str, size, by: &str| {
        found.push(TrustedDigest { sha256: sha256.into(), size, by: by.into() });
    };
    if let Some(sha256) = &fetch.sha256 {
        add(sha256, None, "user");
    }
    if let Some(path) = &fetch.sha256sums {
        add(&pinned(path, &requested.name)?, None, "pin");
    }
    for row in rows(table, requested) {
        add(&row.sha256, row.size, "table");
    }
    let Some((first, rest)) = found.split_first() else { return Ok(None) };
    if let Some(other) = rest.iter().find(|other| other.sha256 != first.sha256) {
        let message = format!(
            "'{}' has two different SHA-256: {} ({}) and {} ({})",
            requested.name, first.sha256, first.by, other.sha256, other.by
        );
        return Err(
            fail(Exit::Refused, message).hint("find out which is right, and remove the other")
        );
    }
    let size = found.iter().find_map(|one| one.size);
    Ok(Some(TrustedDigest { size, ..first.clone() }))
}

/// The rows of the table about an installer.
pub fn rows<'a>(
    table: &'a [KnownFile],
    requested: &'a RequestedInstaller,
) -> impl Iterator<Item = &'a KnownFile> + 'a {
    table.iter().filter(|row| {
        requested.common
            && Some(row.version.as_str()) == requested.version.as_deref()
            && row.arch == requested.arch
    })
}

fn pinned(path: &Path, name: &str) -> Result<String, Failure> {
    let shown = path.display();
    let mut file = InputFile::open(path).map_err(|error| {
        let exit = if error.is_not_found() { Exit::Usage } else { Exit::System };
        fail(exit, error.to_string())
    })?;
    let mut text = String::new();
    let read = (&mut file).take(MOST + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::from(file.error(error)))?;
    if text.len() as u64 > MOST {
        return Err(fail(Exit::Usage, format!("'{shown}' is too large for a list of digests")));
    }
    let sums = sha256_sums(&text).map_err(|why| fail(Exit::Usage, format!("'{shown}': {why}")))?;
    of_name(&sums, name, &shown.to_string())?.ok_or_else(|| {
        fail(Exit::Refused, format!("'{shown}' does not name '{name}'"))
            .hint("add the line that sha256sum prints for it")
    })
}

/// The digest of a name in a list. Errors: the list has two.
pub fn of_name(
    sums: &[(String, String)],
    name: &str,
    list: &str,
) -> Result<Option<String>, Failure> {
    let mut found = sums.iter().filter(|(one, _)| one == name).map(|(_, digest)| digest);
    let Some(first) = found.next() else { return Ok(None) };
    match found.all(|other| other == first) {
        true => Ok(Some(first.clone())),
        false => {
            Err(fail(Exit::Refused, format!("'{list}' has two different SHA-256 of '{name}'")))
        }
    }
}
