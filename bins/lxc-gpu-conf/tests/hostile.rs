//! Whatever a configuration says, only canonical NVIDIA nodes in /dev are made.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use common::*;
use testbed::Bed;

const SOURCES: [&str; 17] = [
    "/dev/null",
    "/dev/nvidia1",
    "/dev/nvidia99",
    "/dev/nvidia-caps",
    "/dev/nvidia-caps/nvidia-cap1",
    "/dev/nvidia-vgpuctl",
    "/dev/shm/nvidia0",
    "/dev/link/nvidia0",
    "/dev/../opt/missing",
    "/dev//nvidia-uvm",
    "/dev/./nvidiactl",
    "/etc/hostname",
    "/opt/empty",
    "/opt/fake",
    "/opt/missing",
    "/srv/gpu/nvidia-uvm",
    "/srv/gpu/nvidia0",
];

const TARGETS: [&str; 5] = [
    "dev/nvidia0",
    "dev/nvidiactl",
    "dev/nvidia-uvm",
    "dev/nvidia-modeset",
    "dev/nvidia-caps/nvidia-cap1",
];

/// Every path of the host with type, mode, owner, device number and content.
fn tree(bed: &Bed) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    for (path, content) in bed.contents() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let path = path.strip_prefix(bed.path()).unwrap().to_string_lossy().into_owned();
        let owner = (meta.uid(), meta.gid());
        let what = format!("{:o} {owner:?} {} {content}", meta.mode(), meta.rdev());
        tree.insert(format!("/{path}"), what);
    }
    tree
}

/// What hook, nodes and sync may write besides: the container's configuration,
/// the tool's memory, and locks.
fn is_allowed(path: &str) -> bool {
    let canonical = ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"]
        .into_iter()
        .chain(["nvidia-modeset"])
        .any(|name| path == format!("/dev/{name}"));
    canonical
        || path.ends_with("/lxc/910.conf")
        || path.starts_with("/var/lib/pve-gpu-tools")
        || path.starts_with("/run")
}

fn hostile_host() -> Bed {
    let bed = host(GOOD);
    for name in ["nvidia-uvm", "nvidia-modeset"] {
        bed.drop_node(&format!("/dev/{name}"));
    }
    let devices = bed.read("/proc/devices");
    bed.write(
        "/proc/devices",
        devices.replace("511 nvidia-uvm", "236 nvidia-caps\n511 nvidia-uvm"),
    );
    bed.write("/opt/fake", "mine");
    bed.write("/opt/empty", "");
    for dir in ["/srv/gpu", "/dev/shm", "/dev/nvidia-caps", "/var/lib/pve-gpu-tools", "/run/lock"] {
        fs::create_dir_all(bed.at(dir)).unwrap();
    }
    bed.link("/dev/link", "/opt");
    make_node(&bed.at("/dev/null"), 1, 3);
    make_node(&bed.at("/srv/gpu/nvidia0"), 195, 0);
    make_node(&bed.at("/srv/gpu/nvidia-uvm"), 509, 0);
    bed
}

#[test]
fn hook_nodes_and_sync_touch_no_path_that_is_not_a_canonical_node() {
    let bed = hostile_host();
    let before: BTreeMap<String, String> = tree(&bed);
    let mut configurations = 0;
    let rules = "lxc.cgroup2.devices.allow: c 195:* rwm\n";
    for source in SOURCES {
        let mounts = TARGETS.map(|target| {
            format!("{rules}lxc.mount.entry: {source} {target} none bind,optional,create=file\n")
        });
        let devs = [format!("dev0: {source}\n"), format!("dev0: {source}\ndev1: /dev/nvidia0\n")];
        for lines in mounts.iter().chain(&devs) {
            for head in ["arch: amd64\n", "arch: amd64\nunprivileged: 1\n"] {
                let text = format!("{head}{lines}");
                bed.write(&conf(910), &text);
                for verb in ["hook 910 pre-start", "sync 910"] {
                    run(&bed, verb);
                }
                configurations += 1;
            }
            run(&bed, "nodes");
            let after = tree(&bed);
            let paths = before.keys().chain(after.keys());
            let changed: Vec<&String> = paths
                .filter(|path| before.get(*path) != after.get(*path) && !is_allowed(path))
                .collect();
            assert!(changed.is_empty(), "{changed:?}\n{lines}");
        }
    }
    assert!(configurations > 200);
    assert!(node(&bed, "/dev/nvidia-uvm").is_some(), "its own node is made");
}
