//! What every tool's main does: the common options, exit codes, messages,
//! signals and standard input. With shared/record the only crate that prints.

mod help;
mod input;
mod man;
mod options;
mod progress;
mod run;
mod say;
mod signals;
mod usage;

pub use input::records_from_stdin;
pub use man::{EXIT_STATUS, Example, ManText};
pub use options::{
    ADDRESS, ChangeOptions, Common, CommonOptions, CommonValues, Correction, NUMBER, OutputChoice,
    OutputOption,
};
pub use progress::Progress;
pub use record::{Exit, Failure, fail};
pub use run::run;
pub use say::Say;
pub use signals::{catch_signals, interrupted, signal_descriptor};
