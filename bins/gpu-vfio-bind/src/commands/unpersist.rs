//! `unpersist`: slots are no longer bound at boot.

use ::cli::{Exit, Say};
use advice::gpu_vfio_bind::{unpersist, unpersist_all};
use host::Machine;
use pci::{System, is_vfio_driver};

use crate::boot::claims::{BootClaims, ClaimedBy};
use crate::boot::observe::BootFacts;
use crate::boot::plan::{BootRequest, plan};
use crate::boot::run;
use crate::cli::Unpersist;
use crate::report::Report;
use crate::select::{Reach, functions, scan, select};

pub fn run(
    options: &Unpersist,
    machine: &Machine,
    report: &mut Report<'_>,
) -> anyhow::Result<Exit> {
    let (system, request, command) = if options.all {
        (scan(machine, report.say)?, BootRequest::RemoveAll, unpersist_all())
    } else {
        let (system, addresses) = select(&options.named, Reach::Machine, machine, report.say)?;
        let command = unpersist(&system.names(&functions(&system, &addresses)));
        (system, BootRequest::Remove(addresses), command)
    };
    match BootClaims::read(machine, &system) {
        Ok(claims) => warn_of_others(&claims, &system, &request, report.say),
        Err(error) => report.say.warn(&format!("{error}: it may still bind them at boot")),
    }
    let facts = BootFacts::read(machine, &system, false, report.say)?;
    let plan = plan(&system, &facts, &request).map_err(::cli::Failure::from)?;
    run::run(plan, &options.change, &[], command, machine, report)
}

/// Names what else binds the functions at the next boot: it is not changed.
fn warn_of_others(claims: &BootClaims, system: &System, request: &BootRequest<'_>, say: &Say) {
    for function in system.functions.values() {
        let is_meant = match request {
            BootRequest::Remove(addresses) => addresses.contains(&function.address),
            _ => claims.entries.iter().any(|entry| entry.is(function)),
        };
        let claim = claims.of_others(function, &|by| *by != ClaimedBy::List);
        let driver = claim.as_ref().and_then(|claim| claim.driver.as_deref());
        if let (true, Some(claim), Some(driver)) = (is_meant, &claim, driver) {
            if is_vfio_driver(driver) {
                let (address, by) = (function.address, claim.by.text());
                say.warn(&format!("{address}: {by} still binds it to {driver} at boot"));
            }
        }
    }
}
