//! `check`, and `--check` of `apply` and `clear`: compares what is set with what
//! is requested.

use std::path::Path;

use ::cli::Exit;
use advice::vgpu_profile_set;
use record::{Address, ChangeStatus, Check, CheckStatus, Hint, Record, Severity};

use crate::cause::Cause;
use crate::cli::{CheckOptions, RequestOptions};
use crate::health;
use crate::input::Input;
use crate::plan::model::{PlanRules, ProfileChange, ProfileStep};
use crate::plan::settings::{SettingChange, SettingStep};
use crate::session::{Session, WholePlan};

/// The verb.
pub fn run(options: &CheckOptions, mut session: Session<'_>) -> anyhow::Result<Exit> {
    if let Some(path) = &options.health_file {
        return health::check(path, options.alive);
    }
    let request = &options.request;
    let input = session.read_input(request)?;
    compare(&mut session, &input, request.rules(true), &|_| apply_hint(request))
}

/// The command that sets what these options request.
pub(crate) fn apply_hint(request: &RequestOptions) -> Hint {
    match request.file.as_deref() {
        Some(file) if file != Path::new("-") => Hint::command(vgpu_profile_set::apply(
            file,
            request.config.as_deref(),
            request.heterogeneous,
        )),
        _ => Hint::words("use the same input with apply"),
    }
}

/// Prints a `check` record for each step of the plan. `fix` gives what to do
/// about a function that differs.
pub(crate) fn compare(
    session: &mut Session<'_>,
    input: &Input,
    rules: PlanRules,
    fix: &dyn Fn(Address) -> Hint,
) -> anyhow::Result<Exit> {
    let WholePlan { settings, profiles: plan, .. } = session.plan(input, rules)?;
    session.warn(&settings, &plan);
    let mut checks: Vec<Check> =
        settings.steps.iter().map(|step| check_setting(session, step, fix)).collect();
    for gpu in &plan.enable {
        let (expected, actual) = (Some("all".into()), Some("0".into()));
        let check = drift(&gpu.to_string(), "sriov_numvfs", expected, actual);
        checks.push(advised(check, fix(*gpu)));
    }
    let objections = settings.objections.iter().map(|objection| ("settings", objection));
    let objections = objections.chain(plan.objections.iter().map(|o| ("vgpu_type", o)));
    for (property, objection) in objections {
        let mut check = drift(&objection.address.to_string(), property, None, None);
        check.cause = Some(Cause::CannotBe.name().into());
        check.reason = Some(objection.why.clone());
        checks.push(advised(check, objection.hint.clone()));
    }
    checks.extend(plan.steps.iter().map(|step| check_step(session, step, fix)));
    let differs = checks.iter().any(|check| check.status != CheckStatus::Ok);
    for check in checks {
        session.writer.put(Record::Check(check))?;
    }
    Ok(if differs { Exit::Difference } else { Exit::Done })
}

/// A setting of a GPU that is not read with `--root` is unknown.
fn check_setting(
    session: &Session<'_>,
    step: &SettingStep,
    fix: &dyn Fn(Address) -> Hint,
) -> Check {
    let change = session.reporter().setting(step);
    if change.status == ChangeStatus::Unchanged {
        return Check::ok(&change.target, &change.property, change.to);
    }
    let mut check = drift(&change.target, &change.property, change.to, change.from);
    if matches!(step.change, SettingChange::Skip { .. }) {
        check.status = CheckStatus::Unknown;
    }
    check.cause = Some(Cause::NotSet.name().into());
    check.reason = change.reason;
    advised(check, fix(step.gpu))
}

fn check_step(session: &Session<'_>, step: &ProfileStep, fix: &dyn Fn(Address) -> Hint) -> Check {
    let change = session.reporter().step(step);
    if change.status == ChangeStatus::Unchanged {
        return Check::ok(&change.target, &change.property, change.to);
    }
    let mut check = drift(&change.target, &change.property, change.to, change.from);
    let (cause, hint) = match &step.change {
        ProfileChange::Skip { hint, .. } => (Cause::LeftAlone, hint.clone()),
        _ => (Cause::NotSet, fix(step.address)),
    };
    if matches!(step.change, ProfileChange::Skip { unknown: true, .. }) {
        check.status = CheckStatus::Unknown;
    }
    check.cause = Some(cause.name().into());
    check.reason = change.reason;
    advised(check, hint)
}

fn drift(subject: &str, property: &str, expected: Option<String>, actual: Option<String>) -> Check {
    Check {
        expected,
        actual,
        status: CheckStatus::Drift,
        severity: Severity::Error,
        ..Check::ok(subject, property, None)
    }
}

fn advised(check: Check, hint: Hint) -> Check {
    Check { hint: hint.words, commands: hint.commands, ..check }
}
