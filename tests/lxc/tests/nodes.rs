//! `nodes` on a host whose /dev lost what the driver does not make itself, with
//! an nvidia-modprobe of several kinds.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lxcbed::{Host, OpenOutcome};
use testbed::{Bed, Ran};

const HOST: &str = "pve9-two-gpus";

/// The recorded machine with none of NVIDIA's nodes.
fn bare(name: &str) -> Host {
    let bed = Bed::new(name);
    let list = bed.read("/dev.list");
    let kept = list.lines().filter(|line| !line.contains(" /dev/nvidia"));
    bed.write("/dev.list", kept.map(|line| format!("{line}\n")).collect::<String>());
    Host::of(bed)
}

fn nodes(host: &Host, code: i32) -> Ran {
    host.tool("lxc-gpu-conf").arg("nodes").run().expect(code)
}

/// Names, numbers, modes and owners as they are in /dev.
fn there(host: &Host) -> String {
    let list = "find /dev -name 'nvidia*' -type c -exec stat -c '%n %t:%T %a %u:%g' {} + | sort";
    host.run(list).expect(0).stdout
}

fn modprobe(host: &Host, script: &str) {
    host.script("/usr/bin/nvidia-modprobe", &format!("echo \"$*\" >>/run/calls\n{script}"));
}

const ALL: &str = "/dev/nvidia-modeset c3:fe 666 0:0\n/dev/nvidia-uvm 1ff:0 666 0:0\n\
                   /dev/nvidia-uvm-tools 1ff:1 666 0:0\n/dev/nvidia0 c3:0 666 0:0\n\
                   /dev/nvidia1 c3:1 666 0:0\n/dev/nvidiactl c3:ff 666 0:0\n";

#[test]
fn without_nvidia_modprobe_they_are_made_from_the_drivers_numbers() {
    let host = bare(HOST);
    assert_eq!(there(&host), "");
    host.tool("lxc-gpu-conf").args("nodes --check").run().expect(1);
    host.tool("lxc-gpu-conf").args("nodes --dry-run").run().expect(0);
    assert_eq!(there(&host), "", "only looking");
    let ran = nodes(&host, 0);
    assert!(ran.of_type("change").all(|r| r["status"] == "changed"), "{}", ran.stdout);
    assert_eq!(there(&host), ALL);
    let ran = nodes(&host, 0);
    assert!(ran.of_type("change").all(|r| r["status"] == "unchanged"), "{}", ran.stdout);
    let container = host.create(950, true);
    host.tool("lxc-gpu-conf").args("add 950 -g 0").run().expect(0);
    container.start();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
}

#[test]
fn owner_and_mode_are_those_that_the_driver_is_told_to_use() {
    let host = bare(HOST);
    let params = host.bed().read("/proc/driver/nvidia/params");
    let params = params
        .replace("DeviceFileMode: 438", "DeviceFileMode: 432")
        .replace("DeviceFileGID: 0", "DeviceFileGID: 44");
    assert!(params.contains("DeviceFileMode: 432") && params.contains("DeviceFileGID: 44"));
    std::fs::write(host.bed().at("/proc/driver/nvidia/params"), params).unwrap();
    nodes(&host, 0);
    let there = there(&host);
    for line in [
        "/dev/nvidia0 c3:0 660 0:44\n",
        "/dev/nvidiactl c3:ff 660 0:44\n",
        "/dev/nvidia-modeset c3:fe 660 0:44\n",
        "/dev/nvidia-uvm 1ff:0 666 0:0\n",
        "/dev/nvidia-uvm-tools 1ff:1 666 0:0\n",
    ] {
        assert!(there.contains(line), "{line} in {there}");
    }
}

#[test]
fn nvidia_modprobe_is_called_in_its_two_ways() {
    let host = bare(HOST);
    modprobe(
        &host,
        "case $1 in\n-c) for n in 0 1 255; do mknod -m 666 /dev/nvidia$n c 195 $n; done\n\
         mv /dev/nvidia255 /dev/nvidiactl; mknod -m 666 /dev/nvidia-modeset c 195 254 ;;\n\
         -u) mknod -m 666 /dev/nvidia-uvm c 511 0; mknod -m 666 /dev/nvidia-uvm-tools c 511 1 ;;\n\
         esac\n",
    );
    let ran = nodes(&host, 0);
    assert_eq!(host.read("/run/calls"), "-c 255 -c 0 -c 1 -m\n-u -c 0\n");
    assert_eq!(ran.stderr, "");
    assert_eq!(there(&host), ALL);
    // nothing is missing: nothing is called
    nodes(&host, 0);
    assert_eq!(host.read("/run/calls").lines().count(), 2);
}

/// What capability files there are, as the driver names them.
fn capability_files(host: &Host) -> Vec<String> {
    let list = "find /proc/driver/nvidia/capabilities -path '*/gi*' -name access -o -name monitor";
    host.run(list).expect(0).stdout.lines().map(String::from).collect()
}

#[test]
fn the_capabilities_of_mig_instances_are_asked_for_by_their_files() {
    let host = bare("a100-mig");
    modprobe(&host, "");
    nodes(&host, 0);
    let calls = host.read("/run/calls");
    let (first, second) = calls.split_once('\n').unwrap();
    assert_eq!(second, "-u -c 0\n");
    let start = "-c 255 -c 0 -c 1 -c 2 -f ";
    let asked = first.strip_prefix(start).unwrap_or_else(|| panic!("no modeset, no -m: {first}"));
    let mut asked: Vec<String> = asked.split(" -f ").map(String::from).collect();
    let mut files = capability_files(&host);
    assert!(files.len() > 4, "{files:?}");
    asked.sort();
    files.sort();
    assert_eq!(asked, files);
    let there = there(&host);
    for line in [
        "/dev/nvidia-caps/nvidia-cap21 f2:15 444 0:0\n",
        "/dev/nvidia-caps/nvidia-cap22 f2:16 444 0:0\n",
        "/dev/nvidia-caps/nvidia-cap2 f2:2 444 0:0\n",
    ] {
        assert!(there.contains(line), "{line} in {there}");
    }
    // nobody the right to reconfigure
    assert!(!there.contains("nvidia-cap1 ") && !there.contains("nvidia-cap0 "), "{there}");
    // so that a container can be given one that it never had
    let container = host.create(950, true);
    host.tool("lxc-gpu-conf").args("add 950 -g 0 --mig 2/0 --mig-monitor").run().expect(0);
    container.start();
    for cap in [2, 21, 22] {
        let path = format!("/dev/nvidia-caps/nvidia-cap{cap}");
        assert_eq!(container.open(&path), OpenOutcome::NoDriver, "{path}");
    }
    assert_eq!(container.open("/dev/nvidia-caps/nvidia-cap1"), OpenOutcome::Missing);
}

#[test]
fn what_nvidia_modprobe_makes_wrong_or_not_at_all_is_put_right() {
    for script in [
        // numbers of before, a file, a mode of its own
        "mknod -m 600 /dev/nvidia-uvm c 509 0; touch /dev/nvidiactl; mknod /dev/nvidia0 c 195 9\n",
        "echo 'modprobe: FATAL' >&2; exit 1\n",
        "kill -9 $$\n",
    ] {
        let host = bare(HOST);
        modprobe(&host, script);
        let ran = nodes(&host, 0);
        assert_eq!(ran.stderr, "", "{script}");
        assert_eq!(there(&host), ALL, "{script}");
    }
}

#[test]
fn a_node_that_cannot_be_made_is_told_and_the_others_are_made() {
    let host = bare(HOST);
    host.run("mkdir -p /dev/nvidia-uvm/x").expect(0);
    let ran = nodes(&host, 3);
    assert_eq!(ran.one("change", "property", "/dev/nvidia-uvm")["status"], "failed");
    ran.one_line("/dev/nvidia-uvm: a directory has this name");
    assert!(there(&host).contains("/dev/nvidia0 c3:0 666 0:0\n"));
    // a link of the administrator's is neither followed nor replaced
    host.run("rm -r /dev/nvidia-uvm; ln -s /dev/null /dev/nvidia-uvm").expect(0);
    nodes(&host, 3).one_line("/dev/nvidia-uvm: a symbolic link has this name");
    assert_eq!(host.run("readlink /dev/nvidia-uvm").stdout, "/dev/null\n");
    host.run("rm /dev/nvidia-uvm").expect(0);
    nodes(&host, 0);
    assert_eq!(there(&host), ALL);
    assert!(host.run("stat -c %t:%T /dev/null").stdout.contains("1:3"));
}
