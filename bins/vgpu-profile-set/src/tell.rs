//! What is said of plans and steps: records, refusals.

use ::cli::{Exit, fail};
use record::{Change, ChangeStatus, Record};

use crate::apply::{Outcome, Stop};
use crate::plan::{Plan, Step, What, shown};
use crate::run::Run;

impl Run<'_> {
    /// What became of a step.
    pub(crate) fn told(&self, step: &Step, outcome: &Outcome, stop: Option<&Stop>) -> Change {
        let mut change = self.describe(step);
        let because = || stop.map(|stop| format!("{}: {}", stop.address, stop.why));
        change.status = match outcome {
            _ if matches!(step.what, What::LeftAlone { .. }) => ChangeStatus::Skipped,
            Outcome::Unchanged => ChangeStatus::Unchanged,
            Outcome::Changed => ChangeStatus::Changed,
            Outcome::RolledBack => ChangeStatus::RolledBack,
            Outcome::NotReached => ChangeStatus::Skipped,
            Outcome::Failed { .. } | Outcome::NotRestored { .. } => ChangeStatus::Failed,
        };
        match outcome {
            Outcome::RolledBack => change.reason = because(),
            Outcome::NotReached => change.reason = Some("not begun: another step failed".into()),
            Outcome::Failed { why, left } => {
                change.reason = Some(why.clone());
                change.hint = left.as_ref().map(|left| format!("it has {left} now"));
            }
            Outcome::NotRestored { why, left } => {
                change.reason = Some(format!("could not be put back: {why}"));
                change.hint = Some(format!("it has {left} now"));
            }
            Outcome::Unchanged | Outcome::Changed => {}
        }
        change
    }

    /// A step without what becomes of it.
    pub(crate) fn describe(&self, step: &Step) -> Change {
        let mut change = self.change(&step.address.to_string(), "vgpu_type");
        change.status =
            if step.is_unchanged() { ChangeStatus::Unchanged } else { ChangeStatus::Planned };
        match &step.what {
            What::Vendor { from, from_name, to, again } => {
                change.from = shown(*from, from_name.as_deref());
                change.to = to.as_ref().map(|target| target.name.clone());
                if step.is_unchanged() {
                    change.from = change.from.or(change.to.clone());
                    change.to = change.from.clone();
                }
                change.reason =
                    again.then(|| "cleared and set again for heterogeneous mode".into());
            }
            What::Mdev { uuid, from, to } => {
                change.property = format!("mdev {uuid}");
                change.from = from.as_ref().map(|(_, name)| name.clone());
                change.to = to.as_ref().map(|(_, name)| name.clone());
            }
            What::LeftAlone { from, to, why, hint } => {
                (change.from, change.to) = (from.clone(), to.clone());
                change.status = ChangeStatus::Skipped;
                (change.reason, change.hint) = (Some(why.clone()), Some(hint.clone()));
            }
        }
        change
    }

    /// All of a plan.
    pub(crate) fn tell_planned(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for (addresses, property, from, to) in [
            (&plan.enable, "sriov_numvfs", "0", "all"),
            (&plan.heterogeneous, "heterogeneous_mode", "off", "on"),
        ] {
            for address in addresses {
                let mut change = self.change(&address.to_string(), property);
                (change.from, change.to) = (Some(from.into()), Some(to.into()));
                self.writer.put(Record::Change(change))?;
            }
        }
        for step in &plan.steps {
            let change = self.describe(step);
            self.writer.put(Record::Change(change))?;
        }
        Ok(())
    }

    /// What the user should know of it.
    pub(crate) fn warn(&self, plan: &Plan) {
        plan.warnings.iter().for_each(|warning| self.say.warn(warning));
    }

    /// Refuses a plan that has objections, before anything is written.
    pub(crate) fn refuse(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let Some(first) = plan.objections.first() else { return Ok(()) };
        for objection in &plan.objections {
            let mut change = self.change(&objection.address.to_string(), "vgpu_type");
            change.status = ChangeStatus::Refused;
            change.reason = Some(objection.why.clone());
            change.hint = Some(objection.hint.clone());
            if self.writer.is_jsonl() || plan.objections.len() > 1 {
                self.writer.put(Record::Change(change))?;
            }
        }
        let more = match plan.objections.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("{} {}{more}", first.address, first.why);
        Err(fail(Exit::Refused, message).hint(first.hint.clone()).into())
    }

    /// A planned change.
    pub(crate) fn change(&self, target: &str, property: &str) -> Change {
        Change::planned(self.say.tool(), target, property)
    }
}
