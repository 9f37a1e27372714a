//! How a step fails, and the one write that most steps are made of.

use std::fmt;
use std::time::Duration;

use host::{FileError, KernelFiles, Written};

/// Why a step did not succeed. The texts are for messages; code asks for the
/// variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepError {
    /// The system refused it, or the result is not what was asked for.
    Failed(String),
    /// A write was given up at its deadline. It cannot be cancelled: the kernel
    /// may still complete it at any time.
    Pending(String),
    /// A signal arrived before the step; nothing of it was done.
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

/// Makes one write(2) of `value` into the existing attribute `path` and waits
/// for it at most `deadline`. `what` names the write in messages (`unbind`);
/// `explain` gives the kernel's error the meaning that it has for this write.
///
/// # Errors
/// [`StepError::Failed`]: the kernel refused the write.
/// [`StepError::Pending`]: it did not finish within `deadline`.
pub fn write_within(
    files: &dyn KernelFiles,
    path: &str,
    value: &str,
    deadline: Duration,
    what: &str,
    explain: impl FnOnce(&FileError) -> String,
) -> Result<(), StepError> {
    match files.write_attr_within(path, value, deadline) {
        Ok(Written::Done) => Ok(()),
        Ok(Written::TimedOut { state, pid }) => {
            let seconds = deadline.as_secs();
            let state = state.map(|state| format!(" in state {state}")).unwrap_or_default();
            Err(StepError::Pending(format!(
                "{what} did not finish within {seconds} s and may still take effect (process \
                 {pid}{state} waits in the kernel; do not kill it)"
            )))
        }
        Err(error) => Err(StepError::Failed(explain(&error))),
    }
}
