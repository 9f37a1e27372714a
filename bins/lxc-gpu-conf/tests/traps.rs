//! The 24 traps of Proxmox VE's and NVIDIA's ways with containers, each with
//! what the tool does instead of falling into it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::*;
use serde_json::json;
use testbed::Bed;

const BARE: &str = "arch: amd64\nunprivileged: 1\n";

fn cause(bed: &Bed, name: &str) -> bool {
    causes(bed, 910).contains(name)
}

/// What the configuration is after `add`.
fn added(text: &str, args: &str) -> String {
    let bed = host(text);
    run(&bed, &format!("add 910 {args}")).expect(0);
    bed.read(&conf(910))
}

#[test]
fn trap_01_comments_do_not_mark_lines() {
    let text = "#a note: mine\n   # indented\narch: amd64\nunprivileged: 1\n";
    let after = added(text, "--gpu 0 --graphics --style mount");
    assert_eq!(after.matches('#').count(), 2, "none is written: {after}");
    // Proxmox VE writes the file anew: notes to the top, keys sorted, lines the
    // same; the tool knows its lines again
    let bed = host("#a note%3A mine\narch: amd64\nunprivileged: 1\n");
    run(&bed, "add 910 --gpu 0").expect(0);
    let mut lines: Vec<String> = bed.read(&conf(910)).lines().map(str::to_string).collect();
    lines.sort();
    bed.write(&conf(910), lines.join("\n") + "\n");
    let ran = run(&bed, "add 910 --gpu 0").expect(0);
    assert_eq!(statuses(&ran), only("unchanged"));
    run(&bed, "remove 910").expect(0);
    assert_eq!(bed.read(&conf(910)), "#a note%3A mine\narch: amd64\nunprivileged: 1\n");
}

#[test]
fn trap_02_nothing_is_added_behind_a_section() {
    for section in ["[pve:pending]\ncores: 6\n", "[clean]\narch: amd64\n", "[CLEAN]\n"] {
        for style in ["dev", "mount"] {
            let text = format!("{BARE}\n{section}");
            let after = added(&text, &format!("--gpu 0 --style {style}"));
            assert!(after.ends_with(&format!("\n{section}")), "{after}");
            assert!(after.rfind("nvidia") < after.rfind('['), "{after}");
        }
    }
    assert!(cause(&host(&format!("{BARE}\n[clean]\ndev0: /dev/nvidia0\n")), "snapshot-only"));
}

#[test]
fn trap_03_keys_that_are_dropped_are_told_and_never_written() {
    for key in ["lxc.hook.start-host", "lxc.namespace.share.net", "lxc.tty.dir", "lxc.proc.x"] {
        let bed = host(&format!("{GOOD}{key}: x\nfoo: kept by Proxmox VE\n"));
        let ran = run(&bed, "check 910").expect(1);
        assert_eq!(ran.one("check", "cause", "forbidden-key")["property"], key);
    }
    let bed = host(BARE);
    install_userspace(&bed, "550.163.01");
    run(&bed, "add 910 --gpu all --graphics --libs").expect(0);
    let written = bed.read(&conf(910));
    let keys = written.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key);
    let ours = |key: &str| {
        matches!(key, "arch" | "unprivileged" | "lxc.mount.entry" | "lxc.cgroup2.devices.allow")
            || key.strip_prefix("dev").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    };
    assert!(keys.clone().all(ours), "{:?}", keys.collect::<Vec<_>>());
}

#[test]
fn trap_04_lines_are_read_as_proxmox_reads_them() {
    let entry = "/dev/nvidia-modeset dev/nvidia-modeset none bind,optional,create=file";
    let bed = host(&format!("{GOOD}lxc.mount.entry : {entry}\n"));
    assert!(cause(&bed, "dropped-line"));
    // '=' is one, an empty value is one, and the last of two plain keys counts
    let text = format!("{GOOD}lxc.mount.entry = {entry}\nlxc.cap.drop:\n");
    let bed = host(&text);
    assert_eq!(causes(&bed, 910), none());
    assert!(run(&bed, "show 910").stdout.contains("nvidia-modeset"));
    let bed = host(&GOOD.replace("dev0: /dev/nvidia0", "dev0: /dev/nvidia7\ndev0: /dev/nvidia0"));
    assert_eq!(causes(&bed, 910), none());
}

#[test]
fn trap_05_keys_stand_in_bytewise_order() {
    let text: String = (0..10).map(|n| format!("dev{n}: /dev/x{n}\n")).collect();
    let after = added(&format!("arch: amd64\n{text}unprivileged: 1\nlxc.cap.drop:\n"), "--gpu 0");
    let keys: Vec<&str> = after.lines().filter_map(|line| line.split(':').next()).collect();
    let mut sorted = keys.clone();
    sorted.sort_by_key(|key| (key.starts_with("lxc."), key.to_string()));
    assert_eq!(keys, sorted);
    assert_eq!(&keys[2..5], ["dev1", "dev10", "dev11"]);
}

#[test]
fn trap_06_dev_is_written_only_for_nodes_that_are_there() {
    let bed = host(BARE);
    bed.drop_node("/dev/nvidia-uvm-tools");
    run(&bed, "add 910 --gpu 0").expect(0);
    assert!(!bed.read(&conf(910)).contains("uvm-tools"));
    bed.drop_node("/dev/nvidia-uvm");
    run(&bed, "add 910 --gpu 1").expect(4).one_line("the container would not start");
    assert!(cause(&bed, "missing-node"));
    run(&bed, "nodes").expect(0);
    assert!(!cause(&bed, "missing-node"));
}

#[test]
fn trap_07_dev_has_a_mode_that_lets_others_in_and_no_major() {
    let after = added(BARE, "--gpu 0");
    let devs: Vec<&str> = after.lines().filter(|line| line.starts_with("dev")).collect();
    assert!(devs.len() == 5 && devs.iter().all(|line| line.ends_with(",mode=0666")), "{after}");
    for mode in ["666", "0o666", "0888", "06660", "rw"] {
        run(&host(BARE), &format!("add 910 --gpu 0 --mode {mode}")).expect(2).one_line("--mode");
    }
    // another major changes nothing in it
    let bed = host(BARE);
    run(&bed, "add 910 --gpu 0").expect(0);
    let before = bed.read(&conf(910));
    set_uvm_major(&bed, 508);
    run(&bed, "sync 910").expect(0);
    assert_eq!(bed.read(&conf(910)), before);
}

#[test]
fn trap_08_a_node_is_given_under_its_own_name() {
    let after = added(BARE, "--gpu 0 --graphics");
    assert!(after.contains("/dev/dri/card1,") && !after.contains("by-path"), "{after}");
    let bed = host(&format!("{GOOD}dev9: /dev/dri/by-path/pci-0000:2b:00.0-render\n"));
    let ran = run(&bed, "check 910").expect(1);
    assert_eq!(ran.one("check", "cause", "link-path")["expected"], "/dev/dri/renderD128");
}

#[test]
fn trap_09_no_target_is_given_both_ways() {
    let bed = host(BY_HAND);
    run(&bed, "add 910 --gpu 0 --style dev").expect(4).one_line("file exists");
    let bed = host(GOOD);
    run(&bed, "add 910 --gpu 0 --style mount").expect(4).one_line("file exists");
    assert!(cause(&host(&format!("{GOOD}dev9: /dev/nvidia0\n")), "given-twice"));
}

#[test]
fn trap_10_rules_only_where_they_count_and_never_deny_a() {
    let unprivileged = added(BARE, "--gpu 0 --style mount");
    assert!(!unprivileged.contains("cgroup"), "{unprivileged}");
    let privileged = added("arch: amd64\n", "--gpu 0 --style mount");
    assert!(privileged.contains("devices.allow: c 195:0 rw\n"), "{privileged}");
    assert!(!privileged.contains(": a") || privileged.matches(": a").count() == 1, "arch only");
    // an id map makes it unprivileged too
    let mapped = "arch: amd64\nlxc.idmap: u 0 100000 65536\nlxc.idmap: g 0 100000 65536\n";
    assert!(!added(mapped, "--gpu 0 --style mount").contains("cgroup"));
    assert!(cause(&host(&format!("{GOOD}lxc.cgroup2.devices.allow: c 511:* rwm\n")), "idle-rule"));
    let denied =
        format!("{GOOD}lxc.cgroup2.devices.deny: a\nlxc.cgroup2.devices.allow: c 1:3 rw\n");
    assert!(cause(&host(&denied), "wiped-rules"));
    run(&host(&denied), "add 910 --gpu 0").expect(4).one_line("discards the rules");
}

#[test]
fn trap_11_rules_by_path_are_understood_and_ours_have_no_comment() {
    let by_path = BY_HAND.replace("c 511:* rwm", "/dev/nvidia-uvm rwm");
    assert_eq!(causes(&host(&by_path), 910), none());
    // it is looked up at each start: another major is no matter
    let bed = host(&by_path);
    set_uvm_major(&bed, 508);
    run(&bed, "nodes").expect(0);
    assert_eq!(causes(&bed, 910), none());
    assert!(cause(&host(&BY_HAND.replace("c 511:* rwm", "c 511:* rw # uvm")), "invalid-rule"));
    let rules = added("arch: amd64\n", "--gpu 0 --style mount");
    for rule in rules.lines().filter_map(|line| line.strip_prefix("lxc.cgroup2.devices.allow: ")) {
        let words: Vec<&str> = rule.split(' ').collect();
        assert!(matches!(words[..], ["c", numbers, "rw"] if numbers.contains(':')), "{rule}");
    }
}

#[test]
fn trap_12_an_empty_file_is_no_device() {
    let bed = host(BY_HAND);
    bed.drop_node("/dev/nvidia-uvm");
    bed.write("/dev/nvidia-uvm", "");
    fs::set_permissions(bed.at("/dev/nvidia-uvm"), fs::Permissions::from_mode(0o000)).unwrap();
    assert!(cause(&bed, "stub"));
    let ran = run(&bed, "show 910").expect(0);
    let nodes = ran.records[0]["nodes"].as_array().unwrap();
    let uvm = nodes.iter().find(|node| node["path"] == "/dev/nvidia-uvm").unwrap();
    assert_eq!(uvm["present"], false);
    run(&bed, "add 910 --gpu 0").expect(4).one_line("is not a character device");
    // and inside: a name is not enough
    let bed = host(GOOD);
    start(&bed, 910, &[("nvidia0", 195, 0), ("nvidiactl", 195, 255)]);
    bed.write(&format!("/proc/{PID}/root/dev/nvidia-uvm"), "");
    let ran = run(&bed, "check 910").expect(1);
    assert_eq!(ran.one("check", "cause", "not-restarted")["actual"], "no device");
}

#[test]
fn trap_13_the_hook_says_what_it_cannot_change_for_this_start() {
    // rules of the start at hand are made already: the hook fails with the command for the next
    let bed = host(&BY_HAND.replace("c 511:*", "c 509:*"));
    let before = bed.read(&conf(910));
    let ran = run(&bed, "hook 910 pre-start").expect(3);
    assert!(ran.stderr.contains("lxc-gpu-conf sync 910"), "{}", ran.stderr);
    assert_eq!(bed.read(&conf(910)), before);
    // what a mount needs it makes
    let bed = host(BY_HAND);
    bed.drop_node("/dev/nvidia-uvm");
    run(&bed, "hook 910 pre-start").expect(0);
    assert!(node(&bed, "/dev/nvidia-uvm").is_some());
    assert_eq!(bed.read(&conf(910)), BY_HAND);
}

#[test]
fn trap_14_the_hook_takes_no_lock() {
    let bed = host(GOOD);
    let path = bed.at("/run/lock/lxc/pve-config-910.lock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // what pct start holds while its hookscript runs
    let held = fs::File::options().create(true).append(true).open(&path).unwrap();
    held.lock().unwrap();
    let start = Instant::now();
    for phase in ["pre-start", "post-start", "pre-stop", "post-stop"] {
        let ran = run(&bed, &format!("hook 910 {phase}")).expect(0);
        assert_eq!(ran.stderr, "", "{phase}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn trap_15_it_waits_for_proxmoxs_lock_and_minds_the_property() {
    let bed = host(BARE);
    let path = bed.at("/run/lock/lxc/pve-config-910.lock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let held = fs::File::options().create(true).append(true).open(&path).unwrap();
    held.lock().unwrap();
    let waiting = std::thread::scope(|scope| {
        let tool = bed.tool(TOOL).args("add 910 --gpu 0");
        let thread = scope.spawn(move || tool.run());
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(bed.read(&conf(910)), BARE, "not before it has the lock");
        // meanwhile Proxmox VE writes: that is read again
        bed.write(&conf(910), format!("{BARE}lock: backup\n"));
        held.unlock().unwrap();
        thread.join().unwrap()
    });
    waiting.expect(4).one_line("locked by Proxmox VE (lock: backup)");
    assert!(path.exists(), "the file is never unlinked");
}

#[test]
fn trap_16_the_file_is_replaced_with_proxmoxs_own_mode() {
    let bed = host(BARE);
    fs::set_permissions(bed.at(&conf(910)), fs::Permissions::from_mode(0o640)).unwrap();
    run(&bed, "add 910 --gpu 0").expect(0);
    let mode = fs::metadata(bed.at(&conf(910))).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let names: Vec<String> = fs::read_dir(bed.at("/etc/pve/lxc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().all(|name| name.ends_with(".conf")), "{names:?}");
}

#[test]
fn trap_17_without_quorum_or_cluster_file_system_nothing_is_tried() {
    // pmxcfs shows a loss of quorum in the mode of /etc/pve/local, which a link
    // elsewhere cannot: tests/pmxcfs has that side. Here: no link, no mount.
    for there in ["directory", "nothing"] {
        let bed = host(GOOD);
        fs::remove_file(bed.at("/etc/pve/local")).unwrap();
        if there == "directory" {
            fs::create_dir(bed.at("/etc/pve/local")).unwrap();
        }
        for verb in ["add 910 --gpu 0", "remove 910", "sync 910", "check 910", "show --all"] {
            run(&bed, verb).expect(3).one_line("is not Proxmox VE's cluster file system");
        }
        assert_eq!(bed.read(&conf(910)), GOOD);
    }
    let bed = host(&format!("{BARE}#{}\n", "x".repeat((1 << 20) - BARE.len() - 10)));
    run(&bed, "add 910 --gpu 0").expect(4).one_line("1 MiB");
}

#[test]
fn trap_18_majors_are_looked_up_by_whole_name() {
    let bed = host("arch: amd64\n");
    let devices = bed.read("/proc/devices");
    bed.write(
        "/proc/devices",
        devices.replace("511 nvidia-uvm", "509 my-nvidia-uvm\n508 nvidia-uvm\n510 nvidia-uvm-x")
            + "  7 nvidia-uvm\n",
    );
    run(&bed, "nodes").expect(0);
    run(&bed, "add 910 --gpu 0 --style mount").expect(0);
    assert!(bed.read(&conf(910)).contains("allow: c 508:0 rw\n"));
    // 195 has had several names
    for name in ["nvidia-frontend", "nvidia"] {
        let bed = Bed::new(HOST);
        let devices = bed.read("/proc/devices");
        let kept = devices.lines().filter(|line| !line.starts_with("195 "));
        let lines: String = kept.map(|line| format!("{line}\n")).collect();
        let lines =
            lines.replacen("Character devices:\n", &format!("Character devices:\n195 {name}\n"), 1);
        bed.write("/proc/devices", lines);
        run(&bed, "add 904 --gpu 0").expect(0);
        assert_eq!(causes(&bed, 904), none(), "{name}");
    }
}

#[test]
fn trap_19_a_card_is_known_by_its_address() {
    // minor, order on the bus and DRM number all differ
    let bed = host(BARE);
    swap_cards(&bed);
    run(&bed, "add 910 --gpu 2b:00.0 --graphics").expect(0);
    let text = bed.read(&conf(910));
    assert!(text.contains("/dev/nvidia1,") && !text.contains("/dev/nvidia0,"), "{text}");
    assert!(text.contains("/dev/dri/card1,") && text.contains("renderD128,"), "{text}");
}

#[test]
fn trap_20_mig_takes_three_nodes_and_never_the_right_to_reconfigure() {
    let bed = Bed::new(A100);
    run(&bed, "remove 101").expect(0);
    // the table lists every instance that could be; this one is not
    run(&bed, "add 101 --gpu 0 --mig 5/0").expect(4).one_line("has no MIG instance 5/0");
    run(&bed, "add 101 --gpu 0 --mig 9/0 --mig-monitor").expect(0);
    let text = bed.read(&conf(101));
    for path in ["/dev/nvidia0,", "nvidia-cap84,", "nvidia-cap85,", "nvidia-cap2,"] {
        assert!(text.contains(path), "{path}: {text}");
    }
    assert!(!text.contains("nvidia-cap1,") && !text.contains("nvidia-cap0,"), "{text}");
    assert!(causes(&Bed::new(A100), 102).contains("mig-admin"));
}

#[test]
fn trap_21_every_node_is_made_also_where_nvidia_modprobe_makes_none() {
    // below --root it is never run: what it leaves undone is made from /proc/devices.
    // That both calls are made, in their order, tests/lab has.
    let bed = host(GOOD);
    let list = bed.read("/dev.list");
    let kept = list.lines().filter(|line| !line.contains("/dev/nvidia"));
    bed.write("/dev.list", kept.map(|line| format!("{line}\n")).collect::<String>());
    run(&bed, "nodes").expect(0);
    for name in ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"] {
        assert!(node(&bed, &format!("/dev/{name}")).is_some(), "{name}");
    }
    assert_eq!(causes(&bed, 910), none());
}

#[test]
fn trap_22_the_drivers_mode_is_decimal_and_not_for_uvm() {
    let bed = host(GOOD);
    let params = bed.read("/proc/driver/nvidia/params");
    bed.write("/proc/driver/nvidia/params", params.replace("Mode: 438", "Mode: 416"));
    for path in ["/dev/nvidia0", "/dev/nvidia-uvm"] {
        bed.drop_node(path);
    }
    run(&bed, "nodes").expect(0);
    assert_eq!(node(&bed, "/dev/nvidia0").unwrap().2, 0o640);
    assert_eq!(node(&bed, "/dev/nvidia-uvm").unwrap().2, 0o666);
}

#[test]
fn trap_23_the_default_mode_is_the_one_that_programs_inside_would_set() {
    // nvidia-modprobe inside may set what /proc/driver/nvidia/params says, 0666: with
    // that as the default it changes nothing. Another mode is the asker's to keep.
    let text = added(BARE, "--gpu 0");
    assert!(text.lines().filter(|l| l.contains("/dev/")).all(|l| l.ends_with("mode=0666")));
    let bed = host(BARE);
    let params = bed.read("/proc/driver/nvidia/params");
    assert!(params.contains("DeviceFileMode: 438") && params.contains("ModifyDeviceFiles: 1"));
    run(&bed, "add 910 --gpu 0 --mode 0660 --gid 44").expect(0);
    assert!(bed.read(&conf(910)).contains("/dev/nvidia0,gid=44,mode=0660\n"));
    // it is kept by who does not ask for another
    run(&bed, "add 910 --gpu 0").expect(0);
    run(&bed, "sync 910").expect(0);
    assert!(bed.read(&conf(910)).contains("/dev/nvidia0,gid=44,mode=0660\n"));
}

#[test]
fn trap_24_capabilities_are_given_and_no_major_is_taken_for_granted() {
    // where others leave out /dev/nvidia-caps and write 195 for all
    let bed = Bed::new(A100);
    run(&bed, "remove 101").expect(0);
    let devices = bed.read("/proc/devices");
    bed.write("/proc/devices", devices.replace("242 nvidia-caps", "247 nvidia-caps"));
    bed.write(&conf(101), bed.read(&conf(101)).replace("unprivileged: 1\n", ""));
    run(&bed, "add 101 --gpu 0 --mig 2/0 --style mount").expect(4).one_line("uses 247:21");
    for cap in [21, 22] {
        bed.drop_node(&format!("/dev/nvidia-caps/nvidia-cap{cap}"));
        bed.add_nodes(&format!("c /dev/nvidia-caps/nvidia-cap{cap} 247:{cap} 0444 0:0\n"));
    }
    run(&bed, "add 101 --gpu 0 --mig 2/0 --style mount").expect(0);
    let text = bed.read(&conf(101));
    assert!(text.contains("allow: c 247:21 r\n") && text.contains("allow: c 238:0 rw\n"), "{text}");
    // LXC's own hook is somebody's choice and left alone
    let hook = format!(
        "{GOOD}lxc.hook.mount: /usr/share/lxc/hooks/nvidia\n\
        lxc.environment: NVIDIA_VISIBLE_DEVICES=void\n"
    );
    let bed = host(&hook);
    assert_eq!(causes(&bed, 910), none());
    let ran = run(&bed, "remove 910").expect(0);
    assert_eq!(ran.values("change", "to"), vec![json!(null); 3]);
    assert!(bed.read(&conf(910)).contains("hooks/nvidia"));
}
