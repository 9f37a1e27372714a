//! `toolkit`: installs the CUDA toolkit in a container.

use ::cli::{Exit, Say, catch_signals};
use pve::Guest;
use record::{Change, ChangeStatus, CheckStatus, Record, RecordWriter};

use crate::cli::{Options, Toolkit};
use crate::install::common::{failed, put_changes};
use crate::toolkit::job::{ToolkitJob, ToolkitOutcome};

const PROPERTY: &str = "toolkit";

pub fn run(
    options: &Options,
    toolkit: &Toolkit,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, toolkit.ct)?;
    if !toolkit.change.only_look() {
        catch_signals();
    }
    let job = ToolkitJob { machine: &machine, guest: &guest, toolkit, say };
    match job.run() {
        Ok(outcome) => report(outcome, toolkit, say.tool(), &guest.target(), writer),
        Err(failure) => {
            let change = failed(say.tool(), &guest.target(), ChangeStatus::RolledBack, &failure);
            let change = Change { property: PROPERTY.into(), ..change };
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

fn report(
    outcome: ToolkitOutcome,
    toolkit: &Toolkit,
    tool: &str,
    target: &str,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let options = &toolkit.change;
    let status = |same: bool| match (same, options.only_look()) {
        (true, _) => ChangeStatus::Unchanged,
        (false, true) => ChangeStatus::Planned,
        (false, false) => ChangeStatus::Changed,
    };
    let is_changed = outcome.changes();
    let mut changes = Vec::new();
    for step in &outcome.steps {
        let mut one = Change::planned(tool, target, step.path);
        one.from = step.from.clone();
        one.to = step.to.as_ref().map(|file| file.words.clone());
        one.status = status(step.same);
        changes.push(one);
    }
    let mut whole = Change::planned(tool, target, PROPERTY);
    (whole.from, whole.to, whole.status) = (outcome.from, outcome.to, status(!is_changed));
    whole.reason = outcome.how.filter(|_| is_changed);
    whole.hint = outcome.hint;
    changes.push(whole);
    put_changes(changes, options.check, writer)?;
    let mut exit = if options.check && is_changed { Exit::Difference } else { Exit::Done };
    if let Some(check) = outcome.nvcc {
        if check.status != CheckStatus::Ok {
            exit = Exit::System;
        }
        writer.put(Record::Check(check))?;
    }
    Ok(exit)
}
