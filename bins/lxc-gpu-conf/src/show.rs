//! `show`: which GPUs containers have. `check`: what is wrong with that.

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use pve::{Guest, all_guests};
use record::{Check, CheckStatus, Record, RecordWriter};

use crate::cli::{Options, Which};
use crate::facts::Facts;
use crate::view::{View, concerns_gpu};

/// The containers that a command line names.
pub fn selected(machine: &Machine, which: &Which) -> Result<Vec<Guest>, Failure> {
    require_some(which)?;
    let all = all_guests(machine)?;
    if which.all {
        return Ok(all);
    }
    which
        .ctid
        .iter()
        .map(|ctid| match all.iter().find(|guest| guest.ctid == *ctid) {
            Some(guest) => Ok(guest.clone()),
            None => Guest::find(machine, *ctid),
        })
        .collect()
}

/// Calls `each` with every selected container that has to do with a GPU. One
/// that cannot be read does not keep the others from being looked at; its error
/// is said and gives exit 3.
fn each(
    options: &Options,
    which: &Which,
    say: &Say,
    each: &mut dyn FnMut(&View<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let guests = selected(&machine, which)?;
    let facts = Facts::read(&machine, say)?;
    let mut exit = Exit::Done;
    for guest in &guests {
        let bytes = match guest.read(&machine) {
            Ok(bytes) => bytes,
            // a container that was destroyed meanwhile is none of all
            Err(_) if which.all && guest.is_gone(&machine) => continue,
            Err(failure) => {
                say.error(&failure.message);
                exit = Exit::System;
                continue;
            }
        };
        if which.all && !concerns_gpu(&bytes) {
            continue;
        }
        let view = View::of(guest, &bytes, guest.local.then_some(&facts))?;
        each(&view)?;
    }
    Ok(exit)
}

/// `show`.
pub fn show(
    options: &Options,
    which: &Which,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut shown = 0;
    let exit = each(options, which, say, &mut |view| {
        let records = view.records();
        if records.is_empty() && !which.all {
            let why = view.findings.first().map(|f| f.reason.as_str());
            say.note(&match why {
                None => format!("{} has no GPU", view.guest.target()),
                Some(why) => format!("{} has no GPU: {why}", view.guest.target()),
            });
        }
        for record in records {
            shown += 1;
            writer.put(Record::LxcGpu(Box::new(record)))?;
        }
        Ok(())
    })?;
    if shown == 0 && which.all {
        say.note("no container has a GPU");
    }
    Ok(exit)
}

/// `check`.
pub fn check(
    options: &Options,
    which: &Which,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let (mut seen, mut drift, mut away) = (0, 0, 0);
    let exit = each(options, which, say, &mut |view| {
        let subject = view.guest.target();
        if !view.has_gpu() && view.findings.is_empty() {
            if !which.all {
                say.note(&format!("{subject} has no GPU"));
            }
            return Ok(());
        }
        seen += 1;
        for finding in &view.findings {
            drift += 1;
            writer.put(Record::Check(finding.check(&subject)))?;
        }
        if !view.guest.local {
            away += 1;
            writer.put(Record::Check(elsewhere(view.guest)))?;
        } else if view.findings.is_empty() {
            for gpu in view.records() {
                let minor = gpu.minor.map(|minor| format!("/dev/nvidia{minor}"));
                let address = gpu.gpu.map(|address| address.to_string());
                let property = minor.as_deref().unwrap_or("gpu");
                writer.put(Record::Check(Check::ok(&subject, property, address)))?;
            }
        }
        Ok(())
    })?;
    if seen == 0 && which.all {
        say.note("no container has a GPU");
    }
    if away > 0 {
        say.note(&format!(
            "{away} containers are on other nodes: what depends on the host's numbers and nodes \
             can only be checked there"
        ));
    }
    Ok(if drift > 0 { exit.max(Exit::Difference) } else { exit })
}

/// What cannot be known of a container of another node.
fn elsewhere(guest: &Guest) -> Check {
    let node = guest.node.clone().unwrap_or_default();
    let mut check = Check::ok(&guest.target(), "host", None);
    check.status = CheckStatus::Unknown;
    check.reason = Some(format!(
        "{} is on node {node}: its nodes, majors and GPUs are not seen here",
        guest.target()
    ));
    check.hint = Some(format!("on {node}: lxc-gpu-conf check {}", guest.ctid));
    check
}

/// Refuses a selection of nothing.
pub fn require_some(which: &Which) -> Result<(), Failure> {
    match which.ctid.is_empty() && !which.all {
        true => Err(fail(Exit::Usage, "no container is named").hint("give CTIDs, or --all")),
        false => Ok(()),
    }
}
