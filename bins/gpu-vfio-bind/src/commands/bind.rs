//! `bind`: slots to VFIO.

use std::time::Duration;

use ::cli::{Exit, Failure, fail};
use advice::gpu_vfio_bind::{BindOptions, bind_with};
use host::Machine;
use pci::{Function, System};
use record::CommandLine;

use crate::apply::{Direction, FunctionRun};
use crate::check::{self, Retry};
use crate::cli::Bind;
use crate::observe::{FunctionUse, NodeUse, Observer};
use crate::plan::{DriverGoal, DriverState, FunctionStep, plan};
use crate::report::Report;
use crate::select::{Reach, add_group_members, functions, select, slots};
use crate::vfio_driver::VfioDriver;

pub fn run(options: &Bind, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let (system, mut addresses) = select(&options.named, Reach::Slots, machine, report.say)?;
    let named = slots(&functions(&system, &addresses));
    if options.group {
        add_group_members(&system, &mut addresses);
    }
    let functions = functions(&system, &addresses);
    let driver = VfioDriver::of_option(&options.driver, machine, &system, &functions)?;
    let goal = |f: &Function| DriverGoal::Vfio { driver: driver.of(f) };
    let steps: Vec<FunctionStep> =
        functions.iter().map(|f| plan(f.address, DriverState::of(f), &goal(f))).collect();
    let pairs = functions.iter().zip(&steps);
    let changed: Vec<&Function> =
        pairs.filter(|(_, step)| step.is_change()).map(|(function, _)| *function).collect();
    let mut uses = observe(machine, &changed, report);
    let persistenced = |used: &FunctionUse| used.processes.iter().any(NodeUse::is_persistenced);
    let mut stopped = false;
    if options.stop_persistenced && uses.iter().any(persistenced) {
        if options.change.only_look() {
            report.say.note("nvidia-persistenced would be stopped");
            uses.iter_mut().for_each(|used| used.processes.retain(|p| !p.is_persistenced()));
        } else {
            stopped = persistenced_service("stop", machine, report)?;
            uses = observe(machine, &changed, report);
        }
    }
    let bind = BindRun { options, named: &named, system: &system, changed: &changed };
    let outcome = bind.check_and_apply(&uses, &steps, machine, report);
    if stopped && !matches!(outcome, Ok(Exit::Done)) {
        persistenced_service("start", machine, report)?;
    }
    outcome
}

struct BindRun<'a> {
    options: &'a Bind,
    /// What the user named, as whole slots.
    named: &'a [String],
    system: &'a System,
    /// The functions that are not bound as asked yet.
    changed: &'a [&'a Function],
}

impl BindRun<'_> {
    fn check_and_apply(
        &self,
        uses: &[FunctionUse],
        steps: &[FunctionStep],
        machine: &Machine,
        report: &mut Report<'_>,
    ) -> anyhow::Result<Exit> {
        let retry = |retry| self.command(retry);
        let objections = check::bind(self.system, self.changed, uses, &retry);
        report.refuse(objections, self.options.force)?;
        for (function, used) in self.changed.iter().zip(uses) {
            for vm in used.vms.iter().filter(|vm| !vm.running) {
                let (address, vmid) = (function.address, vm.vmid);
                report.say.detail(&format!("{address}: VM {vmid} names it ({})", vm.key));
            }
        }
        let run = FunctionRun {
            machine,
            system: self.system,
            steps,
            direction: Direction::ToVfio,
            deadline: Duration::from_secs(self.options.wait.timeout),
        };
        match self.options.change {
            ref change if change.check => report.check_steps(steps, |_| self.command_as_typed()),
            ref change if change.dry_run || !run.is_needed() => report.planned_steps(steps),
            _ => run.apply(report),
        }
    }

    fn command_as_typed(&self) -> CommandLine {
        bind_with(self.named, &typed_options(self.options))
    }

    /// The user's own command with what gets past an objection.
    fn command(&self, retry: Retry) -> CommandLine {
        let mut options = typed_options(self.options);
        match retry {
            Retry::Force => options.force = true,
            Retry::StopPersistenced => options.stop_persistenced = true,
            Retry::WithGroup(_) => options.group = true,
        }
        bind_with(self.named, &options)
    }
}

/// The options that differ from their defaults.
fn typed_options(options: &Bind) -> BindOptions {
    BindOptions {
        group: options.group,
        driver: Some(options.driver.clone()).filter(|driver| driver != "vfio-pci"),
        stop_persistenced: options.stop_persistenced,
        timeout: Some(options.wait.timeout).filter(|seconds| *seconds != 15),
        force: options.force,
    }
}

fn observe(machine: &Machine, functions: &[&Function], report: &Report<'_>) -> Vec<FunctionUse> {
    let observer = Observer::new(machine);
    observer.warn(report.say);
    functions.iter().map(|f| observer.of(f)).collect()
}

/// Stops or starts the daemon; `true` where that was done. No command is run
/// below --root.
fn persistenced_service(
    verb: &str,
    machine: &Machine,
    report: &Report<'_>,
) -> Result<bool, Failure> {
    let argv = ["systemctl", verb, "nvidia-persistenced"];
    match machine.run(&argv, Duration::from_secs(60))? {
        None => {
            report.say.note("nvidia-persistenced is left alone: no command is run below --root");
            Ok(false)
        }
        Some(ran) if ran.success() => {
            report.say.note(&format!("nvidia-persistenced: {verb}"));
            Ok(true)
        }
        Some(ran) => {
            let message = format!("cannot {verb} nvidia-persistenced: {}", ran.reason());
            let status = argv.map(|word| if word == verb { "status" } else { word });
            Err(fail(Exit::System, message).run(status.map(str::to_string).to_vec()))
        }
    }
}
