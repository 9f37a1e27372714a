//! `install --share`: a driver's userspace unpacked once on the host, for
//! containers that get it mounted (`lxc-gpu-conf add --share-driver`).

use std::path::Path;

use ::cli::{Exit, Failure, Say, catch_signals, fail};
use host::{AtomicDir, Attributes, Machine};
use nvidia::userspace::{Set, soname};
use record::{Change, ChangeStatus, Record, RecordWriter};

use crate::cli::Install;
use crate::install::{check_of, failed, limits, sets};
use crate::installer::Installer;
use crate::ledger::{Entry, FORMAT, Ledger, Now, Placed, bytes, compare};
use crate::pick::{Pick, What, directories, pick};
use crate::study::{Study, require_loaded, study};
use crate::unpack_into::{no_space, take_out};

/// Libraries below the directory.
const LIBRARIES: &str = "/usr/lib";
/// What is written down beside them.
const RECORD: &str = "nv-runfile.json";

/// The verb.
pub fn run(
    machine: &Machine,
    install: &Install,
    dir: &Path,
    installer: &mut Installer,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let only_look = install.change.only_look();
    if !only_look {
        catch_signals();
    }
    // what is staged is looked at by a path from the root
    let dir = &std::path::absolute(dir)
        .map_err(|error| fail(Exit::Usage, format!("'{}' is no path: {error}", dir.display())))?;
    let target = dir.display().to_string();
    let mut change = Change::planned(say.tool(), &target, "userspace");
    match share(machine, install, dir, installer, say) {
        Ok(shared) => {
            change.to = Some(shared.version);
            if !shared.new {
                change.status = ChangeStatus::Unchanged;
                change.from = change.to.clone();
            } else if !only_look {
                change.status = ChangeStatus::Changed;
            }
            writer.put(match install.change.check {
                true => Record::Check(check_of(change)),
                false => Record::Change(change),
            })?;
            if shared.new && !only_look {
                say.note(&format!(
                    "containers get it with 'lxc-gpu-conf add CTID --share-driver {target}'"
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

struct Shared {
    version: String,
    new: bool,
}

fn share(
    machine: &Machine,
    install: &Install,
    dir: &Path,
    installer: &mut Installer,
    say: &Say,
) -> Result<Shared, Failure> {
    let study = study(installer, install.sha256.as_deref(), limits(install), say)?;
    require_loaded(machine, &study.version, install.force, say)?;
    let sets = sets(install);
    let picks = pick(&study.manifest, &sets, LIBRARIES);
    let version = study.version.clone();
    if let Err(error) = AtomicDir::could_begin(dir) {
        return match error.errno() == libc::EEXIST && is_same(dir, &study, &sets)? {
            true => Ok(Shared { version, new: false }),
            false if error.errno() == libc::EEXIST => {
                let message = format!("'{}' is there already, with something else", dir.display());
                Err(fail(Exit::Refused, message).hint("name a directory that is not there"))
            }
            false if error.is_not_found() => {
                Err(fail(Exit::Usage, error.to_string()).hint("make the directory above it first"))
            }
            false => Err(error.into()),
        };
    }
    if !install.change.only_look() {
        let staging = AtomicDir::begin(dir)?;
        let made = fill(&staging, &picks, &study, &sets, installer, install, say)
            .and_then(|()| staging.commit().map_err(no_space));
        if let Err(failure) = made {
            return Err(match staging.discard() {
                Err(error) if !error.is_not_found() => {
                    failure.hint(format!("what was unpacked is left over: {error}"))
                }
                _ => failure,
            });
        }
    }
    Ok(Shared { version, new: true })
}

/// Whether a directory holds exactly this, by what is written down in it.
fn is_same(dir: &Path, study: &Study, sets: &[Set]) -> Result<bool, Failure> {
    let host = Machine::new(None)?;
    let Ok(root) = host.container_root(&dir.display().to_string()) else { return Ok(false) };
    let read = root.read(&format!("/{RECORD}"), 4 << 20);
    let ledger: Option<Ledger> = read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(ledger) = ledger else { return Ok(false) };
    if ledger.installer != study.sha256 || ledger.sets != names(sets) {
        return Ok(false);
    }
    let owner = root.stat("/").map(|stat| (stat.uid, stat.gid))?;
    for entry in &ledger.entries {
        if compare(&root, entry, owner)? != Now::Same {
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
    picks: &[Pick],
    study: &Study,
    sets: &[Set],
    installer: &mut Installer,
    install: &Install,
    say: &Say,
) -> Result<(), Failure> {
    let below = |path: &str| path.trim_start_matches('/').as_bytes().to_vec();
    let attributes = |mode| Attributes { owner: None, mode, mtime: None };
    let mut start = |path: &str| staging.file(&below(path));
    let mut entries = take_out(picks, installer, limits(install), say, &mut start, None)?;
    // the staged tree is ours: nobody else can have put links in it
    let root = Machine::new(None)?.container_root(&staging.path().display().to_string())?;
    let mut links: Vec<(String, String)> = picks
        .iter()
        .filter_map(|pick| match &pick.what {
            What::Link { target } => Some((pick.path.clone(), target.clone())),
            What::File { .. } => None,
        })
        .collect();
    for pick in picks.iter().filter(|pick| matches!(pick.what, What::File { library: true, .. })) {
        let (dir, name) = pick.path.rsplit_once('/').unwrap_or(("", &pick.path));
        let Some(soname) = soname(&root, &pick.path).filter(|soname| soname != name) else {
            continue;
        };
        let path = format!("{dir}/{soname}");
        if links.iter().all(|(link, _)| *link != path) {
            links.push((path, name.to_string()));
        }
    }
    for (path, target) in links {
        staging.symlink(&below(&path), target.as_bytes(), None)?;
        entries.push(Entry { path, what: Placed::Link { target } });
    }
    let dirs = directories(entries.iter().map(|entry| entry.path.as_str()));
    let ledger = Ledger {
        format: FORMAT,
        run: String::new(),
        version: study.version.clone(),
        sets: names(sets),
        installer: study.sha256.clone(),
        entries,
        dirs: dirs.clone(),
    };
    let mut record = staging.file(RECORD.as_bytes())?;
    record.write(&bytes(&ledger)).map_err(no_space)?;
    record.finish(attributes(0o644))?;
    for dir in dirs.iter().rev() {
        staging.finish_dir(&below(dir), attributes(0o755))?;
    }
    Ok(staging.finish_dir(b"", attributes(0o755))?)
}
