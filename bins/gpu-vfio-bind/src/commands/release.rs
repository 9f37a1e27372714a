//! `release`: slots to the host's drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use advice::gpu_vfio_bind::{ReleaseOptions, release_with};
use host::Machine;
use passthrough::{Judge, Release as Effect, Retry, TakenWhen};
use pci::{Function, System, is_vfio_driver};
use record::CommandLine;
use usage::Users;

use crate::apply::{Direction, FunctionRun};
use crate::boot::claims::BootClaims;
use crate::cli::Release;
use crate::native_driver::NativeDrivers;
use crate::plan::{DriverAction, DriverGoal, DriverState, FunctionStep, plan};
use crate::previous_driver;
use crate::report::Report;
use crate::select::{Reach, functions, select, with_kinds};

pub fn run(options: &Release, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let (system, addresses) = select(&options.named, Reach::Slots, machine, report.say)?;
    let functions = functions(&system, &addresses);
    let native = NativeDrivers::read(machine, &system, &functions);
    require_claim(options, machine, &native, &functions)?;
    let steps: Vec<FunctionStep> = functions
        .iter()
        .map(|f| plan(f.address, DriverState::of(f), &goal(options, machine, &native, f)))
        .collect();
    let pairs = functions.iter().zip(&steps);
    let changed: Vec<(&Function, Effect)> =
        pairs.filter(|(_, step)| step.is_change()).map(|(f, step)| (*f, effect(step))).collect();
    let named = system.names(&functions);
    let users = Users::new(machine);
    let retry = |retry| retry_command(options, &named, retry);
    let judge = Judge { system: &system, users: &users, retry: &retry, when: TakenWhen::Now };
    match BootClaims::read(machine, &system) {
        Ok(claims) => warn_of_boot(&claims, &system, &functions, report.say),
        Err(error) => report.say.warn(&format!("{error}: it may bind them at the next boot")),
    }
    report.refuse(judge.release(&changed), &options.force.kinds)?;
    let run = FunctionRun {
        machine,
        system: &system,
        steps: &steps,
        direction: Direction::ToHost,
        vm: None,
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

/// Names what binds released functions at the next boot again, a line for each.
fn warn_of_boot(claims: &BootClaims, system: &System, functions: &[&Function], say: &Say) {
    let mut bound: BTreeMap<(String, String), Vec<&Function>> = BTreeMap::new();
    for function in functions {
        let Some(claim) = claims.of(function) else { continue };
        if let Some(driver) = claim.driver.filter(|driver| is_vfio_driver(driver)) {
            bound.entry((claim.by.text(), driver)).or_default().push(function);
        }
    }
    for ((by, driver), functions) in bound {
        let names = system.names(&functions).join(", ");
        say.warn(&format!("{names}: {by} binds it to {driver} at the next boot"));
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

/// A driver that claims none of the functions is a typing error: the kernel would
/// refuse each of them, after they have lost the driver that they have.
fn require_claim(
    options: &Release,
    machine: &Machine,
    native: &NativeDrivers,
    functions: &[&Function],
) -> Result<(), Failure> {
    let Some(driver) = &options.to else { return Ok(()) };
    if functions.iter().any(|function| native.claims(machine, function, driver)) {
        return Ok(());
    }
    let others: BTreeSet<String> = functions.iter().flat_map(|f| native.modules(f)).collect();
    let message = format!("no module of driver '{driver}' claims any of these functions");
    Err(match others.is_empty() {
        true => fail(Exit::Refused, message),
        false => {
            let others: Vec<String> = others.into_iter().collect();
            fail(Exit::Refused, message).hint(format!("these do: {}", others.join(", ")))
        }
    })
}

/// The driver that is asked for where it claims the function (of a slot's
/// functions one driver rarely claims all), else the one from before `bind`, else the one
/// loaded driver that claims the function, else whichever the kernel finds. A
/// function that a driver of the host has already keeps it: what is left over
/// from `bind` is cleared without an unbind.
fn goal(
    options: &Release,
    machine: &Machine,
    native: &NativeDrivers,
    function: &Function,
) -> DriverGoal {
    let is_native = |driver: &String| !is_vfio_driver(driver);
    let previous = || previous_driver::recall(machine, function.address)?.driver.filter(is_native);
    let driver = options
        .to
        .clone()
        .filter(|driver| native.claims(machine, function, driver))
        .or_else(|| function.driver.clone().filter(is_native))
        .or_else(previous)
        .or_else(|| native.driver(machine, function));
    DriverGoal::Host { driver }
}
