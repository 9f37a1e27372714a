//! `release`: slots to the host's drivers.

use std::time::Duration;

use ::cli::Exit;
use advice::gpu_vfio_bind::{ReleaseOptions, release_with};
use host::Machine;
use pci::{Function, is_vfio_driver};

use crate::apply::{Direction, FunctionRun};
use crate::check;
use crate::cli::Release;
use crate::observe::{FunctionUse, Observer};
use crate::plan::{DriverGoal, DriverState, FunctionStep, plan};
use crate::previous_driver;
use crate::report::Report;
use crate::select::{Reach, functions, select, slots};

pub fn run(options: &Release, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let (system, addresses) = select(&options.named, Reach::Slots, machine, report.say)?;
    let functions = functions(&system, &addresses);
    let steps: Vec<FunctionStep> = functions
        .iter()
        .map(|f| plan(f.address, DriverState::of(f), &goal(options.to.as_deref(), machine, f)))
        .collect();
    let pairs = functions.iter().zip(&steps);
    let changed: Vec<&Function> =
        pairs.filter(|(_, step)| step.is_change()).map(|(function, _)| *function).collect();
    let observer = Observer::new(machine);
    observer.warn(report.say);
    let uses: Vec<FunctionUse> = changed.iter().map(|f| observer.open_or_reserved(f)).collect();
    report.refuse(check::release(&changed, &uses), false)?;
    let run = FunctionRun {
        machine,
        system: &system,
        steps: &steps,
        direction: Direction::ToHost,
        deadline: Duration::from_secs(options.wait.timeout),
    };
    if options.change.check {
        let typed = ReleaseOptions {
            to: options.to.clone(),
            timeout: Some(options.wait.timeout).filter(|seconds| *seconds != 15),
        };
        let named = slots(&functions);
        return report.check_steps(&steps, |_| release_with(&named, &typed));
    }
    if options.change.dry_run || !run.is_needed() {
        return report.planned_steps(&steps);
    }
    run.apply(report)
}

/// The driver that is asked for, else the one from before `bind`, else whichever
/// the kernel finds.
fn goal(to: Option<&str>, machine: &Machine, function: &Function) -> DriverGoal {
    if let Some(driver) = to {
        return DriverGoal::Host { driver: Some(driver.to_string()), none: false };
    }
    match previous_driver::recall(machine, function.address) {
        Some(previous) => DriverGoal::Host {
            none: previous.driver.is_none(),
            driver: previous.driver.filter(|driver| !is_vfio_driver(driver)),
        },
        None => DriverGoal::Host { driver: None, none: false },
    }
}
