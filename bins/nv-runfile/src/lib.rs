//! NVIDIA's `.run` installers, without executing them.
//!
//! [`runfile`] understands the format. Here are the command line ([`cli`]), one
//! file for each verb ([`commands`]) and what the verbs work with: [`installer`]
//! reads one installer, [`fetch`] downloads one into the cache, [`install`]
//! places a driver's files into a root file system as a whole or not at all,
//! [`host`] runs NVIDIA's own installer on the host, [`toolkit`] installs the
//! CUDA toolkit in a container.

// only this tool's own tests use its items
#![allow(missing_docs)]

pub mod cli;
mod installer;
mod man;

/// One file for each verb.
mod commands {
    pub mod extract;
    pub mod fetch;
    pub mod info;
    pub mod install;
    pub mod list;
    pub mod prune;
    pub mod share;
    pub mod toolkit;
    pub mod uninstall;
    pub mod verify;
}

/// From what is asked for to a complete and trusted file in the cache.
mod fetch {
    pub mod cache;
    pub mod cached_file;
    pub mod download;
    pub mod http;
    pub mod job;
    pub mod locations;
    pub mod partial_download;
    pub mod request;
    pub mod stream;
    pub mod trusted_digest;
    pub mod version_index;
}

/// A driver's libraries and programs in a root file system.
mod install {
    pub mod apply;
    pub mod common;
    pub mod container;
    pub mod installer_mode;
    pub mod nvidia_smi;
    pub mod other_installation;
    pub mod plan;
    pub mod planned_fetch;
    pub mod receipt;
    pub mod select_files;
    pub mod transaction;
    pub mod unpack_mode;
    pub mod verify;
}

/// NVIDIA's own installer on the host.
mod host {
    pub mod facts;
    pub mod preflight;
    pub mod run;
    pub mod signing;
}

/// The CUDA toolkit in a container.
mod toolkit {
    pub mod cuda_run;
    pub mod files;
    pub mod job;
    pub mod key;
    pub mod openpgp;
    pub mod packages;
    pub mod release;
    pub mod repository;
}

use std::process::ExitCode;

use ::cli::{Exit, Say};
use record::RecordWriter;

use crate::cli::{Options, Verb};

// for the fuzzer of the parsers
#[doc(hidden)]
pub use crate::toolkit::openpgp::keys as openpgp_keys;

/// Runs the tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    match &options.verb {
        Verb::Info(info) => commands::info::run(options, info, say, writer),
        Verb::Verify(verify) => commands::verify::run(verify, say, writer),
        Verb::List(list) => commands::list::run(list, say, writer),
        Verb::Extract(extract) => commands::extract::run(extract, say, writer),
        Verb::Fetch(fetch) => commands::fetch::run(options, fetch, say, writer),
        Verb::Prune(prune) => commands::prune::run(options, prune, say, writer),
        Verb::Install(install) => commands::install::run(options, install, say, writer),
        Verb::Uninstall(uninstall) => commands::uninstall::run(options, uninstall, say, writer),
        Verb::Toolkit(toolkit) => commands::toolkit::run(options, toolkit, say, writer),
    }
}
