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
