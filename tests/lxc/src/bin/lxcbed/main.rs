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

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let name = name.rsplit('/').next().unwrap_or_default();
    let result = match (name, &words[..]) {
        ("pct", words) => return pct::main(words),
        ("lxc-pve-prestart-hook", _) => return hooks::main("pre-start", hooks::prestart),
        ("lxc-pve-poststop-hook", _) => return hooks::main("post-stop", hooks::poststop),
        ("lxc-pve-autodev-hook", _) => return hooks::main("autodev", hooks::autodev),
        (_, ["hold", dir, programs @ ..]) => hold::main(dir, programs),
        (_, ["enter", pid, cgroup, "--", command @ ..]) => enter::main(pid, cgroup, command),
        _ => usage(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lxcbed: {error:#}");
        ExitCode::from(125)
    })
}

fn usage() -> Result<ExitCode> {
    bail!("usage: lxcbed hold DIR PROGRAM..., lxcbed enter PID CGROUP -- COMMAND...")
}
