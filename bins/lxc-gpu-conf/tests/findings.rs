//! Every finding of `check`, by name: what produces it, what is said of it, and
//! that what the hint advises does away with it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::*;
use serde_json::Value;
use testbed::Bed;

struct Case {
    cause: &'static str,
    /// The machine as it is wrong, and the container.
    bed: fn() -> (Bed, u32),
    property: &'static str,
    expected: Option<&'static str>,
    actual: Option<&'static str>,
    hint: &'static str,
    /// What the hint asks a person to do. `None`: the hint is a command of ours.
    by_hand: Option<fn(&Bed)>,
}

/// Container 910 with a line more.
fn with(base: &str, line: &str) -> (Bed, u32) {
    (host(&format!("{base}{line}\n")), 910)
}

fn drop_line(bed: &Bed, what: &str) {
    let text = bed.read(&conf(910));
    let kept = text.lines().filter(|line| !line.contains(what));
    bed.write(&conf(910), kept.map(|line| format!("{line}\n")).collect::<String>());
}

/// A host whose node is another one than the list of the recording says.
fn renumbered(text: &str) -> (Bed, u32) {
    let bed = host(text);
    bed.drop_node("/dev/nvidia-uvm");
    bed.add_nodes("c /dev/nvidia-uvm 509:0 0666 0:0\n");
    (bed, 910)
}

/// Container 910, given GPU 0 by the tool.
fn added(args: &str) -> Bed {
    let bed = host("arch: amd64\nostype: debian\nunprivileged: 1\n");
    run(&bed, &format!("add 910 --gpu 2b:00.0 {args}")).expect(0);
    assert_eq!(causes(&bed, 910), none());
    bed
}

fn with_libs() -> Bed {
    let bed = host(GOOD);
    install_userspace(&bed, "550.163.01");
    run(&bed, "add 910 --gpu 0 --libs").expect(0);
    assert_eq!(causes(&bed, 910), none());
    bed
}

fn mig(change: impl Fn(String) -> String) -> (Bed, u32) {
    let bed = Bed::new(A100);
    bed.write(&conf(101), change(bed.read(&conf(101))));
    (bed, 101)
}

const SYNC: &str = "lxc-gpu-conf sync 910";
const CONVERT: &str = "lxc-gpu-conf add 910 --convert";
const NODE: Option<&str> = Some("a character device");

const CASES: &[Case] = &[
    Case {
        cause: "missing-node",
        bed: || {
            let bed = host(GOOD);
            bed.drop_node("/dev/nvidia-uvm");
            (bed, 910)
        },
        property: "/dev/nvidia-uvm",
        expected: NODE,
        actual: None,
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "missing-node",
        bed: || with(GOOD, "dev9: /dev/nvidia-vgpuctl"),
        property: "/dev/nvidia-vgpuctl",
        expected: NODE,
        actual: None,
        hint: "lxc-gpu-conf remove 910 --node /dev/nvidia-vgpuctl",
        by_hand: None,
    },
    // a card that is another number's, so that the container does not start
    Case {
        cause: "missing-node",
        bed: || with(GOOD, "dev9: /dev/dri/card7,gid=44"),
        property: "/dev/dri/card7",
        expected: NODE,
        actual: None,
        hint: "lxc-gpu-conf remove 910 --node /dev/dri/card7",
        by_hand: None,
    },
    Case {
        cause: "stub",
        bed: || {
            let bed = host(BY_HAND);
            bed.drop_node("/dev/nvidia-uvm");
            bed.write("/dev/nvidia-uvm", "");
            (bed, 910)
        },
        property: "/dev/nvidia-uvm",
        expected: NODE,
        actual: Some("no device"),
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "stale-node",
        bed: || renumbered(GOOD),
        property: "/dev/nvidia-uvm",
        expected: Some("511:0"),
        actual: Some("509:0"),
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "stale-rule",
        bed: || (host(&BY_HAND.replace("c 511:*", "c 509:*")), 910),
        property: "lxc.cgroup2.devices.allow",
        expected: Some("c 511:* rwm"),
        actual: Some("c 509:* rwm"),
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "no-rule",
        bed: || (host(&BY_HAND.replace("lxc.cgroup2.devices.allow: c 511:* rwm\n", "")), 910),
        property: "/dev/nvidia-uvm",
        expected: Some("c 511:0 rw"),
        actual: None,
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "no-rule",
        bed: || with(BY_HAND, "lxc.mount.entry: /dev/dri/card1 dev/dri/card1 none bind"),
        property: "/dev/dri/card1",
        expected: Some("c 226:1 rw"),
        actual: None,
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "idle-rule",
        bed: || with(GOOD, "lxc.cgroup2.devices.allow: c 195:* rwm"),
        property: "lxc.cgroup2.devices.allow",
        expected: None,
        actual: Some("c 195:* rwm"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "invalid-rule",
        bed: || with(BY_HAND, "lxc.cgroup2.devices.allow: c 195:* rw # all"),
        property: "lxc.cgroup2.devices.allow",
        expected: Some("c MAJOR:MINOR rwm"),
        actual: Some("c 195:* rw # all"),
        hint: "no comment",
        by_hand: Some(|bed| drop_line(bed, "# all")),
    },
    Case {
        cause: "wiped-rules",
        bed: || with(GOOD, "lxc.cgroup2.devices.deny: a"),
        property: "lxc.cgroup2.devices.deny",
        expected: None,
        actual: Some("a"),
        hint: "take that line out",
        by_hand: Some(|bed| drop_line(bed, "deny: a")),
    },
    Case {
        cause: "cgroup-v1",
        bed: || with(GOOD, "lxc.cgroup.devices.allow: c 195:* rwm"),
        property: "lxc.cgroup.devices.allow",
        expected: None,
        actual: Some("c 195:* rwm"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "given-twice",
        bed: || with(GOOD, "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind"),
        property: "/dev/nvidia0",
        expected: None,
        actual: Some("lxc.mount.entry"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "given-twice",
        bed: || with(GOOD, "dev7: /dev/nvidia0"),
        property: "/dev/nvidia0",
        expected: None,
        actual: Some("dev7"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "given-twice",
        bed: || with(BY_HAND, "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind"),
        property: "/dev/nvidia0",
        expected: None,
        actual: Some("lxc.mount.entry"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "snapshot-only",
        bed: || with("arch: amd64\n\n[clean]\narch: amd64\n", "dev0: /dev/nvidia0"),
        property: "[clean]",
        expected: None,
        actual: Some("dev0: /dev/nvidia0"),
        hint: "lxc-gpu-conf add 910 --gpu all",
        by_hand: None,
    },
    Case {
        cause: "dropped-line",
        bed: || with(GOOD, "lxc.mount.entry : /dev/nvidia-modeset dev/nvidia-modeset none bind"),
        property: "lxc",
        expected: None,
        actual: Some("lxc.mount.entry : /dev/nvidia-modeset dev/nvidia-modeset none bind"),
        hint: "lxc.key: value",
        by_hand: Some(|bed| drop_line(bed, "lxc.mount.entry :")),
    },
    Case {
        cause: "forbidden-key",
        bed: || with(GOOD, "lxc.hook.start-host: /usr/local/bin/nodes"),
        property: "lxc.hook.start-host",
        expected: None,
        actual: Some("lxc.hook.start-host"),
        hint: "pct.conf(5)",
        by_hand: Some(|bed| drop_line(bed, "start-host")),
    },
    Case {
        cause: "mig-admin",
        bed: || with(GOOD, "dev9: /dev/nvidia-caps/nvidia-cap1,mode=0444"),
        property: "/dev/nvidia-caps/nvidia-cap1",
        expected: None,
        actual: Some("dev9"),
        hint: "lxc-gpu-conf remove 910 --node /dev/nvidia-caps/nvidia-cap1",
        by_hand: None,
    },
    // it comes with the whole directory
    Case {
        cause: "mig-admin",
        bed: || (Bed::new(A100), 102),
        property: "/dev/nvidia-caps/nvidia-cap1",
        expected: None,
        actual: Some("lxc.mount.entry"),
        hint: "lxc-gpu-conf add 102 --convert",
        by_hand: None,
    },
    Case {
        cause: "mig-pair",
        bed: || mig(|text| text.replace("dev5: /dev/nvidia-caps/nvidia-cap22,mode=0444\n", "")),
        property: "/dev/nvidia-caps/nvidia-cap21",
        expected: None,
        actual: Some("gpu0/gi2"),
        hint: "lxc-gpu-conf add 101 --gpu 0 --mig 2/0",
        by_hand: None,
    },
    Case {
        cause: "mig-parent",
        bed: || mig(|text| text.replace("/dev/nvidia0,", "/dev/nvidia2,")),
        property: "/dev/nvidia-caps/nvidia-cap21",
        expected: None,
        actual: Some("gpu0/gi2"),
        hint: "lxc-gpu-conf add 101 --gpu 0",
        by_hand: None,
    },
    Case {
        cause: "mig-gone",
        bed: || {
            let (bed, ctid) = mig(|text| text);
            fs::remove_dir_all(bed.at("/proc/driver/nvidia/capabilities/gpu0/mig/gi2")).unwrap();
            (bed, ctid)
        },
        property: "/dev/nvidia-caps/nvidia-cap22",
        expected: None,
        actual: Some("gpu0/gi2"),
        hint: "lxc-gpu-conf remove 101 --gpu 0 --mig 2/0",
        by_hand: None,
    },
    Case {
        cause: "other-card",
        bed: || {
            let bed = added("");
            swap_cards(&bed);
            (bed, 910)
        },
        property: "/dev/nvidia0",
        expected: Some("/dev/nvidia1"),
        actual: Some("/dev/nvidia0"),
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "other-card",
        bed: || {
            let bed = added("--graphics");
            let dir = bed.at("/sys/bus/pci/devices/0000:2b:00.0/drm");
            fs::rename(dir.join("card1"), dir.join("card3")).unwrap();
            bed.drop_node("/dev/dri/card1");
            bed.add_nodes("c /dev/dri/card3 226:3 0660 0:44\n");
            (bed, 910)
        },
        property: "/dev/dri/card1",
        expected: Some("/dev/dri/card3"),
        actual: Some("/dev/dri/card1"),
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "on-vfio",
        bed: || {
            let bed = Bed::new("nouveau-bound");
            bed.write(&conf(910), GOOD);
            (bed, 910)
        },
        property: "/dev/nvidia0",
        expected: Some("a GPU of the nvidia driver"),
        actual: Some("bound to VFIO"),
        hint: "gpu-vfio-bind release 0000:0b:00.0",
        by_hand: None,
    },
    Case {
        cause: "no-gpu",
        bed: || (host(&GOOD.replace("nvidia0", "nvidia7")), 910),
        property: "/dev/nvidia7",
        expected: Some("a GPU of the nvidia driver"),
        actual: None,
        hint: "lxc-gpu-conf remove 910 --gpu 7",
        by_hand: None,
    },
    Case {
        cause: "incomplete",
        bed: || (host(&GOOD.replace("dev2: /dev/nvidia-uvm,mode=0666\n", "")), 910),
        property: "/dev/nvidia-uvm",
        expected: Some("given"),
        actual: None,
        hint: "lxc-gpu-conf add 910 --gpu 0",
        by_hand: None,
    },
    Case {
        cause: "incomplete",
        bed: || (host(&GOOD.replace("dev0: /dev/nvidia0,mode=0666\n", "")), 910),
        property: "gpu",
        expected: Some("/dev/nvidia<minor>"),
        actual: None,
        hint: "lxc-gpu-conf add 910 --gpu all",
        by_hand: None,
    },
    Case {
        cause: "link-path",
        bed: || with(GOOD, "dev9: /dev/dri/by-path/pci-0000:2b:00.0-card,gid=44"),
        property: "dev9",
        expected: Some("/dev/dri/card1"),
        actual: Some("/dev/dri/by-path/pci-0000:2b:00.0-card"),
        hint: "name the node itself",
        by_hand: Some(|bed| {
            let text = bed.read(&conf(910));
            bed.write(&conf(910), text.replace("by-path/pci-0000:2b:00.0-card", "card1"));
        }),
    },
    Case {
        cause: "library-missing",
        bed: || {
            let bed = with_libs();
            uninstall_userspace(&bed, "550.163.01");
            install_userspace(&bed, "580.95.05");
            set_module(&bed, "580.95.05");
            (bed, 910)
        },
        property: "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        expected: Some("a file of the host"),
        actual: None,
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "library-version",
        bed: || {
            let bed = with_libs();
            install_userspace(&bed, "580.95.05");
            set_module(&bed, "580.95.05");
            (bed, 910)
        },
        property: "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        expected: Some("580.95.05"),
        actual: Some("550.163.01"),
        hint: SYNC,
        by_hand: None,
    },
    // nothing is remembered of mounts that were made by hand
    Case {
        cause: "library-version",
        bed: || {
            let bed = with_libs();
            fs::remove_file(bed.at(&state(910))).unwrap();
            install_userspace(&bed, "580.95.05");
            set_module(&bed, "580.95.05");
            (bed, 910)
        },
        property: "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        expected: Some("580.95.05"),
        actual: Some("550.163.01"),
        hint: "lxc-gpu-conf add 910 --gpu 0 --libs",
        by_hand: None,
    },
    Case {
        cause: "old-proxmox",
        bed: || {
            let bed = Bed::new("iommu-off");
            bed.write(&conf(910), GOOD);
            (bed, 910)
        },
        property: "dev0",
        expected: Some("pve-container 5.0.7"),
        actual: Some("5.0.6"),
        hint: "lxc-gpu-conf remove 910",
        by_hand: Some(|bed| {
            run(bed, "remove 910").expect(0);
            run(bed, "add 910 --gpu 0 --style mount").expect(0);
        }),
    },
    Case {
        cause: "not-restarted",
        bed: || {
            let bed = host(GOOD);
            start(
                &bed,
                910,
                &[("nvidia0", 195, 0), ("nvidiactl", 195, 255), ("nvidia-uvm", 509, 0)],
            );
            (bed, 910)
        },
        property: "/dev/nvidia-uvm",
        expected: Some("511:0"),
        actual: Some("509:0"),
        hint: "pct reboot 910",
        by_hand: Some(|bed| {
            fs::remove_file(bed.at(&format!("/proc/{PID}/root/dev/nvidia-uvm"))).unwrap();
            start(bed, 910, &[("nvidia-uvm", 511, 0)]);
        }),
    },
];

/// The command of ours in a hint.
fn command(hint: &str) -> Option<&str> {
    let at = hint.find("lxc-gpu-conf ")? + "lxc-gpu-conf ".len();
    hint[at..].split('\'').next()
}

#[test]
fn each_cause_is_found_told_and_done_away_with() {
    for case in CASES {
        let (bed, ctid) = (case.bed)();
        let before = bed.contents();
        let ran = run(&bed, &format!("check {ctid}"));
        assert!(bed.contents() == before, "{}: check wrote something", case.cause);
        let what = format!("{} of {}: {}", case.cause, case.property, ran.stdout);
        assert_eq!(ran.code(), 1, "{what}");
        let found = ran
            .of_type("check")
            .find(|check| check["cause"] == case.cause && check["property"] == case.property);
        let found = found.unwrap_or_else(|| panic!("not found: {what}"));
        let text = |key: &str| found[key].as_str();
        assert_eq!((text("expected"), text("actual")), (case.expected, case.actual), "{what}");
        assert_eq!(text("subject"), Some(format!("ct {ctid}").as_str()));
        assert_eq!(text("status"), Some("drift"));
        assert!(matches!(text("severity"), Some("error" | "warning")), "{what}");
        assert!(!text("reason").unwrap().is_empty());
        let hint = text("hint").unwrap();
        assert!(hint.contains(case.hint), "{hint}: {what}");
        match case.by_hand {
            Some(mend) => mend(&bed),
            None => {
                let args = command(hint).unwrap_or_else(|| panic!("no command: {what}"));
                let ran = run(&bed, args);
                assert_eq!(ran.code(), 0, "{args}: {}{}\n{what}", ran.stdout, ran.stderr);
            }
        }
        let now = causes(&bed, ctid);
        assert!(
            !now.contains(case.cause),
            "still {now:?} after '{hint}'\n{}",
            bed.read(&conf(ctid))
        );
    }
}

#[test]
fn every_cause_has_a_case() {
    let shown: BTreeSet<&str> = CASES.iter().map(|case| case.cause).collect();
    let all: BTreeSet<&str> = lxc_gpu_conf::CAUSES.iter().map(|(name, _)| *name).collect();
    assert_eq!(shown, all);
    assert_eq!(all.len(), lxc_gpu_conf::CAUSES.len(), "a name stands twice");
}

#[test]
fn what_is_right_has_no_finding() {
    let rules = "lxc.cgroup2.devices.allow: /dev/nvidia-uvm rwm\n";
    let by_path = BY_HAND.replace("lxc.cgroup2.devices.allow: c 511:* rwm\n", rules);
    let unprivileged = BY_HAND.replace("lxc.cgroup2", "#lxc.cgroup2") + "unprivileged: 1\n";
    let snapshot = GOOD.to_string() + "\n[clean]\narch: amd64\ndev0: /dev/nvidia0\n";
    let elsewhere = GOOD.to_string() + "lxc.cgroup2.devices.allow: c 226:* rwm\n";
    for text in [GOOD, BY_HAND, &by_path, &unprivileged, &snapshot, &elsewhere] {
        assert_eq!(causes(&host(text), 910), none(), "{text}");
    }
    for (machine, ctid) in [(A100, 101), ("desktop-one-group", 101)] {
        let ran = run(&Bed::new(machine), &format!("check {ctid}")).expect(0);
        assert_eq!(ran.values("check", "status"), ["ok"], "{machine}");
        assert_eq!(ran.stderr, "");
    }
    // whatever add makes of a container is right
    for (machine, ctid) in
        [(HOST, 901), (HOST, 904), (A100, 101), ("iommu-off", 101), ("desktop-one-group", 101)]
    {
        for style in ["dev", "mount"] {
            let bed = Bed::new(machine);
            let old = machine == "iommu-off" && style == "dev";
            run(&bed, &format!("remove {ctid}")).expect(0);
            let ran = run(&bed, &format!("add {ctid} --gpu all --style {style} --graphics"));
            ran.expect(if old || machine == A100 { 4 } else { 0 });
            assert_eq!(causes(&bed, ctid), none(), "{machine} {style}");
        }
    }
}

#[test]
fn a_running_container_that_has_what_it_is_given_is_right() {
    let bed = host(GOOD);
    start(&bed, 910, &[("nvidia0", 195, 0), ("nvidiactl", 195, 255), ("nvidia-uvm", 511, 0)]);
    assert_eq!(causes(&bed, 910), none());
    fs::remove_file(bed.at(&format!("/proc/{PID}/root/dev/nvidia0"))).unwrap();
    let ran = run(&bed, "check 910").expect(1);
    let found = ran.one("check", "cause", "not-restarted");
    assert_eq!((&found["property"], &found["actual"]), (&"/dev/nvidia0".into(), &Value::Null));
    // what its processes put there leads nowhere else
    make_node(&bed.at("/proc/outside"), 195, 0);
    bed.link(&format!("/proc/{PID}/root/dev/nvidia0"), "../../../outside");
    assert_eq!(causes(&bed, 910), BTreeSet::from(["not-restarted".to_string()]));
}

#[test]
fn all_containers_are_checked_and_one_that_cannot_be_read_does_not_hide_the_others() {
    let bed = host(&GOOD.replace("nvidia0", "nvidia7"));
    bed.write("/etc/pve/nodes/pve2/lxc/777.conf", GOOD);
    fs::create_dir(bed.at(&conf(905))).unwrap();
    let ran = run(&bed, "check --all").expect(3);
    assert!(ran.stderr.contains("905.conf"), "{}", ran.stderr);
    ran.one("check", "cause", "no-gpu");
    let away = ran.one("check", "subject", "ct 777");
    assert_eq!((&away["status"], &away["property"]), (&"unknown".into(), &"host".into()));
    assert_eq!(away["hint"], "on pve2: lxc-gpu-conf check 777");
    // what needs no host is found of containers elsewhere too
    fs::remove_dir(bed.at(&conf(905))).unwrap();
    let text = GOOD.to_string() + "dev7: /dev/nvidia0\n";
    bed.write("/etc/pve/nodes/pve2/lxc/777.conf", text);
    let ran = run(&bed, "check 777").expect(1);
    assert_eq!(ran.values("check", "cause")[0], "given-twice");
    run(&bed, "show 777").expect(0);
    for verb in ["add 777 --gpu 0", "remove 777", "sync 777"] {
        run(&bed, verb).expect(2).one_line("container 777 lives on node pve2");
    }
    assert!(run(&bed, "sync --all").stderr.find("777").is_none());
}
