//! Who disagrees with whom about the version of NVIDIA's driver?
//!
//! Reads facts ([`host_facts`], [`root`] for each root file system, in child
//! processes: [`places`]), chooses what they are held against ([`truth`]) and
//! judges ([`judge_host`], [`judge_root`]: pure functions). Changes nothing but
//! the metrics file that it is asked for.

mod cause;
mod cdi;
pub mod cli;
mod cuda;
mod dkms;
mod host_facts;
mod judge_host;
mod judge_more;
mod judge_root;
mod kernels;
pub mod modinfo;
mod pin;
mod places;
mod prometheus;
mod root;
mod truth;
mod xid;

use std::process::ExitCode;

use ::cli::{Exit, Failure, Say, fail};
use anyhow::Context;
use host::{FileKind, Machine};
use record::{Check, CheckStatus, Record, RecordWriter, Severity};

pub use crate::cause::CAUSES;
use crate::cause::{Cause, Finding};
use crate::cli::{Format, Options};
use crate::host_facts::Host;
use crate::judge_host::Asked;
use crate::places::{Seen, Wanted};
use crate::truth::truth;

/// The tool.
pub fn main() -> ExitCode {
    ::cli::run::<Options>(run)
}

fn run(options: &Options, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    if options.no_host && options.ct.is_empty() && !options.all_cts && options.rootfs.is_empty() {
        let message =
            "--no-host leaves nothing to judge: name something with --ct, --all-cts or --rootfs";
        return Err(fail(Exit::Usage, message).into());
    }
    let machine = options.common.machine()?;
    let pin = options.pin.as_deref().map(|pin| pin::pinned(pin, say)).transpose()?;
    let wanted =
        Wanted { cts: options.ct.clone(), all: options.all_cts, rootfs: options.rootfs.clone() };
    let seen = places::look(&machine, &wanted, options.cuda, say)?;
    let host = Host::read(&machine, options.cuda);
    let truth = truth(&host, pin.as_deref(), options.next_boot);
    let mut exit = Exit::Done;
    let asked = Asked {
        truth: &truth,
        gpu_given: seen.iter().any(|seen| seen.place.gpu),
        next_boot: options.next_boot,
    };
    let mut checks = Vec::new();
    if !options.no_host {
        checks = judge_host::checks(&host, &asked);
        if options.next_boot && host.next.is_err() && !host.is_bare() {
            exit = Exit::System;
        }
        judge_more::cuda("host", &host.root, truth.version.as_deref(), &mut checks);
    }
    for seen in &seen {
        match &seen.root {
            Ok(root) => checks.extend(judge_root::checks(&seen.place, root, &host, &truth)),
            Err(unseen) => {
                let named = seen.place.named;
                if named || !unseen.stopped {
                    exit = exit.max(Exit::System);
                } else if !seen.place.gpu {
                    // stopped, out of sight and without a GPU: nobody asked
                    continue;
                }
                checks.push(unreadable(seen, &unseen.why, unseen.stopped));
            }
        }
    }
    if options.xid {
        match xid::checks(&machine) {
            Ok(found) => checks.extend(found),
            Err(error) => {
                exit = Exit::System;
                let finding = Finding::unknown(Cause::Unreadable).on("host", "xid");
                checks.push(finding.because(error.to_string()).done());
            }
        }
    }
    exit = exit.max(verdict(&checks, &seen));
    if host.is_bare() && pin.is_none() {
        say.note("this host has no NVIDIA driver; 'nv-runfile install --host' installs one");
    }
    output(options, &checks, exit, writer)?;
    Ok(exit)
}

/// Drift is 1; a named place that could not be judged is 3.
fn verdict(checks: &[Check], seen: &[Seen]) -> Exit {
    let mut exit = Exit::Done;
    for check in checks {
        exit = exit.max(match check.status {
            CheckStatus::Ok => Exit::Done,
            CheckStatus::Drift => Exit::Difference,
            CheckStatus::Unknown => {
                let asked = seen.iter().find(|seen| seen.place.subject == check.subject);
                match asked {
                    // said where it was looked at
                    Some(seen) if seen.root.is_err() => Exit::Done,
                    // a broken file beside is no reason to call the container unread
                    Some(_) if check.property != "userspace" => Exit::Done,
                    Some(_) => Exit::System,
                    None if check.property == "next boot" => Exit::Done,
                    None => Exit::System,
                }
            }
        });
    }
    exit
}

fn unreadable(seen: &Seen, why: &str, stopped: bool) -> Check {
    let finding = Finding::unknown(Cause::Unreadable)
        .on(&seen.place.subject, "userspace")
        .because(why.to_string());
    let mut check = match (seen.place.ctid, stopped) {
        (Some(ctid), true) => {
            finding.hint(format!("pct mount {ctid}, then again, then pct unmount {ctid}"))
        }
        _ => finding.done(),
    };
    if stopped && !seen.place.named {
        check.severity = Severity::Info;
    }
    check
}

fn output(
    options: &Options,
    checks: &[Check],
    exit: Exit,
    writer: &mut RecordWriter,
) -> anyhow::Result<()> {
    let now = prometheus::now();
    let mut good = (exit == Exit::Done).then_some(now);
    if let Some(file) = &options.prometheus_file {
        // named by the user: taken as it is, whatever --root says
        let own = Machine::new(None).map_err(Failure::from)?;
        let file = std::path::absolute(file).context("--prometheus-file")?;
        let file =
            file.to_str().ok_or_else(|| fail(Exit::Usage, "--prometheus-file: not UTF-8"))?;
        good = good.or_else(|| prometheus::last_good(&own, file));
        // what is written is renamed over it: over /dev/null that would be a pity
        if own.lstat(file).is_ok_and(|stat| stat.kind != FileKind::File) {
            let message = format!("--prometheus-file: '{file}' is no regular file");
            return Err(fail(Exit::Usage, message).into());
        }
        let dir =
            file.rsplit_once('/').map_or("/", |(dir, _)| if dir.is_empty() { "/" } else { dir });
        if !own.exists(dir) {
            let message = format!("--prometheus-file: there is no directory '{dir}'");
            return Err(fail(Exit::Usage, message)
                .hint("name the directory of the node exporter's textfile collector")
                .into());
        }
        let text = prometheus::render(checks, now, good);
        prometheus::write(&own, file, &text).map_err(Failure::from)?;
    }
    if options.output == Format::Prometheus {
        if options.prometheus_file.is_none() {
            let text = prometheus::render(checks, now, good);
            record::print_text(&text).context("standard output")?;
        }
        return Ok(());
    }
    for check in checks {
        // a stopped container that cannot be looked into is so every night
        let idle = check.status == CheckStatus::Unknown && check.severity == Severity::Info;
        if !options.problems || check.status != CheckStatus::Ok && !idle {
            writer.put(Record::Check(check.clone()))?;
        }
    }
    Ok(())
}
