//! `install`: which of its ways, and what they share.

use ::cli::{Exit, Failure, Say, catch_signals, fail};
use nvidia::userspace::Set;
use pve::Guest;
use record::{Change, ChangeStatus, Check, CheckStatus, RecordWriter, Severity};
use runfile::ArchiveLimits;

use crate::ahead::{Meant, foretell, from_stdin};
use crate::cli::{Install, Mode, Options};
use crate::in_container::Run;
use crate::installer::{Installer, named};
use crate::{inside, on_host, share};

/// What the summary is about.
pub const PROPERTY: &str = "userspace";

/// The verb.
pub fn run(
    options: &Options,
    install: &Install,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    require_sense(install)?;
    let meant = one(install, say)?;
    let machine = options.common.machine()?;
    let path = match meant {
        Meant::File(path) => path,
        Meant::Planned(planned) => return foretell(&machine, install, &planned, say, writer),
    };
    let mut installer = Installer::open(&path)?;
    if let Some(ctid) = install.target.ct {
        let guest = Guest::find(&machine, ctid)?;
        if !install.change.only_look() {
            catch_signals();
        }
        return match install.mode {
            Mode::Unpack => {
                let run = Run { machine: &machine, guest: &guest, install, say };
                run.unpack(&mut installer, writer)
            }
            Mode::Installer => inside::run(&machine, &guest, install, &mut installer, say, writer),
        };
    }
    match &install.target.share {
        Some(dir) => share::run(&machine, install, dir, &mut installer, say, writer),
        None => on_host::run(&machine, install, &mut installer, say, writer),
    }
}

/// Refuses options that belong to another way.
fn require_sense(install: &Install) -> Result<(), Failure> {
    let of_host =
        [("--purge", install.purge), ("--dkms", install.dkms), ("--no-dkms", install.no_dkms)];
    let wrong = of_host.iter().find(|(_, given)| *given && !install.target.host);
    if let Some((option, _)) = wrong {
        return Err(fail(Exit::Usage, format!("{option} is for --host")));
    }
    if install.mode == Mode::Installer && install.target.ct.is_none() {
        return Err(fail(Exit::Usage, "--mode installer is for --ct"));
    }
    Ok(())
}

/// The installer that is meant.
fn one(install: &Install, say: &Say) -> Result<Meant, Failure> {
    let mut all = match install.change.dry_run && install.named.files.is_empty() {
        true => from_stdin(say)?,
        false => named(&install.named, say)?.into_iter().map(Meant::File).collect(),
    };
    match (all.pop(), all.is_empty()) {
        (Some(meant), true) => Ok(meant),
        _ => Err(fail(Exit::Usage, "one installer is installed at a time")),
    }
}

/// A change that undid itself, or did not begin: its record and the failure.
pub fn failed(tool: &str, target: &str, status: ChangeStatus, failure: &Failure) -> Change {
    let mut change = Change::planned(tool, target, PROPERTY);
    change.status = match failure.exit {
        Exit::Refused => ChangeStatus::Refused,
        _ => status,
    };
    change.reason = Some(failure.message.clone());
    change.hint = failure.hint.clone();
    change
}

/// How much an installer may hold.
pub fn limits(install: &Install) -> ArchiveLimits {
    let caps = &install.caps;
    ArchiveLimits { entries: caps.max_entries, bytes: caps.max_size }
}

/// The sets that are asked for.
pub fn sets(install: &Install) -> Vec<Set> {
    let mut sets: Vec<Set> = install.set.iter().map(|set| set.set()).collect();
    sets.sort();
    sets.dedup();
    sets
}

/// The same as a comparison, for --check.
pub fn check_of(change: Change) -> Check {
    let same = change.status == ChangeStatus::Unchanged;
    Check {
        commands: Vec::new(),
        subject: change.target,
        property: change.property,
        expected: change.to,
        actual: change.from,
        status: if same { CheckStatus::Ok } else { CheckStatus::Drift },
        severity: if same { Severity::Info } else { Severity::Warning },
        cause: None,
        reason: None,
        hint: None,
    }
}
