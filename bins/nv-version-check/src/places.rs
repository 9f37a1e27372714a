//! The root file systems that were asked for, looked at by child processes:
//! one that blocks is given up and does not stop the others.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use host::child_read::{ChildRead, read_in_child};
use nvidia::is_version;
use nvidia::userspace::version_of;
use pve::{Conf, Guest, RootFs, Section, all_guests, root_file_system};
use serde::{Deserialize, Serialize};

use crate::judge_root::Place;
use crate::root::{self, Root};

/// Looking at one root file system takes milliseconds; a file system that
/// answers no more (FUSE of a hostile container, NFS without its server) takes
/// for ever.
const DEADLINE: Duration = Duration::from_secs(5);
/// Children at once. Most of the time is spent waiting for disks.
const WORKERS: usize = 8;

/// What was asked for.
pub struct Wanted {
    /// `--ct`
    pub cts: Vec<u32>,
    /// `--all-cts`
    pub all: bool,
    /// `--rootfs`
    pub rootfs: Vec<PathBuf>,
}

/// One place before it was looked at.
enum Target {
    Container { guest: Guest, conf: Conf },
    Directory(PathBuf),
}

/// One place and what came of looking.
pub struct Seen {
    /// The place.
    pub place: Place,
    /// What it has, or why that cannot be told.
    pub root: Result<Root, Unseen>,
}

/// Why a place could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// In words.
    pub why: String,
    /// It is a stopped container whose volume is no directory: no fault, and
    /// nothing to be done by who asked for all containers.
    pub stopped: bool,
}

/// What a child passes on.
#[derive(Serialize, Deserialize)]
enum Answer {
    Root(Box<Root>),
    Unseen { why: String, stopped: bool },
}

/// Looks at all of them. Errors: a container that is not here, /etc/pve is not
/// what it should be, or no child can be started.
pub fn look(
    machine: &Machine,
    wanted: &Wanted,
    cuda: bool,
    say: &Say,
) -> Result<Vec<Seen>, Failure> {
    let mut places = Vec::new();
    let mut targets = Vec::new();
    let mut gone = Vec::new();
    for guest in guests(machine, wanted, say)? {
        let named = wanted.cts.contains(&guest.ctid);
        let conf = match guest.read(machine) {
            Ok(bytes) => Conf::parse(&bytes),
            // destroyed meanwhile
            Err(_) if !named && !machine.exists(&guest.path) => continue,
            Err(failure) => {
                let place = Place { subject: guest.target(), named, ..Place::default() };
                let unseen = Unseen { why: failure.message, stopped: false };
                gone.push(Seen { place, root: Err(unseen) });
                continue;
            }
        };
        places.push(place_of(&guest, &conf, named));
        targets.push(Target::Container { guest, conf });
    }
    for dir in &wanted.rootfs {
        let subject = format!("rootfs {}", dir.display());
        places.push(Place { subject, named: true, ..Place::default() });
        targets.push(Target::Directory(dir.clone()));
    }
    let answers = read_in_child(targets.len(), WORKERS, DEADLINE, &|at, pipe| {
        pipe.put(1, || {
            let answer = look_at(machine, &targets[at], cuda);
            serde_json::to_vec(&answer).map_err(io::Error::other)
        });
    })
    .map_err(|error| fail(Exit::System, format!("cannot start a reader: {error}")))?;
    let mut seen: Vec<Seen> = places
        .into_iter()
        .zip(&answers)
        .map(|(place, answer)| Seen { place, root: taken(answer) })
        .collect();
    seen.extend(gone);
    Ok(seen)
}

fn taken(answer: &ChildRead) -> Result<Root, Unseen> {
    let unseen = |why: &str, stopped| Err(Unseen { why: why.into(), stopped });
    if answer.stuck_at.is_some() {
        let why = format!("looking at it takes longer than {} s: given up", DEADLINE.as_secs());
        return unseen(&why, false);
    }
    match answer.bytes(1).map(serde_json::from_slice) {
        Some(Ok(Answer::Root(root))) => Ok(*root),
        Some(Ok(Answer::Unseen { why, stopped })) => unseen(&why, stopped),
        _ => unseen("its reader failed", false),
    }
}

/// The containers asked for that live on this node.
fn guests(machine: &Machine, wanted: &Wanted, say: &Say) -> Result<Vec<Guest>, Failure> {
    if wanted.cts.is_empty() && !wanted.all {
        return Ok(Vec::new());
    }
    // plain Debian has no containers of Proxmox VE, and that is no trouble; where
    // only its cluster file system is not mounted the directory is there
    if wanted.cts.is_empty() && !machine.exists("/etc/pve") {
        return Ok(Vec::new());
    }
    let everyone = all_guests(machine)?;
    let mut chosen: Vec<Guest> = Vec::new();
    for ctid in &wanted.cts {
        let guest = Guest::find(machine, *ctid)?;
        if !chosen.contains(&guest) {
            chosen.push(guest);
        }
    }
    if wanted.all {
        let mut away = 0;
        for guest in everyone {
            if !guest.local {
                away += 1;
            } else if !chosen.iter().any(|known| known.ctid == guest.ctid) {
                chosen.push(guest);
            }
        }
        if away > 0 {
            say.detail(&format!("{away} containers are on other nodes: run this there too"));
        }
    }
    chosen.sort_by_key(|guest| guest.ctid);
    Ok(chosen)
}

/// What a configuration says.
fn place_of(guest: &Guest, conf: &Conf, named: bool) -> Place {
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
        let library = ["libcuda.so.", "libnvidia-ml.so."].iter().any(|name| source.contains(name));
        if let Some(version) = version_of(source).filter(|v| library && is_version(v)) {
            if !mounted.contains(&version) {
                mounted.push(version);
            }
        }
    }
    Place {
        subject: guest.target(),
        ctid: Some(guest.ctid),
        gpu: dev || entry,
        unprivileged: pve::is_unprivileged(conf),
        mounted,
        named,
    }
}

/// Runs in a child.
fn look_at(machine: &Machine, target: &Target, cuda: bool) -> Answer {
    let unseen = |why: String, stopped| Answer::Unseen { why, stopped };
    let opened = match target {
        Target::Directory(dir) => Machine::new(Some(dir)),
        Target::Container { guest, conf } => {
            let open = || where_is(machine, guest.ctid, conf).map(|p| machine.container_root(&p));
            // it may stop or start just now: the second look tells where it is then
            match open().and_then(|root| if root.is_err() { open() } else { Ok(root) }) {
                Ok(opened) => opened,
                Err((why, stopped)) => return unseen(why, stopped),
            }
        }
    };
    match opened {
        Ok(inside) => Answer::Root(Box::new(root::look(&inside, cuda))),
        Err(error) => unseen(error.to_string(), false),
    }
}

/// Directory of a container's root file system: its processes' own view, its
/// volume where that is a directory, or where `pct mount` has put it.
fn where_is(machine: &Machine, ctid: u32, conf: &Conf) -> Result<String, (String, bool)> {
    match root_file_system(machine, ctid, conf) {
        RootFs::Running(path) | RootFs::Stopped(path) => Ok(path),
        RootFs::Unknown(why) => {
            let mounted = format!("/var/lib/lxc/{ctid}/rootfs");
            match machine.exists(&format!("{mounted}/etc")) {
                true => Ok(mounted),
                false => Err((why, true)),
            }
        }
    }
}
