//! `uninstall`: removes the files that `install` placed in a container.

use std::collections::BTreeSet;

use ::cli::{Exit, Failure, Say, catch_signals, interrupted};
use host::Machine;
use nvidia::Installation;
use pve::Guest;
use record::{Change, ChangeStatus, Record, RecordWriter};

use crate::cli::{Options, Uninstall};
use crate::install::common::{PROPERTY, failed, put_changes};
use crate::install::container::{Container, copy_of, unreachable_files};
use crate::install::other_installation::{other_installations, words};
use crate::install::receipt::{PathState, ReceiptEntry, compare_until, read_copy};
use crate::install::transaction::TransactionGoal;

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
        if let Some(why) = unreachable_files(&machine, &guest)? {
            return foretell(&machine, &guest, &why, say, writer);
        }
    }
    let container = Container::open(&machine, &guest, only_look, say)?;
    let outcome = remove_files(&machine, &container, uninstall, say);
    let others = other_installations(&container.root, &guest.target());
    let closed = container.close();
    let target = guest.target();
    let removed = match outcome {
        Ok(removed) => removed,
        Err(failure) => {
            let change = failed(say.tool(), &target, ChangeStatus::RolledBack, &failure);
            writer.put(Record::Change(change))?;
            return Err(failure.into());
        }
    };
    let mut changes = changes(say.tool(), &target, removed.as_ref(), uninstall);
    if let (None, Some(whole), false) = (&removed, changes.last_mut(), uninstall.change.check) {
        not_ours(whole, guest.ctid, others);
    }
    put_changes(changes, uninstall.change.check, writer)?;
    closed?;
    Ok(if uninstall.change.check && removed.is_some() { Exit::Difference } else { Exit::Done })
}

/// Nothing was removed because nothing is ours: whose the driver is, and what removes it.
fn not_ours(whole: &mut Change, ctid: u32, others: Result<Vec<Installation>, Failure>) {
    let others = match others {
        Ok(others) => others,
        Err(failure) => {
            (whole.status, whole.reason) = (ChangeStatus::Skipped, Some(failure.message));
            return;
        }
    };
    let Some(other) = others.first() else { return };
    whole.status = ChangeStatus::Skipped;
    whole.from = other.version.clone();
    whole.reason = Some(format!("not installed by nv-runfile: {}", words(other)));
    let remove = others.iter().filter_map(Installation::removal);
    whole.commands = remove.map(|command| advice::external::pct_exec(ctid, command)).collect();
}

fn changes(
    tool: &str,
    target: &str,
    removed: Option<&RemovedFiles>,
    uninstall: &Uninstall,
) -> Vec<Change> {
    let only_look = uninstall.change.only_look();
    let status = if only_look { ChangeStatus::Planned } else { ChangeStatus::Changed };
    let mut changes = Vec::new();
    for (entry, state) in removed.iter().flat_map(|removed| &removed.entries) {
        let mut change = Change::planned(tool, target, &entry.path);
        change.from = Some(entry.words());
        change.status = match state {
            PathState::Same => status,
            PathState::Absent => ChangeStatus::Unchanged,
            PathState::OtherFileSystem => ChangeStatus::Skipped,
            PathState::Other(_) if uninstall.force => status,
            PathState::Other(_) => ChangeStatus::Skipped,
        };
        if let PathState::Other(what) = state {
            change.reason = Some(format!("modified since it was installed: {what}"));
            change.hint = (!uninstall.force).then(|| "use --force to remove it".into());
        }
        if *state == PathState::OtherFileSystem {
            change.reason = Some("another file system is mounted there".into());
        }
        changes.push(change);
    }
    let mut summary = Change::planned(tool, target, PROPERTY);
    summary.from = removed.map(|removed| removed.version.clone());
    summary.status = if removed.is_some() { status } else { ChangeStatus::Unchanged };
    changes.push(summary);
    changes
}

/// The dry run of a container whose files cannot be read: the host's copy of
/// the receipt tells what was installed.
fn foretell(
    machine: &Machine,
    guest: &Guest,
    why: &str,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut change = Change::planned(say.tool(), &guest.target(), PROPERTY);
    change.reason = Some(match read_copy(machine, &copy_of(guest)) {
        Some(receipt) => {
            let count = receipt.entries.len();
            change.from = Some(receipt.version);
            format!(
                "{count} files according to this host's copy of the receipt; the container's files cannot be read: {why}"
            )
        }
        None => {
            change.status = ChangeStatus::Unchanged;
            format!(
                "this host has no receipt of an installation; the container's files cannot be read: {why}"
            )
        }
    });
    writer.put(Record::Change(change))?;
    Ok(Exit::Done)
}

struct RemovedFiles {
    version: String,
    entries: Vec<(ReceiptEntry, PathState)>,
}

fn remove_files(
    machine: &Machine,
    container: &Container<'_>,
    uninstall: &Uninstall,
    say: &Say,
) -> Result<Option<RemovedFiles>, Failure> {
    let only_look = uninstall.change.only_look();
    container.recover(only_look, say)?;
    let tree = container.tree();
    let copy = container.copy();
    // the container may have lost its receipt
    let Some(receipt) = tree.receipt()?.or_else(|| container.kept_receipt()) else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    let mut keep = BTreeSet::new();
    for entry in &receipt.entries {
        let state = compare_until(&container.root, entry, container.owner, &interrupted)?;
        let modified = matches!(state, PathState::Other(_)) && !uninstall.force;
        if modified || state == PathState::OtherFileSystem {
            keep.insert(entry.path.clone());
        }
        entries.push((entry.clone(), state));
    }
    let removed = RemovedFiles { version: receipt.version.clone(), entries };
    if only_look {
        return Ok(Some(removed));
    }
    let goal = TransactionGoal { from: Some(&receipt), keep, paths: Vec::new() };
    let mut check = || container.ldconfig().map(drop);
    let done = tree
        .begin(&goal)
        .and_then(|intent| tree.place(intent, Vec::new(), None, Some(&receipt), &mut check));
    match done {
        Ok(()) => {
            machine.remove(&copy)?;
            Ok(Some(removed))
        }
        Err(failure) => Err(container.roll_back(failure)),
    }
}
