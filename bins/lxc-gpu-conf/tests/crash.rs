//! The tool is killed, its writes fail, others write at the same time: the
//! file is always the old one or the new one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testbed::bed::program;
use testbed::{Bed, machine};

const TOOL: &str = "lxc-gpu-conf";
const CONF: &str = "/etc/pve/lxc/901.conf";

/// Container 901 of the recorded host, and few system calls.
fn small() -> Bed {
    Bed::of(&machine::one_gpu())
}

/// A command line that changes container 901, and what comes before it.
struct Verb {
    args: &'static [&'static str],
    before: &'static [&'static str],
    /// What moves on the host in between.
    host: fn(&Bed),
}

const ADD: Verb = Verb { args: &["add", "901", "--gpu", "0"], before: &[], host: |_| {} };
const VERBS: [Verb; 3] = [
    ADD,
    Verb { args: &["remove", "901"], before: &["add 901 --gpu 0"], host: |_| {} },
    // the nodes are right, the card has another number
    Verb {
        args: &["sync", "901"],
        before: &["add 901 --gpu 0"],
        host: |bed| {
            let path = "/proc/driver/nvidia/gpus/0000:2b:00.0/information";
            let text = bed.read(path);
            bed.write(path, text.replace("Device Minor: \t 0", "Device Minor: \t 1"));
        },
    },
];

/// Configuration and what is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    conf: String,
    state: Option<String>,
}

const STATE: &str = "/var/lib/pve-gpu-tools/lxc/901.json";

impl Files {
    fn of(bed: &Bed) -> Files {
        Files { conf: bed.read(CONF), state: fs::read_to_string(bed.at(STATE)).ok() }
    }

    fn put(&self, bed: &Bed) {
        bed.write(CONF, &self.conf);
        match &self.state {
            Some(text) => bed.write(STATE, text),
            None => drop(fs::remove_file(bed.at(STATE))),
        }
    }
}

impl Verb {
    fn bed(&self) -> Bed {
        let bed = small();
        for args in self.before {
            bed.tool(TOOL).args(args).run().expect(0);
        }
        (self.host)(&bed);
        bed
    }
}

/// Runs a verb under strace with one fault injected into the tool itself
/// (not into the children that only read).
fn strace(bed: &Bed, verb: &Verb, options: &[&str]) -> Output {
    Command::new("strace")
        .args(["-qq", "-o", "/dev/null"])
        .args(options)
        .arg(program(TOOL))
        .args(["--root".as_ref(), bed.path().as_os_str()])
        .args(verb.args)
        .stdin(Stdio::null())
        .output()
        .expect("strace is needed: install strace")
}

/// How often the tool makes each system call in a run that succeeds.
fn calls(bed: &Bed, verb: &Verb) -> BTreeMap<String, usize> {
    let log = bed.at("/strace.log");
    let output = Command::new("strace")
        .args(["-qq", "-o"])
        .arg(&log)
        .arg(program(TOOL))
        .args(["--root".as_ref(), bed.path().as_os_str()])
        .args(verb.args)
        .stdin(Stdio::null())
        .output()
        .expect("strace is needed: install strace");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    testbed::strace::calls(&fs::read_to_string(log).unwrap())
}

/// Files beside the configurations that Proxmox VE would take for a guest's.
fn guests(bed: &Bed) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(bed.at("/etc/pve/nodes/pve1/lxc"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.strip_suffix(".conf").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    names.sort();
    names
}

#[test]
fn killed_at_any_system_call_the_file_is_the_old_or_the_new_one() {
    for verb in &VERBS {
        let bed = verb.bed();
        let before = Files::of(&bed);
        let calls = calls(&bed, verb);
        let after = Files::of(&bed);
        assert_ne!(before.conf, after.conf);
        assert_ne!(before.state, after.state);
        let guests_before = guests(&bed);
        let (mut old, mut new, mut leftovers, mut total) = (0, 0, 0, 0);
        for (name, count) in &calls {
            for nth in 1..=*count {
                before.put(&bed);
                let fault = format!("inject={name}:signal=KILL:when={nth}");
                strace(&bed, verb, &["-e", &fault]);
                total += 1;
                let now = Files::of(&bed);
                let at = format!("{:?} torn at {name} {nth}", verb.args);
                if now.conf == before.conf {
                    old += 1;
                    assert_eq!(now.state, before.state, "{at}: remembered before it was done");
                } else {
                    assert_eq!(now.conf, after.conf, "{at}");
                    // it may still be the old one; the next run sees to that
                    assert!(now.state == before.state || now.state == after.state, "{at}: {now:?}");
                    new += 1;
                }
                assert_eq!(guests(&bed), guests_before, "a temporary looks like a container");
                leftovers += usize::from(
                    fs::read_dir(bed.at("/etc/pve/nodes/pve1/lxc")).unwrap().count()
                        > guests_before.len(),
                );
            }
        }
        // the campaign did reach the writing part, from both sides
        let counts = format!("{:?}: {total} {old} {new} {leftovers}", verb.args);
        assert!(total > 100 && old > 50 && new > 2 && leftovers > 2, "{counts}");
        println!("{counts} (kills, old, new, with a leftover)");
        // the next run cleans up and does its job
        before.put(&bed);
        bed.tool(TOOL).args(&verb.args.join(" ")).run().expect(0);
        assert_eq!(Files::of(&bed), after);
        let names = fs::read_dir(bed.at("/etc/pve/nodes/pve1/lxc")).unwrap().count();
        assert_eq!(names, guests_before.len(), "leftovers are removed");
    }
}

/// Killed between the two files, or unable to write the second one: what the
/// container is to have is right, and running it again remembers.
#[test]
fn what_is_remembered_is_never_torn() {
    for verb in &VERBS {
        let bed = verb.bed();
        let before = Files::of(&bed);
        let calls = calls(&bed, verb);
        let after = Files::of(&bed);
        let mut missed = 0;
        for (name, errno) in
            [("write", "ENOSPC"), ("fsync", "EIO"), ("renameat", "EIO"), ("unlinkat", "EIO")]
        {
            for nth in 1..=*calls.get(name).unwrap_or(&0) {
                before.put(&bed);
                let fault = format!("inject={name}:error={errno}:when={nth}");
                let output = strace(&bed, verb, &["-e", &fault]);
                let now = Files::of(&bed);
                let said = String::from_utf8_lossy(&output.stderr);
                let at = format!("{:?} {name} {nth}: {said}{now:?}", verb.args);
                assert!(now.conf == before.conf || now.conf == after.conf, "{at}");
                assert!(now.state == before.state || now.state == after.state, "{at}");
                if now.conf == after.conf && now.state != after.state {
                    missed += 1;
                    assert!(output.status.code() == Some(0) && !said.is_empty(), "{at}");
                    // it is right, and the next run has nothing to change
                    bed.tool(TOOL).args(&verb.args.join(" ")).run().expect(0);
                    assert_eq!(Files::of(&bed), after, "{at}");
                }
            }
        }
        assert!(missed > 0, "{:?}: the second file was never reached", verb.args);
    }
}

#[test]
fn every_failing_call_of_the_write_leaves_the_old_file_and_says_why() {
    let bed = small();
    let before = bed.read(CONF);
    let count = calls(&bed, &ADD);
    bed.write(CONF, &before);
    let mut refused = 0;
    for (name, errno, hint) in [
        ("renameat", "EACCES", "quorum"),
        ("renameat", "EIO", ""),
        ("renameat", "EBUSY", ""),
        ("fsync", "EIO", ""),
        ("fsync", "ENOSPC", "free space"),
        ("write", "ENOSPC", "free space"),
        ("write", "EDQUOT", "free space"),
        ("flock", "ENOLCK", ""),
        ("openat2", "EROFS", ""),
        ("openat", "ENOSPC", ""),
        ("fstat", "EIO", ""),
    ] {
        // strace knows fstat by the name that the C library uses here
        let name =
            if name == "fstat" && !count.contains_key("fstat") { "newfstatat" } else { name };
        let times = *count.get(name).unwrap_or(&0);
        assert!(times > 0, "{name} is not used any more: {count:?}");
        for nth in 1..=times {
            bed.write(CONF, &before);
            let output =
                strace(&bed, &ADD, &["-e", &format!("inject={name}:error={errno}:when={nth}")]);
            let now = bed.read(CONF);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let case = format!("{name} {nth} {errno}: {stderr}");
            match output.status.code() {
                // a failing write to standard output or error comes after the deed
                Some(0) => assert_ne!(now, before, "{case}"),
                // the loader failed: the tool never ran
                Some(127) => assert_eq!(now, before, "{case}"),
                Some(2..=4) if now == before => {
                    refused += 1;
                    if name == "renameat" || (name == "fsync" && nth == 1) {
                        assert!(stderr.contains("901.conf'"), "{case}");
                        assert!(stderr.contains(hint), "{case}");
                    }
                }
                // the change is done, the report of it failed
                Some(3) => {
                    assert!(stderr.is_empty() || stderr.contains("standard output"), "{case}")
                }
                other => panic!("exit {other:?}: {case}"),
            }
            for entry in fs::read_dir(bed.at("/etc/pve/nodes/pve1/lxc")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(!name.contains(".tmp."), "{name} is left over: {case}");
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

/// Found by the campaign: `add` went on as if nothing were remembered, and wrote
/// that over what it could not read.
#[test]
fn what_is_remembered_and_cannot_be_read_is_not_overwritten() {
    for verb in &VERBS {
        let bed = verb.bed();
        if verb.before.is_empty() {
            bed.tool(TOOL).args("add 901 --gpu 0").run().expect(0);
        }
        // root reads every file, but none that is so large
        bed.write(STATE, " ".repeat(16 << 20) + &bed.read(STATE));
        let before = bed.contents();
        let ran = bed.tool(TOOL).args(&verb.args.join(" ")).run().expect(3);
        assert!(ran.stderr.contains("901.json'"), "{}", ran.stderr);
        assert_eq!(bed.contents(), before, "{:?}", verb.args);
    }
}

#[test]
fn a_failed_sync_of_the_directory_is_undone() {
    let bed = small();
    let before = bed.read(CONF);
    // the second fsync is the directory's: the new file is in place by then
    let output = strace(&bed, &ADD, &["-e", "inject=fsync:error=EIO:when=2"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(bed.read(CONF), before);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let records: Vec<_> = stdout.lines().map(testbed::schema::check_line).collect();
    assert!(records.iter().any(|r| r["status"] == "rolled-back"), "{stdout}");
}

#[test]
fn a_signal_before_the_rename_stops_it_and_one_after_does_not() {
    let bed = small();
    let before = bed.read(CONF);
    for signal in ["TERM", "INT", "HUP"] {
        bed.write(CONF, &before);
        let output = strace(&bed, &ADD, &["-e", &format!("inject=fsync:signal={signal}:when=1")]);
        assert_eq!(output.status.code(), Some(3), "{signal}");
        assert_eq!(bed.read(CONF), before, "{signal}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was changed"));
        let output =
            strace(&bed, &ADD, &["-e", &format!("inject=renameat:signal={signal}:when=1")]);
        assert_eq!(output.status.code(), Some(0), "{signal}");
        assert_ne!(bed.read(CONF), before, "{signal}");
    }
}

#[test]
fn a_file_that_changes_under_the_tool_is_left_to_whoever_changed_it() {
    let bed = small();
    // an editor takes no lock: it writes while the tool is held up before its rename
    let mut child = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "inject=fsync:delay_exit=1500000:when=1"])
        .arg(program(TOOL))
        .args(["--root".as_ref(), bed.path().as_os_str()])
        .args(["add", "901", "--gpu", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is needed: install strace");
    let deadline = Instant::now() + Duration::from_secs(10);
    let temporary = || {
        fs::read_dir(bed.at("/etc/pve/nodes/pve1/lxc"))
            .unwrap()
            .any(|e| e.unwrap().file_name().to_string_lossy().contains(".tmp."))
    };
    while !temporary() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    let edited = bed.read(CONF) + "\n";
    bed.write(CONF, &edited);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("modified by another process"));
    assert_eq!(bed.read(CONF), edited);
    assert!(!temporary());
}

#[test]
fn two_at_once_both_get_what_they_asked_for() {
    for _ in 0..10 {
        let bed = Bed::new("pve9-two-gpus");
        let run = |gpu: &str| {
            Command::new(program(TOOL))
                .args(["--root".as_ref(), bed.path().as_os_str()])
                .args(["add", "901", "--gpu", gpu])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let children = [run("0"), run("1"), run("0"), run("1")];
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let text = bed.read(CONF);
        for node in ["nvidia0,", "nvidia1,", "nvidiactl,", "nvidia-uvm,"] {
            assert_eq!(text.matches(&format!("/dev/{node}")).count(), 1, "{node}\n{text}");
        }
    }
}

#[test]
fn a_lock_that_is_held_is_waited_for_and_then_told() {
    let bed = Bed::new("pve9-two-gpus");
    let before = bed.read(CONF);
    let lock = bed.at("/run/lock/lxc/pve-config-901.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let hold = |seconds: &str| {
        Command::new("flock")
            .arg("--no-fork")
            .arg(&lock)
            .args(["sh", "-c", &format!("echo held; exec sleep {seconds}")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock (util-linux)")
    };
    let wait_for = |child: &mut std::process::Child| {
        use std::io::Read;
        let mut word = [0u8; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    };
    let mut holder = hold("60");
    wait_for(&mut holder);
    let start = Instant::now();
    let ran =
        bed.tool(TOOL).args("add 901 -g 0").run().expect(3).one_line("is still locked after 10 s");
    assert!(start.elapsed() >= Duration::from_secs(10));
    assert!(ran.stderr.contains(&format!("process {}", holder.id())), "{}", ran.stderr);
    assert_eq!(bed.read(CONF), before);
    // who waits may be interrupted
    let waiting = Command::new("timeout")
        .args(["--preserve-status", "--signal=INT", "0.7"])
        .arg(program(TOOL))
        .args(["--root".as_ref(), bed.path().as_os_str()])
        .args(["add", "901", "--gpu", "0"])
        .stdin(Stdio::null())
        .output()
        .expect("timeout (coreutils)");
    assert_eq!(waiting.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&waiting.stderr).contains("interrupted; nothing was changed"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    let mut holder = hold("1");
    wait_for(&mut holder);
    bed.tool(TOOL).args("add 901 -g 0").run().expect(0);
    holder.wait().unwrap();
}
