//! What can be wrong with a container, one way or more for each cause.

use std::fs;

use testbed::Bed;

use crate::common::*;

pub struct Case {
    pub cause: &'static str,
    /// The machine as it is wrong, and the container.
    pub bed: fn() -> (Bed, u32),
    pub property: &'static str,
    pub expected: Option<&'static str>,
    pub actual: Option<&'static str>,
    pub hint: &'static str,
    /// What the hint asks a person to do. `None`: the hint is a command of ours.
    pub by_hand: Option<fn(&Bed)>,
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

pub const CASES: &[Case] = &[
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
    // the node of a MIG instance that is gone, which nothing creates
    Case {
        cause: "missing-node",
        bed: || {
            let (bed, ctid) = mig(|text| text);
            fs::remove_dir_all(bed.at("/proc/driver/nvidia/capabilities/gpu0/mig/gi2")).unwrap();
            bed.drop_node("/dev/nvidia-caps/nvidia-cap21");
            (bed, ctid)
        },
        property: "/dev/nvidia-caps/nvidia-cap21",
        expected: NODE,
        actual: None,
        hint: "lxc-gpu-conf remove 101 --node /dev/nvidia-caps/nvidia-cap21",
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
        bed: || (host(&OWN_PAIR.replace("c 511:", "c 509:")), 910),
        property: "lxc.cgroup2.devices.allow",
        expected: Some("c 511:0 rw"),
        actual: Some("c 509:0 rw"),
        hint: SYNC,
        by_hand: None,
    },
    // a rule of the tool's own, beside one that was added by hand since
    Case {
        cause: "stale-rule",
        bed: || {
            let bed = host("arch: amd64\nostype: debian\n");
            run(&bed, "add 910 --gpu 0 --style mount").expect(0);
            set_uvm_major(&bed, 508);
            run(&bed, "nodes").expect(0);
            let rule = "lxc.cgroup2.devices.allow: c 508:* rwm\n";
            bed.write(&conf(910), bed.read(&conf(910)) + rule);
            (bed, 910)
        },
        property: "lxc.cgroup2.devices.allow",
        expected: None,
        actual: Some("c 511:0 rw"),
        hint: SYNC,
        by_hand: None,
    },
    // the major of a single rule may be another device's: only access is missing
    Case {
        cause: "no-rule",
        bed: || (host(&BY_HAND.replace("c 511:*", "c 509:*")), 910),
        property: "/dev/nvidia-uvm",
        expected: Some("c 511:0 rw"),
        actual: None,
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
        bed: || {
            with(BY_HAND, "lxc.mount.entry: /dev/dri/card1 dev/dri/card1 none bind,create=file")
        },
        property: "/dev/dri/card1",
        expected: Some("c 226:1 rw"),
        actual: None,
        hint: SYNC,
        by_hand: None,
    },
    Case {
        cause: "no-access",
        bed: || {
            let bed = host(&(BY_HAND.replace("lxc.cgroup2", "#lxc.cgroup2") + "unprivileged: 1\n"));
            bed.drop_node("/dev/nvidia0");
            bed.add_nodes("c /dev/nvidia0 195:0 0660 0:44\n");
            (bed, 910)
        },
        property: "/dev/nvidia0",
        expected: Some("0666"),
        actual: Some("0660"),
        hint: CONVERT,
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
        hint: "remove that line",
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
        cause: "cgroup-v1",
        bed: || with(GOOD, "lxc.cgroup.devices.allow: c 226:* rwm"),
        property: "lxc.cgroup.devices.allow",
        expected: None,
        actual: Some("c 226:* rwm"),
        hint: "remove that line",
        by_hand: Some(|bed| drop_line(bed, "c 226:*")),
    },
    Case {
        cause: "given-twice",
        bed: || with(GOOD, "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,create=file"),
        property: "/dev/nvidia0",
        expected: None,
        actual: Some("dev0"),
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
        bed: || with(BY_HAND, "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,create=file"),
        property: "/dev/nvidia0",
        expected: None,
        actual: Some("lxc.mount.entry"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "bad-dev",
        bed: || with(GOOD, "dev9: /dev/nvidia-modeset,mode=666"),
        property: "dev9",
        expected: None,
        actual: Some("/dev/nvidia-modeset,mode=666"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "bad-dev",
        bed: || with(GOOD, "dev9: /dev/nvidia1, mode=0666"),
        property: "dev9",
        expected: None,
        actual: Some("/dev/nvidia1, mode=0666"),
        hint: CONVERT,
        by_hand: None,
    },
    // without create= there is nothing to mount it on, and it is not optional
    Case {
        cause: "bad-mount",
        bed: || {
            with(BY_HAND, "lxc.mount.entry: /dev/nvidia-uvm-tools dev/nvidia-uvm-tools none bind")
        },
        property: "/dev/nvidia-uvm-tools",
        expected: None,
        actual: Some("lxc.mount.entry"),
        hint: CONVERT,
        by_hand: None,
    },
    // spaces end the list of options
    Case {
        cause: "bad-mount",
        bed: || {
            let text = BY_HAND
                .replace("dev/nvidia0 none bind,optional,", "dev/nvidia0 none bind, optional, ");
            (host(&text), 910)
        },
        property: "/dev/nvidia0",
        expected: None,
        actual: Some("lxc.mount.entry"),
        hint: CONVERT,
        by_hand: None,
    },
    // LXC ignores an absolute target
    Case {
        cause: "no-effect",
        bed: || (host(&BY_HAND.replace(" dev/nvidia0 none", " /dev/nvidia0 none")), 910),
        property: "/dev/nvidia0",
        expected: NODE,
        actual: Some("nothing"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "no-effect",
        bed: || (host(&BY_HAND.replace("dev/nvidia0 none bind,", "dev/nvidia0 none ")), 910),
        property: "/dev/nvidia0",
        expected: NODE,
        actual: Some("an empty file"),
        hint: CONVERT,
        by_hand: None,
    },
    Case {
        cause: "stub-on-host",
        bed: || {
            let dir = "lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir\n";
            let child = "/dev/dri/renderD199 dev/dri/renderD199 none bind,optional,create=file";
            with(&(BY_HAND.to_string() + dir), &format!("lxc.mount.entry: {child}"))
        },
        property: "/dev/dri/renderD199",
        expected: None,
        actual: Some("/dev/dri/renderD199"),
        hint: "lxc-gpu-conf remove 910 --node /dev/dri/renderD199",
        by_hand: None,
    },
    Case {
        cause: "unknown-key",
        bed: || with(GOOD, "lxc.aa_profile: unconfined"),
        property: "lxc.aa_profile",
        expected: None,
        actual: Some("unconfined"),
        hint: "that line",
        by_hand: Some(|bed| drop_line(bed, "aa_profile")),
    },
    Case {
        cause: "cannot-start",
        bed: || with(GOOD, "lxc.include: /opt/missing.conf"),
        property: "lxc.include",
        expected: None,
        actual: Some("/opt/missing.conf"),
        hint: "that line",
        by_hand: Some(|bed| drop_line(bed, "lxc.include")),
    },
    Case {
        cause: "root-only",
        bed: || (host(&GOOD.replace("/dev/nvidia0,mode=0666", "/dev/nvidia0")), 910),
        property: "dev0",
        expected: Some("mode=0666"),
        actual: Some("0660"),
        hint: "lxc-gpu-conf add 910 --gpu 0 --mode 0666",
        by_hand: None,
    },
    // a directory of DRM nodes beside a dev[n] for one of them
    Case {
        cause: "given-twice",
        bed: || {
            let dir = "lxc.mount.entry: /dev/dri dev/dri none bind,optional,create=dir";
            with(&(GOOD.to_string() + "dev8: /dev/dri/renderD128,mode=0666\n"), dir)
        },
        property: "/dev/dri/renderD128",
        expected: None,
        actual: Some("dev8"),
        hint: "pct set 910 --delete dev8",
        by_hand: Some(|bed| drop_line(bed, "dev8")),
    },
    Case {
        cause: "snapshot-only",
        bed: || with("arch: amd64\n\n[clean]\narch: amd64\n", "dev0: /dev/nvidia0"),
        property: "[clean]",
        expected: None,
        actual: Some("dev0: /dev/nvidia0"),
        hint: "lxc-gpu-conf add 910 --gpu 0",
        by_hand: None,
    },
    Case {
        cause: "dropped-line",
        bed: || with(GOOD, "lxc.mount.entry : /dev/nvidia-modeset dev/nvidia-modeset none bind"),
        property: "lxc",
        expected: None,
        actual: Some("lxc.mount.entry : /dev/nvidia-modeset dev/nvidia-modeset none bind"),
        hint: "key: value",
        by_hand: Some(|bed| drop_line(bed, "lxc.mount.entry :")),
    },
    // capitals and indents are no key, also where no other line gives a GPU
    Case {
        cause: "dropped-line",
        bed: || with("arch: amd64\n", "Dev0: /dev/nvidia0"),
        property: "lxc",
        expected: None,
        actual: Some("Dev0: /dev/nvidia0"),
        hint: "key: value",
        by_hand: Some(|bed| drop_line(bed, "Dev0")),
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
        hint: "gpu-vfio-bind release 0000:0b:00",
        by_hand: Some(|bed| {
            run(bed, "remove 910 --gpu 0").expect(0);
        }),
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
        // which of two GPUs was meant only the administrator knows
        hint: "available: 0000:2b:00.0 (minor 0), 0000:2c:00.0 (minor 1)",
        by_hand: Some(|bed| {
            run(bed, "add 910 --gpu 0").expect(0);
        }),
    },
    Case {
        cause: "link-path",
        bed: || with(GOOD, "dev9: /dev/dri/by-path/pci-0000:2b:00.0-card,gid=44"),
        property: "dev9",
        expected: Some("/dev/dri/card1"),
        actual: Some("/dev/dri/by-path/pci-0000:2b:00.0-card"),
        hint: "write the path of the device node itself",
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
        hint: "lxc-gpu-conf remove 910 && lxc-gpu-conf add 910 --gpu",
        by_hand: None,
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
