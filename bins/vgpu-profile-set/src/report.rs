//! The records of plans and steps.

use ::apply::{ApplyStop, StepOutcome};
use record::{Address, Change, ChangeStatus, Hint};

use crate::nvidia_programs::NO_COMMANDS;
use crate::plan::model::{ProfileChange, ProfilePlan, ProfileStep, shown_profile};
use crate::plan::settings::{SettingChange, SettingStep};

/// Makes the `change` records of one tool.
#[derive(Clone, Copy)]
pub(crate) struct Reporter<'a> {
    pub tool: &'a str,
}

impl Reporter<'_> {
    /// A planned change of a GPU's virtual functions.
    pub fn numvfs(&self, gpu: Address, to: &str) -> Change {
        self.gpu_change(gpu, "sriov_numvfs", "0", to)
    }

    /// A planned change of a GPU's heterogeneous mode.
    pub fn heterogeneous_mode(&self, gpu: Address) -> Change {
        self.gpu_change(gpu, "heterogeneous_mode", "off", "on")
    }

    fn gpu_change(&self, gpu: Address, property: &str, from: &str, to: &str) -> Change {
        let mut change = Change::planned(self.tool, &gpu.to_string(), property);
        (change.from, change.to) = (Some(from.into()), Some(to.into()));
        change
    }

    /// All of a plan.
    pub fn plan(&self, plan: &ProfilePlan) -> Vec<Change> {
        let enable = plan.enable.iter().map(|gpu| self.numvfs(*gpu, "all"));
        let modes = plan.heterogeneous.iter().map(|gpu| self.heterogeneous_mode(*gpu));
        let step = |step: &ProfileStep| {
            let mut change = self.step(step);
            let note = plan.notes.iter().find(|note| note.address == step.address);
            if let Some(note) = note.filter(|_| change.reason.is_none()) {
                change.reason = Some(note.text.clone());
                advise(&mut change, &note.hint);
            }
            change
        };
        enable.chain(modes).chain(plan.steps.iter().map(step)).collect()
    }

    /// A step of a plan.
    pub fn step(&self, step: &ProfileStep) -> Change {
        let mut change = Change::planned(self.tool, &step.address.to_string(), "vgpu_type");
        if step.is_unchanged() {
            change.status = ChangeStatus::Unchanged;
        }
        match &step.change {
            ProfileChange::Vendor { from, from_name, to, again } => {
                change.from = shown_profile(*from, from_name.as_deref());
                change.to = to.as_ref().map(|target| target.name.clone());
                if step.is_unchanged() {
                    change.from = change.from.or(change.to.clone());
                    change.to = change.from.clone();
                }
                change.reason =
                    again.then(|| "cleared and set again for heterogeneous mode".into());
            }
            ProfileChange::Mdev { uuid, from, to } => {
                change.property = format!("mdev {uuid}");
                change.from = from.as_ref().map(|(_, name)| name.clone());
                change.to = to.as_ref().map(|(_, name)| name.clone());
            }
            ProfileChange::Skip { from, to, why, hint, .. } => {
                (change.from, change.to) = (from.clone(), to.clone());
                change.status = ChangeStatus::Skipped;
                change.reason = Some(why.clone());
                advise(&mut change, hint);
            }
        }
        change
    }

    /// A setting of a GPU.
    pub fn setting(&self, step: &SettingStep) -> Change {
        let mut change = Change::planned(self.tool, &step.gpu.to_string(), step.change.property());
        (change.from, change.to) = step.change.shown();
        if step.change.is_unchanged() {
            change.status = ChangeStatus::Unchanged;
        }
        if let SettingChange::Skip { .. } = &step.change {
            change.status = ChangeStatus::Skipped;
            change.reason = Some(NO_COMMANDS.into());
        }
        change
    }

    /// What became of a setting.
    pub fn setting_outcome(
        &self,
        step: &SettingStep,
        outcome: &StepOutcome<String>,
        stop: Option<&ApplyStop>,
    ) -> Change {
        let mut change = self.setting(step);
        if !matches!(step.change, SettingChange::Skip { .. }) {
            outcome.report(&mut change, stop);
            change.hint = outcome.left().map(|left| format!("it is {left} now"));
        }
        change
    }

    /// What became of a step.
    pub fn outcome(
        &self,
        step: &ProfileStep,
        outcome: &StepOutcome<String>,
        stop: Option<&ApplyStop>,
    ) -> Change {
        let mut change = self.step(step);
        if matches!(step.change, ProfileChange::Skip { .. }) {
            return change;
        }
        outcome.report(&mut change, stop);
        change.hint = outcome.left().map(|left| format!("the profile is {left} now"));
        change
    }
}

/// Writes a hint into a record.
fn advise(change: &mut Change, hint: &Hint) {
    change.hint = hint.words.clone();
    change.commands = hint.commands.clone();
}
