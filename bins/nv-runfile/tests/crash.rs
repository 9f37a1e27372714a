//! The tool is killed, its calls fail, the disk is full: the directory is
//! complete or not there.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testbed::bed::program;
use testbed::runfile::{NvidiaRun, Pack, small_tree, tree_of};
use testbed::{Bed, Tool};

const TOOL: &str = "nv-runfile";

/// A small installer, what it holds, and a directory to unpack it in.
fn small() -> (Bed, BTreeMap<String, String>) {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    bed.write("x.run", NvidiaRun::new("550.163.01", Pack::Zstd).of_dir(&bed.at("tree")));
    fs::create_dir(bed.at("at")).unwrap();
    let tree = tree_of(&bed.at("tree"));
    (bed, tree)
}

/// Runs extract under strace; faults hit the thread that makes files.
fn strace(bed: &Bed, options: &[&str]) -> Output {
    Command::new("strace")
        .args(["-qq", "-f", "-o"])
        .arg(bed.at("strace.log"))
        .args(options)
        .arg(program(TOOL))
        .arg("extract")
        .args([bed.at("x.run"), bed.at("at/out")])
        .stdin(Stdio::null())
        .output()
        .expect("strace is needed: install strace")
}

/// How often a run that succeeds makes each call.
fn calls(bed: &Bed) -> BTreeMap<String, usize> {
    let output = strace(bed, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(bed.at("at/out")).unwrap();
    testbed::strace::calls(&fs::read_to_string(bed.at("strace.log")).unwrap())
}

fn names(bed: &Bed) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(bed.at("at"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Calls that change something, and some that do not.
const CALLS: [&str; 12] = [
    "mkdirat",
    "openat2",
    "openat",
    "write",
    "fchmod",
    "utimensat",
    "symlinkat",
    "linkat",
    "syncfs",
    "renameat2",
    "fsync",
    "fstat",
];

#[test]
fn killed_at_any_call_it_leaves_all_or_nothing() {
    let (bed, tree) = small();
    let count = calls(&bed);
    let mut killed = 0;
    for name in CALLS {
        for nth in 1..=count.get(name).copied().unwrap_or(0) {
            let output = strace(&bed, &["-e", &format!("inject={name}:signal=KILL:when={nth}")]);
            let case = format!("{name} {nth}: {:?}", output.status);
            killed += usize::from(!output.status.success());
            if bed.at("at/out").exists() {
                assert_eq!(tree_of(&bed.at("at/out")), tree, "{case}");
                fs::remove_dir_all(bed.at("at/out")).unwrap();
            }
            let left = names(&bed);
            assert!(left.iter().all(|name| name.starts_with(".out.tmp.")), "{case}: {left:?}");
            assert!(left.len() <= 1, "{case}: what was left before is still there: {left:?}");
        }
    }
    assert!(killed > 60, "{killed} of {count:?}");
    // and the next run clears up
    strace(&bed, &["-e", "inject=fchmod:signal=KILL:when=3"]);
    assert_eq!(names(&bed).len(), 1);
    Tool::new(TOOL).args("extract").arg(bed.at("x.run")).arg(bed.at("at/out")).run().expect(0);
    assert_eq!(names(&bed), ["out"]);
    assert_eq!(tree_of(&bed.at("at/out")), tree);
}

#[test]
fn any_call_may_fail_and_nothing_is_left() {
    let (bed, tree) = small();
    let count = calls(&bed);
    let mut failed = 0;
    for (name, errno) in [
        ("mkdirat", "EROFS"),
        ("openat2", "ENOSPC"),
        ("openat2", "EMFILE"),
        ("openat", "EACCES"),
        ("write", "ENOSPC"),
        ("write", "EIO"),
        ("fchmod", "EIO"),
        ("utimensat", "EPERM"),
        ("symlinkat", "EDQUOT"),
        ("linkat", "EMLINK"),
        ("syncfs", "EIO"),
        ("renameat2", "EIO"),
        ("renameat2", "EEXIST"),
        ("fsync", "EIO"),
    ] {
        let times = count.get(name).copied().unwrap_or(0);
        assert!(times > 0, "{name} is not used any more: {count:?}");
        for nth in 1..=times {
            let output = strace(&bed, &["-e", &format!("inject={name}:error={errno}:when={nth}")]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let case = format!("{name} {nth} {errno}: {:?} {stderr}", output.status);
            let there = bed.at("at/out").exists();
            match output.status.code() {
                // the loader's own openat, or a failed message
                Some(0 | 127) => {}
                Some(2..=4) => failed += 1,
                _ => panic!("{case}"),
            }
            assert!(output.status.code() != Some(0) || there, "{case}");
            if there {
                // only what comes after the rename may fail then
                assert_eq!(tree_of(&bed.at("at/out")), tree, "{case}");
                assert!(output.status.success() || matches!(name, "fsync" | "write"), "{case}");
                fs::remove_dir_all(bed.at("at/out")).unwrap();
            }
            assert!(names(&bed).is_empty(), "{case}: {:?}", names(&bed));
        }
    }
    assert!(failed > 60, "{failed}");
}

#[test]
fn a_signal_before_the_rename_undoes_everything() {
    let (bed, tree) = small();
    for signal in ["TERM", "INT", "HUP"] {
        for call in ["fchmod:signal=@:when=2", "write:signal=@:when=5", "utimensat:signal=@:when=1"]
        {
            let inject = format!("inject={}", call.replace('@', signal));
            let output = strace(&bed, &["-e", &inject]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{inject}: {stderr}");
            assert!(stderr.contains("interrupted; nothing was unpacked"), "{stderr}");
            let stdout = String::from_utf8(output.stdout).unwrap();
            let records: Vec<_> = stdout.lines().map(testbed::schema::check_line).collect();
            assert_eq!(records[0]["status"], "rolled-back");
            assert!(names(&bed).is_empty(), "{inject}: {:?}", names(&bed));
        }
        let output = strace(&bed, &["-e", &format!("inject=renameat2:signal={signal}:when=1")]);
        assert!(output.status.success());
        assert_eq!(tree_of(&bed.at("at/out")), tree);
        fs::remove_dir_all(bed.at("at/out")).unwrap();
    }
}

/// A file system of one MiB, unmounted with its owner.
struct Tiny<'a>(&'a Bed);

impl Tiny<'_> {
    fn mount(bed: &Bed) -> Tiny<'_> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(bed.at("at"))
            .status()
            .expect("mount");
        assert!(mounted.success(), "these tests run as root");
        Tiny(bed)
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.at("at")).status();
    }
}

#[test]
fn a_full_disk_is_told_and_left_as_it_was() {
    let (bed, _) = small();
    bed.write("tree/firmware", vec![7u8; 3 << 20]);
    bed.write("x.run", NvidiaRun::new("550.163.01", Pack::Zstd).of_dir(&bed.at("tree")));
    let tiny = Tiny::mount(&bed);
    let ran = Tool::new(TOOL).args("extract").arg(bed.at("x.run")).arg(bed.at("at/out")).run();
    let ran = ran.expect(3).one_line("no space left on device");
    assert!(ran.stderr.contains("free space; it needs 3 MB"), "{}", ran.stderr);
    assert_eq!(ran.records[0]["status"], "rolled-back");
    assert!(names(&bed).is_empty());
    drop(tiny);
}

#[test]
fn two_at_once_make_one_directory() {
    let (bed, tree) = small();
    for _ in 0..10 {
        let run = || {
            Command::new(program(TOOL))
                .arg("extract")
                .args([bed.at("x.run"), bed.at("at/out")])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        };
        let codes: Vec<_> =
            [run(), run(), run()].map(|mut child| child.wait().unwrap().code().unwrap()).into();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        assert!(codes.iter().all(|code| matches!(code, 0 | 3 | 4)), "{codes:?}");
        assert_eq!(tree_of(&bed.at("at/out")), tree);
        assert_eq!(names(&bed), ["out"]);
        fs::remove_dir_all(bed.at("at/out")).unwrap();
    }
}

#[test]
fn memory_stays_small_whatever_the_size() {
    let bed = Bed::empty();
    // 200 MB that compress to nothing: all buffers are in use
    bed.write("tree/zeros", vec![0u8; 200 << 20]);
    for pack in [Pack::Zstd, Pack::Gzip, Pack::Xz, Pack::None] {
        bed.write("x.run", NvidiaRun::new("550.163.01", pack).of_dir(&bed.at("tree")));
        let start = Instant::now();
        let mut child = Command::new(program(TOOL))
            .arg("extract")
            .args([bed.at("x.run"), bed.at("out")])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let line = status.unwrap_or_default();
            let line =
                line.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::to_string);
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            peak = peak.max(kilobytes.unwrap_or(0));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success());
        assert!(peak > 1000 && peak < 64 << 10, "{pack:?}: {peak} KiB in {:?}", start.elapsed());
        fs::remove_dir_all(bed.at("out")).unwrap();
    }
}
