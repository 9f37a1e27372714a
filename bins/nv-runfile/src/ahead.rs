//! What a dry run says where an earlier step was not done: the installer is not
//! fetched yet, or the container's files are out of sight until it runs.

use std::path::PathBuf;

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::Machine;
use pve::{Conf, Guest, RootFs};
use record::{Change, ChangeStatus, Record, RecordWriter};
use runfile::InstallerName;

use crate::cli::Install;
use crate::fetch;
use crate::install::PROPERTY;
use crate::on_host;
use crate::study::require_loaded;

/// Which installer an install means.
pub enum Meant {
    /// One that is there.
    File(PathBuf),
    /// One that fetch said it would bring.
    Planned(Planned),
}

/// An installer that is not there yet.
pub struct Planned {
    path: String,
    version: Option<String>,
}

/// The records on standard input, in a dry run also those of a planned fetch.
pub fn from_stdin(say: &Say) -> Result<Vec<Meant>, Failure> {
    let what = "runfile records or name a file";
    let records = records_from_stdin(say, &["runfile", "change"], what)?;
    let meant: Vec<Meant> = records.into_iter().filter_map(meant).collect();
    match meant.is_empty() {
        true => {
            Err(fail(Exit::Usage, format!("standard input holds nothing of use: expected {what}")))
        }
        false => Ok(meant),
    }
}

fn meant(record: Record) -> Option<Meant> {
    match record {
        Record::Runfile(runfile) => Some(Meant::File(PathBuf::from(runfile.path))),
        Record::Change(change)
            if change.property == fetch::PROPERTY && change.status == ChangeStatus::Planned =>
        {
            let path = change.target;
            let file = path.rsplit('/').next().unwrap_or_default();
            let version = InstallerName::of(file, None, None, None, None, &mut Vec::new()).version;
            Some(Meant::Planned(Planned { path, version }))
        }
        _ => None,
    }
}

/// Says what an install of it would do, as far as its name tells.
pub fn foretell(
    machine: &Machine,
    install: &Install,
    planned: &Planned,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let Planned { path, version } = planned;
    let (target, property) = match (install.target.ct, &install.target.share) {
        (Some(ctid), _) => {
            let guest = Guest::find(machine, ctid)?;
            pve::require_unlocked(&guest, &Conf::parse(&guest.read(machine)?))?;
            (guest.target(), PROPERTY)
        }
        (None, Some(dir)) => (dir.display().to_string(), PROPERTY),
        (None, None) => ("host".to_string(), on_host::PROPERTY),
    };
    let mut change = Change::planned(say.tool(), &target, property);
    change.to = version.clone();
    change.reason = Some(match install.target.host {
        true => {
            if let Some(version) = version {
                (change.from, change.status) = on_host::before(machine, version);
            }
            format!("'{path}' is to be fetched first; then the host is looked at, and it is run")
        }
        false => {
            if let Some(version) = version {
                require_loaded(machine, version, install.force, say)?;
            }
            let sets: Vec<&str> =
                crate::install::sets(install).into_iter().map(|set| set.as_str()).collect();
            let sets = sets.join(", ");
            format!("'{path}' is to be fetched first; then its files for {sets} are placed")
        }
    });
    if change.status == ChangeStatus::Unchanged {
        change.reason = None;
    }
    writer.put(Record::Change(change))?;
    Ok(Exit::Done)
}

/// Why a container's files cannot be looked at without changing anything: it is
/// stopped, and its volume is not mounted. Errors: it is locked.
pub fn out_of_sight(machine: &Machine, guest: &Guest) -> Result<Option<String>, Failure> {
    let conf = Conf::parse(&guest.read(machine)?);
    pve::require_unlocked(guest, &conf)?;
    Ok(match pve::root_file_system(machine, guest.ctid, &conf) {
        RootFs::Unknown(why) => Some(why),
        RootFs::Running(_) | RootFs::Stopped(_) => None,
    })
}
