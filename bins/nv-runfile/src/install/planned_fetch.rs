//! Which installer `install` is given: a file, or in a dry run one that an
//! earlier step of the pipeline only plans to fetch.

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::Machine;
use pve::{Conf, Guest};
use record::{Change, ChangeStatus, Record, RecordWriter};
use runfile::{Flavour, InstallerName};

use crate::cli::Install;
use crate::fetch::cache;
use crate::host::run as on_host;
use crate::install::common::{PROPERTY, sets};
use crate::install::verify::require_loaded;
use crate::installer::{NamedInstaller, named};

/// The installer of one run of `install`.
pub enum InstallerSource {
    File(NamedInstaller),
    Planned(PlannedFetch),
}

/// An installer that `fetch --dry-run` would download.
pub struct PlannedFetch {
    path: String,
    version: Option<String>,
    flavour: Flavour,
}

/// The installer that is named or piped. Errors: there is none, or several.
pub fn source(install: &Install, say: &Say) -> Result<InstallerSource, Failure> {
    let mut all = match install.change.dry_run && install.named.files.is_empty() {
        true => from_stdin(install, say)?,
        false => {
            let all = named(&install.named, install.sha256.as_deref(), say)?;
            all.into_iter().map(InstallerSource::File).collect()
        }
    };
    match (all.pop(), all.is_empty()) {
        (Some(source), true) => Ok(source),
        _ => Err(fail(Exit::Usage, "more than one installer is given; install takes one")),
    }
}

fn from_stdin(install: &Install, say: &Say) -> Result<Vec<InstallerSource>, Failure> {
    let what = "runfile records or name a file";
    let records = records_from_stdin(say, &["runfile", "change"], what)?;
    let sha256 = install.sha256.as_deref();
    let sources = records.into_iter().filter_map(|record| of_record(record, sha256));
    let sources: Vec<InstallerSource> = sources.collect::<Result<_, _>>()?;
    match sources.is_empty() {
        true => {
            Err(fail(Exit::Usage, format!("no usable record on standard input: expected {what}")))
        }
        false => Ok(sources),
    }
}

fn of_record(record: Record, sha256: Option<&str>) -> Option<Result<InstallerSource, Failure>> {
    match record {
        Record::Runfile(runfile) => {
            Some(NamedInstaller::of_record(*runfile, sha256).map(InstallerSource::File))
        }
        Record::Change(change)
            if change.property == cache::PROPERTY && change.status == ChangeStatus::Planned =>
        {
            let path = change.target;
            let file = path.rsplit('/').next().unwrap_or_default();
            let name = InstallerName::of(file, None, None, None, None, &mut Vec::new());
            let (version, flavour) = (name.version, name.flavour);
            Some(Ok(InstallerSource::Planned(PlannedFetch { path, version, flavour })))
        }
        _ => None,
    }
}

/// The dry run of an installer that is not downloaded: what its name tells.
pub fn foretell(
    machine: &Machine,
    install: &Install,
    planned: &PlannedFetch,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let PlannedFetch { path, version, flavour } = planned;
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
    let next = match (install.target.host, version) {
        (true, version) => {
            if let Some(version) = version {
                on_host::foretell(machine, install, version, *flavour, say, writer)?;
                (change.from, change.status) = on_host::before(machine, version);
            }
            "checks the host and runs it".to_string()
        }
        (false, version) => {
            if let Some(version) = version {
                require_loaded(machine, version, install.force, say)?;
            }
            let sets: Vec<&str> = sets(install).into_iter().map(|set| set.as_str()).collect();
            format!("places its files for {}", sets.join(", "))
        }
    };
    if change.status != ChangeStatus::Unchanged {
        change.reason = Some(format!("'{path}' must be fetched first; then install {next}"));
    }
    writer.put(Record::Change(change))?;
    Ok(Exit::Done)
}
