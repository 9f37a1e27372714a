//! `unpersist`: slots are no longer bound at boot.

use ::cli::Exit;
use advice::gpu_vfio_bind::{unpersist, unpersist_all};
use host::Machine;

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
    let facts = BootFacts::read(machine, &system, false, report.say)?;
    let plan = plan(&system, &facts, &request).map_err(::cli::Failure::from)?;
    run::run(plan, &options.change, &[], command, machine, report)
}
