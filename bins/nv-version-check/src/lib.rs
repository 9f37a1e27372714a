//! Checks that the versions of NVIDIA's driver match: kernel modules, libraries,
//! firmware, containers.
//!
//! [`collect`] reads facts, root file systems in child processes; [`baseline`] is
//! the version that everything must have; [`check`] compares (pure functions);
//! [`report`] prints. Nothing is changed but the metrics file.

mod baseline;
mod cause;
mod check;
pub mod cli;
mod collect;
mod man;
mod report;
mod run;

use std::process::ExitCode;

pub use crate::cause::CAUSES;
pub use crate::collect::modinfo;
pub use crate::man::{EXAMPLES, MAN};

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<cli::Options>(run::run)
}
