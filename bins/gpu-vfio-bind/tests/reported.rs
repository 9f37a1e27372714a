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
