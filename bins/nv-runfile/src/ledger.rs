//! What this tool placed into a root file system, written down there: so that
//! exactly that can be taken away again, and so that a run that was killed can
//! be put right by the next.

use std::io::Read;

use host::{FileKind, Machine, Owner};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the written records are, inside the root file system.
pub const DIR: &str = "/var/lib/pve-gpu-tools";
/// What is placed.
pub const LEDGER: &str = "/var/lib/pve-gpu-tools/nv-runfile.json";
/// What a run was about to do; gone when it is done.
pub const INTENT: &str = "/var/lib/pve-gpu-tools/nv-runfile.next.json";

/// Real ones have 20 KB; a container may have written anything.
const MOST: usize = 4 << 20;
const MOST_ENTRIES: usize = 10_000;

/// One path that was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub path: String,
    /// What.
    #[serde(flatten)]
    pub what: Placed,
}

/// What was placed at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Placed {
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Of its content.
        sha256: String,
        /// Permissions.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

impl Entry {
    /// As records say it.
    pub fn words(&self) -> String {
        match &self.what {
            Placed::File { size, .. } => format!("file of {size} bytes"),
            Placed::Link { target } => format!("link to {target}"),
        }
    }
}

/// The userspace of one driver in one root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Of the format.
    pub format: u32,
    /// Of the run that wrote it.
    pub run: String,
    /// The driver's.
    pub version: String,
    /// By name.
    pub sets: Vec<String>,
    /// SHA-256 of the installer, so that the same one is known again.
    pub installer: String,
    /// What is placed.
    pub entries: Vec<Entry>,
    /// Directories that were made for it.
    pub dirs: Vec<String>,
}

/// The format that this tool writes.
pub const FORMAT: u32 = 1;

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Of the format.
    pub format: u32,
    /// Of the run.
    pub run: String,
    /// Everything is written under other names; from now on names change.
    pub placing: bool,
    /// Paths that get something new. Before `placing` only these are known.
    pub paths: Vec<String>,
    /// The same with what they get.
    pub make: Vec<Entry>,
    /// Paths whose present content goes away.
    pub displace: Vec<String>,
    /// Directories that are made.
    pub dirs: Vec<String>,
    /// Directories that go away.
    pub drop_dirs: Vec<String>,
    /// What will be written down; `None` for a removal of everything.
    pub to: Option<Ledger>,
}

/// Why a written record cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// It cannot be read.
    File(host::FileError),
    /// It is not what this tool writes, in words.
    Strange(String),
}

fn read<T: for<'a> Deserialize<'a>>(machine: &Machine, path: &str) -> Result<Option<T>, Unusable> {
    let bytes = match machine.lstat(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(Unusable::File(error)),
        Ok(stat) if stat.kind != FileKind::File => {
            return Err(Unusable::Strange(format!("'{path}' is no regular file")));
        }
        Ok(_) => machine.read(path, MOST).map_err(Unusable::File)?,
    };
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|error| Unusable::Strange(format!("'{path}': {error}")))
}

/// What is written down in a root file system.
pub fn read_ledger(machine: &Machine) -> Result<Option<Ledger>, Unusable> {
    let Some(ledger) = read::<Ledger>(machine, LEDGER)? else { return Ok(None) };
    let paths = ledger.entries.iter().map(|entry| &entry.path).chain(&ledger.dirs);
    check(LEDGER, ledger.format, ledger.entries.len(), paths)?;
    Ok(Some(ledger))
}

/// What a killed run was about to do.
pub fn read_intent(machine: &Machine) -> Result<Option<Intent>, Unusable> {
    let Some(intent) = read::<Intent>(machine, INTENT)? else { return Ok(None) };
    let made = intent.make.iter().map(|entry| &entry.path);
    let paths = intent.paths.iter().chain(made).chain(&intent.displace);
    let paths = paths.chain(&intent.dirs).chain(&intent.drop_dirs);
    check(INTENT, intent.format, intent.paths.len().max(intent.make.len()), paths)?;
    Ok(Some(intent))
}

/// A container can write what it likes there: only plain absolute paths count.
fn check<'a>(
    file: &str,
    format: u32,
    entries: usize,
    mut paths: impl Iterator<Item = &'a String>,
) -> Result<(), Unusable> {
    let strange = |what: String| Err(Unusable::Strange(format!("'{file}': {what}")));
    if format != FORMAT {
        return strange(format!("format {format} is not known to this version"));
    }
    if entries > MOST_ENTRIES {
        return strange(format!("more than {MOST_ENTRIES} entries"));
    }
    let plain = |path: &str| {
        path.len() < 4096
            && path.strip_prefix('/').is_some_and(|rest| {
                rest.split('/').all(|part| !matches!(part, "" | "." | "..")) && !rest.contains('\0')
            })
    };
    match paths.find(|path| !plain(path)) {
        Some(path) => strange(format!("'{path}' is no path of a file")),
        None => Ok(()),
    }
}

/// How a path is, compared with what was placed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Now {
    /// As it was placed.
    Same,
    /// Nothing is there.
    Absent,
    /// Something else is there, in words.
    Other(String),
}

/// Compares a path with its entry. Errors: it cannot be read.
pub fn compare(machine: &Machine, entry: &Entry, owner: Owner) -> Result<Now, host::FileError> {
    let stat = match machine.lstat(&entry.path) {
        Err(error) if error.is_not_found() => return Ok(Now::Absent),
        other => other?,
    };
    let other = |what: &str| Ok(Now::Other(what.to_string()));
    match (&entry.what, stat.kind) {
        (Placed::Link { target }, FileKind::Link) => {
            match machine.read_link(&entry.path)? == *target {
                true => Ok(Now::Same),
                false => other("a link to something else"),
            }
        }
        (Placed::File { size, sha256, mode }, FileKind::File) => {
            if stat.size != *size || digest(machine, &entry.path)? != *sha256 {
                return other("a file with other content");
            }
            match (stat.mode, stat.uid, stat.gid) == (*mode, owner.0, owner.1) {
                true => Ok(Now::Same),
                false => other("a file with another owner or mode"),
            }
        }
        _ => other("something else"),
    }
}

/// SHA-256 of a file.
fn digest(machine: &Machine, path: &str) -> Result<String, host::FileError> {
    let mut file = machine.open_file(path)?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(sha.finalize())),
            Ok(n) => sha.update(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(file.error(error)),
        }
    }
}

/// The bytes of a written record.
pub fn bytes(record: &impl Serialize) -> Vec<u8> {
    // nothing in them can fail to be JSON
    let mut bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
