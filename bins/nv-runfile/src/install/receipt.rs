//! The receipt: what this tool placed into a root file system, written into
//! that file system, so that exactly these files can be removed again. Beside it
//! the intent of a run, so that the next run can complete one that was killed.

use std::io::Read;

use host::{FileKind, Machine, Owner};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The directory of both, inside the root file system.
pub const DIR: &str = "/var/lib/pve-gpu-tools";
/// What is placed.
pub const RECEIPT: &str = "/var/lib/pve-gpu-tools/nv-runfile.json";
/// What a run is about to do; removed at its end.
pub const INTENT: &str = "/var/lib/pve-gpu-tools/nv-runfile.next.json";

/// Real ones have 20 KB, but a container can write anything.
const MOST: usize = 4 << 20;
const MOST_ENTRIES: usize = 10_000;
/// No file of a driver is larger (libnvidia-rtcore of 2025: 150 MB); a sparse file of a
/// container's may be of any size, and reading it would not end.
const MOST_BYTES: u64 = 1 << 30;

/// One path that was placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptEntry {
    /// Where.
    pub path: String,
    /// What.
    #[serde(flatten)]
    pub what: PlacedKind,
}

/// What was placed at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum PlacedKind {
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

impl ReceiptEntry {
    /// As records show it.
    pub fn words(&self) -> String {
        match &self.what {
            PlacedKind::File { size, .. } => format!("file of {size} bytes"),
            PlacedKind::Link { target } => format!("link to {target}"),
        }
    }
}

/// The files of one driver in one root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Of the format.
    pub format: u32,
    /// Id of the run that wrote it.
    pub run: String,
    /// The driver's.
    pub version: String,
    /// Names of the library sets.
    pub sets: Vec<String>,
    /// SHA-256 of the installer.
    pub installer: String,
    pub entries: Vec<ReceiptEntry>,
    /// Directories that were made for the files.
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
    /// All files are written under temporary names; renames begin.
    pub placing: bool,
    /// Paths that get a new file. Before `placing` only these are known.
    pub paths: Vec<String>,
    /// The same with the new files.
    pub make: Vec<ReceiptEntry>,
    /// Paths whose current files are removed.
    pub displace: Vec<String>,
    /// Directories that are made.
    pub dirs: Vec<String>,
    /// Directories that are removed.
    pub drop_dirs: Vec<String>,
    /// The new receipt; `None` if everything is removed.
    pub to: Option<Receipt>,
}

/// Why a receipt or an intent cannot be used.
#[derive(Debug)]
pub enum ReceiptError {
    /// The file cannot be read.
    File(host::FileError),
    /// The file is not as this tool writes it.
    Invalid(String),
}

fn read<T: for<'a> Deserialize<'a>>(
    machine: &Machine,
    path: &str,
) -> Result<Option<T>, ReceiptError> {
    let bytes = match machine.lstat(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(ReceiptError::File(error)),
        Ok(stat) if stat.kind != FileKind::File => {
            return Err(ReceiptError::Invalid(format!("'{path}' is not a regular file")));
        }
        Ok(_) => machine.read(path, MOST).map_err(ReceiptError::File)?,
    };
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|error| ReceiptError::Invalid(format!("'{path}': {error}")))
}

/// The receipt in a root file system.
pub fn read_receipt(machine: &Machine) -> Result<Option<Receipt>, ReceiptError> {
    let Some(receipt) = read::<Receipt>(machine, RECEIPT)? else { return Ok(None) };
    let paths = receipt.entries.iter().map(|entry| &entry.path).chain(&receipt.dirs);
    check(RECEIPT, receipt.format, receipt.entries.len(), paths)?;
    Ok(Some(receipt))
}

/// The intent that a killed run left.
pub fn read_intent(machine: &Machine) -> Result<Option<Intent>, ReceiptError> {
    let Some(intent) = read::<Intent>(machine, INTENT)? else { return Ok(None) };
    let made = intent.make.iter().map(|entry| &entry.path);
    let paths = intent.paths.iter().chain(made).chain(&intent.displace);
    let paths = paths.chain(&intent.dirs).chain(&intent.drop_dirs);
    check(INTENT, intent.format, intent.paths.len().max(intent.make.len()), paths)?;
    Ok(Some(intent))
}

/// The host's copy of a receipt. `None`: there is none that can be used.
pub fn read_copy(machine: &Machine, path: &str) -> Option<Receipt> {
    let receipt: Receipt = read(machine, path).ok()??;
    let paths = receipt.entries.iter().map(|entry| &entry.path).chain(&receipt.dirs);
    check(path, receipt.format, receipt.entries.len(), paths).ok()?;
    Some(receipt)
}

/// A container can write anything there: only plain absolute paths are accepted.
fn check<'a>(
    file: &str,
    format: u32,
    entries: usize,
    mut paths: impl Iterator<Item = &'a String>,
) -> Result<(), ReceiptError> {
    let invalid = |what: String| Err(ReceiptError::Invalid(format!("'{file}': {what}")));
    if format != FORMAT {
        return invalid(format!("format {format} is not known to this version"));
    }
    if entries > MOST_ENTRIES {
        return invalid(format!("more than {MOST_ENTRIES} entries"));
    }
    let plain = |path: &str| {
        path.len() < 4096
            && path.strip_prefix('/').is_some_and(|rest| {
                rest.split('/').all(|part| !matches!(part, "" | "." | "..")) && !rest.contains('\0')
            })
    };
    match paths.find(|path| !plain(path)) {
        Some(path) => invalid(format!("'{path}' is not an absolute path of a file")),
        None => Ok(()),
    }
}

/// A path compared with its entry in the receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathState {
    /// As it was placed.
    Same,
    Absent,
    /// Something is mounted on the way: whatever is there was not placed.
    OtherFileSystem,
    /// What is there now, in words.
    Other(String),
}

/// Compares a path with its entry in the receipt. A signal does not end it: a roll-back,
/// which a signal may be the cause of, compares as well.
pub fn compare(
    machine: &Machine,
    entry: &ReceiptEntry,
    owner: Owner,
) -> Result<PathState, host::FileError> {
    compare_until(machine, entry, owner, &|| false)
}

/// The same for a look that changes nothing: a container decides how many files it takes,
/// and how large they are. Errors also (EINTR) where `stop` says so.
pub fn compare_until(
    machine: &Machine,
    entry: &ReceiptEntry,
    owner: Owner,
    stop: &dyn Fn() -> bool,
) -> Result<PathState, host::FileError> {
    let stat = match machine.lstat(&entry.path) {
        Err(error) if error.is_not_found() => return Ok(PathState::Absent),
        Err(error) if error.errno() == libc::EXDEV => return Ok(PathState::OtherFileSystem),
        other => other?,
    };
    let other = |what: &str| Ok(PathState::Other(what.to_string()));
    match (&entry.what, stat.kind) {
        (PlacedKind::Link { target }, FileKind::Link) => {
            match machine.read_link(&entry.path)? == *target {
                true => Ok(PathState::Same),
                false => other("a link to something else"),
            }
        }
        (PlacedKind::File { size, sha256, mode }, FileKind::File) => {
            let same_size = stat.size == *size && *size <= MOST_BYTES;
            if !same_size || digest(machine, &entry.path, stop)? != *sha256 {
                return other("a file with other content");
            }
            match (stat.mode, stat.uid, stat.gid) == (*mode, owner.0, owner.1) {
                true => Ok(PathState::Same),
                false => other("a file with another owner or mode"),
            }
        }
        _ => other("something else"),
    }
}

/// SHA-256 of a file.
fn digest(
    machine: &Machine,
    path: &str,
    stop: &dyn Fn() -> bool,
) -> Result<String, host::FileError> {
    let mut file = machine.open_file(path)?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        if stop() {
            return Err(file.error(std::io::Error::from_raw_os_error(libc::EINTR)));
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(sha.finalize())),
            Ok(n) => sha.update(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(file.error(error)),
        }
    }
}

/// A receipt or an intent as JSON.
pub fn bytes(record: &impl Serialize) -> Vec<u8> {
    // neither has a value that JSON cannot hold
    let mut bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
