//! NVIDIA's `.run` installers without executing them.
//!
//! [`runfile`] understands the format; here are the verbs: [`info`] and
//! [`list`] look, [`verify`] compares digests, [`extract`] unpacks; [`fetch`]
//! brings one into the [`cache`] and [`prune`] takes it out again.
//! [`installer`] opens what the verbs work on, [`content`] looks inside,
//! [`drives`] compares that with the GPUs of this machine.

mod cache;
pub mod cli;
mod content;
mod describe;
mod drives;
mod extract;
mod fetch;
mod info;
mod installer;
mod list;
mod prune;
mod unpacker;
mod verify;

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
        Verb::Info(info) => info::run(options, info, say, sink),
        Verb::Verify(verify) => verify::run(verify, say, sink),
        Verb::List(list) => list::run(list, say, sink),
        Verb::Extract(extract) => extract::run(extract, say, sink),
        Verb::Fetch(fetch) => fetch::run(options, fetch, say, sink),
        Verb::Prune(prune) => prune::run(options, prune, say, sink),
    }
}
