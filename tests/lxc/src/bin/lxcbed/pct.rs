//! `pct`, as far as the tests need it: the verbs, refusals and messages of
//! Proxmox VE's. What it does not know it refuses.
//!
//! Its options are parsed here and not by lexopt, because Proxmox VE uses
//! Getopt::Long: `-delete` is `--delete` and not seven short options, and
//! `--current` takes a separate value or none. The messages, too, are Getopt's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use nix::mount::umount;
use nix::sched::{CloneFlags, setns};

use crate::guest::{Guest, Status};
use crate::{hooks, set, start};

/// What Proxmox VE's programs search, and so the hookscripts that they run.
const PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin";

pub fn main(words: &[&str]) -> ExitCode {
    // SAFETY: this program has one thread.
    unsafe { std::env::set_var("PATH", PATH) };
    let Err(error) = run(words) else { return ExitCode::SUCCESS };
    eprintln!("{error:#}");
    ExitCode::from(error.downcast_ref::<Status>().map_or(255, |status| status.0))
}

fn run(words: &[&str]) -> Result<()> {
    let (verb, rest) = words.split_first().context("ERROR: no command specified")?;
    let guest = || Guest::new(rest.first().copied().unwrap_or_default());
    match (*verb, rest) {
        ("start", [_]) => start::start(&guest()?),
        ("stop", [_]) => stop(&guest()?, &["--kill"]),
        ("shutdown", [_, options @ ..]) => shutdown(&guest()?, options),
        ("reboot", [_, options @ ..]) => reboot(&guest()?, options),
        ("status", [_]) => status(&guest()?),
        ("exec", [_, "--", command @ ..] | [_, command @ ..]) => exec(&guest()?, command),
        ("push", [_, from, to, options @ ..]) => push(&guest()?, from, to, options),
        ("pull", [_, from, to, options @ ..]) => pull(&guest()?, from, to, options),
        ("config", [_, options @ ..]) => config(&guest()?, options),
        ("mount", [_]) => mount(&guest()?),
        ("unmount", [_]) => unmount(&guest()?),
        ("unlock", [_]) => unlock(&guest()?),
        ("set", [_, options @ ..]) => set::set(&guest()?, options),
        ("list", []) => list(),
        ("start-again", [_]) => hooks::start_again(&guest()?),
        ("start" | "stop" | "status" | "mount" | "unmount" | "unlock", [_, ..]) | ("list", _) => {
            bail!("400 too many arguments\npct {verb} <vmid> [OPTIONS]")
        }
        (
            "start" | "stop" | "shutdown" | "reboot" | "status" | "exec" | "push" | "pull"
            | "config" | "mount" | "unmount" | "unlock" | "set",
            _,
        ) => bail!("400 not enough arguments\npct {verb} <vmid> [OPTIONS]"),
        _ => bail!("ERROR: unknown command 'pct {verb}'"),
    }
}

fn stop(guest: &Guest, how: &[&str]) -> Result<()> {
    let _lock = guest.lock()?;
    let conf = guest.load()?;
    guest.check_lock(&conf, Some("mounted"))?;
    stop_locked(guest, &conf, how)
}

fn stop_locked(guest: &Guest, conf: &lxcbed::conf::Conf, how: &[&str]) -> Result<()> {
    guest.need_running()?;
    guest.hookscript_late(conf, "pre-stop");
    let stopped = Command::new("lxc-stop").args(["-n", &guest.ctid]).args(how).status();
    if !stopped.context("lxc-stop")?.success() {
        bail!("command 'lxc-stop -n {} {}' failed", guest.ctid, how.join(" "));
    }
    guest.hookscript_late(conf, "post-stop");
    Ok(())
}

/// `--forceStop 1`, `--timeout N`.
fn stop_options(options: &[&str]) -> Result<Vec<String>> {
    let (mut timeout, mut force) = (60u32, false);
    for pair in options.chunks(2) {
        match pair {
            ["--timeout", seconds] => timeout = seconds.parse().context("timeout")?,
            ["--forceStop", "1"] => force = true,
            ["--forceStop", "0"] => force = false,
            other => bail!("Unknown option: {}\n400 unable to parse option", other[0]),
        }
    }
    let mut how = vec![format!("--timeout={timeout}")];
    if !force {
        how.push("--nokill".into());
    }
    Ok(how)
}

fn shutdown(guest: &Guest, options: &[&str]) -> Result<()> {
    let how = stop_options(options)?;
    stop(guest, &how.iter().map(String::as_str).collect::<Vec<_>>())
}

fn reboot(guest: &Guest, options: &[&str]) -> Result<()> {
    let how = stop_options(options)?;
    let how: Vec<&str> = how.iter().map(String::as_str).collect();
    let _lock = guest.lock()?;
    let mut conf = guest.load()?;
    guest.check_lock(&conf, None)?;
    stop_locked(guest, &conf, &how)?;
    start::start_locked(guest, &mut conf)
}

fn status(guest: &Guest) -> Result<()> {
    guest.load()?;
    println!("status: {}", if guest.init()?.is_some() { "running" } else { "stopped" });
    Ok(())
}

fn exec(guest: &Guest, command: &[&str]) -> Result<()> {
    guest.load()?;
    if command.is_empty() {
        bail!("missing command");
    }
    let mut attach = Command::new("lxc-attach");
    Err(attach.args(["-n", &guest.ctid, "--"]).args(command).exec()).context("lxc-attach")
}

fn push(guest: &Guest, from: &str, to: &str, options: &[&str]) -> Result<()> {
    let mode = file_options(options)?;
    let _lock = guest.lock()?;
    guest.load()?;
    let init = guest.init()?.context("can only push files to a running CT")?;
    let mut source = File::open(from).with_context(|| format!("failed to open {from}"))?;
    in_container(init, || {
        let mut target = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode.unwrap_or(0o644))
            .open(to)
            .with_context(|| format!("failed to create file: {to}"))?;
        io::copy(&mut source, &mut target).context(to.to_string()).map(drop)
    })
}

fn pull(guest: &Guest, from: &str, to: &str, options: &[&str]) -> Result<()> {
    let mode = file_options(options)?;
    let _lock = guest.lock()?;
    guest.load()?;
    let init = guest.init()?.context("can only pull files from a running VM")?;
    let mut target = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode.unwrap_or(0o666))
        .open(to)
        .with_context(|| format!("failed to create file: {to}"))?;
    in_container(init, || {
        let mut source = File::open(from).with_context(|| format!("failed to open {from}"))?;
        io::copy(&mut source, &mut target).context(from.to_string()).map(drop)
    })
}

/// Links are followed as the container sees them.
fn in_container(init: i32, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let namespace = File::open(format!("/proc/{init}/ns/mnt"))?;
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .context("failed to enter the container's mount namespace")?;
    work()
}

fn file_options(options: &[&str]) -> Result<Option<u32>> {
    match options {
        [] => Ok(None),
        ["--perms", mode] => u32::from_str_radix(mode, 8).map(Some).context("perms"),
        other => bail!("Unknown option: {}\n400 unable to parse option", other[0]),
    }
}

/// With waiting changes as they will be; `--current` as it is.
fn config(guest: &Guest, options: &[&str]) -> Result<()> {
    let mut conf = guest.load()?;
    match options {
        [] | ["--current", "0"] => {
            conf.apply_pending();
        }
        ["--current"] | ["--current", "1"] => {}
        other => bail!("Unknown option: {}\n400 unable to parse option", other[0]),
    }
    for (key, value) in &conf.main.keys {
        println!("{key}: {value}");
    }
    for (key, value) in &conf.main.lxc {
        println!("lxc: {key}: {value}");
    }
    Ok(())
}

fn mount(guest: &Guest) -> Result<()> {
    let _lock = guest.lock()?;
    let mut conf = guest.load()?;
    guest.check_lock(&conf, None)?;
    conf.main.keys.insert("lock".into(), "mounted".into());
    guest.store(&conf)?;
    guest.mount_volume()?;
    println!("mounted CT {0} in '/var/lib/lxc/{0}/rootfs'", guest.ctid);
    Ok(())
}

fn unmount(guest: &Guest) -> Result<()> {
    let _lock = guest.lock()?;
    let mut conf = guest.load()?;
    match conf.main.keys.remove("lock").as_deref() {
        Some("mounted") => {}
        None => bail!("no lock found trying to remove 'mounted'"),
        Some(other) => bail!("found lock '{other}' trying to remove 'mounted'"),
    }
    umount(&guest.rootfs()).context("umount")?;
    guest.store(&conf)
}

fn unlock(guest: &Guest) -> Result<()> {
    let _lock = guest.lock()?;
    let mut conf = guest.load()?;
    conf.main.keys.remove("lock");
    guest.store(&conf)
}

fn list() -> Result<()> {
    let mut ids: Vec<u32> = Vec::new();
    for entry in fs::read_dir("/etc/pve/lxc").context("/etc/pve/lxc")? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        ids.extend(name.strip_suffix(".conf").and_then(|id| id.parse::<u32>().ok()));
    }
    ids.sort_unstable();
    println!("{:<10} {:<10} {:<12} {:<20}", "VMID", "Status", "Lock", "Name");
    for id in ids {
        let guest = Guest::new(&id.to_string())?;
        let conf = guest.load()?;
        let status = if guest.init()?.is_some() { "running" } else { "stopped" };
        let (lock, name) = (conf.main.get("lock"), conf.main.get("hostname"));
        let (lock, name) = (lock.unwrap_or_default(), name.unwrap_or_default());
        println!("{id:<10} {status:<10} {lock:<12} {name:<20}");
    }
    Ok(())
}
