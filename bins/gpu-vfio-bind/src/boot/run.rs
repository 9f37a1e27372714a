//! The run of a boot plan that `persist` and `unpersist` share: refuse, then
//! check, dry run or apply, with a record for every step.

use ::apply::{ApplyStop, StepOutcome, conclude, lock_run};
use ::cli::{ChangeOptions, Exit, fail};
use host::Machine;
use record::{Change, ChangeStatus, Check, CommandLine, Hint, Severity};

use super::apply::{BootOutcome, apply, modified_since};
use super::images::{rebuild_command, runner};
use super::plan::{BootPlan, BootStep};
use crate::cli::ForceKind;
use crate::report::{Report, drift};

/// Ends in the exit status; `command` is the user's own command.
pub fn run(
    plan: BootPlan,
    options: &ChangeOptions,
    force: &[ForceKind],
    command: CommandLine,
    machine: &Machine,
    report: &mut Report<'_>,
) -> anyhow::Result<Exit> {
    report.refuse(plan.objections, force)?;
    plan.warnings.iter().for_each(|warning| report.say.warn(warning));
    plan.notes.iter().for_each(|note| report.say.note(note));
    let steps = &plan.steps;
    if options.check {
        return check(steps, &command, report);
    }
    let is_needed = steps.iter().any(BootStep::is_change);
    if options.dry_run || !is_needed {
        for step in steps {
            let mut change = change(step, report);
            if !step.is_change() {
                change.status = ChangeStatus::Unchanged;
            }
            report.put_change(change)?;
        }
        let status = if is_needed { ChangeStatus::Planned } else { ChangeStatus::Unchanged };
        put_reboot(plan.reboot_required, status, report)?;
        return Ok(Exit::Done);
    }
    let _lock = lock_run(machine, report.say.tool())?;
    if let Some(path) = modified_since(machine, steps)? {
        let message = format!("'{path}' was modified by another process; nothing was changed");
        return Err(fail(Exit::System, message).run(command).into());
    }
    let (outcomes, stop) = apply(machine, &runner(machine), steps);
    put_outcomes(steps, &outcomes, stop.as_ref(), machine, report)?;
    if stop.is_none() {
        put_reboot(plan.reboot_required, ChangeStatus::Changed, report)?;
    }
    conclude(&outcomes, stop)
}

fn check(
    steps: &[BootStep],
    command: &CommandLine,
    report: &mut Report<'_>,
) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    for step in steps.iter().filter(|step| !matches!(step, BootStep::Images { .. })) {
        let change = change(step, report);
        let mut check = Check::ok(&change.target, &change.property, change.from);
        if step.is_change() {
            exit = Exit::Difference;
            check = drift(check, change.to, Severity::Warning, Hint::command(command.clone()));
        }
        report.put_check(check)?;
    }
    Ok(exit)
}

fn put_outcomes(
    steps: &[BootStep],
    outcomes: &[BootOutcome],
    stop: Option<&ApplyStop>,
    machine: &Machine,
    report: &mut Report<'_>,
) -> anyhow::Result<()> {
    for (step, outcome) in steps.iter().zip(outcomes) {
        let mut change = change(step, report);
        outcome.report(&mut change, stop);
        if let BootStep::Images { initramfs, .. } = step {
            if *outcome == StepOutcome::Changed && !machine.is_host() {
                change.status = ChangeStatus::Skipped;
                change.reason = Some("no command is run with --root".into());
            }
            if let Some(left) = outcome.left() {
                change.hint = Some(left.clone());
                change.commands = vec![rebuild_command(*initramfs)];
            }
        }
        report.put_change(change)?;
    }
    Ok(())
}

fn change(step: &BootStep, report: &Report<'_>) -> Change {
    let (target, property) = step.name();
    let mut change = report.change(target, property);
    let size = |text: &Option<String>| text.as_ref().map(|text| format!("{} bytes", text.len()));
    match step {
        BootStep::CommandLine { option, .. } => {
            change.from = (!step.is_change()).then(|| (*option).to_string());
            change.to = Some((*option).to_string());
        }
        BootStep::File { before, after, .. } => {
            (change.from, change.to) = (size(before), size(after));
        }
        BootStep::Images { initramfs, .. } => {
            change.to = Some(record::shell_words(&rebuild_command(*initramfs)));
        }
    }
    change
}

/// Whether functions have other drivers after the next boot than now.
fn put_reboot(required: bool, status: ChangeStatus, report: &mut Report<'_>) -> anyhow::Result<()> {
    let mut change = report.change("host", "reboot_required");
    change.to = Some(if required { "yes" } else { "no" }.into());
    change.status = status;
    report.put_change(change)
}
