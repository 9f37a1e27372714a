//! What became of each step, as records and as an exit status.

use std::fmt;

use cli::{Exit, fail};
use record::{Change, ChangeStatus};

use crate::write::StepError;

/// What became of one step. `L` describes a target that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome<L> {
    /// Nothing had to change.
    Unchanged,
    /// Done and read back.
    Changed,
    /// Done, and rolled back because another step failed.
    RolledBack,
    /// Not started because another step failed.
    NotReached,
    /// It failed. `left`: what the target has now, where that differs from
    /// before.
    Failed {
        /// Why.
        why: String,
        /// What the target has now.
        left: Option<L>,
    },
    /// A write was given up at its deadline, and the kernel may still complete
    /// it. `left` is what was read last, which may change at any time.
    Pending {
        /// Which write, and for how long it was waited for.
        why: String,
        /// What the target has now, where that differs from before.
        left: Option<L>,
    },
    /// Done, but another step failed and this one could not be rolled back.
    NotRestored {
        /// Why the rollback failed.
        why: String,
        /// What the target has now.
        left: L,
    },
}

impl<L> StepOutcome<L> {
    /// The outcome of a step that ended in `error`.
    pub fn failed(error: &StepError, left: Option<L>) -> StepOutcome<L> {
        let why = error.to_string();
        match error {
            StepError::Pending(_) => StepOutcome::Pending { why, left },
            StepError::Failed(_) | StepError::Interrupted => StepOutcome::Failed { why, left },
        }
    }

    /// What the target has now, where that is not what it had before.
    pub fn left(&self) -> Option<&L> {
        match self {
            StepOutcome::Failed { left, .. } | StepOutcome::Pending { left, .. } => left.as_ref(),
            StepOutcome::NotRestored { left, .. } => Some(left),
            _ => None,
        }
    }

    /// The word for it in records.
    pub fn status(&self) -> ChangeStatus {
        match self {
            StepOutcome::Unchanged => ChangeStatus::Unchanged,
            StepOutcome::Changed => ChangeStatus::Changed,
            StepOutcome::RolledBack => ChangeStatus::RolledBack,
            StepOutcome::NotReached => ChangeStatus::Skipped,
            StepOutcome::Failed { .. }
            | StepOutcome::Pending { .. }
            | StepOutcome::NotRestored { .. } => ChangeStatus::Failed,
        }
    }

    /// Writes the status and the reason into the step's record. A reason that
    /// the record has already stays where the outcome has none of its own.
    pub fn report(&self, change: &mut Change, stop: Option<&ApplyStop>) {
        change.status = self.status();
        let stopped = || stop.map_or_else(String::new, |stop| format!(": {stop}"));
        match self {
            StepOutcome::Unchanged | StepOutcome::Changed => {}
            StepOutcome::RolledBack => {
                change.reason = Some(format!("another step failed{}", stopped()));
            }
            StepOutcome::NotReached => {
                change.reason = Some(format!("not started, another step failed{}", stopped()));
            }
            StepOutcome::Failed { why, .. } | StepOutcome::Pending { why, .. } => {
                change.reason = Some(why.clone());
            }
            StepOutcome::NotRestored { why, .. } => {
                change.reason = Some(format!("cannot roll back: {why}"));
            }
        }
    }
}

/// Why a run stopped before its last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyStop {
    /// What the failed step was about, as in its record: an address, a path.
    pub target: String,
    /// How it failed.
    pub error: StepError,
}

impl fmt::Display for ApplyStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.error)
    }
}

/// The end of a run whose outcomes are in the records already.
///
/// # Errors
/// A `cli::Failure` with exit status 3 where the run stopped; it says what
/// happened to the other steps.
pub fn conclude<L>(outcomes: &[StepOutcome<L>], stop: Option<ApplyStop>) -> anyhow::Result<Exit> {
    let Some(stop) = stop else { return Ok(Exit::Done) };
    let pending = outcomes.iter().any(|o| matches!(o, StepOutcome::Pending { .. }));
    let left = outcomes.iter().any(|o| o.left().is_some());
    let rolled_back = outcomes.iter().any(|o| matches!(o, StepOutcome::RolledBack));
    let (result, hint) = match (pending, left, rolled_back) {
        (true, ..) => (
            "the kernel may still complete this write",
            "run the command again when the kernel has completed the write",
        ),
        (_, true, _) => ("not everything was rolled back", "the records list what remains"),
        (_, _, true) => ("all changes were rolled back", "the kernel log may say more (dmesg)"),
        _ => ("nothing was changed", "the kernel log may say more (dmesg)"),
    };
    let hint = if stop.error == StepError::Interrupted { "run the command again" } else { hint };
    Err(fail(Exit::System, format!("{stop}; {result}")).hint(hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop() -> ApplyStop {
        ApplyStop { target: "0000:41:00.0".into(), error: StepError::Failed("no".into()) }
    }

    #[test]
    fn a_pending_write_is_never_called_rolled_back() {
        let error = StepError::Pending("unbind did not finish".into());
        let outcome: StepOutcome<String> = StepOutcome::failed(&error, None);
        let mut change = Change::planned("tool", "0000:41:00.0", "driver");
        outcome.report(&mut change, Some(&stop()));
        assert_eq!(change.status, ChangeStatus::Failed);
        assert_eq!(change.reason.as_deref(), Some("unbind did not finish"));
        let outcomes = [StepOutcome::RolledBack, outcome];
        let failure = conclude(&outcomes, Some(stop())).unwrap_err();
        assert!(format!("{failure:#}").contains("may still complete"), "{failure:#}");
    }

    #[test]
    fn the_end_says_what_happened_to_the_other_steps() {
        let end = |outcomes: &[StepOutcome<&str>]| {
            format!("{:#}", conclude(outcomes, Some(stop())).unwrap_err())
        };
        assert!(end(&[StepOutcome::NotReached]).contains("nothing was changed"));
        assert!(end(&[StepOutcome::RolledBack]).contains("all changes were rolled back"));
        let left = StepOutcome::NotRestored { why: "no".into(), left: "nvidia" };
        assert!(end(&[StepOutcome::RolledBack, left]).contains("not everything was rolled back"));
        assert_eq!(conclude::<()>(&[], None).unwrap(), Exit::Done);
    }

    #[test]
    fn what_was_not_started_names_what_failed() {
        let mut change = Change::planned("tool", "0000:41:00.1", "driver");
        StepOutcome::<()>::NotReached.report(&mut change, Some(&stop()));
        assert_eq!(change.status, ChangeStatus::Skipped);
        let reason = change.reason.unwrap_or_default();
        assert_eq!(reason, "not started, another step failed: 0000:41:00.0: no");
    }
}
