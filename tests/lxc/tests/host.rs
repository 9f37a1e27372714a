//! The host is the recorded machine to what runs on it, and nothing of it is
//! left on the real one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lxcbed::{Host, OpenOutcome};
use testbed::Bed;

const HOST: &str = "pve9-two-gpus";

#[test]
fn a_tool_without_root_sees_what_it_sees_in_the_recorded_tree() {
    let host = Host::new(HOST);
    let bed = Bed::new(HOST);
    let inside = host.tool("gpu-iommu-groups").run().expect(0);
    let outside = bed.tool("gpu-iommu-groups").run().expect(0);
    assert!(!inside.records.is_empty());
    // one is told of the driver that it may not ask about below --root
    for key in ["address", "group", "vendor", "device", "driver"] {
        assert_eq!(inside.values("pci-device", key), outside.values("pci-device", key), "{key}");
    }
    for args in ["show 902", "show 901", "add 904 -g 0 --dry-run"] {
        let inside = host.tool("lxc-gpu-conf").args(args).run().expect(0);
        let outside = bed.tool("lxc-gpu-conf").args(args).run().expect(0);
        assert_eq!(inside.records, outside.records, "lxc-gpu-conf {args}");
    }
    assert_eq!(host.run("hostname").expect(0).stdout, "pve1\n");
}

#[test]
fn a_container_sees_the_drivers_of_the_recorded_machine() {
    let host = Host::new(HOST);
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create(ctid, unprivileged);
        container.start();
        for path in ["/proc/driver/nvidia/version", "/proc/devices"] {
            let seen = container.exec(&["cat", path]).expect(0).stdout;
            assert_eq!(seen, host.bed().read(path), "{path}");
        }
    }
}

#[test]
fn a_machine_that_is_no_proxmox_host_works_too() {
    let host = Host::new("desktop-one-group");
    let ran = host.tool("gpu-iommu-groups").run().expect(0);
    assert!(!ran.records.is_empty());
}

#[test]
fn its_nodes_are_real_and_those_that_were_dropped_are_not_there() {
    let bed = Bed::new(HOST);
    bed.drop_node("/dev/nvidia1");
    bed.add_nodes("c /dev/nvidia-caps/nvidia-cap30 236:30 0444 0:0\n");
    let host = Host::of(bed);
    let ran = host.run("cd /dev && stat -c '%F %t:%T %a %u:%g' nvidia-caps/nvidia-cap30 nvidia0");
    let expected = "character special file ec:1e 444 0:0\ncharacter special file c3:0 666 0:0\n";
    assert_eq!(ran.expect(0).stdout, expected);
    assert!(!host.at("/dev/nvidia1").exists());
}

#[test]
fn a_directory_that_is_no_machine_is_refused_before_anything_is_written_to_it() {
    let bed = Bed::empty();
    let ran = Command::new(testbed::bed::program("lxcbed"))
        .args(["hold".as_ref(), bed.path()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(125));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("is no recorded machine"), "{said}");
    assert_eq!(bed.contents().len(), 1, "the directory itself");
}

#[test]
fn nothing_that_is_written_on_it_reaches_the_real_machine() {
    let host = Host::new(HOST);
    let paths =
        ["/etc/lxcbed-x", "/usr/lxcbed-x", "/var/lxcbed-x", "/run/lxcbed-x", "/dev/lxcbed-x"];
    host.run(&format!("touch {}", paths.join(" "))).expect(0);
    for path in paths {
        assert!(host.at(path).exists() && !Path::new(path).exists(), "{path}");
    }
    let container = host.create(950, false);
    container.start();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("/var/lib/lxc") && !mounts.contains(".host"), "{mounts}");
    assert!(!Path::new("/etc/pve/lxc/950.conf").exists());
}

#[test]
fn a_host_takes_its_containers_and_control_groups_with_it() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.start();
    let (group, pid) = (host.cgroup().to_string(), host.pid().to_string());
    let groups = || {
        let trees = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        trees.iter().any(|tree| tree.join(&group).exists())
    };
    let bed = host.bed().path().to_path_buf();
    assert!(groups() && bed.exists());
    drop(host);
    assert!(!groups(), "{group} is still there");
    assert!(!Path::new("/proc").join(pid).exists());
    assert!(!bed.exists());
}

#[test]
fn a_holder_that_is_killed_takes_the_processes_along() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.start();
    let init = Path::new("/proc").join(host.pid());
    assert!(init.exists());
    host.kill();
    for _ in 0..200 {
        if !init.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the host's first process outlived its holder");
}

#[test]
fn hosts_do_not_see_each_others_containers() {
    let (one, two) = (Host::new(HOST), Host::new(HOST));
    let (a, b) = (one.create(950, true), two.create(950, true));
    a.start();
    assert!(!b.running());
    b.append("dev0: /dev/nvidia1\n");
    b.start();
    assert_eq!(a.open("/dev/nvidia1"), OpenOutcome::Missing);
    b.stop();
    assert!(a.running());
}

#[test]
fn a_tool_that_ends_by_a_signal_is_seen_to() {
    let host = Host::new(HOST);
    let ran = host.run("kill -TERM $$");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ran.status), Some(15));
}
