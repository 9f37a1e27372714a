//! NVIDIA's `.run` installers without executing them.
//!
//! [`runfile`] understands the format; here are the verbs: [`info`] and
//! [`list`] look, [`verify`] compares digests, [`extract`] unpacks; [`fetch`]
//! brings one into the [`cache`] and [`prune`] takes it out again; [`install`]
//! and [`uninstall`] change containers and the host.
//! [`installer`] opens what the verbs work on, [`content`] looks inside,
//! [`drives`] compares that with the GPUs of this machine. For an install,
//! [`study`] verifies, [`pick`] chooses from the manifest, [`unpack_into`] plans,
//! [`transition`] changes a root file system as a whole or not at all and writes
//! down what it does in a [`ledger`], [`container`] gets at the files.
//! [`toolkit`] has CUDA's toolkit installed in a container. [`ahead`] is what a dry
//! run says of steps whose input is not there yet.

mod afterwards;
mod ahead;
mod cache;
pub mod cli;
mod container;
mod content;
mod describe;
mod distribution;
mod drives;
mod extract;
mod fetch;
mod in_container;
mod info;
mod inside;
mod install;
mod installer;
mod ledger;
mod list;
mod log;
mod man;
mod on_host;
mod pick;
mod prune;
mod share;
mod spelling;
mod study;
mod toolkit;
mod transition;
mod uninstall;
mod unpack_into;
mod unpacker;
mod verify;

use std::process::ExitCode;

use ::cli::{Exit, Say};
use record::RecordWriter;

use crate::cli::{Options, Verb};

// for whoever feeds it anything
#[doc(hidden)]
pub use crate::toolkit::openpgp::keys as openpgp_keys;

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    match &options.verb {
        Verb::Info(info) => info::run(options, info, say, writer),
        Verb::Verify(verify) => verify::run(verify, say, writer),
        Verb::List(list) => list::run(list, say, writer),
        Verb::Extract(extract) => extract::run(extract, say, writer),
        Verb::Fetch(fetch) => fetch::run(options, fetch, say, writer),
        Verb::Prune(prune) => prune::run(options, prune, say, writer),
        Verb::Install(install) => install::run(options, install, say, writer),
        Verb::Uninstall(uninstall) => uninstall::run(options, uninstall, say, writer),
        Verb::Toolkit(toolkit) => toolkit::run(options, toolkit, say, writer),
    }
}
