//! Binds whole GPU slots to vfio-pci and releases them.
//!
//! `bind` and `release`: [`select`] finds the functions that are named, [`plan`]
//! makes the steps, [`passthrough`] judges what is against them, [`apply`] carries
//! them out. `persist` and `unpersist` do the same for the next boot, in
//! [`boot`]. Each verb is a file of [`commands`].

#![allow(missing_docs)] // required in shared/ only

pub mod apply;
pub mod boot;
pub mod cli;
mod commands;
mod export;
pub mod man;
mod native_driver;
pub mod plan;
mod previous_driver;
mod report;
mod select;
mod vfio_driver;

use std::process::ExitCode;

use ::cli::{Exit, Say};
use record::RecordWriter;

use crate::cli::{Options, Verb};
use crate::report::Report;

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let machine = &options.common.machine()?;
    let report = &mut Report { say, writer };
    match &options.verb {
        Verb::Bind(bind) => commands::bind::run(bind, machine, report),
        Verb::Release(release) => commands::release::run(release, machine, report),
        Verb::Persist(persist) => commands::persist::run(persist, machine, report),
        Verb::Unpersist(unpersist) => commands::unpersist::run(unpersist, machine, report),
        Verb::Reset(reset) => commands::reset::run(reset, machine, report),
        Verb::Hook(hook) => commands::hook::run(hook, machine, report),
        Verb::Status(status) => commands::status::run(status, machine, report),
    }
}
