//! `pmxcfs MOUNTPOINT NODE [DIR]`: mounts a stand-in for pmxcfs, filled from DIR
//! (a recorded machine's etc/pve), and says `mounted`.
//!
//! SIGUSR1 takes its quorum away and SIGUSR2 gives it back; SIGHUP makes every
//! request fail with EIO until SIGUSR2; SIGTERM and SIGINT unmount.

#![allow(clippy::disallowed_methods)]

use std::path::Path;

use anyhow::{Result, bail};
use lexopt::prelude::*;
use nix::sys::signal::{SigSet, Signal};
use pmxcfs::{Errors, Pmxcfs};

fn main() -> Result<()> {
    let mut args = lexopt::Parser::from_env();
    let mut operands = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Value(operand) => operands.push(operand.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let (at, node, dir) = match operands.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [at, node] => (at, node, None),
        [at, node, dir] => (at, node, Some(dir)),
        _ => bail!("usage: pmxcfs MOUNTPOINT NODE [DIR]"),
    };
    // before there are threads, so that all of them leave signals to sigwait(3)
    let signals =
        [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT];
    let set: SigSet = signals.into_iter().collect();
    set.thread_block()?;
    let mounted = Pmxcfs::mount(Path::new(at), node)?;
    if let Some(dir) = dir {
        mounted.load(Path::new(dir))?;
    }
    println!("mounted");
    loop {
        match set.wait()? {
            Signal::SIGUSR1 => mounted.quorum(false),
            Signal::SIGUSR2 => {
                mounted.quorum(true);
                mounted.errors(Errors::None);
            }
            Signal::SIGHUP => mounted.errors(Errors::All),
            _ => return Ok(()),
        }
    }
}
