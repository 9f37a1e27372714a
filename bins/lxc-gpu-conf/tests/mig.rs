//! MIG, IMEX and NVSwitch: the parent, both capabilities, and never the right
//! to reconfigure.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use common::*;
use serde_json::json;
use testbed::Bed;

/// Container 102 of the A100 host without its hand-made block.
fn bare() -> Bed {
    let bed = Bed::new(A100);
    run(&bed, "remove 102").expect(0);
    bed
}

fn caps(text: &str) -> Vec<&str> {
    let main = text.split("\n[").next().unwrap();
    main.lines().filter(|line| line.contains("nvidia-cap")).collect()
}

#[test]
fn an_instance_is_its_parent_and_both_capabilities() {
    for names in [
        "--gpu 01:00.0 --mig 2/0",
        "--gpu 0 --mig 2/0",
        "--mig MIG-GPU-00000000-0000-0000-0000-000000000001/2/0",
    ] {
        let bed = bare();
        run(&bed, &format!("add 102 {names}")).expect(0);
        let text = bed.read(&conf(102));
        assert!(text.contains("/dev/nvidia0,mode=0666"), "{names}: {text}");
        assert_eq!(
            caps(&text),
            [
                "dev1: /dev/nvidia-caps/nvidia-cap21,mode=0444",
                "dev2: /dev/nvidia-caps/nvidia-cap22,mode=0444"
            ],
            "{names}"
        );
        assert_eq!(causes(&bed, 102), none());
        let again = run(&bed, &format!("add 102 {names}")).expect(0);
        assert_eq!(statuses(&again), only("unchanged"));
        // a second instance of the same GPU joins it
        run(&bed, "add 102 --gpu 0 --mig 3/1").expect(0);
        assert_eq!(caps(&bed.read(&conf(102))).len(), 4);
        assert_eq!(causes(&bed, 102), none());
        let shown = run(&bed, "show 102").expect(0);
        assert_eq!(shown.records.len(), 1);
        assert_eq!(shown.records[0]["problems"], json!([]));
    }
}

#[test]
fn a_mode_for_the_gpu_says_nothing_of_capabilities() {
    let bed = bare();
    run(&bed, "add 102 --gpu 0 --mig 2/0 --mode 0660 --gid 44 --mig-monitor").expect(0);
    let text = bed.read(&conf(102));
    assert!(text.contains("/dev/nvidia0,gid=44,mode=0660"), "{text}");
    assert_eq!(caps(&text).len(), 3);
    assert!(caps(&text).iter().all(|line| line.contains("mode=0444")), "{text}");
    assert!(text.contains("nvidia-cap2,"), "{text}");
}

#[test]
fn a_privileged_container_may_read_them_and_nothing_else() {
    let bed = bare();
    run(&bed, "add 102 --gpu 0 --mig 2/0 --style mount").expect(0);
    let text = bed.read(&conf(102));
    let rules: Vec<&str> = text.lines().filter(|line| line.contains("allow: c 242")).collect();
    assert_eq!(
        rules,
        ["lxc.cgroup2.devices.allow: c 242:21 r", "lxc.cgroup2.devices.allow: c 242:22 r"]
    );
    assert_eq!(causes(&bed, 102), none());
}

#[test]
fn names_without_an_instance_are_refused() {
    let bed = bare();
    let before = bed.read(&conf(102));
    for (names, code, what) in [
        ("--mig 2/0", 2, "is ambiguous: 0000:01:00.0, 0000:41:00.0"),
        ("--gpu 0 --mig 2", 2, "is not GI/CI"),
        ("--gpu 0 --mig x/y", 2, "is not GI/CI"),
        ("--gpu 0 --mig 2/0/1", 2, "is not GI/CI"),
        ("--gpu 0 --mig -1/0", 2, ""),
        ("--gpu 0 --mig 5/0", 4, "has no MIG instance 5/0"),
        ("--gpu 0 --mig 3/7", 4, "it has: 2/0, 3/0, 3/1, 9/0"),
        ("--gpu 2 --mig 2/0", 4, "it has: none"),
        ("--mig MIG-GPU-00000000-0000-0000-0000-00000000000f/2/0", 2, "no GPU GPU-"),
        // which instance a UUID is only nvidia-smi knows
        ("--mig MIG-11111111-0000-0000-0000-000000000000", 3, "commands are not run with --root"),
        ("--gpu 81:00.0,c1:00.0", 4, "is bound to vfio-pci"),
    ] {
        run(&bed, &format!("add 102 {names}")).expect(code).one_line(what);
        assert_eq!(bed.read(&conf(102)), before, "{names}");
    }
    let bed = Bed::new(HOST);
    run(&bed, "add 901 --mig 2/0").expect(2).one_line("no GPU of this host has MIG instances");
}

#[test]
fn a_divided_gpu_without_an_instance_is_said_to_be_of_no_use() {
    let bed = bare();
    let ran = run(&bed, "add 102 --gpu 0").expect(0);
    assert!(ran.stderr.contains("has 4 MIG instances"), "{}", ran.stderr);
    let ran = run(&bed, "add 102 --gpu 2").expect(0);
    assert!(!ran.stderr.contains("0000:81:00.0 has"), "{}", ran.stderr);
}

#[test]
fn a_mounted_directory_of_capabilities_becomes_single_ones() {
    let bed = Bed::new(A100);
    let before = bed.read(&conf(102));
    // the one thing that is wrong with it, not each capability of another card
    assert_eq!(causes(&bed, 102), std::collections::BTreeSet::from(["mig-admin".to_string()]));
    let ran = run(&bed, "add 102 --convert --gpu 1 --mig 5/0").expect(0);
    assert_eq!(statuses(&ran), only("changed"));
    let after = bed.read(&conf(102));
    assert_eq!(
        caps(&after),
        [
            "dev1: /dev/nvidia-caps/nvidia-cap183,mode=0444",
            "dev2: /dev/nvidia-caps/nvidia-cap184,mode=0444"
        ]
    );
    let main = after.split("\n[").next().unwrap();
    assert!(!main.contains("lxc.") && main.contains("dev0: /dev/nvidia1,mode=0666"), "{main}");
    let tail = &before[before.find("\n[pve:pending]").unwrap()..];
    assert!(after.ends_with(tail), "{after}");
    assert_eq!(causes(&bed, 102), none());
    let again = run(&bed, "add 102 --convert --gpu 1 --mig 5/0").expect(0);
    assert_eq!(statuses(&again), only("unchanged"));
}

#[test]
fn the_hosts_other_hand_made_block_is_converted() {
    let bed = Bed::new(HOST);
    let ran = run(&bed, "add 902 --convert --dry-run").expect(0);
    assert_eq!(statuses(&ran), only("planned"));
    let before = bed.read(&conf(902));
    run(&bed, "add 902 --convert").expect(0);
    let after = bed.read(&conf(902));
    let devs: Vec<&str> = after.lines().filter(|line| line.starts_with("dev")).collect();
    assert_eq!(devs.len(), 5, "{after}");
    // the rule for all of DRM is not about these nodes
    let rule = |major: u32| format!("lxc.cgroup2.devices.allow: c {major}:* rwm\n");
    // and 509 may be another device's by now
    assert!(after.ends_with(&format!("swap: 0\n{}{}", rule(509), rule(226))), "{after}");
    assert_eq!(gone(&before, &after).len(), 6);
    assert_eq!(causes(&bed, 902), none());
    assert_eq!(statuses(&run(&bed, "add 902 --convert").expect(0)), only("unchanged"));
    // what there is nothing of is not converted, and dev[n] that is unknown not made
    run(&bed, "add 904 --convert").expect(2).one_line("ct 904 has no GPU to convert");
    run(&bed, "add 902 --convert --style mount")
        .expect(2)
        .one_line("cannot be used with --style mount");
    let bed = Bed::new("iommu-off");
    run(&bed, "add 101 --gpu all").expect(0);
    let before = bed.read(&conf(101));
    run(&bed, "add 101 --convert").expect(4).one_line("5.0.6 does not support dev[n]");
    run(&bed, "add 101 --gpu all --style dev").expect(4).one_line("5.0.6 does not support dev[n]");
    assert_eq!(bed.read(&conf(101)), before);
}

#[test]
fn imex_channels_by_number_and_all_that_are() {
    let bed = Bed::new(HOST);
    let channel = |n: u32| format!("/dev/nvidia-caps-imex-channels/channel{n}");
    run(&bed, "add 904 --gpu 0 --imex all").expect(2).one_line("this host has no IMEX channel");
    for n in [0, 7] {
        bed.add_nodes(&format!("c {} 237:{n} 0666 0:0\n", channel(n)));
    }
    run(&bed, "add 904 --gpu 0 --imex all").expect(0);
    let text = bed.read(&conf(904));
    assert!(text.contains(&format!("{},mode=0666", channel(0))) && text.contains(&channel(7)));
    assert_eq!(causes(&bed, 904), none());
    run(&bed, &format!("remove 904 --node {}", channel(7))).expect(0);
    run(&bed, "sync 904").expect(0);
    let text = bed.read(&conf(904));
    assert!(!text.contains(&channel(7)) && text.contains(&channel(0)), "{text}");
    for (ids, code, what) in [
        ("x", 2, "is not a channel number or 'all'"),
        ("1048576", 2, "is not a channel number or 'all'"),
        ("1", 4, "channel1 does not exist on the host"),
    ] {
        run(&bed, &format!("add 904 --gpu 0 --imex {ids}")).expect(code).one_line(what);
    }
    // its major is its own driver's
    bed.write(
        "/proc/devices",
        bed.read("/proc/devices").replace("237 nvidia-caps-imex", "233 nvidia-caps-imex"),
    );
    run(&bed, "add 904 --gpu 0 --imex 0").expect(4).one_line("is 237:0, but the driver uses 233:0");
    assert!(causes(&bed, 904).contains("stale-node"));
    run(&bed, "sync 904").expect(0);
    assert_eq!(node(&bed, &channel(0)).unwrap().0, 233);
}

#[test]
fn switches_where_there_are_any() {
    let bed = Bed::new(HOST);
    run(&bed, "add 904 --gpu 0 --fabric").expect(4).one_line("no NVSwitch or NVLink device nodes");
    bed.add_nodes(
        "c /dev/nvidia-nvswitchctl 234:255 0666 0:0\nc /dev/nvidia-nvswitch0 234:0 0666 0:0\n",
    );
    bed.add_nodes("c /dev/nvidia-nvlink 235:0 0666 0:0\n");
    run(&bed, "add 904 --gpu 0 --fabric --style mount").expect(0);
    let text = bed.read(&conf(904));
    for name in ["nvswitchctl", "nvswitch0", "nvlink"] {
        assert!(text.contains(&format!("/dev/nvidia-{name} dev/nvidia-{name} none")), "{text}");
    }
    assert_eq!(causes(&bed, 904), none());
    run(&bed, "remove 904").expect(0);
    assert!(!bed.read(&conf(904)).contains("nvidia"));
}
