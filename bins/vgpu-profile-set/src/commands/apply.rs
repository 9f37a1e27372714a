//! `apply`: sets profiles, after enabling virtual functions where that is
//! needed.

use ::cli::{Exit, fail};
use record::{Address, ChangeStatus};

use crate::cli::ApplyOptions;
use crate::commands::check::{apply_hint, compare};
use crate::input::Input;
use crate::nvidia_programs::{NO_COMMANDS, SRIOV_MANAGE};
use crate::observe::model::Gpu;
use crate::plan::model::{PlanRules, ProfilePlan, ProfileStep};
use crate::plan::settings::SettingStep;
use crate::session::{Session, WholePlan};

/// The verb.
pub fn run(options: &ApplyOptions, mut session: Session<'_>) -> anyhow::Result<Exit> {
    let request = &options.request;
    let input = session.read_input(request)?;
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
    let WholePlan { settings, profiles: plan, gpus } = session.plan(&input, rules)?;
    session.warn(&settings, &plan);
    session.refuse(&settings.objections, &plan)?;
    if options.change.dry_run {
        session.print_plan(&settings, &plan)?;
        return Ok(Exit::Done);
    }
    // enabling virtual functions deletes MIG instances, so that these come last
    let (last, first): (Vec<SettingStep>, Vec<SettingStep>) =
        settings.steps.into_iter().partition(SettingStep::after_vfs);
    session.carry_out_settings(&first)?;
    if plan.enable.is_empty() {
        return match session.carry_out_settings(&last)? {
            // the profiles that the driver offers have changed
            true => apply_again(&mut session, &input, rules),
            false => session.carry_out(&plan, &gpus),
        };
    }
    if !session.machine.is_host() && session.machine.exists(SRIOV_MANAGE) {
        return without_programs(&mut session, plan, &gpus);
    }
    let enabled = enable(&mut session, &plan, &gpus)?;
    // the new virtual functions are read before profiles are set on them
    let outcome = match session.carry_out_settings(&last) {
        Ok(_) => apply_again(&mut session, &input, rules),
        Err(failure) => Err(failure),
    };
    if outcome.is_err() {
        disable(&mut session, &enabled)?;
    }
    outcome
}

/// Plans the profiles on the host as it is now, and sets them.
fn apply_again(session: &mut Session<'_>, input: &Input, rules: PlanRules) -> anyhow::Result<Exit> {
    let WholePlan { profiles, gpus, .. } = session.plan(input, rules)?;
    session.refuse(&[], &profiles)?;
    session.carry_out(&profiles, &gpus)
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
