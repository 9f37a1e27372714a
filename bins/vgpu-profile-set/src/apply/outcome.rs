//! What became of each step, and why an apply stopped.

use std::fmt;

use host::FileError;
use record::{Change, ChangeStatus};

/// Why a step did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepError {
    /// The system refused it, or the result is not what was asked for.
    Failed(String),
    /// A write was given up at its deadline; the kernel may still do it.
    Pending(String),
    /// A signal arrived before the step.
    Interrupted,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::Failed(why) | StepError::Pending(why) => f.write_str(why),
            StepError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<FileError> for StepError {
    fn from(error: FileError) -> StepError {
        StepError::Failed(error.to_string())
    }
}

/// What became of one step. `L` describes a target that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome<L> {
    Unchanged,
    Changed,
    RolledBack,
    NotReached,
    Failed { why: String, left: Option<L> },
    Pending { why: String, left: Option<L> },
    NotRestored { why: String, left: L },
}

/// Why a run stopped before its last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyStop {
    pub target: String,
    pub error: StepError,
}

impl fmt::Display for ApplyStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.error)
    }
}

impl<L> StepOutcome<L> {
    pub fn left(&self) -> Option<&L> {
        match self {
            StepOutcome::Failed { left, .. } | StepOutcome::Pending { left, .. } => left.as_ref(),
            StepOutcome::NotRestored { left, .. } => Some(left),
            _ => None,
        }
    }

    pub fn report(&self, change: &mut Change, stop: Option<&ApplyStop>) {
        let stopped = || stop.map_or_else(String::new, |stop| format!(": {stop}"));
        let (status, reason) = match self {
            StepOutcome::Unchanged => (ChangeStatus::Unchanged, None),
            StepOutcome::Changed => (ChangeStatus::Changed, None),
            StepOutcome::RolledBack => {
                (ChangeStatus::RolledBack, Some(format!("another step failed{}", stopped())))
            }
            StepOutcome::NotReached => {
                let reason = format!("not started, another step failed{}", stopped());
                (ChangeStatus::Skipped, Some(reason))
            }
            StepOutcome::Failed { why, .. } | StepOutcome::Pending { why, .. } => {
                (ChangeStatus::Failed, Some(why.clone()))
            }
            StepOutcome::NotRestored { why, .. } => {
                (ChangeStatus::Failed, Some(format!("cannot roll back: {why}")))
            }
        };
        change.status = status;
        change.reason = reason.or(change.reason.take());
    }
}
