//! What all ways of installing and removing a driver have in common: what the
//! options ask for, and how outcomes become records.

use ::cli::{Exit, Failure};
use nvidia::userspace::Set;
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};
use runfile::ArchiveLimits;

use crate::cli::Install;

/// The property of the record about a container's driver as a whole.
pub const PROPERTY: &str = "userspace";

/// The record of a change that was rolled back or did not begin.
pub fn failed(tool: &str, target: &str, status: ChangeStatus, failure: &Failure) -> Change {
    let mut change = Change::planned(tool, target, PROPERTY);
    change.status = match failure.exit {
        Exit::Refused => ChangeStatus::Refused,
        _ => status,
    };
    because_of(&mut change, failure);
    change
}

/// Gives a change the reason and the hint of a failure.
pub fn because_of(change: &mut Change, failure: &Failure) {
    change.reason = Some(failure.message.clone());
    change.hint = failure.hint.clone();
    change.commands = failure.commands.clone();
}

/// How much an installer may hold.
pub fn limits(install: &Install) -> ArchiveLimits {
    let caps = &install.caps;
    ArchiveLimits { entries: caps.max_entries, bytes: caps.max_size }
}

/// The library sets that are asked for.
pub fn sets(install: &Install) -> Vec<Set> {
    let mut sets: Vec<Set> = install.set.iter().map(|set| set.set()).collect();
    sets.sort();
    sets.dedup();
    sets
}

/// Writes changes, for `--check` as comparisons.
pub fn put_changes(
    changes: Vec<Change>,
    check: bool,
    writer: &mut RecordWriter,
) -> std::io::Result<()> {
    changes.into_iter().try_for_each(|change| {
        writer.put(match check {
            true => Record::Check(check_of(change)),
            false => Record::Change(change),
        })
    })
}

fn check_of(change: Change) -> Check {
    let same = change.status == ChangeStatus::Unchanged;
    Check {
        subject: change.target,
        property: change.property,
        expected: change.to,
        actual: change.from,
        status: if same { CheckStatus::Ok } else { CheckStatus::Drift },
        severity: if same { Severity::Info } else { Severity::Warning },
        cause: None,
        reason: None,
        hint: None,
        commands: Vec::new(),
    }
}
