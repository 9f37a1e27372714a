//! Which installer `install` is given: a file, or in a dry run one that an
//! earlier step of the pipeline only plans to fetch.

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::Machine;
use nvidia::userspace::loaded_version;
use pve::{Conf, Guest};
use record::{Change, ChangeStatus, Record, RecordWriter};
use runfile::{Flavour, InstallerName};

use crate::cli::{Install, Options};
use crate::fetch::cache::{self, CacheNote};
use crate::host::run as on_host;
use crate::install::common::{PROPERTY, sets};
use crate::install::container::{Container, unreachable_files};
use crate::install::other_installation::{is_loose, other_installations, refusal};
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
pub fn source(options: &Options, install: &Install, say: &Say) -> Result<InstallerSource, Failure> {
    let mut all = match install.change.dry_run && install.named.files.is_empty() {
        true => from_stdin(install, say)?,
        false => {
            let all = named(&install.named, install.sha256.as_deref(), say)?;
            let found = all.into_iter().map(|named| or_cached(options, named));
            found.map(|named| named.map(InstallerSource::File)).collect::<Result<_, _>>()?
        }
    };
    match (all.pop(), all.is_empty()) {
        (Some(source), true) => Ok(source),
        _ => Err(fail(Exit::Usage, "more than one installer is given; install takes one")),
    }
}

/// The file in the cache, where a version is named and no file has that name. Its
/// SHA-256 is the one with which it was accepted.
fn or_cached(options: &Options, named: NamedInstaller) -> Result<NamedInstaller, Failure> {
    let text = named.path.display().to_string();
    if !runfile::is_version(&text) || named.path.exists() {
        return Ok(named);
    }
    let Some(store) = cache::open(options, None, false)? else { return Ok(named) };
    let name = advice::nv_runfile::installer_name(&text);
    if cache::complete(&store, &name)?.is_none() {
        return Ok(named);
    }
    let note: Option<CacheNote> = cache::read_note(&store, &cache::note_name(&name));
    let sha256 = named.sha256.or_else(|| note.map(|note| note.sha256));
    Ok(NamedInstaller { path: store.shown(&name).into(), sha256 })
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
    guests: &[Guest],
    planned: &PlannedFetch,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let version = &planned.version;
    let mut targets = Vec::new();
    for guest in guests {
        pve::require_unlocked(guest, &Conf::parse(&guest.read(machine)?))?;
        refuse_others(machine, guest, install, version.as_deref(), say)?;
        targets.push((guest.target(), PROPERTY));
    }
    match &install.target.share {
        Some(dir) => targets.push((dir.display().to_string(), PROPERTY)),
        None if install.target.host => targets.push(("host".to_string(), on_host::PROPERTY)),
        None => {}
    }
    for (target, property) in targets {
        foretell_one(machine, install, planned, &target, property, say, writer)?;
    }
    Ok(Exit::Done)
}

/// Refuses what the real run refuses, as far as the container's files can be read.
fn refuse_others(
    machine: &Machine,
    guest: &Guest,
    install: &Install,
    version: Option<&str>,
    say: &Say,
) -> Result<(), Failure> {
    if install.purge || unreachable_files(machine, guest)?.is_some() {
        return Ok(());
    }
    let container = Container::open(machine, guest, true, say)?;
    let name = guest.target();
    let loaded = loaded_version(&container.root);
    for other in other_installations(&container.root, &name)? {
        let right = other.is_complete() && version.is_some() && loaded.as_deref() == version;
        if !right && !is_loose(&other) {
            return Err(refusal(&other, &name, guest.ctid));
        }
    }
    Ok(())
}

fn foretell_one(
    machine: &Machine,
    install: &Install,
    planned: &PlannedFetch,
    target: &str,
    property: &str,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<()> {
    let PlannedFetch { path, version, flavour } = planned;
    let mut change = Change::planned(say.tool(), target, property);
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
    Ok(writer.put(Record::Change(change))?)
}
