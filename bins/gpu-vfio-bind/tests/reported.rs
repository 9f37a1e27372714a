//! What the tool answers on hosts from public reports: who is in the way, what
//! goes along, and that nothing with a user is planned.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use testbed::{Bed, Ran, reported};

fn run(host: &str, args: &str, code: i32) -> Ran {
    let bed = Bed::of(&reported::tree(host).unwrap());
    bed.tool("gpu-vfio-bind").args(args).run().expect(code)
}

/// The answers, a row each: host, command, exit status, and what the message or
/// the records name.
const TABLE: &[(&str, &str, i32, &str)] = &[
    // disks of the root file system: nothing overrides them
    ("msa2", "bind 07:00 --group -n", 4, "/dev/nvme0n1 belongs to the imported ZFS pool rpool"),
    ("msa2", "bind 08:00 -n --force display,network,container,group", 4, "ZFS pool rpool"),
    ("msa2", "persist 08:00 -n --force no-gpu", 4, "ZFS pool rpool"),
    ("msa2lvm", "bind 08:00 -n", 4, "/dev/nvme0n1p3 is part of dm-0"),
    ("scyto", "bind c1:00 -n", 4, "ZFS pool rpool"),
    ("scyto", "persist c1:00 -n --force no-gpu", 4, "ZFS pool rpool"),
    // the uplink, and what is not a GPU
    ("scyto", "persist a9:00 -n --force no-gpu", 4, "enp169s0f0 is a port of bond0"),
    ("scyto", "persist a9:00 -n --force network", 4, "is not a GPU"),
    // a display: one kind of override does not stand for another
    ("um890", "bind c5:00.0 -n", 4, "gpu-vfio-bind bind 0000:c5:00 --force display"),
    ("um890", "bind c5:00.3 -n --force display", 4, "enxa0cec8000001 carries the default route"),
    ("um890", "bind c5:00.4 -n --force display,network", 4, "/dev/sda1 is mounted on /mnt/backup"),
    ("strix", "bind c3:00 -n", 4, "the firmware frame buffer lies in its memory"),
];

/// Every host, by slot: exit status of the lister's `--check`, of `bind -n`, of
/// `persist -n` and of `status`. The lister says no exactly where bind refuses;
/// of what is bound already nothing is taken, and the lister judges whether a VM
/// can have it (kgpe). persist is refused where bind is, except for an IOMMU that
/// may be on after the boot and a process that has ended by then.
const EXITS: &[(&str, &str, [i32; 4])] = &[
    ("acn6", "04:00", [1, 4, 4, 0]),      // the boot display
    ("acs", "01:00", [1, 4, 4, 0]),       // groups are not proof of isolation
    ("coop", "00:02", [0, 0, 0, 0]),      // not the boot display
    ("coop", "01:00", [0, 0, 0, 1]),      // half of the slot is bound
    ("driverctl", "01:00", [0, 0, 0, 0]), // bound by driverctl at boot
    ("dummy", "07:00", [0, 0, 0, 0]),     // host bridges do not block the group
    ("dummy", "0c:00", [1, 4, 4, 0]),     // the boot display
    ("egpu", "24:00", [0, 0, 4, 0]),      // not there in the initramfs
    ("gh200", "0009:01:00", [0, 0, 0, 0]),
    ("gh200off", "0009:01:00", [1, 4, 0, 0]), // the IOMMU is off
    ("hgx", "18:00", [0, 0, 0, 0]),
    ("hostpci", "01:00", [0, 0, 0, 0]), // with its VM already
    ("hostpcistop", "01:00", [0, 0, 0, 0]),
    ("hprmrr", "0a:00", [1, 4, 4, 0]),    // a reserved region
    ("i915sriov", "00:02", [1, 4, 4, 0]), // virtual functions
    ("idscmd", "01:00", [0, 0, 0, 0]),    // bound by ids= at boot
    ("igfx", "00:02", [1, 4, 4, 0]),      // no group
    ("igfx", "01:00", [0, 0, 0, 0]),
    ("iommuoff", "03:00", [1, 4, 0, 0]),
    ("kgpe", "02:00", [1, 0, 4, 0]), // no interrupt remapping
    ("kv50", "01:00", [0, 0, 0, 1]), // half of the slot is bound
    ("mapping", "01:00", [0, 0, 0, 0]),
    ("msa2", "07:00", [1, 4, 4, 0]), // the root disk shares the group
    ("msa2lvm", "07:00", [1, 4, 4, 0]),
    ("msa2lvmefi", "07:00", [1, 4, 4, 0]),
    ("navi10", "44:00", [0, 0, 0, 0]),
    ("notread", "01:00", [1, 4, 0, 0]),   // the IOMMU is off
    ("overinuse", "01:00", [1, 4, 4, 1]), // a process and a container; an override is left over
    ("override", "01:00", [0, 0, 0, 1]),  // driverctl's override is not in force yet
    ("plx", "1b:00", [0, 0, 0, 0]),
    ("rtx2070", "26:00", [0, 0, 0, 0]),
    ("scyto", "21:00", [0, 0, 0, 0]),
    ("secureboot", "01:00", [1, 4, 0, 0]), // the IOMMU is off
    ("strix", "c3:00", [1, 4, 4, 0]),      // the firmware's frame buffer
    ("stub", "01:00", [0, 0, 0, 0]),       // pci-stub does not block the group
    ("t400", "03:00", [1, 4, 4, 0]),       // the console of the BMC
    ("t400", "17:00", [0, 0, 0, 0]),
    ("um890", "c5:00", [1, 4, 4, 0]), // the boot display
    ("vmdirect", "01:00", [0, 0, 0, 0]),
    ("vmmap", "01:00", [0, 0, 0, 0]),
];

#[test]
fn lister_bind_persist_and_status_agree_on_every_host() {
    for name in reported::names() {
        assert!(EXITS.iter().any(|(host, ..)| *host == name), "{name} is not in the table");
    }
    for (host, slot, expected) in EXITS {
        let bed = Bed::of(&reported::tree(host).unwrap());
        let exit = |tool: &str, args: String| bed.tool(tool).args(&args).run().code();
        let exits = [
            exit("gpu-iommu-groups", format!("--check {slot}")),
            exit("gpu-vfio-bind", format!("bind -n {slot}")),
            exit("gpu-vfio-bind", format!("persist -n {slot}")),
            exit("gpu-vfio-bind", format!("status {slot}")),
        ];
        assert_eq!(exits, *expected, "{host} {slot}");
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % below
    }
}

/// Disks and network interfaces at any depth below any function of a slot, used
/// in any way: the slot is never planned.
#[test]
fn a_slot_with_a_user_anywhere_below_it_is_never_planned() {
    const BUSES: [&str; 6] = [
        "usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0",
        "ata1/host0/target0:0:0/0:0:0:0",
        "virtio3",
        "pci10000:e0/10000:e0:06.0/10000:e1:00.0",
        "i2c-7/7-0050",
        "thunderbolt/domain0/0-1",
    ];
    const CARD: &str = "/sys/devices/pci0000:17/0000:17:00.0/0000:18:00.0/0000:19:08.0";
    let mut dice = Dice(15);
    for _ in 0..24 {
        let mut tree = reported::tree("plx").unwrap();
        let mut path = format!("{CARD}/0000:1b:00.{}", dice.roll(4));
        for _ in 0..dice.roll(3) {
            path = format!("{path}/{}", BUSES[dice.roll(BUSES.len())]);
        }
        let is_disk = dice.roll(2) == 0;
        let (class, name) = if is_disk { ("block", "sdz") } else { ("net", "enx0") };
        path = format!("{path}/{class}/{name}");
        tree.dir(&path);
        tree.link_to(&format!("/sys/class/{class}/{name}"), &path);
        let above = format!("/sys/devices/virtual/{class}/above0");
        let how = dice.roll(3);
        match (is_disk, how) {
            (true, 0) => tree.file("/proc/mounts", b"/dev/sdz /mnt ext4 rw 0 0\n"),
            (true, 1) => {
                let swaps = b"Filename\tType\tSize\tUsed\tPriority\n/dev/sdz partition 1 0 -2\n";
                tree.file("/proc/swaps", swaps);
            }
            (true, _) => {
                tree.dir(&above);
                tree.link_to(&format!("{path}/holders/above0"), &above);
            }
            (false, 0) => {
                let route = b"Iface\tDestination\tGateway\nenx0\t0000A8C0\t00000000\n";
                tree.file("/proc/net/route", route);
            }
            (false, 1) => {
                tree.dir(&above);
                tree.link_to(&format!("{path}/master"), &above);
            }
            (false, _) => {
                tree.dir(&above);
                tree.link_to(&format!("{path}/upper_above0"), &above);
            }
        }
        let bed = Bed::of(&tree);
        for verb in ["bind", "persist"] {
            let ran = bed.tool("gpu-vfio-bind").args(&format!("{verb} 1b:00 -n")).run();
            assert_eq!(ran.code(), 4, "{verb} {path} {how}: {}", ran.stdout);
        }
    }
}

#[test]
fn each_host_gets_its_answer() {
    for (host, args, code, what) in TABLE {
        let ran = run(host, args, *code);
        let records = ran.records.iter().map(ToString::to_string).collect::<String>();
        let said = ran.stderr.contains(what) || records.contains(what);
        assert!(said, "{host}: {args}: '{what}' is not in: {}{records}", ran.stderr);
    }
}

#[test]
fn the_command_of_a_refusal_is_not_refused() {
    for (host, args) in [("um890", "bind c5:00.0 -n"), ("strix", "bind c3:00 -n")] {
        let ran = run(host, args, 4);
        let command = ran.records.last().unwrap()["commands"][0].clone();
        let words: Vec<&str> =
            command.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        run(host, &format!("{} -n", words[1..].join(" ")), 0);
    }
}

#[test]
fn the_option_goes_where_the_boot_loader_that_booted_reads_it() {
    // GRUB booted by Secure Boot, with the files of systemd-boot beside it
    let bed = Bed::of(&reported::tree("secureboot").unwrap());
    let ran = bed.tool("gpu-vfio-bind").args("persist 01:00 --cmdline").run().expect(0);
    let option = ran.one("change", "property", "option");
    assert_eq!(option["target"], "/etc/default/grub");
    assert!(bed.read("/etc/default/grub").contains("\"quiet intel_iommu=on\""));
    assert!(!bed.read("/etc/kernel/cmdline").contains("intel_iommu"));
    // the file that another loader reads has it already
    let bed = Bed::of(&reported::tree("notread").unwrap());
    let ran = bed.tool("gpu-vfio-bind").args("persist 01:00 --cmdline -n").run().expect(0);
    let option = ran.one("change", "property", "option");
    assert_eq!(
        (&option["target"], &option["status"]),
        (&json!("/etc/default/grub"), &json!("planned"))
    );
    // the file that is read has it, and the kernel was started before
    bed.write("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=on\"\n");
    let ran = bed.tool("gpu-vfio-bind").args("persist 01:00 --cmdline -n").run().expect(0);
    assert_eq!(ran.one("change", "property", "option")["status"], "unchanged");
    assert_eq!(ran.records.last().unwrap()["to"], "yes");
    assert!(ran.stderr.contains("the running kernel was started without it"), "{}", ran.stderr);
    // an option that switches it off comes first
    let ran = run("iommuoff", "persist 03:00 --cmdline -n", 3);
    assert!(ran.stderr.contains("remove 'intel_iommu=off'"), "{}", ran.stderr);
}

#[test]
fn a_driver_s_name_is_the_kernel_s_and_not_a_spelling_of_the_module() {
    let ran = run("gh200", "bind 0009:01:00 --driver auto -n", 0);
    assert_eq!(ran.one("change", "target", "0009:01:00.0")["to"], "nvgrace_gpu_vfio_pci");
    let bed = Bed::of(&reported::tree("gh200").unwrap());
    bed.tool("gpu-vfio-bind").args("persist 0009:01:00 --driver auto").run().expect(0);
    assert!(bed.read("/etc/gpu-vfio-bind.list").contains(" nvgrace_gpu_vfio_pci address"));
}

#[test]
fn an_apu_s_slot_is_its_gpu_and_its_audio() {
    let ran = run("um890", "bind c5:00.0 -n --force display", 0);
    assert_eq!(ran.values("change", "target"), ["0000:c5:00.0", "0000:c5:00.1"]);
    let ran = run("um890", "bind c5:00 -n --force display", 0);
    assert_eq!(ran.values("change", "target"), ["0000:c5:00.0", "0000:c5:00.1"]);
}

#[test]
fn an_override_alone_is_cleared_without_an_unbind() {
    let ran = run("overinuse", "release 01:00 -n -v", 0);
    let gpu = ran.one("change", "target", "0000:01:00.0");
    assert_eq!((&gpu["from"], &gpu["to"]), (&json!("nvidia"), &json!("nvidia")));
    assert_eq!(gpu["status"], "planned");
}

/// A `status` line of a host: exit status, then what stands for a property.
fn status_of(host: &str, address: &str, property: &str, code: i32) -> serde_json::Value {
    let ran = run(host, &format!("status {address}"), code);
    let of = |record: &&serde_json::Value| record["property"] == property;
    ran.of_type("check").find(of).cloned().unwrap_or_default()
}

#[test]
fn status_names_what_binds_a_function_at_the_next_boot() {
    // driverctl, ids= on the command line, ids= in modprobe.d that worked at this boot
    for host in ["driverctl", "idscmd", "coop", "kv50"] {
        let check = status_of(host, "01:00.0", "driver_at_boot", 0);
        assert_eq!(
            (&check["status"], &check["actual"]),
            (&json!("ok"), &json!("vfio-pci")),
            "{host}"
        );
    }
    // driverctl has an override for it, and the host's driver has it now
    let check = status_of("override", "01:00.0", "driver_at_boot", 1);
    assert_eq!((&check["status"], &check["expected"]), (&json!("drift"), &json!("vfio-pci")));
    assert!(check["hint"].as_str().unwrap().contains("/etc/driverctl.d/0000:01:00.0"));
    // ids= that the host's driver may forestall
    let bed = Bed::of(&reported::tree("acs").unwrap());
    bed.write("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:1e04\n");
    let at_boot = |bed: &Bed, code: i32| {
        let ran = bed.tool("gpu-vfio-bind").args("status 01:00.0").run().expect(code);
        ran.one("check", "property", "driver_at_boot").clone()
    };
    let check = at_boot(&bed, 1);
    assert_eq!(check["status"], "unknown");
    assert!(check["hint"].as_str().unwrap().contains("may be loaded first"), "{check}");
    let held = "softdep nvidia pre: vfio-pci\nsoftdep nvidia_drm pre: vfio_pci\n\
                blacklist nouveau\nblacklist nvidiafb\nblacklist nova_core\n";
    bed.write("/etc/modprobe.d/held.conf", held);
    assert_eq!(at_boot(&bed, 1)["status"], "drift");
}

#[test]
fn a_slot_that_is_half_bound_is_not_ok() {
    for (host, others) in [("coop", ["01:00.2", "01:00.3"]), ("kv50", ["01:00.1", "01:00.2"])] {
        for address in others {
            let check = status_of(host, address, "driver", 1);
            assert_eq!(check["status"], "drift", "{host} {address}");
            let command = check["commands"][0].as_array().unwrap();
            let words: Vec<&str> = command[1..].iter().map(|w| w.as_str().unwrap()).collect();
            run(host, &format!("{} -n", words.join(" ")), 0);
        }
    }
}

#[test]
fn status_never_advises_a_bind_that_is_refused() {
    // driverctl has an override for a GPU that a container uses
    let bed = Bed::of(&reported::tree("overinuse").unwrap());
    bed.write("/etc/driverctl.d/0000:01:00.0", "vfio-pci\n");
    let ran = bed.tool("gpu-vfio-bind").args("status 01:00.0").run().expect(1);
    for check in ran.of_type("check").filter(|check| check["status"] == "drift") {
        let hint = check["hint"].as_str().unwrap();
        assert!(hint.contains("bind is refused now") && hint.contains("process 777"), "{hint}");
        assert!(!check["commands"].to_string().contains("\"bind\""), "{check}");
    }
    // without it, the override is left over, and a release clears it
    let check = status_of("overinuse", "01:00.0", "driver_override", 1);
    assert_eq!(check["commands"], json!([["gpu-vfio-bind", "release", "0000:01:00"]]));
    run("overinuse", "release 0000:01:00 -n", 0);
}

#[test]
fn release_and_unpersist_name_what_still_binds_at_boot() {
    for (host, what) in [
        ("idscmd", "'vfio-pci.ids=10de:1e04,10de:10f7' on the kernel command line binds it"),
        ("scyto", "ids= in '/etc/modprobe.d/vfio.conf' binds it"),
        ("driverctl", "'/etc/driverctl.d/0000:01:00.0' (driverctl) binds it"),
    ] {
        let slot = if host == "scyto" { "21:00" } else { "01:00" };
        let bed = Bed::of(&reported::tree(host).unwrap());
        let ran = bed.tool("gpu-vfio-bind").args(&format!("release {slot} -n")).run().expect(0);
        assert!(ran.stderr.contains(what), "{host}: {}", ran.stderr);
        bed.tool("gpu-vfio-bind").args(&format!("persist {slot}")).run().expect(0);
        let ran = bed.tool("gpu-vfio-bind").args(&format!("unpersist {slot}")).run().expect(0);
        let what = what.replace("binds it", "still binds it");
        assert!(ran.stderr.contains(&what), "{host}: {}", ran.stderr);
    }
}

#[test]
fn what_the_initramfs_does_not_have_is_not_persisted_by_address() {
    // an eGPU: authorised after the boot; by id it is bound when it appears
    let ran = run("egpu", "persist 24:00 -n", 4);
    assert!(ran.stderr.contains("is removable"), "{}", ran.stderr);
    run("egpu", "persist 24:00 --by id -n", 0);
    let ran = run("i915sriov", "persist 00:02.2 -n", 4);
    assert!(ran.stderr.contains("is a virtual function"), "{}", ran.stderr);
}

#[test]
fn the_blacklist_has_the_drivers_of_the_gpu_s_own_vendor() {
    let bed = Bed::of(&reported::tree("navi10").unwrap());
    bed.tool("gpu-vfio-bind").args("persist 44:00 --blacklist").run().expect(0);
    let text = bed.read("/etc/modprobe.d/gpu-vfio-bind.conf");
    assert!(text.contains("blacklist amdgpu\nblacklist radeon\n"), "{text}");
    assert!(!text.contains("nvidiafb") && !text.contains("nouveau"), "{text}");
}

#[test]
fn a_gpu_that_vfio_has_already_can_be_persisted_though_the_boot_display_was_on_it() {
    // coop: ids= took the boot display; nothing more is taken
    let ran = run("coop", "persist 01:00 -n", 0);
    assert_eq!(ran.one("change", "property", "images")["status"], "planned");
}
