//! What tests do to recorded hosts behind the tool's back.

#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;
use testbed::{Bed, Ran};

pub const TOOL: &str = "lxc-gpu-conf";
pub const HOST: &str = "pve9-two-gpus";
pub const A100: &str = "a100-mig";

/// An unprivileged container that has all it needs.
pub const GOOD: &str = "arch: amd64\ndev0: /dev/nvidia0,mode=0666\ndev1: /dev/nvidiactl,mode=0666\n\
    dev2: /dev/nvidia-uvm,mode=0666\nostype: debian\nrootfs: tank:subvol-910-disk-0\nunprivileged: 1\n";

/// A privileged one, made by hand, that has too.
pub const BY_HAND: &str = "arch: amd64\nostype: debian\n\
    lxc.cgroup2.devices.allow: c 195:* rwm\nlxc.cgroup2.devices.allow: c 511:* rwm\n\
    lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n\
    lxc.mount.entry: /dev/nvidiactl dev/nvidiactl none bind,optional,create=file\n\
    lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n";

/// The same with the two rules that this tool writes for nvidia-uvm.
pub const OWN_PAIR: &str = "arch: amd64\nostype: debian\n\
    lxc.cgroup2.devices.allow: c 195:* rwm\nlxc.cgroup2.devices.allow: c 511:0 rw\n\
    lxc.cgroup2.devices.allow: c 511:1 rw\n\
    lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n\
    lxc.mount.entry: /dev/nvidiactl dev/nvidiactl none bind,optional,create=file\n\
    lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n";

pub const PID: u32 = 4242;

pub fn conf(ctid: u32) -> String {
    format!("/etc/pve/lxc/{ctid}.conf")
}

/// The host with container 910.
pub fn host(text: &str) -> Bed {
    let bed = Bed::new(HOST);
    bed.write(&conf(910), text);
    bed
}

pub fn run(bed: &Bed, args: &str) -> Ran {
    bed.tool(TOOL).args(args).run()
}

/// Names of what `check` finds, and its exit fits.
pub fn causes(bed: &Bed, ctid: u32) -> BTreeSet<String> {
    let ran = run(bed, &format!("check {ctid}"));
    let found: BTreeSet<String> = ran
        .of_type("check")
        .filter(|check| check["status"] == "drift")
        .map(|check| check["cause"].as_str().unwrap().to_string())
        .collect();
    ran.expect(i32::from(!found.is_empty()));
    found
}

/// The commands of a record, as they are typed.
pub fn commands(record: &Value) -> Vec<String> {
    let words = |command: &Value| -> Vec<String> {
        command.as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_string()).collect()
    };
    let commands = record["commands"].as_array().map(Vec::as_slice).unwrap_or_default();
    commands.iter().map(|command| record::shell_words(&words(command))).collect()
}

pub fn none() -> BTreeSet<String> {
    BTreeSet::new()
}

/// The driver numbers a card anew.
pub fn set_minor(bed: &Bed, address: &str, minor: u32) {
    let path = format!("/proc/driver/nvidia/gpus/0000:{address}/information");
    let text = bed.read(&path);
    let lines = text.lines().map(|line| match line.starts_with("Device Minor:") {
        true => format!("Device Minor: \t {minor}\n"),
        false => format!("{line}\n"),
    });
    bed.write(&path, lines.collect::<String>());
}

/// The two cards of the host change places.
pub fn swap_cards(bed: &Bed) {
    set_minor(bed, "2b:00.0", 1);
    set_minor(bed, "2c:00.0", 0);
}

/// A card leaves: its driver knows it no longer, and it is not on the bus.
pub fn pull_card(bed: &Bed, address: &str) {
    fs::remove_dir_all(bed.at(&format!("/proc/driver/nvidia/gpus/0000:{address}"))).unwrap();
    fs::remove_file(bed.at(&format!("/sys/bus/pci/devices/0000:{address}"))).unwrap();
}

/// After a reboot nvidia-uvm has another major; its nodes are of before.
pub fn set_uvm_major(bed: &Bed, major: u32) {
    let devices = bed.read("/proc/devices");
    let line = devices.lines().find(|line| line.ends_with(" nvidia-uvm")).unwrap();
    bed.write("/proc/devices", devices.replace(line, &format!("{major} nvidia-uvm")));
}

/// The host's driver is of another version.
pub fn set_module(bed: &Bed, version: &str) {
    bed.write("/sys/module/nvidia/version", format!("{version}\n"));
}

/// A shared library with the name that programs ask for, as the driver's have.
fn library(stem: &str) -> Vec<u8> {
    static MADE: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    let make = || {
        let bed = Bed::empty();
        let to = bed.at("/library.so");
        let soname = format!("-Wl,-soname,{stem}.so.1");
        let done = Command::new("cc")
            .args(["-shared", "-nostdlib", &soname, "-x", "c", "/dev/null", "-o"])
            .arg(&to)
            .status();
        assert!(done.expect("cc is needed: install gcc").success());
        fs::read(to).unwrap()
    };
    made.entry(stem.to_string()).or_insert_with(make).clone()
}

/// Puts the userspace of a version where Debian's packages have it: under
/// /usr/lib/TRIPLET/nvidia/current, with absolute links through /etc/alternatives.
pub fn install_userspace(bed: &Bed, version: &str) {
    const DIR: &str = "/usr/lib/x86_64-linux-gnu";
    let current = format!("{DIR}/nvidia/current");
    for stem in ["libnvidia-ml", "libcuda", "libnvidia-ptxjitcompiler", "libnvidia-encode"] {
        bed.write(&format!("{current}/{stem}.so.{version}"), library(stem));
        let _ = fs::remove_file(bed.at(&format!("{current}/{stem}.so.1")));
        bed.link(&format!("{current}/{stem}.so.1"), &format!("{stem}.so.{version}"));
        if !bed.at(&format!("{DIR}/{stem}.so.1")).is_symlink() {
            bed.link(&format!("{DIR}/{stem}.so.1"), &format!("/etc/alternatives/{stem}.so.1"));
            bed.link(&format!("/etc/alternatives/{stem}.so.1"), &format!("{current}/{stem}.so.1"));
        }
    }
    bed.write("/usr/lib/nvidia/current/nvidia-smi", version);
    if !bed.at("/usr/bin/nvidia-smi").is_symlink() {
        bed.link("/usr/bin/nvidia-smi", "/etc/alternatives/nvidia-smi");
        bed.link("/etc/alternatives/nvidia-smi", "/usr/lib/nvidia/current/nvidia-smi");
    }
    // names that look alike and are none of the driver's
    for other in ["libcudart.so.12.0", "libnvidia-container.so.1.17.8", "libc.so.6"] {
        bed.write(&format!("{DIR}/{other}"), "not the driver's");
    }
}

/// Takes a version's files away again.
pub fn uninstall_userspace(bed: &Bed, version: &str) {
    let current = bed.at("/usr/lib/x86_64-linux-gnu/nvidia/current");
    for entry in fs::read_dir(current).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().ends_with(version) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Container 910's root file system on a storage that is a directory. Gives it.
pub fn root_file_system(bed: &Bed) -> String {
    bed.write("/etc/pve/storage.cfg", "zfspool: tank\n\tpool tank\n\tmountpoint /tank\n");
    let root = "/tank/subvol-910-disk-0".to_string();
    bed.write(&format!("{root}/etc/os-release"), "ID=debian\n");
    root
}

/// The container runs: control group, first process, and the nodes it has.
pub fn start(bed: &Bed, ctid: u32, nodes: &[(&str, u32, u32)]) {
    bed.write(&format!("/sys/fs/cgroup/lxc/{ctid}/ns/cgroup.procs"), format!("{PID}\n"));
    bed.write(&format!("/proc/{PID}/status"), format!("Name:\tsystemd\nNSpid:\t{PID}\t1\n"));
    let root = format!("/proc/{PID}/root");
    fs::create_dir_all(bed.at(&format!("{root}/dev"))).unwrap();
    for (name, major, minor) in nodes {
        make_node(&bed.at(&format!("{root}/dev/{name}")), *major, *minor);
    }
}

pub fn make_node(path: &Path, major: u32, minor: u32) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let device = makedev(major.into(), minor.into());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), device).expect("root, mknod(2)");
}

/// Numbers, mode and owner of a character device below a bed.
pub fn node(bed: &Bed, path: &str) -> Option<(u32, u32, u32, u32, u32)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let meta = fs::symlink_metadata(bed.at(path)).ok()?;
    meta.file_type().is_char_device().then(|| {
        let (major, minor) =
            (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
        (major as u32, minor as u32, meta.mode() & 0o7777, meta.uid(), meta.gid())
    })
}

pub fn state(ctid: u32) -> String {
    format!("/var/lib/pve-gpu-tools/lxc/{ctid}.json")
}

/// Lines that one text has and the other has not.
pub fn gone(before: &str, after: &str) -> Vec<String> {
    before.lines().filter(|line| !after.lines().any(|l| l == *line)).map(str::to_string).collect()
}

/// Statuses of all change records.
pub fn statuses(ran: &Ran) -> BTreeSet<String> {
    let text = |status: Value| status.as_str().unwrap().to_string();
    ran.values("change", "status").into_iter().map(text).collect()
}

pub fn only(status: &str) -> BTreeSet<String> {
    BTreeSet::from([status.to_string()])
}
