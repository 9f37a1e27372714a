//! Where a run's messages and records go, and the records of planned steps.

use ::apply::{Objection, refuse};
use ::cli::{Exit, Say};
use passthrough::ObjectionKind;
use record::{Change, Check, CheckStatus, CommandLine, Hint, Record, RecordWriter, Severity};

use crate::cli::ForceKind;
use crate::plan::FunctionStep;

pub struct Report<'a> {
    pub say: &'a Say,
    pub writer: &'a mut RecordWriter,
}

impl Report<'_> {
    /// A planned change of something.
    pub fn change(&self, target: &str, property: &str) -> Change {
        Change::planned(self.say.tool(), target, property)
    }

    /// A planned change of a function's driver.
    pub fn driver_change(&self, step: &FunctionStep) -> Change {
        let mut change = self.change(&step.address.to_string(), "driver");
        change.from.clone_from(&step.before.driver);
        change.to.clone_from(&step.after.driver);
        change
    }

    pub fn put_change(&mut self, change: Change) -> anyhow::Result<()> {
        Ok(self.writer.put(Record::Change(change))?)
    }

    pub fn put_check(&mut self, check: Check) -> anyhow::Result<()> {
        Ok(self.writer.put(Record::Check(check))?)
    }

    /// Ends the run where an objection is left that `force` does not override.
    pub fn refuse(
        &mut self,
        objections: Vec<Objection<ObjectionKind>>,
        force: &[ForceKind],
    ) -> anyhow::Result<()> {
        let mut left = Vec::new();
        for objection in objections {
            match objection.kind.force_kind().filter(|kind| force.contains(kind)) {
                Some(kind) => self.say.warn(&format!(
                    "{}: {} (overridden by --force {})",
                    objection.target,
                    objection.why,
                    kind.name()
                )),
                None => left.push(objection),
            }
        }
        refuse(left, false, "driver", self.say, self.writer)
    }

    /// `--check` of `bind` and `release`; `command` makes the change of a step.
    pub fn check_steps(
        &mut self,
        steps: &[FunctionStep],
        command: impl Fn(&FunctionStep) -> CommandLine,
    ) -> anyhow::Result<Exit> {
        let mut exit = Exit::Done;
        for step in steps {
            let (subject, before) = (step.address.to_string(), step.before.driver.clone());
            let mut check = Check::ok(&subject, "driver", before);
            if step.is_change() {
                exit = Exit::Difference;
                let hint = Hint::command(command(step));
                check = drift(check, step.after.driver.clone(), Severity::Error, hint);
            }
            self.put_check(check)?;
        }
        Ok(exit)
    }

    /// A dry run of `bind` and `release`, and a run with nothing to do.
    pub fn planned_steps(&mut self, steps: &[FunctionStep]) -> anyhow::Result<Exit> {
        for step in steps {
            let mut change = self.driver_change(step);
            change.status = step.planned_status();
            if step.is_change() && step.after.driver.is_none() {
                change.reason = Some("the kernel decides which driver binds it".into());
            }
            self.put_change(change)?;
        }
        Ok(Exit::Done)
    }
}

/// The same check with a difference found.
pub fn drift(check: Check, expected: Option<String>, severity: Severity, hint: Hint) -> Check {
    Check {
        expected,
        status: CheckStatus::Drift,
        severity,
        hint: hint.words,
        commands: hint.commands,
        ..check
    }
}
