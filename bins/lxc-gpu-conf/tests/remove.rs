//! `remove`: what goes, what stays, and what is remembered afterwards.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use common::*;
use serde_json::{Value, json};
use testbed::Bed;

const RULES: &str = "lxc.cgroup2.devices.allow: c 226:* rwm\n";

#[test]
fn what_add_gave_goes_to_the_byte() {
    for (machine, ctid, args) in [
        (HOST, 901, "--gpu all"),
        (HOST, 901, "--gpu all --graphics"),
        (HOST, 901, "--gpu all --style mount --graphics"),
        (HOST, 904, "--gpu 1 --uid 7 --gid 8 --mode 0640"),
        ("iommu-off", 101, "--gpu all"),
        (A100, 102, "--gpu 1 --mig 5/0 --mig-monitor --style dev --convert"),
    ] {
        let bed = Bed::new(machine);
        run(&bed, &format!("remove {ctid}")).expect(0);
        let before = bed.read(&conf(ctid));
        run(&bed, &format!("add {ctid} {args}")).expect(0);
        assert!(bed.at(&state(ctid)).exists(), "{args}");
        let ran = run(&bed, &format!("remove {ctid}")).expect(0);
        assert_eq!(statuses(&ran), only("changed"), "{args}");
        assert!(
            ran.stderr.contains("the change takes effect the next time the container starts"),
            "{}",
            ran.stderr
        );
        assert_eq!(bed.read(&conf(ctid)), before, "{args}");
        assert!(!bed.at(&state(ctid)).exists(), "{args}: nothing is left to remember");
        let again = run(&bed, &format!("remove {ctid}")).expect(0);
        again.one_line(&format!("ct {ctid} has nothing to remove"));
    }
}

#[test]
fn a_hand_made_block_goes_but_what_is_not_nvidias_alone_stays() {
    let bed = Bed::new(HOST);
    let before = bed.read(&conf(902));
    let ran = run(&bed, "remove 902").expect(0);
    let after = bed.read(&conf(902));
    assert_eq!(gone(&before, &after).len(), 6, "{after}");
    // the rules for all of DRM and for a major of no NVIDIA driver may be another device's
    let unknown = "lxc.cgroup2.devices.allow: c 509:* rwm\n";
    assert!(after.ends_with(&format!("swap: 0\n{unknown}{RULES}")), "{after}");
    assert_eq!(ran.values("change", "to"), vec![Value::Null; 6]);
    // and a snapshot is nobody's to change
    let bed = Bed::new(A100);
    let text = bed.read(&conf(102));
    run(&bed, "remove 102").expect(0);
    let after = bed.read(&conf(102));
    let tail = text.find("\n[pve:pending]").unwrap();
    assert!(after.ends_with(&text[tail..]), "{after}");
    assert!(!after[..after.find("\n[pve").unwrap()].contains("nvidia"), "{after}");
}

#[test]
fn one_gpu_goes_and_the_last_takes_with_it_what_all_share() {
    for name in ["2c:00.0", "1", "GPU-00000000-0000-0000-0000-000000000002", "0000:2C:00.0"] {
        let bed = Bed::new(HOST);
        run(&bed, "add 904 --gpu all --graphics").expect(0);
        let before = bed.read(&conf(904));
        run(&bed, &format!("remove 904 --gpu {name}")).expect(0);
        let lines = gone(&before, &bed.read(&conf(904)));
        let nodes: Vec<&str> = lines.iter().map(|l| l.split([' ', ',']).nth(1).unwrap()).collect();
        assert_eq!(nodes, ["/dev/nvidia1", "/dev/dri/card2", "/dev/dri/renderD129"], "{name}");
        assert_eq!(causes(&bed, 904), none());
        // sync does not bring it back
        let ran = run(&bed, "sync 904").expect(0);
        assert_eq!(statuses(&ran), only("unchanged"), "{}", ran.stdout);
        run(&bed, "remove 904 --gpu 2b:00.0").expect(0);
        assert!(!bed.read(&conf(904)).contains("/dev/"));
        assert!(!bed.at(&state(904)).exists());
    }
    // by minor also where the card is gone
    let bed = host(&GOOD.replace("nvidia0", "nvidia7"));
    run(&bed, "remove 910 --gpu 7").expect(0);
    assert!(!bed.read(&conf(910)).contains("nvidia"));
    // records on standard input
    let bed = Bed::new(HOST);
    run(&bed, "add 904 --gpu all").expect(0);
    let record = "{\"type\":\"pci-device\",\"address\":\"0000:2b:00.0\"}\n";
    bed.tool(TOOL).args("remove 904 --gpu -").input(record).run().expect(0);
    let text = bed.read(&conf(904));
    assert!(!text.contains("nvidia0,") && text.contains("nvidia1,"), "{text}");
}

#[test]
fn a_node_that_was_taken_away_by_name_stays_away() {
    let bed = host("arch: amd64\nunprivileged: 1\n");
    run(&bed, "add 910 --gpu 0 --graphics").expect(0);
    run(&bed, "remove 910 --node /dev/nvidia-modeset,/dev/dri/card1").expect(0);
    let text = bed.read(&conf(910));
    assert!(!text.contains("modeset") && !text.contains("card1"), "{text}");
    assert!(text.contains("renderD128") && text.contains("uvm-tools"), "{text}");
    let ran = run(&bed, "sync 910").expect(0);
    assert_eq!(statuses(&ran), only("unchanged"), "{}", ran.stdout);
    assert_eq!(bed.read(&conf(910)), text);
    // who asks for it again gets it
    run(&bed, "add 910 --gpu 0 --graphics").expect(0);
    assert!(bed.read(&conf(910)).contains("modeset"));
    run(&bed, "sync 910").expect(0);
    assert!(bed.read(&conf(910)).contains("modeset"));
}

#[test]
fn rules_go_with_the_node_they_are_for() {
    let bed = host("arch: amd64\n");
    run(&bed, "add 910 --gpu all --style mount").expect(0);
    let ran = run(&bed, "remove 910 --gpu 1").expect(0);
    let from: Vec<Value> = ran.values("change", "from");
    assert!(from.contains(&json!("c 195:1 rw")), "{from:?}");
    assert_eq!(from.len(), 2, "{from:?}");
    assert_eq!(causes(&bed, 910), none());
    // a rule for all of a major serves others too
    let bed = host(
        &(BY_HAND.to_string()
            + "lxc.mount.entry: /dev/nvidia1 dev/nvidia1 none bind,optional,create=file\n"),
    );
    run(&bed, "remove 910 --gpu 1").expect(0);
    assert_eq!(bed.read(&conf(910)), BY_HAND);
}

#[test]
fn nothing_is_written_by_a_dry_run_or_a_check() {
    let bed = Bed::new(HOST);
    run(&bed, "add 904 --gpu 0").expect(0);
    let before = bed.contents();
    let ran = run(&bed, "remove 904 --dry-run").expect(0);
    assert_eq!(statuses(&ran), only("planned"));
    let ran = run(&bed, "remove 904 --check").expect(1);
    assert_eq!(ran.values("check", "status"), vec![json!("drift"); 5]);
    assert_eq!(commands(&ran.records[0]), ["lxc-gpu-conf remove 904"]);
    assert!(bed.contents() == before);
    run(&bed, "remove 901 --check").expect(0);
}

#[test]
fn bad_input_is_exit_2_and_what_is_unsafe_exit_4() {
    let bed = host(&format!("{GOOD}\n[pve:pending]\ndev4: /dev/nvidia1\n"));
    let before = bed.contents();
    for (args, what) in [
        ("", "a container id"),
        ("910 --gpu 99:00.0", "no GPU 99:00.0 is bound to the nvidia driver of this host"),
        ("910 --gpu GPU-1", "no GPU GPU-1"),
        ("910 --gpu", "--gpu"),
        ("910 --mig 2", "--mig '2' is not GI/CI"),
        ("910 --mig a/b", "--mig 'a/b' is not GI/CI"),
        ("910 --node /dev/sda", "--node '/dev/sda' is not a device node of a GPU"),
        ("910 --node nvidia0", "--node 'nvidia0' is not a device node of a GPU"),
        ("999", "container 999 does not exist"),
        ("100", "100 is a VM"),
        ("910 --wait 0", "0"),
    ] {
        let what = if args.is_empty() { "" } else { what };
        run(&bed, &format!("remove {args}")).expect(2).one_line(what);
    }
    let empty = bed.tool(TOOL).args("remove 910 --gpu -").input("").run();
    empty.expect(2).one_line("standard input is empty");
    let ran = run(&bed, "remove 910")
        .expect(4)
        .one_line("/dev/nvidia1 is given by dev4, which is a pending change");
    assert_eq!(commands(&ran.records[0]), ["pct set 910 --revert dev4"]);
    let ran = run(&bed, "remove 903").expect(4);
    ran.one_line("lock: backup");
    assert!(bed.at("/run").exists(), "the lock was taken for these two");
    let now = bed.contents();
    let kept = before.iter().all(|(path, text)| now.get(path) == Some(text));
    assert!(kept, "something changed");
    let bed = Bed::new(HOST);
    std::fs::remove_file(bed.at("/etc/pve/local")).unwrap();
    run(&bed, "remove 901").expect(3).one_line("is not Proxmox VE's cluster file system");
}

#[test]
fn a_mig_instance_goes_alone() {
    let bed = Bed::new(A100);
    // two compute instances of one GPU instance share its capability
    run(&bed, "add 101 --gpu 0 --mig 3/0,3/1").expect(0);
    let before = bed.read(&conf(101));
    run(&bed, "remove 101 --mig 3/0").expect(0);
    let after = bed.read(&conf(101));
    assert_eq!(gone(&before, &after), ["dev7: /dev/nvidia-caps/nvidia-cap31,mode=0444"]);
    assert_eq!(causes(&bed, 101), none());
    run(&bed, "sync 101").expect(0);
    assert_eq!(bed.read(&conf(101)), after);
    run(&bed, "remove 101 --gpu 0 --mig 3/1").expect(0);
    let after = bed.read(&conf(101));
    assert!(!after.contains("cap30") && !after.contains("cap32") && after.contains("cap21"));
    assert!(after.contains("/dev/nvidia0,"), "the GPU stays: {after}");
    run(&bed, "sync 101").expect(0);
    assert_eq!(bed.read(&conf(101)), after);
    // of another card it is another
    run(&bed, "remove 101 --gpu 1 --mig 2/0").expect(0).one_line("has nothing to remove");
    assert_eq!(bed.read(&conf(101)), after);
}

#[test]
fn an_instance_that_may_be_of_two_cards_is_asked_back() {
    let bed = Bed::new(A100);
    let text = bed.read(&conf(101));
    let both = "dev6: /dev/nvidia1\ndev7: /dev/nvidia-caps/nvidia-cap156\n";
    bed.write(&conf(101), text.replace("features", &format!("{both}features")));
    run(&bed, "remove 101 --mig 2/0").expect(2).one_line("is ambiguous: several GPUs have it");
    run(&bed, "remove 101 --gpu 1 --mig 2/0").expect(0);
    let after = bed.read(&conf(101));
    assert!(!after.contains("cap156") && after.contains("cap21") && after.contains("cap22"));
}

#[test]
fn a_node_of_a_mounted_directory_is_not_taken_out_of_it() {
    let bed = Bed::new(A100);
    let before = bed.read(&conf(102));
    let ran = run(&bed, "remove 102 --node /dev/nvidia-caps/nvidia-cap1").expect(4);
    let ran = ran.one_line("is part of /dev/nvidia-caps, which is mounted as a directory");
    assert!(ran.stderr.contains("--convert"), "{}", ran.stderr);
    assert_eq!(bed.read(&conf(102)), before);
}

#[test]
fn other_functions_in_the_stream_are_passed_over_as_by_add() {
    let pci =
        |address: &str| format!("{{\"type\":\"pci-device\",\"address\":\"0000:{address}\"}}\n");
    let bed = Bed::new(HOST);
    run(&bed, "add 904 --gpu all").expect(0);
    let records = pci("29:00.0") + &pci("2b:00.0") + &pci("2b:00.1");
    bed.tool(TOOL).args("remove 904 --gpu -").input(records).run().expect(0);
    let text = bed.read(&conf(904));
    assert!(!text.contains("nvidia0,") && text.contains("nvidia1,"), "{text}");
    // none among them is not all of the container's
    let ran = bed.tool(TOOL).args("remove 904 --gpu -").input(pci("2b:00.1")).run();
    ran.expect(2).one_line("no record on standard input is an NVIDIA GPU");
    assert_eq!(bed.read(&conf(904)), text);
}
