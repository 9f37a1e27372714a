//! The `pct` of the test bed behaves as Proxmox VE's where tests rely on it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use lxcbed::{Host, OpenOutcome};

const HOST: &str = "pve9-two-gpus";

#[test]
fn a_container_is_started_asked_and_stopped() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    assert!(!container.running());
    container.start();
    assert!(container.running());
    assert_eq!(container.exec(&["hostname"]).expect(0).stdout, "ct950\n");
    assert_eq!(container.exec(&["sh", "-c", "exit 7"]).code(), 7);
    assert!(host.pct("start 950").expect(255).stderr.contains("CT 950 already running"));
    host.pct("shutdown 950 --timeout 10").expect(0);
    assert!(!container.running());
    assert!(host.pct("stop 950").expect(255).stderr.contains("CT 950 not running"));
    assert_ne!(container.exec(&["true"]).code(), 0);
}

#[test]
fn files_go_in_and_out() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    host.write("/run/in", "text\n");
    assert_ne!(host.pct("push 950 /run/in /root/x").code(), 0, "it does not run");
    container.start();
    host.pct("push 950 /run/in /root/x --perms 0755").expect(0);
    assert_eq!(container.exec(&["cat", "/root/x"]).expect(0).stdout, "text\n");
    host.pct("pull 950 /root/x /run/out").expect(0);
    assert_eq!(host.read("/run/out"), "text\n");
    assert_ne!(host.pct("pull 950 /root/none /run/out").code(), 0);
}

#[test]
fn what_is_no_command_is_refused() {
    let host = Host::new(HOST);
    host.create(950, true);
    for (words, code, what) in [
        ("start", 255, "400 not enough arguments"),
        ("start 950 951", 255, "400 too many arguments"),
        ("start ninety", 255, "400 Parameter verification failed"),
        ("start 99", 255, "400 Parameter verification failed"),
        ("start 999", 2, "Configuration file 'nodes/pve1/lxc/999.conf' does not exist"),
        ("status 999", 2, "does not exist"),
        ("enhance 950", 255, "unknown command"),
        ("set 950", 255, "no options specified"),
        ("set 950 --devil /dev/null", 255, "Unknown option: devil"),
        ("set 950 --dev256 /dev/null", 255, "Unknown option: dev256"),
        ("set 950 --dev0 /dev/none", 255, "Device /dev/none does not exist"),
        ("set 950 --dev0 /etc/passwd", 255, "is not a valid device path"),
        ("set 950 --dev0 /dev/nvidia0,mode=666", 255, "does not match the regex"),
        (
            "set 950 --dev0 /dev/nvidia0,color=red",
            255,
            "invalid key in comma-separated list property: color",
        ),
    ] {
        let ran = host.pct(words).expect(code);
        assert!(ran.stderr.contains(what), "pct {words}: {}", ran.stderr);
    }
    assert!(!host.read("/etc/pve/lxc/950.conf").contains("dev0"));
}

#[test]
fn a_locked_container_is_left_alone() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.append("lock: backup\n");
    assert_eq!(container.start_fails(), "CT is locked (backup)\n");
    assert!(host.pct("set 950 --dev0 /dev/nvidia0").expect(255).stderr.contains("CT is locked"));
    host.pct("unlock 950").expect(0);
    let ran = host.pct("mount 950").expect(0);
    assert_eq!(ran.stdout, "mounted CT 950 in '/var/lib/lxc/950/rootfs'\n");
    assert!(container.conf().contains("lock: mounted\n"));
    // this lock alone does not keep a container from starting
    container.start();
    host.pct("unmount 950").expect(0);
    assert!(!container.conf().contains("lock"));
}

#[test]
fn a_containers_files_are_on_the_host_only_while_they_are_mounted() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    let rootfs = "/var/lib/lxc/950/rootfs";
    let files = || std::fs::read_dir(host.at(rootfs)).map_or(0, |entries| entries.count());
    assert_eq!(files(), 0);
    host.pct("mount 950").expect(0);
    assert_ne!(files(), 0);
    assert!(host.pct("mount 950").expect(255).stderr.contains("CT is locked (mounted)"));
    host.pct("unmount 950").expect(0);
    assert_eq!(files(), 0);
    assert!(host.pct("unmount 950").expect(255).stderr.contains("no lock found"));
    container.start();
    assert_eq!(files(), 0, "a running one's are in the monitor's mount namespace");
    std::fs::write(container.at("/etc/mark"), "mark\n").unwrap();
    assert_eq!(container.exec(&["cat", "/etc/mark"]).expect(0).stdout, "mark\n");
}

#[test]
fn a_start_holds_the_configuration_lock_and_runs_the_hookscript_in_it() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    host.script(
        "/var/lib/vz/snippets/hook.sh",
        "flock -n /run/lock/lxc/pve-config-$1.lock true && lock=free || lock=held\n\
         echo \"$1 $2 $lock $(cat /sys/fs/cgroup/lxc/$1/ns/cgroup.procs 2>/dev/null | wc -l)\" \
         >>/run/phases\n",
    );
    container.append("hookscript: local:snippets/hook.sh\n");
    container.start();
    container.stop();
    let phases = host.read("/run/phases");
    let phases: Vec<&str> = phases.lines().collect();
    assert_eq!(phases[0], "950 pre-start held 0");
    assert!(phases[1].starts_with("950 post-start held "), "{phases:?}");
    assert!(!phases[1].ends_with(" 0"), "it runs by then: {phases:?}");
    assert!(phases[2].starts_with("950 pre-stop held "), "{phases:?}");
    assert_eq!(phases[3], "950 post-stop held 0");
    host.run("flock -n /run/lock/lxc/pve-config-950.lock true").expect(0);
}

#[test]
fn a_failing_pre_start_stops_the_start_and_a_failing_post_start_does_not() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    host.script("/run/hook", "[ $2 != pre-start ] || exit 3\n");
    container.append("hookscript: /run/hook\n");
    let said = container.start_fails();
    assert!(said.contains("hookscript error for 950 on pre-start"), "{said}");
    assert!(said.contains("exit code 3"), "{said}");
    host.script("/run/hook", "[ $2 != post-start ] || exit 3\n");
    container.start();
}

#[test]
fn a_hookscript_makes_nodes_for_mounts_but_comes_too_late_for_dev_lines() {
    let bed = testbed::Bed::new(HOST);
    bed.drop_node("/dev/nvidia-uvm");
    let host = Host::of(bed);
    let container = host.create(950, true);
    let make = "[ $2 != pre-start ] || mknod -m 666 /dev/nvidia-uvm c 511 0\n";
    host.script("/var/lib/vz/snippets/make", make);
    container.append("hookscript: local:snippets/make\ndev0: /dev/nvidia-uvm\n");
    assert_eq!(container.start_fails(), "Device /dev/nvidia-uvm does not exist\n");
    let conf = container.conf().replace("dev0: /dev/nvidia-uvm\n", "");
    host.write(&container.conf_path(), conf);
    container
        .append("lxc.mount.entry: /dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file\n");
    container.start();
    assert_eq!(container.open("/dev/nvidia-uvm"), OpenOutcome::NoDriver);
}

#[test]
fn a_new_device_reaches_a_running_container_and_its_cgroup() {
    let host = Host::new(HOST);
    for (ctid, unprivileged) in [(950, true), (951, false)] {
        let container = host.create(ctid, unprivileged);
        container.start();
        assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
        let set = format!("set {ctid} --dev0 /dev/nvidia0,mode=0666 --dev1 /dev/dri/card1,gid=44");
        host.pct(&set).expect(0);
        assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
        let node = container.stat("/dev/dri/card1").unwrap();
        assert_eq!((node.mode, node.uid, node.gid, node.major), (0o660, 0, 44, 226));
        assert!(container.conf().contains("dev0: /dev/nvidia0,mode=0666\n"));
        if !unprivileged {
            container.mknod("/tmp/x", 195, 1).unwrap();
            assert_eq!(container.open("/tmp/x"), OpenOutcome::Denied, "no more than was asked for");
        }
        // and it is there again after a start
        container.restart();
        assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    }
}

#[test]
fn a_digest_keeps_pct_from_changing_another_file() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    let digest = host.run("sha1sum /etc/pve/lxc/950.conf | cut -d' ' -f1").expect(0).stdout;
    let set = |cores: u32| host.pct(&format!("set 950 --cores {cores} --digest {}", digest.trim()));
    set(4).expect(0);
    let before = container.conf();
    assert!(set(5).expect(255).stderr.contains("detected modified configuration"));
    assert_eq!(container.conf(), before);
}

#[test]
fn changing_or_removing_a_device_waits_until_the_container_stops() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    host.pct("set 950 --dev0 /dev/nvidia0 --dev1 /dev/nvidia1").expect(0);
    container.start();
    host.pct("set 950 --dev0 /dev/nvidiactl --delete dev1").expect(0);
    let conf = container.conf();
    assert!(conf.contains("dev0: /dev/nvidia0\ndev1: /dev/nvidia1\n"), "{conf}");
    assert!(conf.ends_with("\n[pve:pending]\ndelete: dev1\ndev0: /dev/nvidiactl\n"), "{conf}");
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    assert_eq!(container.open("/dev/nvidiactl"), OpenOutcome::Missing);
    assert!(host.pct("config 950").expect(0).stdout.contains("dev0: /dev/nvidiactl\n"));
    assert!(host.pct("config 950 --current").expect(0).stdout.contains("dev0: /dev/nvidia0\n"));
    container.restart();
    assert!(!container.conf().contains("pending"));
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
    assert_eq!(container.open("/dev/nvidia1"), OpenOutcome::Missing);
    assert_eq!(container.open("/dev/nvidiactl"), OpenOutcome::NoDriver);
}

#[test]
fn a_reboot_from_inside_takes_up_the_changes_and_ends_in_a_stop_where_a_device_is_missing() {
    let host = Host::new(HOST);
    let container = host.create(950, false);
    container.start();
    container.append("dev0: /dev/nvidia0\n");
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::Missing);
    // LXC makes a new one at each start
    let boot = || container.exec(&["cat", "/proc/sys/kernel/random/boot_id"]);
    let before = boot().expect(0).stdout;
    let again = || {
        let ran = boot();
        ran.code() == 0 && ran.stdout != before
    };
    container.exec(&["reboot", "-f"]);
    wait_for("the container to come back", again);
    assert_eq!(container.open("/dev/nvidia0"), OpenOutcome::NoDriver);
    host.remove("/dev/nvidia0");
    container.exec(&["reboot", "-f"]);
    wait_for("the container to stop", || !container.running());
    std::thread::sleep(Duration::from_millis(300));
    assert!(!container.running());
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_missing_device_makes_another_change_fail_after_it_is_written() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    container.append("dev0: /dev/none\n");
    let ran = host.pct("set 950 --cores 4").expect(255);
    assert_eq!(ran.stderr, "Device /dev/none does not exist\n");
    assert!(container.conf().contains("cores: 4\n"));
}

#[test]
fn a_rewrite_moves_notes_to_the_top_and_sorts_the_keys() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    let odd = "arch: amd64\n# BEGIN: gpu\ndev10: /dev/nvidia1\ndev2: /dev/nvidia0\n\n\
               lxc.mount.entry = /a b none bind 0 0\n# END\nfoo: bar\n  # x\n\
               lxc.namespace.keep: net\nlxc.cap.drop:\n[snap]\n#s\ncores: 1\n";
    host.write(&container.conf_path(), odd);
    let ran = host.pct("set 950 --cores 3").expect(0);
    assert!(ran.stderr.contains("unable to parse config:   # x"), "{}", ran.stderr);
    assert_eq!(
        container.conf(),
        "# BEGIN%3A gpu\n# END\narch: amd64\ncores: 3\ndev10: /dev/nvidia1\ndev2: /dev/nvidia0\n\
         foo: bar\nlxc.mount.entry: /a b none bind 0 0\nlxc.cap.drop: \n\n[snap]\n#s\ncores: 1\n"
    );
}

#[test]
fn who_does_not_get_the_lock_gives_up_after_ten_seconds() {
    let host = Host::new(HOST);
    let container = host.create(950, true);
    host.run("mkdir -p /run/lock/lxc").expect(0);
    let lock = "flock /run/lock/lxc/pve-config-950.lock";
    let start = Instant::now();
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| host.run(&format!("{lock} sh -c 'echo >/run/held; sleep 12'")));
        while !host.at("/run/held").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let said = container.start_fails();
        let path = "/run/lock/lxc/pve-config-950.lock";
        assert!(said.contains(&format!("can't lock file '{path}' - got timeout")), "{said}");
        assert!(start.elapsed() >= Duration::from_secs(10));
        holder.join().unwrap().expect(0);
    });
}
