//! Puts NVIDIA vGPU profiles onto virtual functions and keeps them there.
//!
//! [`observe`] reads what is there, [`input`] what is asked for, [`plan`]
//! decides without touching anything, [`apply`] carries out and undoes, [`run`]
//! puts them together and [`watch`] does so again and again. [`machinery`] is
//! NVIDIA's own programs, [`mdev`] and [`uuid`] the interface of older cards.

pub mod apply;
mod cause;
mod choose;
pub mod cli;
mod fit;
mod holders;
pub mod input;
mod list;
pub mod machinery;
mod man;
mod managed;
pub mod manager;
mod mdev;
pub mod memory;
pub mod observe;
pub mod plan;
mod run;
mod tell;
pub mod uuid;
mod watch;
pub mod wishes;
pub mod yaml;

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
    let mut run = Run { machine, say, writer };
    match &options.verb {
        Verb::List(list) => list::run(list, run),
        Verb::Plan(plan) => run.plan(plan),
        Verb::Apply(apply) => run.apply(apply),
        Verb::Check(check) => run.check(check),
        Verb::Clear(clear) => run.clear(clear),
        Verb::Watch(watch) => watch::run(watch, run),
    }
}
