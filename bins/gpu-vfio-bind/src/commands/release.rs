//! `release`: slots to the host's drivers.

use std::collections::BTreeSet;
use std::time::Duration;

use ::cli::Exit;
use advice::gpu_vfio_bind::{ReleaseOptions, release_with};
use host::Machine;
use passthrough::{Judge, Release as Effect, Retry, TakenWhen};
use pci::{Function, is_vfio_driver};
use record::CommandLine;
use usage::Users;

use crate::apply::{Direction, FunctionRun};
use crate::cli::Release;
use crate::native_driver::Claims;
use crate::plan::{DriverAction, DriverGoal, DriverState, FunctionStep, plan};
use crate::previous_driver;
use crate::report::Report;
use crate::select::{Reach, functions, select, with_kinds};

pub fn run(options: &Release, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let (system, addresses) = select(&options.named, Reach::Slots, machine, report.say)?;
    let functions = functions(&system, &addresses);
    let claims = Claims::read(machine, &system, &functions);
    let steps: Vec<FunctionStep> = functions
        .iter()
        .map(|f| plan(f.address, DriverState::of(f), &goal(options, machine, &claims, f)))
        .collect();
    let pairs = functions.iter().zip(&steps);
    let changed: Vec<(&Function, Effect)> =
        pairs.filter(|(_, step)| step.is_change()).map(|(f, step)| (*f, effect(step))).collect();
    let named = system.names(&functions);
    let users = Users::new(machine);
    let retry = |retry| retry_command(options, &named, retry);
    let judge = Judge { system: &system, users: &users, retry: &retry, when: TakenWhen::Now };
    report.refuse(judge.release(&changed), &options.force.kinds)?;
    let run = FunctionRun {
        machine,
        system: &system,
        steps: &steps,
        direction: Direction::ToHost,
        deadline: Duration::from_secs(options.wait.timeout),
    };
    if options.change.check {
        let typed = typed_options(options);
        return report.check_steps(&steps, |_| release_with(&named, &typed));
    }
    if options.change.dry_run || !run.is_needed() {
        return report.planned_steps(&steps);
    }
    run.apply(report)
}

fn effect(step: &FunctionStep) -> Effect {
    let unbinds = |action: &DriverAction| matches!(action, DriverAction::Unbind(_));
    match step.actions.iter().any(unbinds) {
        true => Effect::Unbinds,
        false => Effect::OnlyClears,
    }
}

fn typed_options(options: &Release) -> ReleaseOptions {
    ReleaseOptions {
        to: options.to.clone(),
        timeout: Some(options.wait.timeout).filter(|seconds| *seconds != 15),
        force: with_kinds(&options.force, BTreeSet::new()),
    }
}

/// The user's own command with what gets past an objection.
fn retry_command(options: &Release, named: &[String], retry: Retry) -> CommandLine {
    let mut typed = typed_options(options);
    match retry {
        Retry::StopPersistenced => {
            return ["systemctl", "stop", "nvidia-persistenced"].map(str::to_string).to_vec();
        }
        Retry::Force(kinds) | Retry::WithGroup(_, kinds) => {
            typed.force = with_kinds(&options.force, kinds);
        }
    }
    release_with(named, &typed)
}

/// The driver that is asked for, else the one from before `bind`, else the one
/// loaded driver that claims the function, else whichever the kernel finds. A
/// function that a driver of the host has already keeps it: what is left over
/// from `bind` is cleared without an unbind.
fn goal(options: &Release, machine: &Machine, claims: &Claims, function: &Function) -> DriverGoal {
    let is_native = |driver: &String| !is_vfio_driver(driver);
    let previous = || previous_driver::recall(machine, function.address)?.driver.filter(is_native);
    let driver = options
        .to
        .clone()
        .or_else(|| function.driver.clone().filter(is_native))
        .or_else(previous)
        .or_else(|| claims.native_driver(machine, function));
    DriverGoal::Host { driver }
}
