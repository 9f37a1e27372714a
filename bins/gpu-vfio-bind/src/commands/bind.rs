//! `bind`: slots to VFIO.

use std::collections::BTreeSet;
use std::time::Duration;

use ::cli::{Exit, Failure, fail};
use advice::gpu_vfio_bind::{BindOptions, bind_with};
use host::Machine;
use passthrough::{Judge, Retry, TakenWhen};
use pci::{Function, System};
use record::CommandLine;
use usage::{UserKind, Users};

use crate::apply::{Direction, FunctionRun};
use crate::cli::Bind;
use crate::export::host_pci;
use crate::plan::{DriverGoal, DriverState, FunctionStep, plan};
use crate::report::Report;
use crate::select::{Reach, add_group_members, functions, select, with_kinds};
use crate::vfio_driver::VfioDriver;

pub fn run(options: &Bind, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let (system, mut addresses) = select(&options.named, Reach::Slots, machine, report.say)?;
    let named = system.names(&functions(&system, &addresses));
    if options.group {
        add_group_members(&system, &mut addresses);
    }
    let functions = functions(&system, &addresses);
    let driver = VfioDriver::of_option(&options.driver, machine, &system, &functions)?;
    let goal = |f: &Function| DriverGoal::Vfio { driver: driver.of(machine, f) };
    let steps: Vec<FunctionStep> =
        functions.iter().map(|f| plan(f.address, DriverState::of(f), &goal(f))).collect();
    let pairs = functions.iter().zip(&steps);
    let changed: Vec<&Function> =
        pairs.filter(|(_, step)| step.is_change()).map(|(function, _)| *function).collect();
    let mut users = Users::new(machine);
    let mut when = TakenWhen::Now;
    let mut stopped = false;
    if options.stop_persistenced && changed.iter().any(|f| is_held_by_persistenced(&users, f)) {
        if options.change.only_look() {
            report.say.note("nvidia-persistenced would be stopped");
            when = TakenWhen::NowWithoutPersistenced;
        } else {
            stopped = persistenced_service("stop", machine, report)?;
            users = Users::new(machine);
        }
    }
    let bind = BindRun { options, named: &named, system: &system, changed: &changed };
    let outcome = bind.check_and_apply(&users, when, &steps, machine, report);
    if stopped && !matches!(outcome, Ok(Exit::Done)) {
        persistenced_service("start", machine, report)?;
    }
    outcome
}

fn is_held_by_persistenced(users: &Users<'_>, function: &Function) -> bool {
    let usage = users.of(function);
    let held = |kind| matches!(kind, UserKind::Process { is_persistenced: true, .. });
    usage.users.iter().any(|user| held(user.kind))
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
        users: &Users<'_>,
        when: TakenWhen,
        steps: &[FunctionStep],
        machine: &Machine,
        report: &mut Report<'_>,
    ) -> anyhow::Result<Exit> {
        let retry = |retry| self.command(retry);
        let judge = Judge { system: self.system, users, retry: &retry, when };
        report.refuse(judge.bind(self.changed), &self.options.force.kinds)?;
        self.warn(&judge, steps, report);
        for function in self.changed {
            for user in users.of(function).users {
                if let UserKind::Vm { is_running: false, .. } = user.kind {
                    let (address, name) = (function.address, user.name);
                    report.say.detail(&format!("{address}: {name} {}", user.what));
                }
            }
        }
        let run = FunctionRun {
            machine,
            system: self.system,
            steps,
            direction: Direction::ToVfio,
            vm: self.options.vm,
            deadline: Duration::from_secs(self.options.wait.timeout),
        };
        match self.options.change {
            ref change if change.check => report.check_steps(steps, |_| self.command_as_typed()),
            ref change if change.dry_run || !run.is_needed() => report.planned_steps(steps),
            _ => {
                let exit = run.apply(report)?;
                if self.options.vm.is_none() {
                    self.say_next_step(users, report);
                }
                Ok(exit)
            }
        }
    }

    /// How the functions get into a VM, where none has them yet.
    fn say_next_step(&self, users: &Users<'_>, report: &Report<'_>) {
        let is_vm = |kind| matches!(kind, UserKind::Vm { .. });
        let has_vm = |f: &&&Function| users.of(f).users.iter().any(|user| is_vm(user.kind));
        if self.changed.iter().any(|f| has_vm(&f)) {
            return;
        }
        for (index, host) in host_pci(self.system, self.changed).iter().enumerate() {
            report
                .say
                .note(&format!("give it to a VM: qm set VMID --hostpci{index} {host},pcie=1"));
        }
        report.say.note("pcie=1 needs the machine type q35 (qm set VMID --machine q35)");
    }

    /// What keeps a VM from starting with functions that are bound already, and
    /// what should be known of the others.
    fn warn(&self, judge: &Judge<'_>, steps: &[FunctionStep], report: &Report<'_>) {
        for step in steps {
            let Some(function) = self.system.functions.get(&step.address) else { continue };
            for objection in judge.assign_bound(function) {
                report.say.warn(&format!("{}: {}", objection.target, objection.why));
            }
            for remark in passthrough::warnings(self.system, function) {
                report.say.note(&format!("{}: {remark}", step.address));
            }
        }
    }

    fn command_as_typed(&self) -> CommandLine {
        bind_with(self.named, &typed_options(self.options))
    }

    /// The user's own command with what gets past an objection.
    fn command(&self, retry: Retry) -> CommandLine {
        let mut options = typed_options(self.options);
        match retry {
            Retry::Force(kinds) => options.force = with_kinds(&self.options.force, kinds),
            Retry::StopPersistenced => options.stop_persistenced = true,
            Retry::WithGroup(_, kinds) => {
                options.group = true;
                options.force = with_kinds(&self.options.force, kinds);
            }
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
        force: with_kinds(&options.force, BTreeSet::new()),
    }
}

/// Stops or starts the daemon; `true` where that was done. No command is run
/// with --root.
fn persistenced_service(
    verb: &str,
    machine: &Machine,
    report: &Report<'_>,
) -> Result<bool, Failure> {
    let argv = ["systemctl", verb, "nvidia-persistenced"];
    match machine.run(&argv, Duration::from_secs(60))? {
        None => {
            report.say.note("nvidia-persistenced is left alone: no command is run with --root");
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
