//! Other users of the host, and containers, against what root does with nv-runfile.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use lxcbed::{Host, VOLUMES};
use serde_json::json;
use testbed::Bed;
use testbed::runfile::{NvidiaRun, Pack, driver_tree};

/// Of a branch that no kernel of a test machine is too new for.
const VERSION: &str = "580.126.20";
/// A user of the host who is not root.
const OTHER: u32 = 1000;

/// NVIDIA's installer, for what is asked here: it says that it ran, may take long, and
/// records the version as nvidia-installer's backup.c does.
const STAND_IN: &str = r#"#!/bin/sh
# unpacked where it was called
trap 'rm -rf "$PWD"' EXIT
echo @WHO@ >>/run/ran
[ ! -e /run/slow ] || { echo $$ >/run/slow-pid; sleep 600; }
mkdir -p /var/lib/nvidia && echo '1.0-58012620 (580.126.20)' >/var/lib/nvidia/log
"#;

fn installer(who: &str) -> Vec<u8> {
    let dir = Bed::empty();
    let tree = dir.at("tree");
    driver_tree(&tree, VERSION);
    fs::write(tree.join("nvidia-installer"), STAND_IN.replace("@WHO@", who)).unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tree.join("nvidia-installer"), mode).unwrap();
    let mut run = NvidiaRun::new(VERSION, Pack::Gzip);
    // of the version's own, which accepts a driver that is running
    run.options = Vec::new();
    fs::read(run.write(&tree, dir.path())).unwrap()
}

/// A host on which `install --host` finds nothing in its way.
fn ready() -> Host {
    let bed = Bed::new("pve9-two-gpus");
    let recorded = fs::read_to_string(bed.at("/proc/sys/kernel/osrelease"))
        .or_else(|_| fs::read_to_string("/proc/sys/kernel/osrelease"));
    let release = recorded.unwrap().trim().to_string();
    for file in ["Makefile", "include/linux/kernel.h", "include/linux/version.h"] {
        bed.write(&format!("/usr/src/proxmox-headers-{release}/{file}"), "");
    }
    bed.write("/usr/include/stdlib.h", "");
    for program in ["cc", "make", "dkms"] {
        let path = format!("/usr/bin/{program}");
        bed.write(&path, "#!/bin/sh\nexit 0\n");
        fs::set_permissions(bed.at(&path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    bed.write("/var/lib/dpkg/status", "");
    let _ = fs::remove_dir_all(bed.at("/var/lib/dkms"));
    Host::of(bed)
}

/// Waits until a file is opened (inotify(7)).
fn wait_for_open(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: plain system calls on a path and a buffer of this function.
    unsafe {
        let fd = libc::inotify_init1(libc::IN_CLOEXEC);
        assert!(libc::inotify_add_watch(fd, name.as_ptr(), libc::IN_OPEN) >= 0);
        let mut buffer = [0u8; 4096];
        assert!(libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) > 0);
        libc::close(fd);
    }
}

/// `install --host --sha256 PIN FILE`: the owner of FILE's directory renames another file
/// over it once it was opened. The installer that ran as root was his.
#[test]
fn the_installer_that_runs_is_the_one_that_was_verified() {
    let host = ready();
    let (good, evil) = (installer("good"), installer("evil"));
    let dir = "/srv/of-another";
    host.write(&format!("{dir}/x.run"), &good);
    host.write(&format!("{dir}/evil.run"), &evil);
    for path in ["", "/x.run", "/evil.run"] {
        chown(host.at(&format!("{dir}{path}")), Some(OTHER), Some(OTHER)).unwrap();
    }
    let digest = host.run(&format!("sha256sum {dir}/x.run")).expect(0).stdout;
    let pin = digest.split(' ').next().unwrap();
    let (from, to) = (host.at(&format!("{dir}/evil.run")), host.at(&format!("{dir}/x.run")));
    let ran = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            wait_for_open(&to);
            fs::rename(&from, &to).unwrap();
        });
        let ran =
            host.run(&format!("cd /run && nv-runfile install --host --sha256 {pin} {dir}/x.run"));
        attacker.join().unwrap();
        ran
    });
    let ran_as = fs::read_to_string(host.at("/run/ran")).unwrap_or_default();
    assert!(ran_as.is_empty() || ran_as == "good\n", "{ran_as}: {ran:?}");
    // what others can change is named, and nothing of the copy is left
    assert!(ran.stderr.contains(dir), "{}", ran.stderr);
    let left = fs::read_dir(host.at("/var/cache/pve-gpu-tools/verified"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
    // without the attack the same command runs the copy of it
    host.write(&format!("{dir}/x.run"), &good);
    chown(host.at(&format!("{dir}/x.run")), Some(OTHER), Some(OTHER)).unwrap();
    let ran = host.run(&format!("cd /run && nv-runfile install --host --sha256 {pin} {dir}/x.run"));
    assert!(ran.stdout.contains("/var/cache/pve-gpu-tools/verified/copy."), "{ran:?}");
    assert_eq!(fs::read_to_string(host.at("/run/ran")).unwrap().lines().last(), Some("good"));
}

/// INT and TERM were ignored while the installer ran; killing the tool left it running.
#[test]
fn the_installer_ends_with_the_tool() {
    for signal in ["TERM", "KILL"] {
        let host = ready();
        host.write("/root/x.run", installer("slow"));
        host.write("/run/slow", "");
        let command = format!(
            "cd /run; nv-runfile install --host /root/x.run >/run/said 2>&1 & tool=$!\n\
             for i in $(seq 300); do [ -s /run/slow-pid ] && break; sleep 0.1; done\n\
             kill -{signal} $tool; wait $tool; echo $?"
        );
        let start = Instant::now();
        let ran = host.run(&command);
        let pid = host.read("/run/slow-pid");
        assert!(start.elapsed() < Duration::from_secs(60), "{ran:?}");
        let gone = || !host.run(&format!("kill -0 {}", pid.trim())).status.success();
        let ended = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            gone()
        });
        assert!(ended, "{signal}: the installer runs on: {}", host.read("/run/said"));
        if signal == "TERM" {
            assert_eq!(ran.stdout.trim(), "3", "{}", host.read("/run/said"));
            assert!(host.read("/run/said").contains("ended by a signal"));
        }
    }
}

/// A forged receipt, and a forged intent of a run that did not end, name files of the host
/// behind a bind mount: they were deleted, renamed, made and given away.
#[test]
fn nothing_behind_a_mount_point_of_a_stopped_container_is_changed() {
    let host = Host::new("pve9-two-gpus");
    let container = host.create_debian(950, true);
    let data = "/srv/data";
    let names = ["libcuda.so.1", ".libx.so.1.nv-runfile-old"];
    for name in names {
        host.write(&format!("{data}/{name}"), "host\n");
    }
    // as `pct mount` mounts every mount point (pve-container, LXC.pm, mount_all)
    let inside = "/usr/local/lib";
    fs::create_dir_all(container.at(inside)).unwrap();
    host.run(&format!("mount --bind {data} {VOLUMES}/950{inside}")).expect(0);
    let path = format!("{inside}/libcuda.so.1");
    let sum = host.run(&format!("sha256sum {data}/libcuda.so.1")).expect(0).stdout;
    let entry = json!({"path": path, "kind": "file", "size": 5, "mode": 0o644,
        "sha256": sum.split(' ').next().unwrap()});
    let dir = "/var/lib/pve-gpu-tools";
    let receipt = json!({"format": 1, "run": "x", "version": VERSION, "sets": ["compute"],
        "installer": "0", "entries": [entry], "dirs": [inside]});
    let intent = json!({"format": 1, "run": "y", "placing": true, "paths": [path],
        "make": [entry], "displace": [format!("{inside}/libx.so.1"), path],
        "dirs": [format!("{inside}/nvidia")], "drop_dirs": [inside], "to": null});
    let before = look(&host, data);
    for forged in [&receipt, &intent] {
        fs::create_dir_all(container.at(dir)).unwrap();
        let name = if forged == &receipt { "nv-runfile.json" } else { "nv-runfile.next.json" };
        let at = container.at(&format!("{dir}/{name}"));
        fs::write(&at, forged.to_string()).unwrap();
        for at in [container.at(dir), at] {
            chown(at, Some(100_000), Some(100_000)).unwrap();
        }
        let ran = host.tool("nv-runfile").args("uninstall --ct 950 --force").run();
        assert!([0, 3, 4].contains(&ran.code()), "{ran:?}");
        assert_eq!(look(&host, data), before, "{name}: {ran:?}");
    }
}

/// What a directory of the host has: names, content, owners and modes.
fn look(host: &Host, dir: &str) -> Vec<(String, String, u32, u32)> {
    let entries = fs::read_dir(host.at(dir)).unwrap().flatten();
    let mut all: Vec<_> = entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            (entry.file_name().into_string().unwrap(), text, meta.uid(), meta.mode())
        })
        .collect();
    all.sort();
    all
}

/// A directory of the host's, shared with a container, is where the container's first
/// process says that its root is.
#[test]
fn a_containers_files_are_made_with_the_containers_rights() {
    let host = Host::new("pve9-two-gpus");
    let container = host.create_debian(950, true);
    // a directory in it that belongs to the host's root, as a bind mount of the host's does
    let lib = container.at("/usr/lib/x86_64-linux-gnu");
    chown(&lib, Some(0), Some(0)).unwrap();
    fs::set_permissions(&lib, fs::Permissions::from_mode(0o755)).unwrap();
    let before: Vec<_> = fs::read_dir(&lib).unwrap().flatten().map(|e| e.file_name()).collect();
    host.write("/root/x.run", installer("x"));
    let ran = host.tool("nv-runfile").args("install /root/x.run --ct 950 --force").run().expect(3);
    assert!(ran.stderr.contains("ermission denied"), "{}", ran.stderr);
    let after: Vec<_> = fs::read_dir(&lib).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(after, before);
    assert!(!container.at("/usr/bin/nvidia-smi").exists());
}
