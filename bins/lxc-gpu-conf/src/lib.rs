//! Gives a Proxmox VE container a GPU.
//!
//! [`pve::Conf`] reads and writes the configuration as Proxmox VE does,
//! [`access`] understands what it gives, [`facts`] what the host has, [`view`]
//! puts the two together, [`wish`] says what is wanted, [`plan`] decides without
//! touching anything, [`edit`] applies.

pub mod access;
mod add;
pub mod cli;
mod diff;
mod edit;
mod facts;
mod finding;
mod hook;
mod hotplug;
mod judge;
mod judge_cards;
mod man;
mod mend;
mod mig;
mod nodes;
mod plan;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod properties;
mod remove;
mod resolve;
mod restart;
mod rules;
mod show;
mod state;
mod sync;
mod view;
mod wish;

pub use finding::CAUSES;

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
        Verb::Show(which) => show::show(options, which, say, writer),
        Verb::Add(add) => add::run(options, add, say, writer),
        Verb::Remove(remove) => remove::run(options, remove, say, writer),
        Verb::Check(which) => show::check(options, which, say, writer),
        Verb::Sync(sync) => sync::run(options, sync, say, writer),
        Verb::Nodes(nodes) => nodes::run(options, nodes, say, writer),
        Verb::Hook(hook) => hook::run(options, hook, say, writer),
    }
}
