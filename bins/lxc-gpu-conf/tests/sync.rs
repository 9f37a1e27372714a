//! `sync`: numbers moved, and the container has again what it was given.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::*;
use serde_json::{Value, json};
use testbed::Bed;

const BARE: &str = "arch: amd64\nostype: debian\nunprivileged: 1\n";

fn given(text: &str, args: &str) -> Bed {
    let bed = host(text);
    run(&bed, &format!("add 910 {args}")).expect(0);
    bed
}

/// Syncs, and a second time there is nothing to do.
fn sync(bed: &Bed, ctid: u32) -> String {
    run(bed, &format!("sync {ctid}")).expect(0);
    let after = bed.read(&conf(ctid));
    let again = run(bed, &format!("sync {ctid}")).expect(0);
    assert_eq!(statuses(&again), only("unchanged"), "{}", again.stdout);
    assert_eq!(bed.read(&conf(ctid)), after);
    assert_eq!(causes(bed, ctid), none(), "{after}");
    after
}

#[test]
fn a_container_that_is_right_is_left_alone() {
    for (machine, ctid) in [(A100, 101), ("desktop-one-group", 101)] {
        let bed = Bed::new(machine);
        let before = bed.read(&conf(ctid));
        let ran = run(&bed, &format!("sync {ctid}")).expect(0);
        assert_eq!(statuses(&ran), only("unchanged"), "{machine}: {}", ran.stdout);
        assert_eq!(bed.read(&conf(ctid)), before);
    }
    let bed = Bed::new(HOST);
    run(&bed, "sync 901").expect(0).one_line("ct 901 has no GPU");
    let bed = Bed::new("pve9-l40s-vgpu");
    let ran = run(&bed, "sync --all");
    assert!(ran.stderr.contains("no container has a GPU"), "{}", ran.stderr);
}

#[test]
fn another_uvm_major_makes_nodes_and_rules_anew() {
    let bed = given("arch: amd64\n", "--gpu 0 --style mount");
    let dev = bed.read(&conf(901));
    run(&bed, "add 901 --gpu 0").expect(0);
    set_uvm_major(&bed, 508);
    let ran = run(&bed, "check 910").expect(1);
    let stale = ran.of_type("check").find(|check| check["cause"] == "stale-node").unwrap();
    assert_eq!((&stale["expected"], &stale["actual"]), (&json!("508:0"), &json!("511:0")));
    let ran = run(&bed, "sync 910 --check").expect(1);
    assert!(!bed.at("/dev/nvidia-uvm").exists());
    assert!(ran.values("check", "expected").contains(&json!("508:0")), "{}", ran.stdout);
    let ran = run(&bed, "sync --all").expect(0);
    let to = |property: &str| ran.one("change", "property", property)["to"].clone();
    assert_eq!(
        (to("/dev/nvidia-uvm"), to("/dev/nvidia-uvm-tools")),
        (json!("508:0"), json!("508:1"))
    );
    let text = bed.read(&conf(910));
    let rules: Vec<&str> = text.lines().filter(|l| l.contains("c 5")).collect();
    assert_eq!(
        rules,
        ["lxc.cgroup2.devices.allow: c 508:0 rw", "lxc.cgroup2.devices.allow: c 508:1 rw"]
    );
    assert_eq!(causes(&bed, 910), none());
    assert_eq!(node(&bed, "/dev/nvidia-uvm").unwrap().1, 0);
    // dev[n] has no number in it
    assert_eq!(gone(&bed.read(&conf(901)), &dev).len(), 5);
    assert_eq!(statuses(&run(&bed, "sync --all").expect(0)), only("unchanged"));
}

#[test]
fn a_hand_made_block_of_before_gets_the_major_of_now() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(902));
    let after = sync(&bed, 902);
    assert_eq!(gone(&before, &after), [""; 0], "509 may be another device's by now");
    assert_eq!(gone(&after, &before).len(), 2);
    // the tool's own pair is its own to replace
    set_uvm_major(&bed, 508);
    let again = sync(&bed, 902);
    assert_eq!(gone(&after, &again).len(), 2);
    assert!(again.contains("c 509:* rwm") && !again.contains("c 511:"), "{again}");
    assert!(!bed.at(&state(902)).exists(), "nothing was asked for");
}

#[test]
fn two_cards_that_change_places_keep_their_containers() {
    for (text, args) in [
        (BARE, "--gpu 2b:00.0 --graphics"),
        (BARE, "--gpu all --graphics"),
        (BARE, "--gpu 2b:00.0 --style mount"),
        ("arch: amd64\n", "--gpu 2b:00.0 --style mount"),
        ("arch: amd64\n", "--gpu all --style mount"),
    ] {
        let bed = given(text, args);
        let before = bed.read(&conf(910));
        swap_cards(&bed);
        assert!(causes(&bed, 910).contains("other-card"), "{args}");
        let after = sync(&bed, 910);
        if args.contains("all") {
            let sorted = |text: &str| {
                let mut lines: Vec<String> =
                    text.lines().map(|l| l.split(": ").last().unwrap().to_string()).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&after), sorted(&before));
        } else {
            let expected = before.replace("nvidia0", "nvidia1").replace("c 195:0", "c 195:1");
            assert_eq!(after, expected, "{args}");
        }
        let shown = run(&bed, "show 910").expect(0);
        assert!(shown.values("lxc-gpu", "gpu").contains(&json!("0000:2b:00.0")));
        // and back
        set_minor(&bed, "2b:00.0", 0);
        set_minor(&bed, "2c:00.0", 1);
        assert_eq!(sync(&bed, 910), before);
    }
}

#[test]
fn a_card_in_another_slot_is_known_by_its_uuid() {
    let bed = given(BARE, "--gpu 2b:00.0");
    let dir = |a: &str| bed.at(&format!("/proc/driver/nvidia/gpus/0000:{a}"));
    fs::rename(dir("2b:00.0"), dir("x")).unwrap();
    fs::rename(dir("2c:00.0"), dir("2b:00.0")).unwrap();
    fs::rename(dir("x"), dir("2c:00.0")).unwrap();
    set_minor(&bed, "2b:00.0", 0);
    set_minor(&bed, "2c:00.0", 1);
    let after = sync(&bed, 910);
    assert!(after.contains("dev0: /dev/nvidia1,mode=0666"), "{after}");
    let shown = run(&bed, "show 910").expect(0);
    assert_eq!(shown.records[0]["uuid"], "GPU-00000000-0000-0000-0000-000000000001");
}

#[test]
fn a_drm_card_with_another_number_is_followed() {
    let bed = given(BARE, "--gpu 2b:00.0 --graphics --gid 44");
    let before = bed.read(&conf(910));
    let dir = bed.at("/sys/bus/pci/devices/0000:2b:00.0/drm");
    fs::rename(dir.join("card1"), dir.join("card5")).unwrap();
    bed.drop_node("/dev/dri/card1");
    bed.add_nodes("c /dev/dri/card5 226:5 0660 0:44\n");
    assert_eq!(sync(&bed, 910), before.replace("card1", "card5"));
}

#[test]
fn mig_capabilities_follow_their_card() {
    let bed = Bed::new(A100);
    run(&bed, "remove 101").expect(0);
    run(&bed, "add 101 --gpu 01:00.0 --mig 2/0").expect(0);
    let before = bed.read(&conf(101));
    assert!(before.contains("nvidia-cap21,") && before.contains("nvidia-cap22,"), "{before}");
    // the first two cards change places: instance 2 of what is GPU 1 now has 156 and 157
    set_minor(&bed, "01:00.0", 1);
    set_minor(&bed, "41:00.0", 0);
    let caps = |n: u32| bed.at(&format!("/proc/driver/nvidia/capabilities/gpu{n}"));
    fs::rename(caps(0), caps(9)).unwrap();
    fs::rename(caps(1), caps(0)).unwrap();
    fs::rename(caps(9), caps(1)).unwrap();
    bed.add_nodes("c /dev/nvidia-caps/nvidia-cap156 242:156 0444 0:0\nc /dev/nvidia-caps/nvidia-cap157 242:157 0444 0:0\n");
    let found = causes(&bed, 101);
    assert!(found.contains("other-card") && found.contains("mig-gone"), "{found:?}");
    let expected = before
        .replace("nvidia0,", "nvidia1,")
        .replace("cap21,", "cap156,")
        .replace("cap22,", "cap157,");
    assert_eq!(sync(&bed, 101), expected);
}

#[test]
fn a_card_that_is_gone_is_refused_and_the_others_are_brought_right() {
    let bed = given(BARE, "--gpu 2b:00.0");
    run(&bed, "add 904 --gpu 2c:00.0 --style mount").expect(0);
    let before = bed.read(&conf(910));
    pull_card(&bed, "2b:00.0");
    bed.drop_node("/dev/nvidia0");
    set_minor(&bed, "2c:00.0", 0);
    bed.add_nodes("c /dev/nvidia0 195:0 0666 0:0\n");
    let ran = run(&bed, "sync --all").expect(4);
    assert!(
        ran.stderr.contains("ct 910: GPU-00000000-0000-0000-0000-000000000001"),
        "{}",
        ran.stderr
    );
    let refused = ran.one("change", "status", "refused");
    assert_eq!((&refused["target"], &refused["property"]), (&json!("ct 910"), &json!("gpu")));
    assert_eq!(bed.read(&conf(910)), before);
    assert!(bed.read(&conf(904)).contains("/dev/nvidia0 dev/nvidia0 "));
    let error = "{\"type\":\"error\"";
    assert!(!ran.stdout.contains(error), "each refusal is a record of its own: {}", ran.stdout);
}

#[test]
fn a_state_that_cannot_be_understood_counts_for_nothing() {
    let hostile = [
        "",
        "{",
        "null",
        "[]",
        "\u{0}",
        "{\"version\":1}",
        "{\"version\":99,\"ctid\":910,\"wish\":{},\"names\":{}}",
        // of another container
        "{\"version\":1,\"ctid\":904,\"wish\":{\"gpus\":[],\"mig\":[],\"mig_monitor\":false,\"graphics\":false,\"imex\":[],\"fabric\":false,\"uid\":null,\"gid\":null,\"mode\":null,\"userspace\":null},\"names\":{}}",
    ];
    let deep = "[".repeat(100_000);
    for text in hostile.into_iter().chain([deep.as_str()]) {
        let bed = host(&BY_HAND.replace("c 511:*", "c 509:*"));
        bed.write(&state(910), text);
        assert_eq!(causes(&bed, 910), BTreeSet::from(["no-rule".to_string()]));
        let after = sync(&bed, 910);
        assert!(after.contains("c 511:0 rw"), "{after}");
    }
    // one that says what nobody asked for is not obeyed further than its words are valid
    let bed = given(BARE, "--gpu 0");
    let good = bed.read(&state(910));
    for (from, to) in [
        ("\"mode\":null", "\"mode\":\"0666\\nlxc.init.cmd: /bin/sh\""),
        ("/dev/nvidia0\"", "/dev/nvidia0\\ndev9: /dev/sda\""),
        ("0000:2b:00.0", "../../etc"),
    ] {
        let before = bed.read(&conf(910));
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        bed.write(&state(910), bad);
        let ran = run(&bed, "sync 910");
        assert!(matches!(ran.code(), 0 | 4), "{}{}", ran.stdout, ran.stderr);
        let after = bed.read(&conf(910));
        assert_eq!(after, before, "{to}");
    }
    // nor is a link or directory in its place followed or fatal
    let bed = given(BARE, "--gpu 0");
    fs::remove_file(bed.at(&state(910))).unwrap();
    fs::create_dir(bed.at(&state(910))).unwrap();
    run(&bed, "sync 910").expect(0);
    let ran = run(&bed, "add 910 --gpu all").expect(0);
    assert!(ran.stderr.contains("cannot be stored"), "{}", ran.stderr);
    assert!(bed.read(&conf(910)).contains("/dev/nvidia1,"));
}

#[test]
fn nothing_is_written_by_a_dry_run_or_a_check() {
    let bed = given("arch: amd64\n", "--gpu 0 --style mount");
    set_uvm_major(&bed, 508);
    swap_cards(&bed);
    let before = bed.contents();
    let ran = run(&bed, "sync 910 --dry-run").expect(0);
    assert!(statuses(&ran).contains("planned"), "{}", ran.stdout);
    run(&bed, "sync 910 --check").expect(1);
    run(&bed, "sync --all --check").expect(1);
    let ran = run(&bed, "sync --all --dry-run").expect(0);
    assert!(!ran.values("change", "to").contains(&Value::Null) || ran.stdout.contains("planned"));
    assert!(bed.contents() == before);
}

#[test]
fn bad_input_and_what_cannot_be_changed_now() {
    let bed = given(BARE, "--gpu 0");
    bed.write("/etc/pve/nodes/pve2/lxc/907.conf", GOOD);
    for (args, code, what) in [
        ("", 2, "CTID"),
        ("99", 2, "by its CTID"),
        ("999", 2, "container 999 does not exist"),
        ("100", 2, "100 is a VM"),
        ("907", 2, "is on cluster node pve2"),
        ("910 --all", 2, "--all"),
    ] {
        run(&bed, &format!("sync {args}")).expect(code).one_line(what);
    }
    // a lock of Proxmox VE's keeps one from being changed, not the others
    bed.write(&conf(903), bed.read(&conf(903)) + "dev0: /dev/nvidia0\n");
    let ran = run(&bed, "sync --all");
    assert_eq!(ran.code(), 4);
    assert!(ran.stderr.contains("ct 903 is locked by Proxmox VE (lock: backup)"), "{}", ran.stderr);
    assert!(ran.values("change", "target").contains(&json!("ct 910")));
}

#[test]
fn what_is_remembered_of_containers_that_are_gone_is_forgotten() {
    let bed = given(BARE, "--gpu 0");
    run(&bed, "add 904 --gpu 0").expect(0);
    fs::remove_file(bed.at(&conf(904))).unwrap();
    bed.write("/var/lib/pve-gpu-tools/lxc/note.txt", "mine");
    run(&bed, "sync --all --dry-run").expect(0);
    assert!(bed.at(&state(904)).exists());
    run(&bed, "sync --all").expect(0);
    assert!(!bed.at(&state(904)).exists() && bed.at(&state(910)).exists());
    assert!(bed.at("/var/lib/pve-gpu-tools/lxc/note.txt").exists());
}

#[test]
fn a_running_container_is_told_to_restart() {
    let bed = given("arch: amd64\n", "--gpu 0 --style mount");
    start(&bed, 910, &[]);
    set_uvm_major(&bed, 508);
    let ran = run(&bed, "sync 910").expect(0);
    assert!(ran.stderr.contains("ct 910: the container is running; restart it for the change to take effect (pct reboot 910)"), "{}", ran.stderr);
}

/// `c 510:* rwm` is a TPU's by its guide; which driver had a number, the number
/// does not say.
#[test]
fn a_rule_that_may_be_another_devices_is_kept_and_named() {
    let bed = host(&BY_HAND.replace("c 511:*", "c 510:*"));
    let before = bed.read(&conf(910));
    assert_eq!(causes(&bed, 910), BTreeSet::from(["no-rule".to_string()]));
    let ran = run(&bed, "sync 910").expect(0);
    assert!(ran.stderr.contains("'c 510:* rwm'"), "{}", ran.stderr);
    let after = bed.read(&conf(910));
    assert_eq!(gone(&before, &after), [""; 0]);
    assert_eq!(gone(&after, &before), ["lxc.cgroup2.devices.allow: c 511:0 rw"]);
    assert_eq!(causes(&bed, 910), none());
    // nor do remove and --convert take it
    let kept = "lxc.cgroup2.devices.allow: c 510:* rwm\n";
    run(&bed, "add 910 --convert").expect(0);
    assert!(bed.read(&conf(910)).contains(kept), "{}", bed.read(&conf(910)));
    assert_eq!(causes(&bed, 910), none());
    run(&bed, "remove 910").expect(0);
    assert!(bed.read(&conf(910)).contains(kept), "{}", bed.read(&conf(910)));
    let bed = host(&before);
    run(&bed, "remove 910").expect(0);
    assert_eq!(bed.read(&conf(910)), format!("arch: amd64\nostype: debian\n{kept}"));
}

/// A rule that the tool wrote is its own in a container without the pair as well.
#[test]
fn what_is_remembered_is_stale_for_check_and_goes_with_every_verb() {
    let made = || {
        let bed = given("arch: amd64\n", "--gpu 0 --style mount");
        let text = bed.read(&conf(910));
        let text = text.lines().filter(|line| !line.contains("c 511:1 rw"));
        bed.write(&conf(910), text.map(|line| format!("{line}\n")).collect::<String>());
        set_uvm_major(&bed, 508);
        assert!(causes(&bed, 910).contains("stale-rule"));
        bed
    };
    for verb in ["sync 910", "remove 910", "add 910 --convert"] {
        let bed = made();
        run(&bed, "nodes").expect(0);
        run(&bed, verb).expect(0);
        assert!(!bed.read(&conf(910)).contains("c 511:"), "{verb}: {}", bed.read(&conf(910)));
        assert_eq!(causes(&bed, 910), none(), "{verb}");
    }
}

/// One card of two, and of its DRM nodes only the render node, by exact rules
/// beside a mounted /dev/dri.
#[test]
fn rules_that_allow_part_of_a_directory_stay_as_narrow_as_they_are() {
    let bed = host(&format!(
        "{}lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir\n",
        BY_HAND.replace(
            "lxc.cgroup2.devices.allow: c 195:* rwm\n",
            "lxc.cgroup2.devices.allow: c 195:0 rwm\nlxc.cgroup2.devices.allow: c 195:255 rwm\n\
             lxc.cgroup2.devices.allow: c 226:128 rwm\n"
        )
    ));
    let before = bed.read(&conf(910));
    assert_eq!(causes(&bed, 910), none());
    assert_eq!(sync(&bed, 910), before);
    // nor is allowed what a rule denies
    let rules = "c 195:0 rwm\nlxc.cgroup2.devices.allow: c 195:255 rwm\n";
    let text = BY_HAND.replace("c 195:* rwm\n", rules);
    // the same numbers and access: LXC turns the rule that allows into one that denies
    let bed = host(&format!("{text}lxc.cgroup2.devices.deny: c 195:0 rwm\n"));
    let before = bed.read(&conf(910));
    run(&bed, "sync 910").expect(0);
    assert_eq!(bed.read(&conf(910)), before);
    let ran = run(&bed, "check 910").expect(1);
    let finding = ran.one("check", "cause", "no-rule");
    assert!(finding["hint"].as_str().unwrap().contains("c 195:0 rwm"), "{finding}");
}

#[test]
fn what_the_administrator_removed_or_changed_stays_so() {
    let bed = given(BARE, "--gpu 0 --graphics --gid 44");
    let text = bed.read(&conf(910));
    let kept: String = text
        .lines()
        .filter(|line| !line.contains("uvm-tools") && !line.contains("/dev/dri/card1"))
        .map(|line| line.replace("gid=44", "gid=104") + "\n")
        .collect();
    assert_ne!(kept, text);
    bed.write(&conf(910), &kept);
    assert_eq!(sync(&bed, 910), kept);
    // also where the numbers changed since
    swap_cards(&bed);
    assert_eq!(sync(&bed, 910), kept.replace("nvidia0", "nvidia1"));
}

#[test]
fn a_card_that_left_the_configuration_and_the_host_does_not_stop_the_other() {
    let bed = given(BARE, "--gpu all");
    let text = bed.read(&conf(910));
    let kept: String =
        text.lines().filter(|l| !l.contains("nvidia1")).map(|l| format!("{l}\n")).collect();
    bed.write(&conf(910), &kept);
    pull_card(&bed, "2c:00.0");
    assert_eq!(sync(&bed, 910), kept);
}

#[test]
fn a_ctid_that_is_used_again_keeps_the_gpu_of_the_new_container() {
    let bed = given(&format!("{BARE}rootfs: tank:subvol-910-disk-0,size=8G\n"), "--gpu 2b:00.0");
    swap_cards(&bed);
    // destroyed; the next 910 is made on another volume with the card at minor 0
    let new = GOOD.replace("subvol-910-disk-0", "subvol-910-disk-1");
    bed.write(&conf(910), &new);
    assert_eq!(causes(&bed, 910), none());
    assert_eq!(sync(&bed, 910), new);
    // with its own volume it is the container that the tool knows
    let bed = given(&format!("{BARE}rootfs: tank:subvol-910-disk-0,size=8G\n"), "--gpu 2b:00.0");
    swap_cards(&bed);
    bed.write(&conf(910), bed.read(&conf(910)).replace("size=8G", "size=16G"));
    assert!(sync(&bed, 910).contains("/dev/nvidia1,"));
}
