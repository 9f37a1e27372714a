//! 200 writers at once on a mounted cluster file system: the tool and a
//! stand-in for pct on the same containers, and readers in between. No update
//! is lost, no reader sees half a file.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{CONF, Host, LXC};
use pmxcfs::Op;
use pve::{Conf, Section};
use testbed::bed::Tool;

/// Containers that share the host with 901.
const OTHERS: [u32; 4] = [904, 921, 922, 923];

#[derive(Clone, Copy, Debug)]
enum Job {
    /// `pct set CTID --mpN ...`, and one more for the counter that all of them
    /// share.
    Pct(u32, usize),
    /// `lxc-gpu-conf add CTID --gpu GPU`.
    Add(u32, &'static str),
}

/// 200 jobs, mixed: more than half of them on 901.
fn jobs() -> Vec<Job> {
    let other = |at: usize| OTHERS[at / 5 % OTHERS.len()];
    let job = |at: usize| match at % 5 {
        0 | 1 => Job::Pct(901, at),
        2 => Job::Add(901, if at % 2 == 0 { "0" } else { "1" }),
        3 => Job::Add(other(at), if at % 3 == 0 { "all" } else { "1" }),
        _ => Job::Pct(other(at), at),
    };
    (0..200).map(job).collect()
}

fn path(ctid: u32) -> String {
    format!("{LXC}/{ctid}.conf")
}

fn key<'a>(conf: &'a Conf, key: &str) -> Option<&'a str> {
    conf.keys(&Section::Main).get(key).copied()
}

/// Changes one container's configuration as Proxmox VE does
/// (PVE::Tools::lock_file(), PVE::File::file_set_contents()): under its flock(2),
/// keys sorted, a new file renamed over the old.
fn pct(host: &Host, ctid: u32, number: usize) {
    let lock = host.bed.at(&format!("/run/lock/lxc/pve-config-{ctid}.lock"));
    let lock = File::options().append(true).create(true).open(lock).unwrap();
    let start = Instant::now();
    // SAFETY: flock(2) on a descriptor that is open.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0);
    assert!(start.elapsed() < Duration::from_secs(10), "pct would have given up by now");
    let at = host.at(&format!("lxc/{ctid}.conf"));
    let text = fs::read_to_string(&at).unwrap();
    let end = text.find("\n[").map_or(text.len(), |at| at + 1);
    let (main, rest) = text.split_at(end);
    let count: usize =
        key(&Conf::parse(main.as_bytes()), "cpuunits").map_or(0, |count| count.parse().unwrap());
    let mut lines: Vec<String> = main
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("cpuunits:"))
        .map(str::to_string)
        .collect();
    lines.push(format!("mp{number}: tank:subvol-{number},mp=/srv/{number},size=1G"));
    lines.push(format!("cpuunits: {}", count + 1));
    let rank = |line: &String| (!line.starts_with('#'), line.starts_with("lxc."));
    let name = |line: &String| match rank(line) {
        (true, false) => line.split(':').next().unwrap_or("").to_string(),
        _ => String::new(),
    };
    lines.sort_by_key(|line| (rank(line), name(line)));
    let gap = if rest.is_empty() { "" } else { "\n" };
    let new = format!("{}\n{gap}{}", lines.join("\n"), rest.trim_start_matches('\n'));
    let temporary = at.with_file_name(format!("{ctid}.conf.tmp.{}", std::process::id()));
    let mut file = File::create_new(&temporary).unwrap();
    file.write_all(new.as_bytes()).unwrap();
    drop(file);
    fs::rename(&temporary, &at).unwrap();
}

fn run(host: &Host, job: Job) {
    match job {
        Job::Pct(ctid, number) => pct(host, ctid, number),
        Job::Add(ctid, gpu) => {
            let tool = Tool::new("lxc-gpu-conf").arg("--root").arg(host.bed.path());
            tool.args(&format!("add {ctid} --gpu {gpu}")).run().expect(0);
        }
    }
}

/// Reads a configuration over and over; panics at one that is not whole.
fn watch(host: &Host, ctid: u32, stop: &AtomicBool) -> usize {
    let first = host.conf(&path(ctid));
    let tail = first.find("\n[").map_or("", |at| &first[at..]);
    let (mut states, mut last, mut keys) = (0, String::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        let text = match fs::read_to_string(host.at(&format!("lxc/{ctid}.conf"))) {
            Ok(text) if text == last => continue,
            Ok(text) => text,
            // replaced between the kernel's lookup and its open
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => panic!("{ctid}: {error}"),
        };
        let conf = Conf::parse(text.as_bytes());
        let main = conf.keys(&Section::Main);
        assert!(text.ends_with('\n') && text.ends_with(tail), "cut off:\n{text}");
        assert!(!text.contains('\0'), "a hole:\n{text}");
        assert_eq!(main.get("arch"), Some(&"amd64"), "{text}");
        // nobody takes anything away
        assert!(main.len() >= keys, "an update is lost:\n{last}\n{text}");
        keys = main.len();
        states += 1;
        last = text;
    }
    states
}

#[test]
fn two_hundred_writers_lose_nothing_and_tear_nothing() {
    for _ in 0..3 {
        all_at_once();
    }
}

fn all_at_once() {
    let host = Host::new();
    // what the kernel does with pmxcfs
    host.pve.cache(Duration::from_secs(1));
    fs::create_dir_all(host.bed.at("/run/lock/lxc")).unwrap();
    let template = host.conf(&path(904));
    for ctid in &OTHERS[1..] {
        host.pve.put(&path(*ctid), &template);
    }
    let before: Vec<(u32, String)> =
        [901].iter().chain(&OTHERS).map(|id| (*id, host.conf(&path(*id)))).collect();
    host.pve.clear_log();

    let jobs = jobs();
    let stop = AtomicBool::new(false);
    let states = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for ctid in [901, 901, 904] {
            let (host, stop, states) = (&host, &stop, &states);
            scope.spawn(move || {
                let seen = watch(host, ctid, stop);
                states.lock().unwrap().push(seen);
            });
        }
        let writers: Vec<_> = jobs.iter().map(|job| scope.spawn(|| run(&host, *job))).collect();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // before any panic goes on, or the readers would never end
        stop.store(true, Ordering::SeqCst);
        for result in results {
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });

    for (ctid, old) in &before {
        let text = host.conf(&path(*ctid));
        let conf = Conf::parse(text.as_bytes());
        let mut own = 0;
        for job in &jobs {
            match job {
                Job::Pct(id, number) if id == ctid => {
                    own += 1;
                    let line = format!("mp{number}: tank:subvol-{number},mp=/srv/{number},size=1G");
                    assert_eq!(text.matches(&line).count(), 1, "{ctid}: {line}\n{text}");
                }
                _ => {}
            }
        }
        assert_eq!(key(&conf, "cpuunits"), Some(own.to_string().as_str()), "{ctid}");
        for node in ["nvidia0,", "nvidia1,", "nvidiactl,", "nvidia-uvm,", "nvidia-modeset,"] {
            assert_eq!(text.matches(&format!("/dev/{node}")).count(), 1, "{ctid} {node}\n{text}");
        }
        // nothing that was there is gone or changed, in no section
        for line in old.lines() {
            let count = |text: &str| text.lines().filter(|other| *other == line).count();
            assert!(line.is_empty() || count(&text) == count(old), "{ctid}: '{line}'\n{text}");
        }
    }

    let states = states.into_inner().unwrap();
    assert!(states.iter().all(|states| *states > 5), "the readers saw too little: {states:?}");
    let log = host.pve.log();
    let conf = |l: &&pmxcfs::Logged| l.path.ends_with(".conf") && l.path.starts_with(LXC);
    let in_place = [Op::OpenWrite, Op::Write, Op::Truncate, Op::Create, Op::Unlink];
    let touched: Vec<_> = log.iter().filter(conf).filter(|l| in_place.contains(&l.op)).collect();
    assert!(touched.is_empty(), "{touched:#?}");
    let failed: Vec<_> = log.iter().filter(|l| l.op.changes() && l.errno != 0).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let renames = log.iter().filter(|l| l.op == Op::Rename && l.to.as_deref() == Some(CONF));
    assert!(renames.count() >= 80);
    let names = host.pve.names(LXC);
    assert!(!names.iter().any(|name| name.contains(".tmp.")), "{names:?}");
}
