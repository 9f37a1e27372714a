//! After a change: says when it takes effect, restarts or starts where that was
//! asked for, and waits until the nodes really open inside.

use std::time::{Duration, Instant};

use ::cli::{Exit, Say, fail, interrupted};
use host::{Machine, OpenOutcome, open_in_container};
use nvidia::NodeClass;
use pve::{Conf, Guest};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::access::Access;
use crate::edit::Edited;
use crate::hotplug;

/// What to do.
pub struct Restart<'a> {
    /// The host.
    pub machine: &'a Machine,
    /// The container.
    pub guest: &'a Guest,
    /// For words.
    pub say: &'a Say,
    /// `--restart`.
    pub restart: bool,
    /// `--start`.
    pub start: bool,
    /// `--wait`, seconds.
    pub wait: Option<u64>,
}

const DEFAULT_WAIT: u64 = 60;
/// A first open may have to wake the card, which takes seconds.
const OPEN: Duration = Duration::from_secs(20);
/// A busy host needs a while to look at all; also when time is nearly up.
const LEAST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(250);

/// Nodes that the container is given, as its configuration has them now, each
/// with whether it is opened for writing.
pub fn given(machine: &Machine, guest: &Guest) -> Vec<(String, bool)> {
    let Ok(bytes) = guest.read(machine) else { return Vec::new() };
    let access = Access::of(&Conf::parse(&bytes));
    let devs = access.devs.values().map(|dev| &dev.path);
    let mounts = access.mounts.iter().map(|mount| &mount.target);
    let mut paths: Vec<(String, bool)> = devs
        .chain(mounts)
        .filter_map(|path| {
            // exactly one program may hold nvidia-uvm-tools or a switch: looking
            // must not take it away
            match nvidia::classify(path)? {
                NodeClass::Cap(_) => Some((path.clone(), false)),
                NodeClass::Gpu(_) | NodeClass::Control | NodeClass::Uvm => {
                    Some((path.clone(), true))
                }
                _ => None,
            }
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Says when the change takes effect, and does what was asked for. Exit 3 where
/// the container cannot be restarted or a node does not open in time.
pub fn finish(r: &Restart<'_>, edited: &Edited, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let ctid = r.guest.ctid;
    let running = pve::is_running(r.machine, ctid);
    if !r.restart && !r.start && r.wait.is_none() {
        if edited.hot {
            r.say.note(&format!("{} has the nodes already: nothing to restart", r.guest.target()));
        } else if edited.changed {
            let when = if running {
                format!(
                    "it runs, and it counts from its next start on: 'pct reboot {ctid}', or --restart"
                )
            } else {
                "it counts from its next start on".into()
            };
            r.say.note(&format!("{}: {when}", r.guest.target()));
        }
        return Ok(edited.exit);
    }
    let startable = r.start && r.machine.is_host();
    if !running && !startable {
        let mut change = change(r, "running");
        change.status = ChangeStatus::Skipped;
        change.reason = Some(match r.machine.is_host() {
            true => "it does not run: the change counts from its next start on".into(),
            false => "no command is run below --root".into(),
        });
        change.hint = r.machine.is_host().then(|| format!("pct start {ctid}, or --start"));
        writer.put(Record::Change(change))?;
        return Ok(edited.exit);
    }
    let paths = given(r.machine, r.guest);
    let wait = Duration::from_secs(r.wait.unwrap_or(DEFAULT_WAIT));
    if !running {
        pct(r, START, writer)?;
    } else if r.restart
        && (edited.changed && !edited.hot || !all_open(&look(r, &paths, wait.max(LEAST))))
    {
        pct(r, REBOOT, writer)?;
    }
    let end = Instant::now() + wait;
    let answers = loop {
        let left = end.saturating_duration_since(Instant::now());
        let answers = look(r, &paths, left.max(LEAST));
        if all_open(&answers) || Instant::now() >= end || interrupted() {
            break answers;
        }
        std::thread::sleep(PAUSE);
    };
    report(r, &answers, wait, writer)
}

fn change(r: &Restart<'_>, property: &str) -> Change {
    Change::planned(r.say.tool(), &r.guest.target(), property)
}

/// What a dry run says of it.
pub fn foretell(r: &Restart<'_>, edited: &Edited, writer: &mut RecordWriter) -> anyhow::Result<()> {
    let running = pve::is_running(r.machine, r.guest.ctid);
    let way = match running {
        true if r.restart && edited.changed && !edited.hot => REBOOT,
        false if r.start => START,
        _ => return Ok(()),
    };
    let mut change = change(r, "running");
    change.to = Some(way.done.into());
    let wait = r.wait.unwrap_or(DEFAULT_WAIT);
    let how = format!("pct {} {}", way.verb, r.guest.ctid);
    change.reason = Some(match r.machine.is_host() {
        true => format!("{how}, then up to {wait} s until its nodes open inside"),
        false => format!("{how}; not below --root, where no command is run"),
    });
    Ok(writer.put(Record::Change(change))?)
}

/// A way to have the container run with its new configuration.
#[derive(Clone, Copy)]
struct Way {
    verb: &'static str,
    /// The change in a word.
    done: &'static str,
    /// What did not happen where it failed.
    what: &'static str,
}

const REBOOT: Way = Way { verb: "reboot", done: "restarted", what: "restart" };
const START: Way = Way { verb: "start", done: "started", what: "start" };

fn pct(r: &Restart<'_>, way: Way, writer: &mut RecordWriter) -> anyhow::Result<()> {
    let ctid = r.guest.ctid.to_string();
    let mut change = change(r, "running");
    change.to = Some(way.done.into());
    if !hotplug::has_pct(r.machine) {
        change.status = ChangeStatus::Skipped;
        change.reason = Some("there is no pct".into());
        writer.put(Record::Change(change))?;
        return Ok(());
    }
    // its own default is 60 s for the shutdown
    let ran = r.machine.run(&["pct", way.verb, &ctid], Duration::from_secs(180))?;
    let why = ran.filter(|ran| !ran.success()).map(|ran| ran.reason());
    change.status = if why.is_none() { ChangeStatus::Changed } else { ChangeStatus::Failed };
    change.reason = why.clone();
    writer.put(Record::Change(change))?;
    match why {
        None => Ok(()),
        Some(why) => {
            let message = format!("{}: pct {}: {why}", r.guest.target(), way.verb);
            let hint =
                format!("the configuration is as it should be; the {} is not done", way.what);
            Err(fail(Exit::System, message).hint(hint).into())
        }
    }
}

/// What each node says inside; nothing where the container cannot be entered.
fn look(
    r: &Restart<'_>,
    paths: &[(String, bool)],
    left: Duration,
) -> Vec<(String, Option<OpenOutcome>)> {
    let opened = pve::init_pid(r.machine, r.guest.ctid)
        .and_then(|pid| open_in_container(pid, paths, OPEN.min(left)).ok());
    match opened {
        Some(opened) => {
            paths.iter().zip(opened).map(|((path, _), o)| (path.clone(), Some(o))).collect()
        }
        None => paths.iter().map(|(path, _)| (path.clone(), None)).collect(),
    }
}

fn all_open(answers: &[(String, Option<OpenOutcome>)]) -> bool {
    answers.iter().all(|(_, opened)| matches!(opened, Some(OpenOutcome::Ok { .. })))
}

fn report(
    r: &Restart<'_>,
    answers: &[(String, Option<OpenOutcome>)],
    wait: Duration,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut failed = None;
    for (path, opened) in answers {
        let words = opened.as_ref().map_or("cannot be entered".into(), OpenOutcome::words);
        let ok = matches!(opened, Some(OpenOutcome::Ok { .. }));
        let mut check = Check::ok(&r.guest.target(), path, Some("opens inside".to_string()));
        if !ok {
            check.actual = Some(words.clone());
            check.status = CheckStatus::Drift;
            check.severity = Severity::Error;
            check.hint = Some(format!("lxc-gpu-conf check {}", r.guest.ctid));
            failed.get_or_insert_with(|| format!("{path} {words}"));
        }
        writer.put(Record::Check(check))?;
    }
    match failed {
        None => Ok(Exit::Done),
        Some(why) => {
            let message = format!("{}: {why} inside, {} s after", r.guest.target(), wait.as_secs());
            Err(fail(Exit::System, message)
                .hint(format!("'lxc-gpu-conf check {}' says more", r.guest.ctid))
                .into())
        }
    }
}
