//! How Proxmox VE and LXC answer configurations that are easily written wrong.
//! The tool's rules rest on these.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lxcbed::{Host, OpenOutcome};
use testbed::Bed;

const HOST: &str = "pve9-two-gpus";
const UVM_MOUNT: &str =
    "lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n";

fn without(path: &str) -> Host {
    let bed = Bed::new(HOST);
    bed.drop_node(path);
    Host::of(bed)
}

#[test]
fn a_dev_line_and_a_mount_for_one_target_keep_the_container_from_starting() {
    let host = Host::new(HOST);
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create(ctid, unprivileged);
        container.append(&format!("dev0: /dev/nvidia-uvm\n{UVM_MOUNT}"));
        let said = container.start_fails();
        assert!(said.contains("Script exited with status 17"), "EEXIST is 17: {said}");
        assert!(said.contains("Failed to run autodev hooks"), "{said}");
        let end = format!("startup for container '{ctid}' failed\n");
        assert!(said.ends_with(&end), "{said}");
    }
}

#[test]
fn a_dev_line_whose_path_is_missing_keeps_the_container_from_starting() {
    let host = without("/dev/nvidia-uvm");
    let container = host.create(950, true);
    container.append("dev0: /dev/nvidia-uvm,mode=0666\n");
    assert_eq!(container.start_fails(), "Device /dev/nvidia-uvm does not exist\n");
    host.write("/dev/nvidia-uvm", "");
    assert_eq!(container.start_fails(), "/dev/nvidia-uvm is not a device\n");
}

#[test]
fn an_optional_mount_of_a_missing_node_leaves_an_empty_file_without_rights() {
    let host = without("/dev/nvidia-uvm");
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create(ctid, unprivileged);
        container.append(UVM_MOUNT);
        container.start();
        assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::RegularFile(0));
    }
}

#[test]
fn a_mount_of_a_missing_node_that_is_not_optional_is_fatal() {
    let host = without("/dev/nvidia-uvm");
    let container = host.create(950, true);
    container.append(&UVM_MOUNT.replace("optional,", ""));
    let said = container.start_fails();
    assert!(said.contains("Failed to mount \"/dev/nvidia-uvm\""), "{said}");
}

#[test]
fn a_rule_with_the_wrong_number_denies_a_privileged_container() {
    let host = Host::new(HOST);
    let container = host.create(950, false);
    container.append(&format!("lxc.cgroup2.devices.allow: c 509:* rwm\n{UVM_MOUNT}"));
    container.start();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::Denied);
    container.append("lxc.cgroup2.devices.allow: c 511:* rwm\n");
    container.restart();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
}

#[test]
fn a_rule_with_the_wrong_number_does_no_harm_in_an_unprivileged_container() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.append(&format!("lxc.cgroup2.devices.allow: c 509:* rwm\n{UVM_MOUNT}"));
    container.start();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
}

#[test]
fn a_mount_without_a_rule_denies_a_privileged_container_only() {
    let host = Host::new(HOST);
    for (ctid, unprivileged, expected) in
        [(950, true, OpenOutcome::NoDriver), (951, false, OpenOutcome::Denied)]
    {
        let container = host.create(ctid, unprivileged);
        container.append(UVM_MOUNT);
        container.start();
        assert_eq!(container.open("/dev/nvidia-uvm"), expected, "unprivileged: {unprivileged}");
    }
}

#[test]
fn deny_all_behind_dev_lines_wipes_their_rules_in_a_privileged_container() {
    let host = Host::new(HOST);
    let container = host.create(950, false);
    container.append(
        "dev0: /dev/nvidia0,mode=0666\nlxc.cgroup2.devices.deny: a\n\
         lxc.cgroup2.devices.allow: c 1:* rwm\n",
    );
    container.start();
    let node = container.stat("/dev/nvidia0").unwrap();
    assert_eq!((node.kind, node.major, node.minor), ('c', 195, 0), "the node is there");
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Denied);
    container.append("lxc.cgroup2.devices.allow: c 195:0 rw\n");
    container.restart();
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
}

#[test]
fn deny_all_as_the_last_rule_leaves_a_privileged_container_without_any_limit() {
    let host = Host::new(HOST);
    let container = host.create(950, false);
    container.append("dev0: /dev/nvidia0,mode=0666\nlxc.cgroup2.devices.deny: a\n");
    container.start();
    // LXC attaches no program for an empty list, whatever the list was to be
    container.mknod("/tmp/nvidia1", 195, 1).unwrap();
    assert_eq!(container.open("/tmp/nvidia1"), OpenOutcome::NoDriver);
}

#[test]
fn a_comment_behind_a_rule_with_fewer_than_three_rights_makes_lxc_drop_the_rule() {
    let host = Host::new(HOST);
    for (ctid, rule, expected, dropped) in [
        // LXC reads three letters and looks no further
        (950, "c 511:* rwm # NVIDIA", OpenOutcome::NoDriver, false),
        (951, "c 511:* rw # NVIDIA", OpenOutcome::Denied, true),
        (952, "c 511:* rw", OpenOutcome::NoDriver, false),
        (953, "/dev/nvidia-uvm rw # NVIDIA", OpenOutcome::NoDriver, false),
        (954, "c  511:* rwm", OpenOutcome::Denied, true),
    ] {
        let container = host.create(ctid, false);
        container.append(&format!("lxc.cgroup2.devices.allow: {rule}\n{UVM_MOUNT}"));
        // not fatal: the start goes on, and only the log tells
        container.start();
        assert_eq!(container.open("/dev/nvidia-uvm"), expected, "{rule}");
        let told = container.log().contains("Failed to parse device rule devices.allow=");
        assert_eq!(told, dropped, "{rule}:\n{}", container.log());
    }
}

#[test]
fn a_rule_by_path_takes_the_number_that_the_node_has_at_the_start() {
    let host = Host::new(HOST);
    let container = host.create(950, false);
    container.append(&format!("lxc.cgroup2.devices.allow: /dev/nvidia-uvm rwm\n{UVM_MOUNT}"));
    container.start();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
    container.mknod("/tmp/tools", 511, 1).unwrap();
    assert_eq!(container.open("/tmp/tools"), OpenOutcome::Denied, "one number, not the major");
    // after a kernel update the driver has another major
    host.run("rm /dev/nvidia-uvm && mknod -m 666 /dev/nvidia-uvm c 509 0").expect(0);
    container.restart();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
    assert_eq!(container.stat("/dev/nvidia-uvm").unwrap().major, 509);
}

#[test]
fn a_rule_by_a_path_that_is_missing_is_dropped_and_the_container_starts() {
    let host = without("/dev/nvidia-uvm");
    let container = host.create(950, false);
    container.append("lxc.cgroup2.devices.allow: /dev/nvidia-uvm rwm\n");
    container.start();
    let told = "Failed to parse device rule devices.allow=/dev/nvidia-uvm rwm";
    assert!(container.log().contains(told), "{}", container.log());
    container.mknod("/tmp/uvm", 511, 0).unwrap();
    assert_eq!(container.open("/tmp/uvm"), OpenOutcome::Denied);
}

#[test]
fn a_dev_line_has_mode_0660_and_the_containers_own_ids() {
    let host = Host::new(HOST);
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create(ctid, unprivileged);
        container.append("dev0: /dev/nvidia0\ndev1: /dev/dri/renderD128,gid=44,uid=7\n");
        container.start();
        let node = container.stat("/dev/nvidia0").unwrap();
        assert_eq!((node.mode, node.uid, node.gid), (0o660, 0, 0));
        let node = container.stat("/dev/dri/renderD128").unwrap();
        assert_eq!((node.mode, node.uid, node.gid), (0o660, 7, 44));
    }
}

#[test]
fn a_dev_line_with_a_link_as_path_makes_a_node_of_the_links_name() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.append("dev0: /dev/dri/by-path/pci-0000:2b:00.0-card\n");
    container.start();
    let node = container.stat("/dev/dri/by-path/pci-0000:2b:00.0-card").unwrap();
    assert_eq!((node.kind, node.major, node.minor), ('c', 226, 1));
    assert_eq!(container.open("/dev/dri/card1"), OpenOutcome::Missing);
}

#[test]
fn a_dev_line_in_a_snapshot_grants_nothing() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    host.write(&container.conf_path(), container.conf() + "\n[before]\ndev0: /dev/nvidia0\n");
    container.start();
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
}
