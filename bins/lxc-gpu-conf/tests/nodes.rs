//! `nodes`: the host's device nodes, really made below the bed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::fs;

use common::*;
use serde_json::{Value, json};
use testbed::{Bed, Ran};

fn nodes(bed: &Bed, options: &str) -> Ran {
    run(bed, &format!("nodes {options}"))
}

/// After a boot: the driver is loaded, /dev is empty of it.
fn booted(machine: &str) -> Bed {
    let bed = Bed::new(machine);
    let list = bed.read("/dev.list");
    let kept = list.lines().filter(|line| !line.contains("/dev/nvidia"));
    bed.write("/dev.list", kept.map(|line| format!("{line}\n")).collect::<String>());
    bed
}

#[test]
fn what_is_missing_is_made_with_the_drivers_numbers() {
    let bed = booted(HOST);
    let ran = nodes(&bed, "").expect(0);
    assert_eq!(statuses(&ran), only("changed"));
    assert_eq!(ran.values("change", "target"), vec![json!("host"); 6]);
    for (path, numbers) in [
        ("/dev/nvidia0", (195, 0)),
        ("/dev/nvidia1", (195, 1)),
        ("/dev/nvidiactl", (195, 255)),
        ("/dev/nvidia-modeset", (195, 254)),
        ("/dev/nvidia-uvm", (511, 0)),
        ("/dev/nvidia-uvm-tools", (511, 1)),
    ] {
        let (major, minor, mode, uid, gid) = node(&bed, path).expect(path);
        assert_eq!((major, minor), numbers, "{path}");
        assert_eq!((mode, uid, gid), (0o666, 0, 0), "{path}");
        assert_eq!(ran.one("change", "property", path)["to"], format!("{major}:{minor}"));
    }
    let before = bed.contents();
    let again = nodes(&bed, "").expect(0);
    assert_eq!(statuses(&again), only("unchanged"));
    assert_eq!(again.stderr, "");
    assert!(bed.contents() == before);
}

#[test]
fn owner_and_mode_are_the_drivers_parameters_but_not_for_uvm() {
    let bed = booted(HOST);
    let params = bed.read("/proc/driver/nvidia/params");
    // decimal: 0660
    let params = params
        .replace("DeviceFileMode: 438", "DeviceFileMode: 432")
        .replace("DeviceFileUID: 0", "DeviceFileUID: 3")
        .replace("DeviceFileGID: 0", "DeviceFileGID: 44");
    bed.write("/proc/driver/nvidia/params", params);
    nodes(&bed, "").expect(0);
    let owner = |path: &str| node(&bed, path).map(|(.., mode, uid, gid)| (mode, uid, gid));
    for path in ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-modeset"] {
        assert_eq!(owner(path), Some((0o660, 3, 44)), "{path}");
    }
    for path in ["/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"] {
        assert_eq!(owner(path), Some((0o666, 0, 0)), "{path}");
    }
}

#[test]
fn capabilities_of_instances_that_exist_are_made_and_no_others() {
    let bed = booted(A100);
    let ran = nodes(&bed, "").expect(0);
    let made: Vec<Value> = ran.values("change", "property");
    let cap = |n: u32| format!("/dev/nvidia-caps/nvidia-cap{n}");
    // both of each instance, and the right to watch them: so that add --mig finds them
    assert!(made.contains(&json!(cap(21))) && made.contains(&json!(cap(22))), "{made:?}");
    assert_eq!(made.iter().filter(|path| path.to_string().contains("cap")).count(), 16, "{made:?}");
    assert!(node(&bed, &cap(3)).is_none(), "an instance that does not exist");
    assert_eq!(node(&bed, &cap(21)), Some((242, 21, 0o444, 0, 0)));
    assert!(node(&bed, &cap(1)).is_none());
    // the right to reconfigure MIG is not made either where a container names it
    bed.write(&conf(101), bed.read(&conf(101)).replace("nvidia-cap21", "nvidia-cap1"));
    nodes(&bed, "").expect(0);
    assert!(node(&bed, &cap(1)).is_none());
    // and what is not to be modified by others keeps the driver's mode
    let file = "/proc/driver/nvidia/capabilities/gpu0/mig/gi2/ci0/access";
    bed.write(file, bed.read(file).replace("DeviceFileMode: 292", "DeviceFileMode: 256"));
    fs::remove_file(bed.at(&cap(22))).unwrap();
    nodes(&bed, "").expect(0);
    assert_eq!(node(&bed, &cap(22)).unwrap().2, 0o400);
}

#[test]
fn what_has_numbers_of_before_is_made_anew() {
    let bed = Bed::new(HOST);
    set_uvm_major(&bed, 508);
    let ran = nodes(&bed, "").expect(0);
    let uvm = ran.one("change", "property", "/dev/nvidia-uvm");
    assert_eq!((&uvm["from"], &uvm["to"]), (&json!("511:0"), &json!("508:0")));
    assert_eq!(node(&bed, "/dev/nvidia-uvm").unwrap().0, 508);
    set_uvm_major(&bed, 507);
    nodes(&bed, "").expect(0);
    assert_eq!(node(&bed, "/dev/nvidia-uvm").unwrap().0, 507);
}

#[test]
fn a_stub_makes_room_and_a_directory_does_not() {
    let bed = booted(HOST);
    bed.write("/dev/nvidia-uvm", "");
    bed.link("/dev/nvidiactl", "/etc/hostname");
    let before = bed.read("/etc/hostname");
    let ran = nodes(&bed, "").expect(3);
    assert!(ran.stderr.contains("/dev/nvidiactl: a symbolic link has this name"));
    assert_eq!(ran.one("change", "property", "/dev/nvidia-uvm")["from"], "no device");
    assert!(node(&bed, "/dev/nvidia-uvm").is_some() && bed.at("/dev/nvidiactl").is_symlink());
    assert_eq!(bed.read("/etc/hostname"), before, "what a link led to is as it was");

    let bed = booted(HOST);
    bed.write("/dev/nvidia0/x", "");
    let ran = nodes(&bed, "").expect(3);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("/dev/nvidia0: a directory has this name"));
    let failed = ran.one("change", "status", "failed");
    assert_eq!(failed["property"], "/dev/nvidia0");
    assert!(bed.at("/dev/nvidia0/x").exists());
    // the others are made all the same
    assert!(node(&bed, "/dev/nvidia1").is_some() && node(&bed, "/dev/nvidia-uvm").is_some());
    assert!(leftovers(&bed).is_empty());
}

fn leftovers(bed: &Bed) -> Vec<String> {
    let names = fs::read_dir(bed.at("/dev")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".tmp.")).collect()
}

#[test]
fn nothing_is_made_by_a_dry_run_or_a_check() {
    let bed = booted(HOST);
    let before = bed.contents();
    let ran = nodes(&bed, "--dry-run").expect(0);
    assert_eq!(statuses(&ran), only("planned"));
    let ran = nodes(&bed, "--check").expect(1);
    assert_eq!(ran.values("check", "status"), vec![json!("drift"); 6]);
    assert_eq!(commands(&ran.records[0]), ["lxc-gpu-conf nodes"]);
    assert!(bed.contents() == before);
    nodes(&bed, "").expect(0);
    let ran = nodes(&bed, "--check").expect(0);
    assert_eq!(ran.values("check", "status"), vec![json!("ok"); 6]);
}

#[test]
fn a_host_without_a_gpu_for_the_driver_has_nothing_to_be_made() {
    let bed = Bed::new("nouveau-bound");
    let ran = nodes(&bed, "").expect(0).one_line("this host has no GPU for NVIDIA's driver");
    assert!(ran.records.is_empty());
    run(&bed, "sync --all").expect(0);
}

#[test]
fn a_gpu_without_a_driver_asks_for_the_module() {
    let bed = booted("iommu-off");
    fs::remove_dir_all(bed.at("/proc/driver/nvidia/gpus")).unwrap();
    fs::remove_file(bed.at("/sys/bus/pci/devices/0000:07:00.0/driver")).unwrap();
    // loaded, it has none of the GPUs: loading it again makes no node
    nodes(&bed, "").expect(0).one_line("NVIDIA's driver is loaded and has no GPU");
    fs::remove_dir_all(bed.at("/sys/module/nvidia")).unwrap();
    let ran = nodes(&bed, "").expect(0);
    let module = ran.one("change", "property", "module nvidia");
    assert_eq!(module["status"], "skipped");
    assert_eq!(module["reason"], "commands are not run with --root");
    assert_eq!(commands(module), ["modprobe nvidia"]);
    let ran = nodes(&bed, "--check").expect(1);
    assert_eq!(ran.values("check", "property"), ["module nvidia"]);
}

#[test]
fn without_nvidia_uvm_the_others_are_made_and_it_is_said() {
    let bed = booted(HOST);
    bed.write("/proc/devices", bed.read("/proc/devices").replace("511 nvidia-uvm\n", ""));
    let ran = nodes(&bed, "").expect(0);
    assert_eq!(ran.one("change", "status", "skipped")["property"], "module nvidia-uvm");
    assert!(node(&bed, "/dev/nvidia0").is_some() && !bed.at("/dev/nvidia-uvm").exists());
}

#[test]
fn it_needs_no_cluster_file_system() {
    let bed = booted(HOST);
    fs::remove_dir_all(bed.at("/etc/pve/nodes")).unwrap();
    fs::remove_file(bed.at("/etc/pve/local")).unwrap();
    nodes(&bed, "").expect(0).one_line("nodes that only containers need are not checked");
    assert!(node(&bed, "/dev/nvidia0").is_some());
    fs::remove_file(bed.at("/proc/devices")).unwrap();
    let ran = nodes(&bed, "").expect(3);
    assert!(ran.stderr.contains("/proc/devices"), "{}", ran.stderr);
    nodes(&bed, "901").expect(2);
}
