//! Opens a container's nodes from inside the container, which is the only proof
//! that it can use them.

use std::time::{Duration, Instant};

use ::cli::{Exit, fail, interrupted};
use advice::lxc_gpu_conf;
use host::{Machine, OpenOutcome, open_in_container};
use nvidia::NodeClass;
use pve::{Conf, Guest};
use record::{Check, CheckStatus, Record, RecordWriter, Severity};

use crate::config::access::Access;

/// The first open may have to wake the GPU, which takes seconds.
const OPEN: Duration = Duration::from_secs(20);
/// The least time for a look, which a busy host needs also when time is nearly up.
const LEAST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(250);

/// A node's path in the container, and how it opened; `None` where the container
/// cannot be entered.
pub type NodeAnswer = (String, Option<OpenOutcome>);

/// Nodes that the configuration gives, each with whether it is opened for writing.
pub fn given_nodes(machine: &Machine, guest: &Guest) -> Vec<(String, bool)> {
    let Ok(bytes) = guest.read(machine) else { return Vec::new() };
    let access = Access::of(&Conf::parse(&bytes));
    let mut paths: Vec<(String, bool)> = access
        .targets()
        .filter_map(|path| {
            // only one program may hold nvidia-uvm-tools or a switch: the test
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

/// Opens each node once.
pub fn open_once(
    machine: &Machine,
    ctid: u32,
    paths: &[(String, bool)],
    left: Duration,
) -> Vec<NodeAnswer> {
    let opened = pve::init_pid(machine, ctid)
        .and_then(|pid| open_in_container(pid, paths, OPEN.min(left.max(LEAST))).ok());
    let names = paths.iter().map(|(path, _)| path.clone());
    match opened {
        Some(opened) => names.zip(opened.into_iter().map(Some)).collect(),
        None => names.map(|path| (path, None)).collect(),
    }
}

/// Opens the nodes until all open, the time is up, or the user interrupts.
pub fn open_until(
    machine: &Machine,
    ctid: u32,
    paths: &[(String, bool)],
    wait: Duration,
) -> Vec<NodeAnswer> {
    let end = Instant::now() + wait;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let answers = open_once(machine, ctid, paths, left);
        if all_open(machine, &answers) || Instant::now() >= end || interrupted() {
            return answers;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether every node opened.
pub fn all_open(machine: &Machine, answers: &[NodeAnswer]) -> bool {
    answers.iter().all(|(path, opened)| opened.as_ref().is_some_and(|o| opens(machine, path, o)))
}

/// Whether a node opened and is the device that the host has under this name: a
/// container can put any other there.
pub fn opens(machine: &Machine, path: &str, opened: &OpenOutcome) -> bool {
    let OpenOutcome::Ok { major, minor } = opened else { return false };
    let host = machine.node(path).ok().flatten().filter(host::Node::is_char);
    host.is_none_or(|node| (node.major, node.minor) == (*major, *minor))
}

/// Writes a check record for each node. Exit 3 where one does not open.
pub fn report(
    machine: &Machine,
    guest: &Guest,
    answers: &[NodeAnswer],
    wait: Duration,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let mut failed = None;
    for (path, opened) in answers {
        let mut check = Check::ok(&guest.target(), path, Some("opens inside".to_string()));
        if !opened.as_ref().is_some_and(|opened| opens(machine, path, opened)) {
            let words = match opened {
                Some(OpenOutcome::Ok { major, minor }) => {
                    format!("is another device ({major}:{minor})")
                }
                Some(other) => other.words(),
                None => "cannot be entered".into(),
            };
            failed.get_or_insert_with(|| format!("{path} {words}"));
            check.actual = Some(words);
            check.status = CheckStatus::Drift;
            check.severity = Severity::Error;
            check.commands = vec![lxc_gpu_conf::check(guest.ctid)];
        }
        writer.put(Record::Check(check))?;
    }
    let Some(why) = failed else { return Ok(Exit::Done) };
    let seconds = wait.as_secs();
    let message = format!("{}: after {seconds} s, {why} inside", guest.target());
    Err(fail(Exit::System, message).run(lxc_gpu_conf::check(guest.ctid)).into())
}
