//! Moves whole GPU slots to vfio-pci and back.
//!
//! [`observe`] looks who uses what, [`preflight`] judges it, [`plan`] decides
//! without touching anything, [`apply`] carries out and undoes, [`memory`]
//! remembers the old driver, [`run`] puts them together. [`persist`] does for
//! the next boot what [`run`] does now, with the files of [`boot_files`].

pub mod apply;
pub mod boot_files;
mod choose;
pub mod cli;
mod cmdline;
mod memory;
mod observe;
mod persist;
pub mod plan;
mod preflight;
mod run;
mod status;

use std::process::ExitCode;

use ::cli::{Exit, Say};
use record::RecordWriter;

use crate::cli::{Options, Verb};
use crate::run::Run;

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let machine = &options.common.machine()?;
    match &options.verb {
        Verb::Bind(bind) => Run { machine, say, writer }.bind(bind),
        Verb::Release(release) => Run { machine, say, writer }.release(release),
        Verb::Persist(persist) => Run { machine, say, writer }.persist(persist),
        Verb::Unpersist(unpersist) => Run { machine, say, writer }.unpersist(unpersist),
        Verb::Status(status) => status::run(status, machine, say, writer),
    }
}
