//! The frame of an apply: what every tool that changes a host in several steps
//! has in common. This crate knows no tool and no kind of step.
//!
//! A tool that plans steps and carries them out uses it in this order:
//!
//! 1. Its checks make a list of [`Objection`]s. Each has a kind, which is an
//!    enum of the tool, so that code never compares message texts, and says
//!    whether `--force` overrides it. [`refuse`] warns of those that `--force`
//!    overrides, and ends the run with exit status 4 if any other is left.
//! 2. [`lock_run`] keeps a second run out, and turns SIGINT and SIGTERM into a
//!    failure between two steps, which the tool asks for by
//!    `cli::interrupted`.
//! 3. Each step ends in `Ok` or in a [`StepError`]. [`write_within`] makes one
//!    write to a kernel attribute with a deadline. A write that is given up at
//!    its deadline is [`StepError::Pending`]: the kernel may still do it, so
//!    nobody may claim that it failed.
//! 4. A failed step ends the run with an [`ApplyStop`]: the target and its
//!    error. The tool rolls back what it has done, last step first, and
//!    writes down a [`StepOutcome`] for every step.
//! 5. [`StepOutcome::report`] turns the outcome of a step into the status and
//!    reason of its `change` record, and [`conclude`] turns all of them into
//!    the exit status: success, or status 3 with what happened to the rest.
//!
//! `L` in [`StepOutcome`] is what a tool can say of a target that is not as it
//! was before the run: a string, or driver and override of a PCI function.

mod lock;
mod objection;
mod outcome;
mod write;

pub use lock::lock_run;
pub use objection::{Objection, refuse};
pub use outcome::{ApplyStop, StepOutcome, conclude};
pub use write::{StepError, write_within};
