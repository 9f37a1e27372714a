//! Gives Proxmox VE containers access to GPUs.
//!
//! [`cli`] is the command line, `commands` has one file for each verb. `config` is
//! what a container's configuration says, `host_facts` what the host has, `store`
//! what the tool remembers. `plan` decides without I/O, `check` finds problems,
//! `apply` changes files, nodes and containers.

mod apply;
mod check;
pub mod cli;
mod commands;
pub mod config;
mod host_facts;
mod man;
mod plan;
mod store;

pub use check::finding::CAUSES;

use std::process::ExitCode;

use ::cli::{Exit, Say};
use record::RecordWriter;

use crate::cli::{Options, Verb};

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    match &options.verb {
        Verb::Show(show) => commands::show::run(options, show, say, writer),
        Verb::Add(add) => commands::add::run(options, add, say, writer),
        Verb::Remove(remove) => commands::remove::run(options, remove, say, writer),
        Verb::Check(check) => commands::check::run(options, check, say, writer),
        Verb::Sync(sync) => commands::sync::run(options, sync, say, writer),
        Verb::Nodes(nodes) => commands::nodes::run(options, nodes, say, writer),
        Verb::Hook(hook) => commands::hook::run(options, hook, say, writer),
    }
}
