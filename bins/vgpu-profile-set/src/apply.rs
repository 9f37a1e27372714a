//! Carries steps out and reads back. Where one fails, either everything is rolled
//! back or, for `watch`, only what failed.

mod attributes;
pub mod settings;

use std::time::Duration;

use ::apply::{ApplyStop, StepError, StepOutcome};
use host::KernelFiles;
use record::Address;

use crate::apply::attributes::VgpuAttributes;
use crate::plan::model::{ProfileChange, ProfileStep};

/// Applies the steps of a plan.
pub struct ProfileApplier<'a> {
    pub files: &'a dyn KernelFiles,
    /// How long the driver may take for one write.
    pub deadline: Duration,
    /// Asked between writes: whether a signal has arrived.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// One write that was made, and what rolling it back needs.
#[derive(Clone, Debug)]
enum MadeChange {
    /// The profile of a function was cleared; it had this id.
    Cleared { step: usize, id: u32 },
    /// A function got a profile.
    Set { step: usize },
    /// A mediated device of this type was removed.
    Removed { step: usize, dir: String },
    /// A mediated device was made.
    Made { step: usize },
    /// The mode of a GPU was switched.
    ModeSwitched(Address),
}

impl MadeChange {
    /// The step that it belongs to; `None`: it is of the GPU as a whole.
    fn step(&self) -> Option<usize> {
        match self {
            MadeChange::Cleared { step, .. }
            | MadeChange::Set { step }
            | MadeChange::Removed { step, .. }
            | MadeChange::Made { step } => Some(*step),
            MadeChange::ModeSwitched(_) => None,
        }
    }

    /// Whether it took from the function of this step what that had.
    fn takes_from(&self, at: usize) -> bool {
        matches!(self, MadeChange::Cleared { step, .. } | MadeChange::Removed { step, .. } if *step == at)
    }
}

/// What became of the step of one function that succeeds or fails by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionResult {
    pub outcome: StepOutcome<String>,
    /// The profile that the function had was cleared, for however short a time.
    pub cleared: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ApplyPass {
    Clear,
    Set,
}

/// What was undone of one step.
#[derive(Clone, Debug, Default)]
struct UndoneStep {
    touched: bool,
    /// Why it could not be undone.
    error: Option<StepError>,
}

/// Whether no other step is started after this error.
fn ends_run(error: &StepError) -> bool {
    matches!(error, StepError::Pending(_) | StepError::Interrupted)
}

/// Switches the mode of a GPU between what is cleared and what is set: called
/// with true, and with false to roll back.
pub type SwitchMode<'a> = dyn FnMut(Address, bool) -> Result<(), String> + 'a;

/// A step that failed; `None`: the switch of a GPU's mode.
type FailedStep = (Option<usize>, StepError);

impl ProfileApplier<'_> {
    /// Carries the steps out, GPU by GPU: first clears profiles, then calls
    /// `switch_mode` (heterogeneous mode can only be switched while nothing is
    /// set), then sets profiles in their order. Where one step fails, all
    /// before it are rolled back, last first. Gives what became of each, and
    /// why it stopped.
    pub fn apply(
        &self,
        steps: &[ProfileStep],
        switch_mode: &mut SwitchMode<'_>,
    ) -> (Vec<StepOutcome<String>>, Option<ApplyStop>) {
        let mut journal = Vec::new();
        let mut gpus: Vec<Address> = steps.iter().map(|step| step.gpu).collect();
        gpus.dedup();
        for gpu in gpus {
            if let Err((at, error)) = self.apply_gpu(gpu, steps, switch_mode, &mut journal) {
                let target = at.map_or(gpu, |at| steps[at].address).to_string();
                let outcomes = self.roll_back(steps, at, &error, &journal, switch_mode);
                return (outcomes, Some(ApplyStop { target, error }));
            }
        }
        let outcome = |step: &ProfileStep| match step.is_change() {
            true => StepOutcome::Changed,
            false => StepOutcome::Unchanged,
        };
        (steps.iter().map(outcome).collect(), None)
    }

    fn apply_gpu(
        &self,
        gpu: Address,
        steps: &[ProfileStep],
        switch_mode: &mut SwitchMode<'_>,
        journal: &mut Vec<MadeChange>,
    ) -> Result<(), FailedStep> {
        let of_gpu: Vec<(usize, &ProfileStep)> =
            steps.iter().enumerate().filter(|(_, s)| s.gpu == gpu && s.is_change()).collect();
        if of_gpu.is_empty() {
            return Ok(());
        }
        for (at, step) in of_gpu.iter().filter(|(_, step)| step.clears()) {
            self.clear(*at, step, journal).map_err(|error| (Some(*at), error))?;
        }
        switch_mode(gpu, true).map_err(|why| (None, StepError::Failed(why)))?;
        journal.push(MadeChange::ModeSwitched(gpu));
        for (at, step) in &of_gpu {
            self.set(*at, step, journal).map_err(|error| (Some(*at), error))?;
        }
        Ok(())
    }

    fn attributes(&self) -> VgpuAttributes<'_> {
        VgpuAttributes { files: self.files, deadline: self.deadline }
    }

    fn clear(
        &self,
        at: usize,
        step: &ProfileStep,
        journal: &mut Vec<MadeChange>,
    ) -> Result<(), StepError> {
        self.check_signals()?;
        match &step.change {
            ProfileChange::Vendor { from, .. } => {
                let now = self.attributes().current(step.address)?;
                if now != *from {
                    let why = format!("was changed by another process: it reads {now}");
                    return Err(StepError::Failed(why));
                }
                let cleared = MadeChange::Cleared { step: at, id: *from };
                self.attributes().write_type(step.address, 0, &mut || journal.push(cleared.clone()))
            }
            ProfileChange::Mdev { uuid, from: Some((dir, _)), .. } => {
                self.attributes().remove_mdev(step.address, uuid)?;
                journal.push(MadeChange::Removed { step: at, dir: dir.clone() });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn set(
        &self,
        at: usize,
        step: &ProfileStep,
        journal: &mut Vec<MadeChange>,
    ) -> Result<(), StepError> {
        match &step.change {
            ProfileChange::Vendor { to: Some(target), .. } => {
                self.check_signals()?;
                // if another process has set a profile, the driver refuses this (EPERM)
                let id = self.attributes().offered_id(step.address, target)?;
                let set = &mut || journal.push(MadeChange::Set { step: at });
                self.attributes().write_type(step.address, id, set)
            }
            ProfileChange::Mdev { uuid, to: Some((dir, _)), .. } => {
                self.check_signals()?;
                self.attributes().make_mdev(step.address, dir, uuid)?;
                journal.push(MadeChange::Made { step: at });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_signals(&self) -> Result<(), StepError> {
        if (self.interrupted)() { Err(StepError::Interrupted) } else { Ok(()) }
    }

    /// Carries the steps of one GPU out for `watch`: profiles that have to go are
    /// cleared, then each function gets its profile. A function whose profile is
    /// refused gets back the one that it had; what was set on the others stays.
    /// A signal rolls everything back.
    pub fn apply_each(&self, steps: &[ProfileStep]) -> Vec<FunctionResult> {
        let mut journal = Vec::new();
        let mut errors: Vec<Option<StepError>> = vec![None; steps.len()];
        let mut set = vec![false; steps.len()];
        // a function that was cleared gets its profile in the second pass
        for pass in [ApplyPass::Clear, ApplyPass::Set] {
            for (at, step) in steps.iter().enumerate() {
                // after a write that hangs, the next one would hang as well
                let stopped = errors.iter().flatten().any(ends_run);
                let has_part =
                    if pass == ApplyPass::Clear { step.clears() } else { step.is_change() };
                if stopped || errors[at].is_some() || !has_part {
                    continue;
                }
                let result = match pass {
                    ApplyPass::Clear => self.clear(at, step, &mut journal),
                    ApplyPass::Set => self.set(at, step, &mut journal),
                };
                set[at] = pass == ApplyPass::Set && result.is_ok();
                errors[at] = result.err();
            }
        }
        let interrupted = errors.iter().flatten().any(|error| *error == StepError::Interrupted);
        if interrupted {
            set.fill(false);
        }
        let cleared = |at: usize| journal.iter().any(|made| made.takes_from(at));
        let cleared: Vec<bool> = (0..steps.len()).map(cleared).collect();
        journal.retain(|made| made.step().is_some_and(|step| !set[step]));
        let undone = self.undo_all(steps, &journal, &mut |_, _| Ok(()));
        let result = |(at, step): (usize, &ProfileStep)| FunctionResult {
            outcome: match set[at] {
                true => StepOutcome::Changed,
                false => self.outcome(step, errors[at].as_ref(), &undone[at]),
            },
            cleared: cleared[at],
        };
        steps.iter().enumerate().map(result).collect()
    }

    /// Rolls the journal back, last first, and gives what became of every step.
    fn roll_back(
        &self,
        steps: &[ProfileStep],
        failed: Option<usize>,
        error: &StepError,
        journal: &[MadeChange],
        switch_mode: &mut SwitchMode<'_>,
    ) -> Vec<StepOutcome<String>> {
        let undone = self.undo_all(steps, journal, switch_mode);
        let outcome = |(at, step): (usize, &ProfileStep)| {
            let error = (failed == Some(at)).then_some(error);
            self.outcome(step, error, &undone[at])
        };
        steps.iter().enumerate().map(outcome).collect()
    }

    /// Undoes what the journal holds, last first.
    fn undo_all(
        &self,
        steps: &[ProfileStep],
        journal: &[MadeChange],
        switch_mode: &mut SwitchMode<'_>,
    ) -> Vec<UndoneStep> {
        let mut undone = vec![UndoneStep::default(); steps.len()];
        for made in journal.iter().rev() {
            match (made, made.step()) {
                (_, Some(step)) => {
                    undone[step].touched = true;
                    if let Err(error) = self.undo(&steps[step], made) {
                        undone[step].error.get_or_insert(error);
                    }
                }
                (MadeChange::ModeSwitched(gpu), None) => {
                    // where the mode stays on, the old profiles fit as well
                    let _ = switch_mode(*gpu, false);
                }
                _ => {}
            }
        }
        undone
    }

    /// What became of a step that was not done, or was undone. `error`: how it
    /// failed itself.
    fn outcome(
        &self,
        step: &ProfileStep,
        error: Option<&StepError>,
        undone: &UndoneStep,
    ) -> StepOutcome<String> {
        if !step.is_change() {
            return StepOutcome::Unchanged;
        }
        let left = self.left(step).filter(|_| undone.touched || error.is_some());
        match (error, left) {
            (Some(error), left) => failed_outcome(error, left, undone.error.as_ref()),
            (None, None) if undone.touched => StepOutcome::RolledBack,
            (None, None) => StepOutcome::NotReached,
            (None, Some(left)) => {
                let differs = || "it does not read as before".to_string();
                let why = undone.error.as_ref().map_or_else(differs, StepError::to_string);
                StepOutcome::NotRestored { why, left }
            }
        }
    }

    /// What the target of a step has now, where it differs from before.
    fn left(&self, step: &ProfileStep) -> Option<String> {
        match &step.change {
            ProfileChange::Vendor { from, .. } => match self.attributes().current(step.address) {
                Ok(now) if now == *from => None,
                Ok(0) => Some("none".into()),
                Ok(now) => Some(format!("id {now}")),
                Err(why) => Some(format!("unknown ({why})")),
            },
            ProfileChange::Mdev { uuid, from, .. } => {
                let now = self.attributes().mdev_type(step.address, uuid);
                if now.as_deref() == from.as_ref().map(|(dir, _)| dir.as_str()) {
                    return None;
                }
                Some(now.unwrap_or_else(|| "none".into()))
            }
            ProfileChange::Skip { .. } => None,
        }
    }

    fn undo(&self, step: &ProfileStep, made: &MadeChange) -> Result<(), StepError> {
        let (attributes, address) = (self.attributes(), step.address);
        match (made, &step.change) {
            (MadeChange::Set { .. }, _) => match attributes.current(address)? {
                0 => Ok(()),
                _ => attributes.write_type(address, 0, &mut || {}),
            },
            (MadeChange::Cleared { id, .. }, _) => match attributes.current(address)? {
                now if now == *id => Ok(()),
                0 => attributes.write_type(address, *id, &mut || {}),
                now => Err(StepError::Failed(format!("it has id {now} now"))),
            },
            (MadeChange::Made { .. }, ProfileChange::Mdev { uuid, .. }) => {
                attributes.remove_mdev(address, uuid)
            }
            (MadeChange::Removed { dir, .. }, ProfileChange::Mdev { uuid, .. }) => {
                attributes.make_mdev(address, dir, uuid)
            }
            _ => Ok(()),
        }
    }
}

/// The outcome of the step that failed. `undo`: why it could not be rolled back.
fn failed_outcome(
    error: &StepError,
    left: Option<String>,
    undo: Option<&StepError>,
) -> StepOutcome<String> {
    let why = match (&left, undo) {
        (Some(_), Some(undo)) => format!("{error}; cannot roll back: {undo}"),
        _ => error.to_string(),
    };
    match error {
        StepError::Pending(_) => StepOutcome::Pending { why, left },
        _ => StepOutcome::Failed { why, left },
    }
}
