//! `check`, `sync`, `remove` and `add --convert`, judged by the kernel: what a
//! process in the container may open before and after.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lxcbed::{Container, Host, OpenOutcome};

const HOST: &str = "pve9-two-gpus";
/// Unprivileged or not, dev[n] or mount entries.
const KINDS: [(u32, bool, &str); 4] =
    [(950, true, "dev"), (951, true, "mount"), (952, false, "dev"), (953, false, "mount")];
const SHARED: [&str; 4] =
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];
const OLD: &str = "511";
const NEW: &str = "498";

fn tool(host: &Host, args: &str, code: i32) -> testbed::Ran {
    host.tool("lxc-gpu-conf").args(args).run().expect(code)
}

/// The driver was loaded again and got another number; the nodes are those of before.
fn move_uvm(host: &Host) {
    let devices = host.bed().read("/proc/devices");
    let (from, to) = (format!("{OLD} nvidia-uvm\n"), format!("{NEW} nvidia-uvm\n"));
    assert!(devices.contains(&from), "{devices}");
    // in place: the host has this very file mounted
    std::fs::write(host.bed().at("/proc/devices"), devices.replace(&from, &to)).unwrap();
}

fn has(container: &Container, gpus: &[u32]) {
    let own = gpus.iter().map(|minor| format!("/dev/nvidia{minor}"));
    for path in own.chain(SHARED.map(String::from)) {
        let opened = container.open(&path);
        assert_eq!(
            opened,
            OpenOutcome::NoDriver,
            "{}: {path}\n{}",
            container.ctid,
            container.conf()
        );
    }
}

fn has_not(container: &Container, paths: &[&str]) {
    for path in paths {
        assert_eq!(container.open(path), OpenOutcome::Missing, "{}: {path}", container.ctid);
    }
}

fn may_not_make(container: &Container, name: &str, major: u32, minor: u32) {
    let path = format!("/tmp/{name}");
    container.mknod(&path, major, minor).unwrap();
    assert_eq!(container.open(&path), OpenOutcome::Denied, "{}: {major}:{minor}", container.ctid);
}

#[test]
fn a_major_that_moved_is_told_by_check_with_both_numbers_and_mended_by_sync() {
    let host = Host::new(HOST);
    let containers = KINDS.map(|(ctid, unprivileged, style)| {
        let container = host.create(ctid, unprivileged);
        tool(&host, &format!("add {ctid} -g 0 --style {style}"), 0);
        container.start();
        has(&container, &[0]);
        tool(&host, &format!("check {ctid}"), 0);
        container
    });
    move_uvm(&host);
    let before = containers.each_ref().map(Container::conf);
    for (ctid, unprivileged, style) in KINDS {
        let ran = tool(&host, &format!("check {ctid}"), 1);
        let node = ran
            .records
            .iter()
            .find(|r| r["cause"] == "stale-node" && r["property"] == "/dev/nvidia-uvm");
        let node = node.unwrap_or_else(|| panic!("{}", ran.stdout));
        assert_eq!((&node["expected"], &node["actual"]), (&"498:0".into(), &"511:0".into()));
        let rules: Vec<String> = ran
            .of_type("check")
            .filter(|r| r["cause"] == "stale-rule")
            .map(|r| format!("{} {} {}", r["expected"], r["actual"], r["reason"]))
            .collect();
        let with_rules = style == "mount" && !unprivileged;
        assert_eq!(!rules.is_empty(), with_rules, "{ctid}: {}", ran.stdout);
        assert!(rules.iter().all(|r| r.contains(OLD) && r.contains(NEW)), "{rules:?}");
        // only looking
        assert_eq!(host.read(&format!("/etc/pve/lxc/{ctid}.conf")), before[ctid as usize - 950]);
    }

    let ran = tool(&host, "sync 950 951 952 953", 0);
    let node = ran.of_type("change").find(|r| r["property"] == "/dev/nvidia-uvm").unwrap();
    assert_eq!((&node["target"], &node["status"]), (&"host".into(), &"changed".into()));
    assert_eq!((&node["from"], &node["to"]), (&"511:0".into(), &"498:0".into()));
    assert!(
        ran.stderr.contains("restart it for the change to take effect (pct reboot 953)"),
        "{}",
        ran.stderr
    );
    for (container, before) in containers.iter().zip(&before) {
        let (ctid, conf) = (container.ctid, container.conf());
        if ctid == 953 {
            assert!(conf.contains(&format!("c {NEW}:0 rw")) && !conf.contains(OLD), "{conf}");
        } else {
            assert_eq!(conf, *before, "nothing in it hangs on the number");
        }
        // what runs still has the nodes that it started with
        let ran = tool(&host, &format!("check {ctid}"), 1);
        let cause = ran.values("check", "cause");
        assert!(cause.iter().all(|c| c == "not-restarted"), "{}", ran.stdout);
        container.restart();
        has(container, &[0]);
        assert_eq!(container.stat("/dev/nvidia-uvm").unwrap().major, 498);
        has_not(container, &["/dev/nvidia1", "/dev/dri/card1", "/dev/nvidia-caps/nvidia-cap1"]);
        tool(&host, &format!("check {ctid}"), 0);
    }
    for container in &containers[2..] {
        may_not_make(container, "old", 511, 0);
        may_not_make(container, "other", 195, 1);
    }
    // and there is nothing left to do
    let ran = tool(&host, "sync --all --check", 1);
    let drift: Vec<_> = ran.of_type("check").filter(|r| r["status"] == "drift").collect();
    assert!(drift.iter().all(|r| r["subject"] != "host"), "{}", ran.stdout);
    assert!(drift.iter().all(|r| !r["subject"].as_str().unwrap().starts_with("ct 95")));
}

#[test]
fn a_rule_that_is_stale_denies_until_sync_has_been_there() {
    let host = Host::new(HOST);
    let container = host.create(953, false);
    tool(&host, "add 953 -g 0 --style mount", 0);
    move_uvm(&host);
    // the nodes alone are not enough
    tool(&host, "nodes", 0);
    container.start();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::Denied);
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    tool(&host, "sync 953", 0);
    container.restart();
    has(&container, &[0]);
}

#[test]
fn one_of_two_gpus_is_taken_away_and_the_rest_with_the_last() {
    let host = Host::new(HOST);
    for (ctid, unprivileged, style) in KINDS {
        let container = host.create(ctid, unprivileged);
        let before = container.conf();
        tool(&host, &format!("add {ctid} -g 0,1 --style {style}"), 0);
        container.start();
        has(&container, &[0, 1]);

        let ran = tool(&host, &format!("remove {ctid} -g 1"), 0);
        assert!(ran.stderr.contains("--restart"), "it says when it counts: {}", ran.stderr);
        container.restart();
        has(&container, &[0]);
        has_not(&container, &["/dev/nvidia1"]);
        if !unprivileged {
            may_not_make(&container, "nvidia1", 195, 1);
        }

        let ran = tool(&host, &format!("remove {ctid} -g 0 --restart"), 0);
        let running = ran.one("change", "property", "running");
        assert_eq!(running["status"], "changed", "{}", ran.stdout);
        has_not(&container, &["/dev/nvidia0", "/dev/nvidia1"]);
        has_not(&container, &SHARED);
        if !unprivileged {
            for (name, major, minor) in [("gpu", 195, 0), ("ctl", 195, 255), ("uvm", 511, 0)] {
                may_not_make(&container, name, major, minor);
            }
        }
        assert_eq!(container.conf(), before);
        tool(&host, &format!("remove {ctid}"), 0).one_line("has nothing to remove");
    }
}

#[test]
fn everything_goes_at_once_and_so_does_a_single_node() {
    let host = Host::new(HOST);
    for (ctid, unprivileged, style) in KINDS {
        let container = host.create(ctid, unprivileged);
        let before = container.conf();
        tool(&host, &format!("add {ctid} -g all --graphics --style {style}"), 0);
        container.start();
        has(&container, &[0, 1]);
        assert!(container.open("/dev/dri/renderD128") != OpenOutcome::Missing);
        tool(&host, &format!("remove {ctid} --node /dev/nvidia-modeset"), 0);
        container.restart();
        has_not(&container, &["/dev/nvidia-modeset"]);
        assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
        if !unprivileged {
            may_not_make(&container, "modeset", 195, 254);
        }
        tool(&host, &format!("remove {ctid}"), 0);
        container.restart();
        has_not(&container, &["/dev/nvidia0", "/dev/nvidia1", "/dev/dri/renderD128"]);
        has_not(&container, &SHARED);
        assert_eq!(container.conf(), before);
    }
}

#[test]
fn a_mounted_node_keeps_the_hosts_mode_and_that_is_said() {
    let host = Host::new(HOST);
    // 0660 for groups that the container knows nothing of
    for (ctid, unprivileged, style) in KINDS {
        let container = host.create(ctid, unprivileged);
        let ran = tool(&host, &format!("add {ctid} -g 0 --graphics --style {style}"), 0);
        let shut = unprivileged && style == "mount";
        let told = "/dev/dri/renderD128 has mode 0660 on the host";
        assert_eq!(ran.stderr.contains(told), shut, "{ctid}: {}", ran.stderr);
        container.start();
        let expected = if shut { OpenOutcome::NoAccess } else { OpenOutcome::NoDriver };
        assert_eq!(container.open("/dev/dri/renderD128"), expected, "{ctid}");
        let ran = tool(&host, &format!("check {ctid}"), i32::from(shut));
        let found = ran.of_type("check").filter(|r| r["cause"] == "no-access");
        assert_eq!(found.count(), if shut { 2 } else { 0 }, "{}", ran.stdout);
    }
    tool(&host, "add 951 --convert", 0);
    host.pct("reboot 951").expect(0);
    tool(&host, "check 951", 0);
}

#[test]
fn a_hand_made_block_becomes_dev_lines_that_work() {
    let host = Host::new(HOST);
    let container = host.adopt(902);
    container.start();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::Denied, "its rule names 509");
    tool(&host, "check 902", 1);
    tool(&host, "add 902 --convert", 0);
    let conf = container.conf();
    assert!(!conf.contains("lxc.mount.entry") && !conf.contains("c 195:"), "{conf}");
    // nothing proves that the rule is NVIDIA's: it may be another device's
    assert!(conf.contains("c 509:* rwm"), "{conf}");
    assert!(conf.contains("dev0: /dev/nvidia0,mode=0666\n"), "{conf}");
    container.restart();
    has(&container, &[0]);
    has_not(&container, &["/dev/nvidia1"]);
    may_not_make(&container, "nvidia1", 195, 1);
    tool(&host, "check 902", 0);
    let ran = tool(&host, "add 902 --convert", 0);
    assert!(ran.of_type("change").all(|r| r["status"] == "unchanged"), "{}", ran.stdout);
}
