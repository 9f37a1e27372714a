//! What runs inside and around a host of the test bed. One program with several
//! names: `pct` and the LXC hooks of Proxmox VE are links to it in the host.

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout)]

mod enter;
mod guest;
mod hold;
mod hooks;
mod mounts;
mod pct;
mod set;
mod start;

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

fn main() -> ExitCode {
    let args = lexopt::Parser::from_env();
    let name = args.bin_name().and_then(|name| name.rsplit('/').next()).map(str::to_string);
    let result = match name.as_deref() {
        Some("pct") => as_pct(args),
        Some("lxc-pve-prestart-hook") => return hooks::main("pre-start", hooks::prestart),
        Some("lxc-pve-poststop-hook") => return hooks::main("post-stop", hooks::poststop),
        Some("lxc-pve-autodev-hook") => return hooks::main("autodev", hooks::autodev),
        _ => as_itself(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lxcbed: {error:#}");
        ExitCode::from(125)
    })
}

/// The words go on unparsed: `pct` has a grammar of its own.
fn as_pct(mut args: lexopt::Parser) -> Result<ExitCode> {
    let words = args.raw_args()?.map(|word| word.string()).collect::<Result<Vec<_>, _>>()?;
    Ok(pct::main(&words.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn as_itself(mut args: lexopt::Parser) -> Result<ExitCode> {
    let mut words = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hold", dir, ref programs @ ..] => hold::main(dir, programs),
        ["enter", pid, cgroup, ref command @ ..] => enter::main(pid, cgroup, command),
        _ => bail!("usage: lxcbed hold DIR PROGRAM..., lxcbed enter PID CGROUP -- COMMAND..."),
    }
}
