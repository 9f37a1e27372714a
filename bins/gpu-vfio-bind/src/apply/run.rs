//! One run of `bind` or `release`: lock, look again, write, report.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ::apply::{ApplyStop, StepError, StepOutcome, conclude, lock_run};
use ::cli::{Exit, Failure, fail, interrupted};
use host::{KernelFiles, Machine};
use pci::{System, is_vfio_driver as is_vfio};
use record::{Address, ChangeStatus};
use usage::{FunctionNode, Users};

use super::functions::{DriverWriter, FunctionOutcome};
use super::prepare::{load_driver, load_drivers, lock_nvidia};
use crate::plan::{DriverState, FunctionStep};
use crate::previous_driver::{self, PreviousDriver};
use crate::report::Report;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToVfio,
    ToHost,
}

pub struct FunctionRun<'a> {
    pub machine: &'a Machine,
    pub system: &'a System,
    pub steps: &'a [FunctionStep],
    pub direction: Direction,
    /// The VM that is started and is given the functions.
    pub vm: Option<u32>,
    /// How long one unbind or bind may take.
    pub deadline: Duration,
}

impl FunctionRun<'_> {
    /// Whether anything has to be written: also where an earlier release could
    /// not remove what it had written down.
    pub fn is_needed(&self) -> bool {
        let known =
            |step: &FunctionStep| previous_driver::recall(self.machine, step.address).is_some();
        self.steps.iter().any(FunctionStep::is_change)
            || (self.direction == Direction::ToHost && self.steps.iter().any(known))
    }

    pub fn apply(&self, report: &mut Report<'_>) -> anyhow::Result<Exit> {
        let _lock = lock_run(self.machine, report.say.tool())?;
        let files = self.machine;
        let load = |driver: &str| load_driver(files, driver).map(drop);
        let writer =
            DriverWriter { files, deadline: self.deadline, interrupted: &interrupted, load: &load };
        self.require_unmodified(&writer)?;
        if self.direction == Direction::ToHost {
            return self.write(&writer, report);
        }
        let steps = &load_drivers(self.machine, self.steps)?;
        let (locks, objections) = lock_nvidia(self.machine, steps, report.say);
        let run = FunctionRun { steps, ..*self };
        let ended = report.refuse(objections, &[]).and_then(|()| {
            run.remember()?;
            run.write(&writer, report)
        });
        locks.release(self.machine);
        ended
    }

    fn write(&self, writer: &DriverWriter<'_>, report: &mut Report<'_>) -> anyhow::Result<Exit> {
        // read before the unbind: in the middle of it the driver no longer says
        // which nodes belong to the function
        let users = Users::new(self.machine);
        let nodes = self.device_nodes(&users);
        let (mut outcomes, mut stop) = writer.apply(self.steps);
        self.name_users(&users, &nodes, &mut outcomes, stop.as_mut());
        let mut group_nodes = Vec::new();
        if self.direction == Direction::ToVfio && stop.is_none() {
            match self.wait_for_group_nodes() {
                Ok(found) => group_nodes = found,
                Err(error) => {
                    writer.roll_back(self.steps, &mut outcomes);
                    stop = Some(error);
                }
            }
        }
        self.report(&outcomes, stop.as_ref(), writer, report)?;
        for (group, node) in group_nodes {
            let mut change = report.change(&format!("group {group}"), "vfio_group");
            change.to = Some(node);
            change.status = ChangeStatus::Changed;
            report.put_change(change)?;
        }
        self.forget(&outcomes)?;
        conclude(&outcomes, stop)
    }

    /// The plan was made before the lock was taken.
    fn require_unmodified(&self, writer: &DriverWriter<'_>) -> Result<(), Failure> {
        for step in self.steps {
            if writer.state(step.address)? != step.before {
                let message = format!(
                    "{} was modified by another process; nothing was changed",
                    step.address
                );
                return Err(fail(Exit::System, message).hint("run the command again"));
            }
        }
        Ok(())
    }

    /// Writes down which drivers the functions have. A run that was killed may
    /// have left a function without one: what is written down then is still what
    /// it had.
    fn remember(&self) -> Result<(), Failure> {
        for step in self.steps.iter().filter(|step| step.is_change()) {
            let known = previous_driver::recall(self.machine, step.address);
            let driver = match (&step.before.driver, known) {
                (None, Some(known)) => known.driver,
                (now, _) => now.clone().filter(|driver| !is_vfio(driver)),
            };
            let moved_to = step.after.driver.clone().unwrap_or_default();
            let previous = PreviousDriver { driver, moved_to, vm: self.vm };
            previous_driver::remember(self.machine, step.address, &previous)?;
        }
        Ok(())
    }

    /// Removes what is written down of functions that are not bound to VFIO.
    fn forget(&self, outcomes: &[FunctionOutcome]) -> Result<(), Failure> {
        let to_vfio = self.direction == Direction::ToVfio;
        for (step, outcome) in self.steps.iter().zip(outcomes) {
            let released = match outcome {
                StepOutcome::Changed | StepOutcome::Unchanged => !to_vfio,
                StepOutcome::RolledBack | StepOutcome::NotReached => to_vfio,
                StepOutcome::Failed { left, .. } | StepOutcome::Pending { left, .. } => {
                    to_vfio && left.is_none()
                }
                StepOutcome::NotRestored { .. } => false,
            };
            if released {
                previous_driver::forget(self.machine, step.address)?;
            }
        }
        Ok(())
    }

    fn device_nodes(&self, users: &Users<'_>) -> Vec<BTreeSet<FunctionNode>> {
        let of = |address: &Address| self.system.functions.get(address).map(|f| users.nodes_of(f));
        self.steps.iter().map(|step| of(&step.address).unwrap_or_default()).collect()
    }

    /// Adds to a pending write who has the function open.
    fn name_users(
        &self,
        users: &Users<'_>,
        nodes: &[BTreeSet<FunctionNode>],
        outcomes: &mut [FunctionOutcome],
        mut stop: Option<&mut ApplyStop>,
    ) {
        for (nodes, outcome) in nodes.iter().zip(outcomes) {
            let StepOutcome::Pending { why, .. } = outcome else { continue };
            for user in users.holders_now(nodes).users {
                why.push_str(&format!("; {} {}", user.name, user.what));
            }
            if let Some(stop) = stop.as_deref_mut() {
                stop.error = StepError::Pending(why.clone());
            }
        }
    }

    /// The nodes by which QEMU opens the groups. udev and devtmpfs need a
    /// moment.
    fn wait_for_group_nodes(&self) -> Result<Vec<(u32, String)>, ApplyStop> {
        let mut nodes: Vec<(u32, String)> = Vec::new();
        let patience = Instant::now() + Duration::from_secs(1);
        for step in self.steps.iter().filter(|step| step.is_change()) {
            let group = self.system.functions.get(&step.address).and_then(|f| f.group);
            let Some(group) = group.filter(|id| !nodes.iter().any(|(seen, _)| seen == id)) else {
                continue;
            };
            let node = format!("/dev/vfio/{group}");
            while !KernelFiles::exists(self.machine, &node) {
                if Instant::now() > patience {
                    let error = StepError::Failed(format!("{node} did not appear"));
                    return Err(ApplyStop { target: step.address.to_string(), error });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            nodes.push((group, node));
        }
        Ok(nodes)
    }

    fn report(
        &self,
        outcomes: &[FunctionOutcome],
        stop: Option<&ApplyStop>,
        writer: &DriverWriter<'_>,
        report: &mut Report<'_>,
    ) -> anyhow::Result<()> {
        for (step, outcome) in self.steps.iter().zip(outcomes) {
            let mut change = report.driver_change(step);
            if *outcome == StepOutcome::Changed {
                // which driver a probe finds is known only now
                change.to = writer.state(step.address).map_or(change.to, |now| now.driver);
            }
            outcome.report(&mut change, stop);
            report.put_change(change)?;
            if let Some(left) = outcome.left() {
                report_left(step, left, report)?;
            }
        }
        Ok(())
    }
}

/// One record for each property that could not be restored.
fn report_left(
    step: &FunctionStep,
    left: &DriverState,
    report: &mut Report<'_>,
) -> anyhow::Result<()> {
    let pairs = [
        ("driver", &step.before.driver, &left.driver),
        ("driver_override", &step.before.driver_override, &left.driver_override),
    ];
    for (property, before, now) in pairs.into_iter().filter(|(_, before, now)| before != now) {
        let mut change = report.change(&step.address.to_string(), property);
        change.from.clone_from(before);
        change.to.clone_from(now);
        change.status = ChangeStatus::Failed;
        change.reason = Some("left behind: the value from before the run was not restored".into());
        report.put_change(change)?;
    }
    Ok(())
}
