//! Hostile root file systems: nothing outside of them is opened, nothing hangs,
//! nothing crashes, and the others are checked.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Host, TOOL, V, advice, check, text};
use testbed::bed::program;
use testbed::driver::{LIB, RootFs};
use testbed::{Bed, Ran, Tool};

/// Every trap in one root file system.
fn traps(root: &RootFs) {
    // loops, links to the host's own files, magic links of /proc
    root.link(&format!("{LIB}/libcuda.so.1"), "libcuda.so.1");
    root.link("/usr/lib64/libcuda.so.1", "../../../../../../../../../../etc/shadow");
    root.link("/usr/lib64/libnvidia-ml.so.1", "/proc/1/root/etc/shadow");
    root.link("/lib64", "/proc/self/root/usr/lib64");
    root.link("/etc/ld.so.cache", "/proc/self/environ");
    root.link("/etc/cdi/nvidia.yaml", "/../../../../etc/passwd");
    root.link("/var/lib/nvidia/log", "/proc/self/cwd/Cargo.toml");
    // ten gigabytes of nothing
    let giant = root.at(&format!("{LIB}/libnvidia-ml.so.550.163.01"));
    fs::create_dir_all(giant.parent().unwrap()).unwrap();
    fs::File::create(giant).unwrap().set_len(10 << 30).unwrap();
    let sparse = root.at("/usr/local/cuda-12.4/version.json");
    fs::create_dir_all(sparse.parent().unwrap()).unwrap();
    fs::File::create(sparse).unwrap().set_len(10 << 30).unwrap();
    // what blocks, and what has side effects when opened
    special(root, "/usr/local/cuda-12.4/version.txt", "p");
    special(root, "/usr/local/cuda-12.4/compat/libcuda.so.570.1.2", "p");
    special(root, "/etc/nvidia-container-runtime/config.toml", "p");
    special(root, "/usr/bin/dockerd", "p");
    special(root, "/usr/lib/libnvidia-ml.so.1", "c 1 9");
    special(root, "/etc/cdi/device.json", "c 5 0");
    // what only root may read, and root is mapped away in a container
    root.file("/usr/lib/nvidia-390/libcuda.so.390.157", "x");
    fs::set_permissions(root.at("/usr/lib/nvidia-390"), fs::Permissions::from_mode(0o000)).unwrap();
    // names that steer terminals
    root.file(&format!("{LIB}/nvidia/\u{1b}[31m/libcuda.so.1.1"), "x");
}

fn special(root: &RootFs, path: &str, what: &str) {
    let at = root.at(path);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let status = Command::new("mknod").arg(at).args(what.split(' ')).status().unwrap();
    assert!(status.success(), "mknod {path} {what}: the tests run as root");
}

fn rootfs_tool(dirs: &[&Path], args: &str) -> Tool {
    let tool = Tool::new(TOOL).args(args);
    dirs.iter().fold(tool, |tool, dir| tool.arg("--rootfs").arg(dir))
}

#[test]
fn a_trapped_root_file_system_neither_hangs_nor_crashes_nor_reveals_the_host() {
    let bed = Bed::empty();
    let root = RootFs::new(bed.at("/trapped"));
    traps(&root);
    let good = RootFs::new(bed.at("/good"));
    good.debian(V).ldconfig();
    let start = Instant::now();
    let ran = rootfs_tool(&[root.path(), good.path()], "--cuda").run();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(ran.code() == 0 || ran.code() == 3, "{}\n{}", ran.code(), ran.stderr);
    assert!(
        !ran.stdout.contains("root:") && !ran.stdout.contains("\\u001b[31m/"),
        "{}",
        ran.stdout
    );
    let subject = format!("rootfs {}", good.path().display());
    assert_eq!(check(&ran, &subject, "userspace")["actual"], V);
    let trapped = format!("rootfs {}", root.path().display());
    let found: Vec<_> = ran.of_type("check").filter(|r| r["subject"] == trapped.as_str()).collect();
    assert!(!found.is_empty(), "{}", ran.stdout);
}

#[test]
fn an_unreadable_directory_is_unknown_and_not_empty() {
    let bed = Bed::empty();
    let root = RootFs::new(bed.at("/closed"));
    root.debian(V);
    fs::set_permissions(root.at(LIB), fs::Permissions::from_mode(0o000)).unwrap();
    // root reads everything: somebody else looks, with a tool that he may reach
    let tool = bed.at("/tool");
    fs::copy(program(TOOL), &tool).unwrap();
    let prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(OsStr::new);
    let ran = Tool::through(&prefix, &tool).arg("--rootfs").arg(root.path()).run().expect(3);
    let closed = check(&ran, &format!("rootfs {}", root.path().display()), "userspace");
    assert_eq!(closed["status"], "unknown");
    assert!(text(&closed["reason"]).contains("permission denied"), "{closed}");
}

#[test]
fn strace_sees_no_file_opened_outside() {
    let bed = Bed::empty();
    let root = RootFs::new(bed.at("/trapped"));
    traps(&root);
    let log = bed.at("/strace");
    let output = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=open,openat,openat2,execve,execveat", "-o"])
        .arg(&log)
        .arg(program(TOOL))
        .args(["--cuda", "--rootfs"])
        .arg(root.path())
        .output()
        .expect("strace is needed: install strace");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    let log = fs::read_to_string(log).unwrap();
    let inside = root.path().display().to_string();
    let mut below = 0;
    for line in log.lines() {
        assert!(!line.contains("execve") || line.contains(TOOL), "it ran something: {line}");
        // what was opened, as the kernel names it: "= 7</path>"
        let Some(opened) = line.rsplit_once("= ").and_then(|(_, end)| end.split_once('<')) else {
            continue;
        };
        let opened = opened.1.trim_end_matches(['>', '\n']);
        // asked for below the root: the directory is that of the first argument
        let asked_below = line.contains(&format!("<{inside}"));
        if !line.contains("openat2(") {
            continue;
        }
        assert!(line.contains("RESOLVE_IN_ROOT") && asked_below, "{line}");
        assert!(opened.starts_with(&inside), "led out of the root: {line}");
        below += 1;
    }
    assert!(below > 20, "only {below} files were opened below it:\n{log}");
    // the host's secrets are not opened, and neither is a device or a FIFO: O_PATH only looks
    let mut looked = 0;
    for line in log.lines().filter(|l| !l.contains("= -1")) {
        assert!(!line.contains("</etc/shadow>"), "{line}");
        let end = line.rsplit_once("= ").map_or("", |(_, end)| end);
        if ["<char ", "device.json", "version.txt", "config.toml"].iter().any(|s| end.contains(s)) {
            assert!(line.contains("O_PATH"), "{line}");
            looked += 1;
        }
    }
    assert!(looked >= 3, "the traps were not looked at:\n{log}");
}

#[test]
fn a_tree_that_changes_while_it_is_read_is_one_of_its_states() {
    let bed = Bed::empty();
    let root = RootFs::new(bed.at("/moving"));
    root.run_install(LIB, V).run_install("/usr/lib64", "535.247.01").ldconfig();
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, moving) = (stop.clone(), root.clone());
    let mover = std::thread::spawn(move || {
        let cache = fs::read(moving.at("/etc/ld.so.cache")).unwrap();
        let mut turn = 0usize;
        while !flag.load(Ordering::Relaxed) {
            turn += 1;
            // half a cache, then a whole one; a directory that is a link and back
            moving.file("/etc/ld.so.cache", &cache[..turn * 37 % cache.len()]);
            let link = moving.at("/usr/lib64/next");
            let _ = fs::remove_file(&link);
            symlink(["libcuda.so.535.247.01", "/etc/passwd"][turn % 2], &link).unwrap();
            fs::rename(link, moving.at("/usr/lib64/libcuda.so.1")).unwrap();
            moving.file("/etc/ld.so.cache", &cache);
        }
    });
    for _ in 0..50 {
        let ran = rootfs_tool(&[root.path()], "--pin 550.163.01").run();
        assert!((0..=3).contains(&ran.code()), "{}", ran.stderr);
        for record in ran.of_type("check").filter(|r| text(&r["subject"]).starts_with("rootfs")) {
            let actual = text(&record["actual"]);
            assert!(["", V, "535.247.01"].contains(&actual.as_str()), "{record}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    mover.join().unwrap();
}

/// A FUSE file system that never answers: who reads it blocks.
struct Silent {
    at: CString,
    _device: fs::File,
}

impl Silent {
    fn mount(at: &Path) -> Silent {
        fs::create_dir_all(at).unwrap();
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let (source, data) = (CString::new("silent").unwrap(), CString::new(data).unwrap());
        let kind = CString::new("fuse").unwrap();
        let at = CString::new(at.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: all arguments are zero-terminated strings that outlive the call.
        let failed = unsafe {
            libc::mount(source.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, data.as_ptr().cast())
        };
        assert_eq!(failed, 0, "mount: {}", std::io::Error::last_os_error());
        Silent { at, _device: device }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // SAFETY: a zero-terminated string.
        unsafe { libc::umount2(self.at.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn a_container_that_blocks_is_given_up_and_the_others_are_not() {
    let host = Host::debian();
    let conf = host.bed.read("/etc/pve/nodes/pve1/lxc/904.conf");
    for ctid in 1001..=1030 {
        host.bed.write(
            &format!("/etc/pve/nodes/pve1/lxc/{ctid}.conf"),
            format!("dev0: /dev/nvidia0\n{conf}").replace("904", &ctid.to_string()),
        );
        if ctid != 1007 {
            host.running(ctid).debian(V);
        }
    }
    let silent = host.running(1007);
    fs::remove_dir_all(silent.path()).unwrap();
    let mount = Silent::mount(silent.path());
    let start = Instant::now();
    let ran: Ran = host.run("--all-cts");
    let took = start.elapsed();
    drop(mount);
    assert!(took < Duration::from_secs(15), "{took:?}");
    let ran = ran.expect(3);
    let stuck = check(&ran, "ct 1007", "userspace");
    assert_eq!(stuck["status"], "unknown");
    assert!(text(&stuck["reason"]).contains("given up"), "{stuck}");
    for ctid in (1001..=1030).filter(|ctid| *ctid != 1007) {
        assert_eq!(check(&ran, &format!("ct {ctid}"), "userspace")["actual"], V, "{ctid}");
    }
}

#[test]
fn a_missing_root_is_reported_and_exits_with_3() {
    let bed = Bed::empty();
    let good = RootFs::new(bed.at("/good"));
    good.debian(V).ldconfig();
    let missing = bed.at("/none");
    let ran = rootfs_tool(&[&missing, good.path()], "").run().expect(3);
    assert_eq!(
        check(&ran, &format!("rootfs {}", missing.display()), "userspace")["status"],
        "unknown"
    );
    assert_eq!(check(&ran, &format!("rootfs {}", good.path().display()), "userspace")["actual"], V);
}

#[test]
fn a_container_cannot_put_words_into_a_hint_nor_fail_every_run() {
    let host = Host::debian();
    let root = host.running(901);
    root.debian(V);
    root.file("/etc/cdi/x;reboot;.yaml", "# nvidia\n- hostPath: /l/libcuda.so.535.247.01\n");
    let ran = host.run("--ct 901").expect(1);
    let stale = check(&ran, "ct 901", "cdi /etc/cdi/x;reboot;.yaml");
    assert_eq!(advice(stale), "pct exec 901 -- nvidia-ctk cdi generate");
    // one without a GPU, full of traps
    let host = Host::debian();
    traps(&host.running(904));
    host.run("--all-cts").expect(0);
}
