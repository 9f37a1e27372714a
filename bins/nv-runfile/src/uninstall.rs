//! `uninstall`: what was placed into a container, and nothing else.

use std::collections::BTreeSet;

use ::cli::{Exit, Failure, Say, catch_signals};
use host::Machine;
use pve::Guest;
use record::{Change, ChangeStatus, Record, RecordWriter};

use crate::ahead::out_of_sight;
use crate::cli::{Options, Uninstall};
use crate::container::{Container, copy_of};
use crate::install::{PROPERTY, check_of, failed};
use crate::ledger::{Entry, Ledger, Now, compare};
use crate::transition::Goal;

/// The verb.
pub fn run(
    options: &Options,
    uninstall: &Uninstall,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, uninstall.ct)?;
    let only_look = uninstall.change.only_look();
    if !only_look {
        catch_signals();
    }
    if uninstall.change.dry_run {
        if let Some(why) = out_of_sight(&machine, &guest)? {
            return foretell(&machine, &guest, &why, say, writer);
        }
    }
    let container = Container::open(&machine, &guest, only_look, say)?;
    let outcome = take_away(&machine, &container, uninstall, say);
    let closed = container.close();
    let (tool, target) = (say.tool(), guest.target());
    let gone = match outcome {
        Ok(gone) => gone,
        Err(failure) => {
            let change = failed(tool, &target, ChangeStatus::RolledBack, &failure);
            writer.put(Record::Change(change))?;
            return Err(failure.into());
        }
    };
    let mut exit = Exit::Done;
    let status = if only_look { ChangeStatus::Planned } else { ChangeStatus::Changed };
    let mut changes = Vec::new();
    for (entry, now) in gone.iter().flat_map(|gone| &gone.entries) {
        let mut change = Change::planned(tool, &target, &entry.path);
        change.from = Some(entry.words());
        change.status = match now {
            Now::Same => status,
            Now::Absent => ChangeStatus::Unchanged,
            Now::Other(_) if uninstall.force => status,
            Now::Other(_) => ChangeStatus::Skipped,
        };
        if let Now::Other(what) = now {
            change.reason = Some(format!("it was changed since: {what}"));
            change.hint = (!uninstall.force).then(|| "--force removes it".into());
        }
        changes.push(change);
    }
    let mut summary = Change::planned(tool, &target, PROPERTY);
    summary.from = gone.as_ref().map(|gone| gone.version.clone());
    summary.status = if gone.is_some() { status } else { ChangeStatus::Unchanged };
    changes.push(summary);
    for change in changes {
        writer.put(match uninstall.change.check {
            true => Record::Check(check_of(change)),
            false => Record::Change(change),
        })?;
    }
    if uninstall.change.check && gone.is_some() {
        exit = Exit::Difference;
    }
    closed?;
    Ok(exit)
}

/// A dry run of a container that cannot be looked into: the host's copy of what
/// was placed tells.
fn foretell(
    machine: &Machine,
    guest: &Guest,
    why: &str,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut change = Change::planned(say.tool(), &guest.target(), PROPERTY);
    change.reason = Some(match copied(machine, &copy_of(guest)) {
        Some(ledger) => {
            let count = ledger.entries.len();
            change.from = Some(ledger.version);
            format!(
                "{count} files as this host remembers them; inside they are not in sight: {why}"
            )
        }
        None => {
            change.status = ChangeStatus::Unchanged;
            format!("this host remembers none that was placed; inside it is not in sight: {why}")
        }
    });
    writer.put(Record::Change(change))?;
    Ok(Exit::Done)
}

/// What the host remembers of what was placed.
fn copied(machine: &Machine, path: &str) -> Option<Ledger> {
    machine.read(path, 4 << 20).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// What is taken away.
struct Gone {
    version: String,
    entries: Vec<(Entry, Now)>,
}

fn take_away(
    machine: &Machine,
    container: &Container<'_>,
    uninstall: &Uninstall,
    say: &Say,
) -> Result<Option<Gone>, Failure> {
    let only_look = uninstall.change.only_look();
    container.recover(only_look, say)?;
    let tree = container.tree();
    let copy = container.copy();
    let ledger = match tree.ledger()? {
        Some(ledger) => Some(ledger),
        // lost inside: the host remembers
        None => copied(machine, &copy),
    };
    let Some(ledger) = ledger else { return Ok(None) };
    let mut entries = Vec::new();
    let mut keep = BTreeSet::new();
    for entry in &ledger.entries {
        let now = compare(&container.root, entry, container.owner)?;
        if matches!(now, Now::Other(_)) && !uninstall.force {
            keep.insert(entry.path.clone());
        }
        entries.push((entry.clone(), now));
    }
    let gone = Gone { version: ledger.version.clone(), entries };
    if only_look {
        return Ok(Some(gone));
    }
    let goal = Goal { from: Some(&ledger), keep, paths: Vec::new() };
    let mut check = || container.ldconfig().map(drop);
    let done = tree
        .begin(&goal)
        .and_then(|intent| tree.place(intent, Vec::new(), None, Some(&ledger), &mut check));
    match done {
        Ok(()) => {
            machine.remove(&copy)?;
            Ok(Some(gone))
        }
        Err(failure) => Err(container.undo(failure)),
    }
}
