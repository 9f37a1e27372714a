//! `apply`: sets profiles, after enabling virtual functions where that is
//! needed.

use ::cli::{Exit, fail};
use record::{Address, ChangeStatus};

use crate::cli::ApplyOptions;
use crate::commands::check::{apply_hint, compare};
use crate::input;
use crate::nvidia_programs::{NO_COMMANDS, SRIOV_MANAGE};
use crate::observe::model::Gpu;
use crate::plan::model::{ProfilePlan, ProfileStep};
use crate::session::Session;

/// The verb.
pub fn run(options: &ApplyOptions, mut session: Session<'_>) -> anyhow::Result<Exit> {
    let request = &options.request;
    let input = input::read(request.file.as_deref(), request.config.as_deref())?;
    if options.change.check {
        let fix = |_| apply_hint(request);
        return compare(&mut session, &input, request.rules(true), &fix);
    }
    // the lock is taken before the host is read: otherwise another run could
    // change what the plan is made from
    let _lock = match options.change.dry_run {
        true => None,
        false => Some(session.lock()?),
    };
    let rules = request.rules(options.skip_in_use);
    let (plan, gpus) = session.plan(&input, rules)?;
    session.warn(&plan);
    session.refuse(&plan)?;
    if options.change.dry_run {
        session.print_plan(&plan)?;
        return Ok(Exit::Done);
    }
    if plan.enable.is_empty() {
        return session.carry_out(&plan, &gpus);
    }
    if !session.machine.is_host() && session.machine.exists(SRIOV_MANAGE) {
        return without_programs(&mut session, plan, &gpus);
    }
    let enabled = enable(&mut session, &plan, &gpus)?;
    // the new virtual functions are read before profiles are set on them
    let outcome = match session.plan(&input, rules) {
        Ok((plan, gpus)) => session.refuse(&plan).and_then(|()| session.carry_out(&plan, &gpus)),
        Err(failure) => Err(failure.into()),
    };
    if outcome.is_err() {
        disable(&mut session, &enabled)?;
    }
    outcome
}

/// With `--root`: what needs sriov-manage is skipped, the rest is done.
fn without_programs(
    session: &mut Session<'_>,
    mut plan: ProfilePlan,
    gpus: &[Gpu],
) -> anyhow::Result<Exit> {
    for gpu in &plan.enable {
        let mut change = session.reporter().numvfs(*gpu, "all");
        change.status = ChangeStatus::Skipped;
        change.reason = Some(NO_COMMANDS.into());
        session.put(change)?;
    }
    let (waiting, rest) =
        plan.steps.into_iter().partition(|step: &ProfileStep| plan.enable.contains(&step.gpu));
    for step in waiting {
        let mut change = session.reporter().step(&step);
        change.status = ChangeStatus::Skipped;
        change.reason = Some(format!("the virtual function is not enabled: {NO_COMMANDS}"));
        session.put(change)?;
    }
    plan.steps = rest;
    session.carry_out(&plan, gpus)
}

/// Enables virtual functions; gives the GPUs on which it did.
fn enable(
    session: &mut Session<'_>,
    plan: &ProfilePlan,
    gpus: &[Gpu],
) -> anyhow::Result<Vec<Address>> {
    let mut enabled = Vec::new();
    for gpu in &plan.enable {
        let total = gpus.iter().find(|g| g.address == *gpu).map_or(0, |g| g.total_vfs);
        let mut change = session.reporter().numvfs(*gpu, &total.to_string());
        match session.programs().enable_vfs(*gpu, total) {
            Ok(()) => {
                enabled.push(*gpu);
                change.status = ChangeStatus::Changed;
                session.put(change)?;
            }
            Err(why) => {
                change.status = ChangeStatus::Failed;
                change.reason = Some(why.clone());
                session.put(change)?;
                disable(session, &enabled)?;
                let message = format!("{gpu}: cannot enable virtual functions: {why}");
                return Err(fail(Exit::System, message).into());
            }
        }
    }
    Ok(enabled)
}

fn disable(session: &mut Session<'_>, enabled: &[Address]) -> anyhow::Result<()> {
    for gpu in enabled.iter().rev() {
        let mut change = session.reporter().numvfs(*gpu, "0");
        change.from = None;
        match session.programs().disable_vfs(*gpu) {
            Ok(()) => change.status = ChangeStatus::RolledBack,
            Err(why) => {
                change.status = ChangeStatus::Failed;
                change.reason = Some(why);
            }
        }
        session.put(change)?;
    }
    Ok(())
}
