//! How a tool ends: its exit code and, where it fails, why and what to do next.

use std::fmt;

use crate::{CommandLine, ErrorRecord, Hint, ReadError};

/// The exit codes, the same in every tool. Where several apply the highest wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Success, also when nothing had to change.
    #[default]
    Done = 0,
    /// A check found a difference or a problem.
    Difference = 1,
    /// Usage error or invalid input; nothing was changed.
    Usage = 2,
    /// A system operation failed; the records list failures and rollbacks.
    System = 3,
    /// Refused for safety; nothing was changed.
    Refused = 4,
}

/// Why a tool stops: its exit code, what went wrong, what to do next.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// One line, lower case.
    pub message: String,
    /// What to do next, in words, where that is known.
    pub hint: Option<String>,
    /// The commands to run next, in order.
    pub commands: Vec<CommandLine>,
    /// An `error` record that came in and is passed on as it is.
    pub upstream: Option<Box<ErrorRecord>>,
}

/// A failure with this exit code and message.
pub fn fail(exit: Exit, message: impl Into<String>) -> Failure {
    Failure { exit, message: message.into(), hint: None, commands: Vec::new(), upstream: None }
}

impl Failure {
    /// The same failure with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with a command to run next.
    pub fn run(mut self, command: CommandLine) -> Failure {
        self.commands.push(command);
        self
    }

    /// The same failure with all that a hint says.
    pub fn advise(mut self, hint: Hint) -> Failure {
        self.hint = hint.words;
        self.commands = hint.commands;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// What came in on standard input is invalid input, except that an `error`
/// record is the failure of the tool that printed it.
impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        let message = error.to_string();
        match error {
            ReadError::Upstream(upstream) => {
                Failure { upstream: Some(Box::new(upstream)), ..fail(Exit::System, message) }
            }
            ReadError::Io(_) => fail(Exit::System, message),
            ReadError::CutOff(_) => fail(Exit::System, message).hint(
                "run the pipeline again; to pass on some of the records, select them with jq or \
                 by options of the tool that prints them",
            ),
            _ => fail(Exit::Usage, message),
        }
    }
}
