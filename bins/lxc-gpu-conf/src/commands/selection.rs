//! The containers that a command line selects.

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use pve::{Guest, all_guests};

use crate::check::{self, finding::Finding};
use crate::cli::{ContainerSelection, Options};
use crate::config::access::mentions_gpu;
use crate::config::given_nodes::ContainerView;
use crate::host_facts::HostFacts;
use crate::store::Store;

/// Refuses an empty selection.
pub fn require_some(selection: &ContainerSelection) -> Result<(), Failure> {
    match selection.ctid.is_empty() && !selection.all {
        true => Err(fail(Exit::Usage, "no container is selected").hint("give CTIDs, or --all")),
        false => Ok(()),
    }
}

/// The selected containers of the cluster.
pub fn selected(machine: &Machine, selection: &ContainerSelection) -> Result<Vec<Guest>, Failure> {
    require_some(selection)?;
    let all = all_guests(machine)?;
    if selection.all {
        return Ok(all);
    }
    selection
        .ctid
        .iter()
        .map(|ctid| match all.iter().find(|guest| guest.ctid == *ctid) {
            Some(guest) => Ok(guest.clone()),
            None => Guest::find(machine, *ctid),
        })
        .collect()
}

/// What is called for each container, with its findings.
pub type Visit<'v> = &'v mut dyn FnMut(&ContainerView<'_>, &[Finding]) -> anyhow::Result<()>;

/// Calls `visit` for every selected container that concerns a GPU. One that cannot
/// be read does not stop the others: its error is printed and gives exit 3.
pub fn for_each(
    options: &Options,
    selection: &ContainerSelection,
    say: &Say,
    visit: Visit<'_>,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let guests = selected(&machine, selection)?;
    let facts = HostFacts::read(&machine, say)?;
    let store = Store::of(&machine);
    let mut exit = Exit::Done;
    for guest in &guests {
        let bytes = match guest.read(&machine) {
            Ok(bytes) => bytes,
            // destroyed since the list was made
            Err(_) if selection.all && guest.is_gone(&machine) => continue,
            Err(failure) => {
                say.failure(&failure);
                exit = Exit::System;
                continue;
            }
        };
        if selection.all && !mentions_gpu(&bytes) {
            continue;
        }
        let local = guest.local.then_some(&facts);
        let stored = local.and_then(|_| store.get(guest.ctid));
        let view = ContainerView::of(guest, &bytes, local, stored)?;
        visit(&view, &check::findings(&view))?;
    }
    Ok(exit)
}

/// Property and reason of each finding, for the records of `show`.
pub fn problems(findings: &[Finding]) -> Vec<(&str, &str)> {
    findings.iter().map(|f| (f.property.as_str(), f.reason.as_str())).collect()
}
