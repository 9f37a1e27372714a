//! What `lxc-gpu-conf add` writes, judged by the kernel: real containers, real
//! device cgroups, the tool run without `--root`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lxcbed::{Container, Host, OpenOutcome, Seen};

const HOST: &str = "pve9-two-gpus";
const GRANTED: [&str; 5] = [
    "/dev/nvidia0",
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
];
const OTHERS: [&str; 7] = [
    "/dev/nvidia1",
    "/dev/nvidia-caps/nvidia-cap1",
    "/dev/nvidia-caps/nvidia-cap2",
    "/dev/dri/card1",
    "/dev/dri/renderD128",
    "/dev/vfio/vfio",
    "/dev/ttyUSB0",
];

fn add<'a>(host: &'a Host, unprivileged: bool, style: &str) -> Container<'a> {
    let ctid = if style == "dev" { 950 } else { 951 };
    let container = host.create(ctid, unprivileged);
    let ran = host.tool("lxc-gpu-conf").args(&format!("add {ctid} -g 0 --style {style}")).run();
    let changes = ran.expect(0).of_type("change").count();
    assert_eq!(changes, if style == "mount" && !unprivileged { 10 } else { 5 });
    container.start();
    container
}

fn only_the_granted_ones(container: &Container) {
    for path in GRANTED {
        assert_eq!(container.open(path), OpenOutcome::NoDriver, "{path}\n{}", container.conf());
    }
    for path in OTHERS {
        let opened = container.open(path);
        assert!(matches!(opened, OpenOutcome::Missing | OpenOutcome::Denied), "{path}: {opened:?}");
    }
    assert_eq!(container.open("/dev/null"), OpenOutcome::Ok);
}

#[test]
fn an_unprivileged_container_opens_what_dev_lines_grant_and_nothing_else() {
    let host = Host::new(HOST);
    let container = add(&host, true, "dev");
    only_the_granted_ones(&container);
    let node = Seen { kind: 'c', mode: 0o666, uid: 0, gid: 0, major: 511, minor: 0 };
    assert_eq!(container.stat("/dev/nvidia-uvm"), Some(node), "the container's own node");
}

#[test]
fn an_unprivileged_container_opens_what_mounts_grant_and_nothing_else() {
    let host = Host::new(HOST);
    let container = add(&host, true, "mount");
    only_the_granted_ones(&container);
    let node = Seen { kind: 'c', mode: 0o666, uid: 65534, gid: 65534, major: 511, minor: 0 };
    assert_eq!(container.stat("/dev/nvidia-uvm"), Some(node), "the host's node");
}

#[test]
fn a_privileged_container_opens_what_dev_lines_grant_and_nothing_else() {
    let host = Host::new(HOST);
    only_the_granted_ones(&add(&host, false, "dev"));
}

#[test]
fn a_privileged_container_opens_what_mounts_grant_and_nothing_else() {
    let host = Host::new(HOST);
    only_the_granted_ones(&add(&host, false, "mount"));
}

#[test]
fn a_privileged_container_that_makes_an_ungranted_node_by_hand_may_not_open_it() {
    let host = Host::new(HOST);
    for style in ["dev", "mount"] {
        let container = add(&host, false, style);
        for (major, minor) in [(195, 1), (236, 1), (226, 1), (188, 0)] {
            let path = format!("/tmp/{major}-{minor}");
            container.mknod(&path, major, minor).unwrap();
            assert_eq!(container.open(&path), OpenOutcome::Denied, "--style {style}: {path}");
        }
        // the number counts, not the name
        container.mknod("/tmp/uvm", 511, 0).unwrap();
        assert_eq!(container.open("/tmp/uvm"), OpenOutcome::NoDriver);
    }
}

#[test]
fn an_unprivileged_container_makes_no_nodes() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.start();
    assert_eq!(container.mknod("/tmp/nvidia1", 195, 1), Err("EPERM".into()));
}

#[test]
fn a_stream_from_the_lister_grants_the_gpu_that_it_names() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    let ran =
        host.run("gpu-iommu-groups | grep '\"address\":\"0000:2c:00.0\"' | lxc-gpu-conf add 950");
    ran.expect(0);
    container.start();
    assert_eq!(container.open("/dev/nvidia1"), OpenOutcome::NoDriver);
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
}

#[test]
fn a_wrong_rule_from_an_old_guide_is_mended_by_add() {
    let host = Host::new(HOST);
    let container = host.adopt(902);
    container.start();
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    // its rule names 509, the driver has 511
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::Denied);
    host.tool("lxc-gpu-conf").args("add 902 -g 0").run().expect(0);
    container.restart();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
    assert_eq!(container.open("/dev/nvidia-uvm-tools"), OpenOutcome::NoDriver);
}
