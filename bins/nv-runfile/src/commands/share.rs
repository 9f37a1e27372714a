//! `install --share`: a driver's files unpacked once on the host, for
//! containers that have them mounted (`lxc-gpu-conf add --share-driver`).

use std::path::Path;

use ::cli::{Exit, Failure, Say, fail};
use host::{AtomicDir, Attributes, FileError, Machine};
use nvidia::userspace::{Set, soname};
use record::{Change, ChangeStatus, Record, RecordWriter};

use crate::cli::Install;
use crate::install::apply::{extract_files, no_space};
use crate::install::common::{PROPERTY, failed, limits, put_changes, sets};
use crate::install::receipt::{
    FORMAT, PathState, PlacedKind, Receipt, ReceiptEntry, bytes, compare,
};
use crate::install::select_files::{SelectedFile, SelectedKind, directories, select_files};
use crate::install::verify::{VerifiedDriver, require_loaded, verify_driver};
use crate::installer::Installer;

/// Libraries below the directory.
const LIBRARIES: &str = "/usr/lib";
/// The receipt in the directory.
const RECORD: &str = "nv-runfile.json";

pub fn run(
    machine: &Machine,
    install: &Install,
    dir: &Path,
    installer: &mut Installer,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let only_look = install.change.only_look();
    // the staged directory is opened by a path from the root
    let dir = &std::path::absolute(dir)
        .map_err(|error| fail(Exit::Usage, format!("'{}': {error}", dir.display())))?;
    let target = dir.display().to_string();
    let mut change = Change::planned(say.tool(), &target, PROPERTY);
    match share(machine, install, dir, installer, say) {
        Ok(shared) => {
            change.to = Some(shared.version);
            if !shared.new {
                change.status = ChangeStatus::Unchanged;
                change.from = change.to.clone();
            } else if !only_look {
                change.status = ChangeStatus::Changed;
            }
            put_changes(vec![change], install.change.check, writer)?;
            if shared.new && !only_look {
                say.note(&format!(
                    "to mount it in a container: lxc-gpu-conf add CTID --share-driver {target}"
                ));
            }
            Ok(if shared.new && install.change.check { Exit::Difference } else { Exit::Done })
        }
        Err(failure) => {
            let change = failed(say.tool(), &target, ChangeStatus::RolledBack, &failure);
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

struct ShareOutcome {
    version: String,
    new: bool,
}

fn share(
    machine: &Machine,
    install: &Install,
    dir: &Path,
    installer: &mut Installer,
    say: &Say,
) -> Result<ShareOutcome, Failure> {
    let driver = verify_driver(installer, limits(install), say)?;
    require_loaded(machine, &driver.version, install.force, say)?;
    let sets = sets(install);
    let selected = select_files(&driver.manifest, &sets, LIBRARIES);
    let version = driver.version.clone();
    if let Err(error) = AtomicDir::could_begin(dir) {
        let same = error.errno() == libc::EEXIST && is_same(dir, &driver, &sets)?;
        return match same {
            true => Ok(ShareOutcome { version, new: false }),
            false => Err(no_new_directory(dir, &error)),
        };
    }
    if !install.change.only_look() {
        let staging = AtomicDir::begin(dir)?;
        let made = fill(&staging, &selected, &driver, &sets, installer, install, say)
            .and_then(|()| staging.commit().map_err(no_space));
        if let Err(failure) = made {
            return Err(match staging.discard() {
                Err(error) if !error.is_not_found() => {
                    failure.hint(format!("the unpacked files could not be removed: {error}"))
                }
                _ => failure,
            });
        }
    }
    Ok(ShareOutcome { version, new: true })
}

fn no_new_directory(dir: &Path, error: &FileError) -> Failure {
    if error.errno() == libc::EEXIST {
        let message = format!("'{}' already exists and has other files", dir.display());
        return fail(Exit::Refused, message).hint("choose a directory that does not exist");
    }
    match error.is_not_found() {
        true => fail(Exit::Usage, error.to_string()).hint("create its parent directory first"),
        false => fail(Exit::System, error.to_string()),
    }
}

/// Whether a directory holds exactly these files, by its receipt.
fn is_same(dir: &Path, driver: &VerifiedDriver, sets: &[Set]) -> Result<bool, Failure> {
    let host = Machine::new(None)?;
    let Ok(root) = host.container_root(&dir.display().to_string()) else { return Ok(false) };
    let read = root.read(&format!("/{RECORD}"), 4 << 20);
    let receipt: Option<Receipt> = read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(receipt) = receipt else { return Ok(false) };
    if receipt.installer != driver.sha256 || receipt.sets != names(sets) {
        return Ok(false);
    }
    let owner = root.stat("/").map(|stat| (stat.uid, stat.gid))?;
    for entry in &receipt.entries {
        if compare(&root, entry, owner)? != PathState::Same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn names(sets: &[Set]) -> Vec<String> {
    sets.iter().map(|set| set.as_str().to_string()).collect()
}

fn fill(
    staging: &AtomicDir,
    selected: &[SelectedFile],
    driver: &VerifiedDriver,
    sets: &[Set],
    installer: &mut Installer,
    install: &Install,
    say: &Say,
) -> Result<(), Failure> {
    let below = |path: &str| path.trim_start_matches('/').as_bytes().to_vec();
    let attributes = |mode| Attributes { owner: None, mode, mtime: None };
    let mut start = |path: &str| staging.file(&below(path));
    let (sha256, limits) = (&driver.sha256, limits(install));
    let mut entries = extract_files(selected, installer, sha256, limits, say, &mut start, None)?;
    // no other user can write in the staged directory, so it has no foreign links
    let root = Machine::new(None)?.container_root(&staging.path().display().to_string())?;
    let mut links: Vec<(String, String)> = selected
        .iter()
        .filter_map(|file| match &file.what {
            SelectedKind::Link { target } => Some((file.path.clone(), target.clone())),
            SelectedKind::File { .. } => None,
        })
        .collect();
    for file in
        selected.iter().filter(|file| matches!(file.what, SelectedKind::File { library: true, .. }))
    {
        let (dir, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let Some(soname) = soname(&root, &file.path).filter(|soname| soname != name) else {
            continue;
        };
        let path = format!("{dir}/{soname}");
        if links.iter().all(|(link, _)| *link != path) {
            links.push((path, name.to_string()));
        }
    }
    for (path, target) in links {
        staging.symlink(&below(&path), target.as_bytes(), None)?;
        entries.push(ReceiptEntry { path, what: PlacedKind::Link { target } });
    }
    let dirs = directories(entries.iter().map(|entry| entry.path.as_str()));
    let receipt = Receipt {
        format: FORMAT,
        run: String::new(),
        version: driver.version.clone(),
        sets: names(sets),
        installer: driver.sha256.clone(),
        entries,
        dirs: dirs.clone(),
    };
    let mut record = staging.file(RECORD.as_bytes())?;
    record.write(&bytes(&receipt)).map_err(no_space)?;
    record.finish(attributes(0o644))?;
    for dir in dirs.iter().rev() {
        staging.finish_dir(&below(dir), attributes(0o755))?;
    }
    Ok(staging.finish_dir(b"", attributes(0o755))?)
}
