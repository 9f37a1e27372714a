//! `add` on a container that runs: through pct where that can reach it, undone
//! where pct fails, with a restart where that was asked for.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use lxcbed::{Host, OpenOutcome};
use testbed::Ran;

const HOST: &str = "pve9-two-gpus";
const NODES: [&str; 4] =
    ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-modeset"];

fn tool(host: &Host, args: &str, code: i32) -> Ran {
    host.tool("lxc-gpu-conf").args(args).run().expect(code)
}

/// What the tool finds first when it looks for pct.
fn stand_in(host: &Host, script: &str) {
    host.script("/usr/local/sbin/pct", &format!("echo \"$*\" >>/run/calls\n{script}"));
}

fn calls(host: &Host) -> String {
    host.run("cat /run/calls 2>/dev/null || true").expect(0).stdout
}

fn statuses(ran: &Ran) -> Vec<String> {
    let mut all: Vec<String> =
        ran.of_type("change").map(|r| r["status"].as_str().unwrap().to_string()).collect();
    all.dedup();
    all
}

#[test]
fn a_container_that_runs_has_new_nodes_at_once() {
    let host = Host::new(HOST);
    stand_in(&host, "exec /usr/sbin/pct \"$@\"\n");
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create(ctid, unprivileged);
        container.start();
        let ran = tool(&host, &format!("add {ctid} -g 0"), 0);
        assert_eq!(statuses(&ran), ["changed"]);
        ran.one_line("device nodes were hot-plugged; no restart is needed");
        for path in NODES {
            assert_eq!(container.open(path), OpenOutcome::NoDriver, "{ctid}: {path}");
        }
        assert_eq!(container.open("/dev/nvidia1"), OpenOutcome::Missing);
        tool(&host, &format!("check {ctid}"), 0);
        if !unprivileged {
            container.mknod("/tmp/nvidia1", 195, 1).unwrap();
            assert_eq!(
                container.open("/tmp/nvidia1"),
                OpenOutcome::Denied,
                "no more than asked for"
            );
        }
        // one more GPU: only its own node is new
        tool(&host, &format!("add {ctid} -g 1"), 0);
        assert_eq!(container.open("/dev/nvidia1"), OpenOutcome::NoDriver);
        // what is there is not asked for again
        let before = calls(&host);
        let ran = tool(&host, &format!("add {ctid} -g 0,1"), 0);
        assert_eq!(statuses(&ran), ["unchanged"]);
        assert_eq!(calls(&host), before);
        // remembered as what add wrote itself: sync has nothing to do
        let ran = tool(&host, &format!("sync {ctid}"), 0);
        assert_eq!(statuses(&ran), ["unchanged"], "{}", ran.stdout);
    }
    let calls = calls(&host);
    let sets: Vec<&str> = calls.lines().filter(|call| call.starts_with("set ")).collect();
    assert_eq!(sets.len(), 4, "{calls}");
    assert!(sets[0].starts_with("set 950 --digest "), "{calls}");
    assert!(sets[1].ends_with(" --dev5 /dev/nvidia1,mode=0666"), "{calls}");
}

#[test]
fn what_pct_cannot_do_at_once_waits_for_the_next_start() {
    let host = Host::new(HOST);
    stand_in(&host, "exec /usr/sbin/pct \"$@\"\n");
    for (ctid, args) in [(950, "--no-hotplug"), (951, "--style mount")] {
        let container = host.create(ctid, true);
        container.start();
        let ran = tool(&host, &format!("add {ctid} -g 0 {args}"), 0);
        ran.one_line(&format!(
            "the container is running; restart it for the change to take effect (pct reboot {ctid}"
        ));
        assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
        let ran = tool(&host, &format!("check {ctid}"), 1);
        assert!(ran.values("check", "cause").iter().all(|c| c == "not-restarted"));
        container.restart();
        assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    }
    // changed and new lines together are no mere addition
    let container = host.create(952, true);
    container.append("dev3: /dev/nvidia0\n");
    container.start();
    tool(&host, "add 952 -g 0 --mode 0660", 0);
    let stopped = host.create(953, true);
    tool(&host, "add 953 -g 0", 0)
        .one_line("the change takes effect the next time the container starts");
    assert!(!stopped.running());
    assert!(!calls(&host).contains("set "), "{}", calls(&host));
}

#[test]
fn an_older_proxmox_is_not_asked() {
    let bed = testbed::Bed::new(HOST);
    let status = bed.read("/var/lib/dpkg/status");
    let mut own = false;
    let lines = status.lines().map(|line| {
        own = if line.starts_with("Package:") { line.ends_with(" pve-container") } else { own };
        if own && line.starts_with("Version:") { "Version: 6.0.3" } else { line }
    });
    let status: String = lines.map(|line| format!("{line}\n")).collect();
    bed.write("/var/lib/dpkg/status", status);
    let host = Host::of(bed);
    stand_in(&host, "exec /usr/sbin/pct \"$@\"\n");
    let container = host.create(950, true);
    container.start();
    tool(&host, "add 950 -g 0", 0).one_line("--restart");
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
    assert_eq!(calls(&host), "");
}

#[test]
fn a_pct_that_fails_leaves_the_file_as_it_was() {
    let host = Host::new(HOST);
    stand_in(&host, "echo 'CT is out of luck' >&2; exit 255\n");
    let container = host.create(950, true);
    container.start();
    let before = container.conf();
    let ran = tool(&host, "add 950 -g 0", 3);
    assert_eq!(statuses(&ran), ["failed"]);
    let ran = ran.one_line("pct set: exit status 255: CT is out of luck");
    assert!(ran.stderr.contains("--no-hotplug"), "what to do: {}", ran.stderr);
    assert_eq!(container.conf(), before);
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
    assert!(!host.at("/var/lib/pve-gpu-tools/lxc/950.json").exists(), "nothing to remember");
}

#[test]
fn a_pct_that_fails_after_it_wrote_the_file_is_undone() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.append("dev7: /dev/ttyUSB0\nlxc.cap.drop = sys_time\n");
    container.start();
    // Proxmox VE looks at all devices after it wrote the file
    host.remove("/dev/ttyUSB0");
    let ran = tool(&host, "add 950 -g 0", 3);
    assert_eq!(statuses(&ran), ["rolled-back"]);
    ran.one_line("Device /dev/ttyUSB0 does not exist");
    let conf = container.conf();
    assert!(!conf.contains("nvidia"), "{conf}");
    assert!(conf.contains("dev7: /dev/ttyUSB0\n"), "{conf}");
    assert!(conf.contains("lxc.cap.drop: sys_time\n"), "as pct writes it: {conf}");
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);

    // the same where it had put a node into the container already
    let other = host.create(951, false);
    other.start();
    let before = other.conf();
    stand_in(&host, "/usr/sbin/pct \"$@\"; echo 'lxc-cgroup failed' >&2; exit 255\n");
    let ran = tool(&host, "add 951 -g 0", 3);
    assert_eq!(statuses(&ran), ["rolled-back"]);
    assert_eq!(other.conf(), before);
}

#[test]
fn a_file_that_someone_changes_in_between_is_theirs() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.start();
    let change =
        "sed -i 's/^cores: 2$/cores: 9/' /etc/pve/lxc/950.conf; exec /usr/sbin/pct \"$@\"\n";
    stand_in(&host, change);
    let before = container.conf();
    let ran = tool(&host, "add 950 -g 0", 3);
    assert_eq!(statuses(&ran), ["failed"]);
    ran.one_line("detected modified configuration");
    assert_eq!(container.conf(), before.replace("cores: 2", "cores: 9"));
    // and then it works
    stand_in(&host, "exec /usr/sbin/pct \"$@\"\n");
    tool(&host, "add 950 -g 0", 0);
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
}

/// What `--wait` says of each node.
fn inside(ran: &Ran, path: &str) -> String {
    ran.one("check", "property", path)["actual"].as_str().unwrap_or("opens").to_string()
}

#[test]
fn a_restart_waits_until_the_nodes_open_and_says_that_no_driver_is_behind_them() {
    let host = Host::new(HOST);
    stand_in(&host, "exec /usr/sbin/pct \"$@\"\n");
    for (ctid, unprivileged, style) in
        [(950, true, "dev"), (951, true, "mount"), (952, false, "dev"), (953, false, "mount")]
    {
        let container = host.create(ctid, unprivileged);
        container.start();
        let start = Instant::now();
        let args = format!("add {ctid} -g 0 --style {style} --no-hotplug --restart --wait 2");
        let ran = tool(&host, &args, 3);
        assert!(start.elapsed() >= Duration::from_secs(2));
        assert_eq!(ran.one("change", "property", "running")["status"], "changed");
        for path in &NODES[..3] {
            assert_eq!(inside(&ran, path), "has no driver behind it", "{ctid}: {path}");
        }
        ran.one_line("after 2 s, /dev/nvidia-uvm has no driver behind it inside");
        assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
        let reboots = calls(&host).lines().filter(|c| *c == format!("reboot {ctid}")).count();
        assert_eq!(reboots, 1, "{}", calls(&host));
    }
    // what does not run is not started
    let stopped = host.create(954, true);
    let ran = tool(&host, "add 954 -g 0 --restart", 0);
    assert_eq!(ran.one("change", "property", "running")["status"], "skipped");
    assert!(!stopped.running());
}

#[test]
fn a_restart_that_fails_is_told_and_the_configuration_stands() {
    let host = Host::new(HOST);
    stand_in(&host, "echo 'command failed: got timeout' >&2; exit 255\n");
    let container = host.create(950, true);
    container.start();
    let ran = tool(&host, "add 950 -g 0 --no-hotplug --restart", 3);
    assert_eq!(ran.one("change", "property", "running")["status"], "failed");
    let ran = ran.one_line("pct reboot: exit status 255: command failed: got timeout");
    assert!(
        ran.stderr.contains("the configuration is up to date, but the restart failed"),
        "{}",
        ran.stderr
    );
    assert!(container.conf().contains("dev0: /dev/nvidia0,mode=0666"));
    assert!(container.running());
}

#[test]
fn why_a_node_does_not_open_inside_is_told_apart() {
    let host = Host::new(HOST);
    let mounts: String = NODES[..3]
        .iter()
        .map(|path| {
            let target = path.trim_start_matches('/');
            format!("lxc.mount.entry: {path} {target} none bind,optional,create=file\n")
        })
        .collect();

    // no rule in a privileged container: the file is mended, what runs is not
    let container = host.create(950, false);
    container.append(&mounts);
    container.start();
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Denied);
    let ran = tool(&host, "add 950 -g 0 --wait 1", 3);
    for path in &NODES[..3] {
        assert_eq!(inside(&ran, path), "cannot be opened (device rules)", "{path}");
    }

    // a mode that shuts out: in the user namespace of the container, not in ours
    let container = host.create(951, true);
    container.append(&mounts);
    host.run("chmod 0660 /dev/nvidia0").expect(0);
    container.start();
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoAccess);
    let ran = tool(&host, "add 951 -g 0 --wait 1", 3);
    assert_eq!(inside(&ran, "/dev/nvidia0"), "cannot be opened (its mode)");
    assert_eq!(inside(&ran, "/dev/nvidiactl"), "has no driver behind it");
    host.run("chmod 0666 /dev/nvidia0").expect(0);

    // an optional mount of what was not there left an empty file
    let container = host.create(952, true);
    container.append(&mounts);
    host.run("mv /dev/nvidia-uvm /dev/away").expect(0);
    container.start();
    host.run("mv /dev/away /dev/nvidia-uvm").expect(0);
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::RegularFile(0));
    let ran = tool(&host, "add 952 -g 0 --wait 1", 3);
    let expected = "is not a device node (a failed mount left an empty file)";
    assert_eq!(inside(&ran, "/dev/nvidia-uvm"), expected);
    assert_eq!(inside(&ran, "/dev/nvidia0"), "has no driver behind it");

    // not there at all
    let container = host.create(953, true);
    container.start();
    let ran = tool(&host, "add 953 -g 0 --no-hotplug --wait 1", 3);
    assert_eq!(inside(&ran, "/dev/nvidia0"), "does not exist");

    // the containers were looked at from inside, and nobody is left there
    for ctid in 950..954 {
        let procs = host.run(&format!("cat /sys/fs/cgroup/lxc/{ctid}/ns/cgroup.procs")).stdout;
        assert!(procs.lines().count() <= 3, "{ctid}: {procs}");
    }
}

#[test]
fn a_container_that_stands_still_is_not_waited_for_longer_than_asked() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    host.tool("lxc-gpu-conf").args("add 950 -g 0").run().expect(0);
    container.start();
    // as a backup in mode suspend has it: who joins its control group stands still too
    let freeze = "/sys/fs/cgroup/lxc/950/cgroup.freeze";
    host.run(&format!("echo 1 >{freeze}")).expect(0);
    let start = Instant::now();
    let ran = tool(&host, "add 950 -g 0 --wait 2", 3);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(inside(&ran, "/dev/nvidia0"), "blocks in the kernel when opened");
    host.run(&format!("echo 0 >{freeze}")).expect(0);
    let ran = tool(&host, "add 950 -g 0 --wait 1", 3);
    assert_eq!(inside(&ran, "/dev/nvidia0"), "has no driver behind it");
    let procs = host.run("cat /sys/fs/cgroup/lxc/950/ns/cgroup.procs").stdout;
    assert!(procs.lines().count() <= 3, "nobody is left there: {procs}");
}
