//! Reads the root file systems that were asked for, in child processes: one that
//! blocks is given up and does not stop the others.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use host::child_read::{ChildRead, read_in_child};
use nvidia::userspace::driver_version_of;
use pve::{Conf, Guest, RootFs, Section, all_guests, root_file_system};
use serde::{Deserialize, Serialize};

use crate::collect::checked_root::CheckedRoot;
use crate::collect::root_facts::RootFacts;

/// Reading one root file system takes milliseconds; a file system that no longer
/// answers (FUSE of a hostile container, NFS without its server) blocks for ever.
const DEADLINE: Duration = Duration::from_secs(5);
/// Children at once. They wait for disks most of the time.
const WORKERS: usize = 8;

/// The root file systems that the command line names.
pub struct RootsRequest {
    /// `--ct`
    pub cts: Vec<u32>,
    /// `--all-cts`
    pub all: bool,
    /// `--rootfs`
    pub rootfs: Vec<PathBuf>,
}

/// How a root file system is reached.
enum RootSource {
    Container { guest: Guest, conf: Conf },
    Directory(PathBuf),
}

/// One root file system and what was read of it.
pub struct CollectedRoot {
    /// Which one, and its configuration.
    pub root: CheckedRoot,
    /// What it has, or why that is unknown.
    pub facts: Result<RootFacts, UnreadableRoot>,
}

/// Why a root file system could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRoot {
    /// For people.
    pub why: String,
    /// It is that of a stopped container on a block device: not a fault, and
    /// with --all-cts not a problem.
    pub stopped: bool,
}

/// What a child writes into its pipe.
type ChildAnswer = Result<RootFacts, UnreadableRoot>;

/// Reads all of them. Errors: a container is not on this node, /etc/pve cannot
/// be read, or no child can be started.
pub fn collect(
    machine: &Machine,
    request: &RootsRequest,
    cuda: bool,
    say: &Say,
) -> Result<Vec<CollectedRoot>, Failure> {
    let mut sources = Vec::new();
    let mut unreadable = Vec::new();
    for guest in guests(machine, request, say)? {
        let named = request.cts.contains(&guest.ctid);
        let conf = match guest.read(machine) {
            Ok(bytes) => Conf::parse(&bytes),
            // destroyed since the list was read
            Err(_) if !named && !machine.exists(&guest.path) => continue,
            Err(failure) => {
                let root = CheckedRoot { subject: guest.target(), named, ..CheckedRoot::default() };
                let facts = Err(UnreadableRoot { why: failure.message, stopped: false });
                unreadable.push(CollectedRoot { root, facts });
                continue;
            }
        };
        let root = configured(machine, &guest, &conf, named);
        sources.push((root, RootSource::Container { guest, conf }));
    }
    for dir in &request.rootfs {
        let shown = dir.display().to_string();
        let root = CheckedRoot {
            subject: format!("rootfs {shown}"),
            dir: Some(shown),
            named: true,
            ..CheckedRoot::default()
        };
        sources.push((root, RootSource::Directory(dir.clone())));
    }
    let answers = read_in_child(sources.len(), WORKERS, DEADLINE, &|at, pipe| {
        pipe.put(1, || {
            let answer = read_source(machine, &sources[at].1, cuda);
            serde_json::to_vec(&answer).map_err(io::Error::other)
        });
    })
    .map_err(|error| fail(Exit::System, format!("cannot start a reader: {error}")))?;
    let roots = sources.into_iter().zip(&answers);
    let roots = roots.map(|((root, _), answer)| CollectedRoot { root, facts: received(answer) });
    Ok(roots.chain(unreadable).collect())
}

fn received(answer: &ChildRead) -> ChildAnswer {
    let unreadable = |why: String| Err(UnreadableRoot { why, stopped: false });
    if answer.stuck_at.is_some() {
        return unreadable(format!(
            "reading it takes longer than {} s: given up",
            DEADLINE.as_secs()
        ));
    }
    match answer.bytes(1).map(serde_json::from_slice::<ChildAnswer>) {
        Some(Ok(answer)) => answer,
        _ => unreadable("its reader failed".into()),
    }
}

/// The containers on this node that were asked for.
fn guests(machine: &Machine, request: &RootsRequest, say: &Say) -> Result<Vec<Guest>, Failure> {
    if request.cts.is_empty() && !request.all {
        return Ok(Vec::new());
    }
    // plain Debian has no containers of Proxmox VE, which is not an error; on
    // Proxmox VE the directory exists even while pmxcfs is not mounted
    if request.cts.is_empty() && !machine.exists("/etc/pve") {
        return Ok(Vec::new());
    }
    let everyone = all_guests(machine)?;
    let mut chosen: Vec<Guest> = Vec::new();
    for ctid in &request.cts {
        let guest = Guest::find(machine, *ctid)?;
        if !chosen.contains(&guest) {
            chosen.push(guest);
        }
    }
    if request.all {
        let mut away = 0;
        for guest in everyone {
            if !guest.local {
                away += 1;
            } else if !chosen.iter().any(|known| known.ctid == guest.ctid) {
                chosen.push(guest);
            }
        }
        if away > 0 {
            say.detail(&format!(
                "{away} containers are on other cluster nodes: run the check there as well"
            ));
        }
    }
    chosen.sort_by_key(|guest| guest.ctid);
    Ok(chosen)
}

/// What a container's configuration says of its root file system.
fn configured(machine: &Machine, guest: &Guest, conf: &Conf, named: bool) -> CheckedRoot {
    let keys = conf.keys(&Section::Main);
    let dev = keys.iter().any(|(key, value)| {
        let numbered =
            key.strip_prefix("dev").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        numbered && value.contains("/dev/nvidia")
    });
    let mut mounted: Vec<String> = Vec::new();
    let mut entry = false;
    for (key, value) in conf.lxc() {
        if key != "lxc.mount.entry" && key != "lxc.hook.mount" {
            continue;
        }
        let source = value.split_ascii_whitespace().next().unwrap_or_default();
        entry |= source.starts_with("/dev/nvidia") || source.ends_with("/hooks/nvidia");
        if let Some(version) = driver_version_of(source) {
            if !mounted.contains(&version) {
                mounted.push(version);
            }
        }
    }
    CheckedRoot {
        subject: guest.target(),
        ctid: Some(guest.ctid),
        dir: None,
        gpu: dev || entry,
        running: pve::is_running(machine, guest.ctid),
        unprivileged: pve::is_unprivileged(conf),
        mounted,
        named,
    }
}

/// Runs in a child.
fn read_source(machine: &Machine, source: &RootSource, cuda: bool) -> ChildAnswer {
    let opened = match source {
        RootSource::Directory(dir) => Machine::new(Some(dir)),
        RootSource::Container { guest, conf } => {
            let open = || directory(machine, guest.ctid, conf).map(|p| machine.container_root(&p));
            // it may have stopped or started just now: the second try finds where it is then
            let opened = open()?;
            if opened.is_err() { open()? } else { opened }
        }
    };
    let inside =
        opened.map_err(|error| UnreadableRoot { why: error.to_string(), stopped: false })?;
    Ok(RootFacts::read(&inside, cuda))
}

/// Directory of a container's root file system: its processes' own view, its
/// volume where that is a directory, or where `pct mount` has put it.
fn directory(machine: &Machine, ctid: u32, conf: &Conf) -> Result<String, UnreadableRoot> {
    match root_file_system(machine, ctid, conf) {
        RootFs::Running(path) | RootFs::Stopped(path) => Ok(path),
        RootFs::Unknown(why) => {
            let mounted = format!("/var/lib/lxc/{ctid}/rootfs");
            match machine.exists(&format!("{mounted}/etc")) {
                true => Ok(mounted),
                false => Err(UnreadableRoot { why, stopped: true }),
            }
        }
    }
}
