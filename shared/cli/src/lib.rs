//! What every tool's main does: the common options, exit codes, messages,
//! signals and standard input. With shared/record the only crate that prints.

mod exit;
mod help;
mod input;
mod man;
mod options;
mod progress;
mod say;
mod signals;
mod usage;

pub use exit::{Exit, Failure, fail, run};
pub use input::records_from_stdin;
pub use man::{EXIT_STATUS, Example, ManText};
pub use options::{ChangeOptions, Chosen, Common, CommonOptions, OutputChoice, OutputOption};
pub use progress::Progress;
pub use say::Say;
pub use signals::{catch_signals, interrupted, signal_descriptor};
pub use usage::{ADDRESS, Instead, NUMBER};
