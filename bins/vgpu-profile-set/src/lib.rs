//! Assigns NVIDIA vGPU profiles to virtual functions and keeps them set.
//!
//! [`input`] reads what is requested, [`observe`] what the host has, [`plan`]
//! decides without reading or writing anything, [`apply`] carries out and rolls
//! back. The verbs are in [`commands`].

// the names of most items say it all; shared/ is where documentation is required
#![allow(missing_docs)]

pub mod apply;
mod cause;
pub mod cli;
mod commands;
mod export;
mod health;
pub mod input;
mod man;
pub mod nvidia_programs;
pub mod observe;
pub mod plan;
mod report;
mod retry;
mod session;
mod sysfs;

use std::process::ExitCode;

use ::cli::{Exit, Say};
use record::RecordWriter;

use crate::cli::{Options, Verb};
use crate::session::Session;

/// Runs the tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let machine = &options.common.machine()?;
    let session = Session { machine, say, writer };
    match &options.verb {
        Verb::List(options) => commands::list::run(options, session),
        Verb::Plan(options) => commands::plan::run(options, session),
        Verb::Apply(options) => commands::apply::run(options, session),
        Verb::Check(options) => commands::check::run(options, session),
        Verb::Clear(options) => commands::clear::run(options, session),
        Verb::Watch(options) => commands::watch::run(options, session),
        Verb::Hook(options) => commands::hook::run(options, session),
        Verb::CloudInit(options) => commands::cloud_init::run(options),
    }
}
