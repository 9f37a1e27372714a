//! Gives a Proxmox VE container a GPU.
//!
//! [`pve::Conf`] reads and writes the configuration as Proxmox VE does,
//! [`access`] understands what it gives, [`plan`] decides without touching anything,
//! [`add`] applies, [`show`] tells.

mod access;
mod add;
pub mod cli;
mod diff;
mod guest;
mod host_gpus;
mod plan;
#[cfg(test)]
mod properties;
mod show;

use std::process::ExitCode;

use ::cli::{Exit, Say};
use record::Sink;

use crate::cli::{Options, Verb};

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, sink: &mut Sink) -> anyhow::Result<Exit> {
    match &options.verb {
        Verb::Show(show) => show::run(options, show, say, sink),
        Verb::Add(add) => add::run(options, add, say, sink),
    }
}
