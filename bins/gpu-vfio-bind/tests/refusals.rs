//! What is refused, with who is in the way, and that nothing is written then.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;

use serde_json::json;
use testbed::{Bed, Ran};

const TOOL: &str = "gpu-vfio-bind";
const HOST: &str = "pve9-two-gpus";

/// Runs and checks that nothing whatever was written.
fn untouched(bed: &Bed, args: &str, code: i32) -> Ran {
    let before = bed.contents();
    let ran = bed.tool(TOOL).args(args).run().expect(code);
    assert_eq!(bed.contents(), before, "{args} wrote something");
    ran
}

/// As `refused`, where a dry run would say something else.
fn refused_now(bed: &Bed, args: &str, what: &str) {
    let ran = untouched(bed, args, 4);
    assert!(ran.stderr.contains(what), "'{what}' is not in: {}", ran.stderr);
}

/// A host whose second GPU is free to go.
fn free() -> Bed {
    Bed::new(HOST)
}

fn refused(bed: &Bed, args: &str, what: &str) -> Ran {
    let ran = untouched(bed, args, 4);
    assert!(ran.stderr.contains(what), "'{what}' is not in: {}", ran.stderr);
    assert!(ran.of_type("change").all(|c| c["status"] == "refused"));
    assert_eq!(ran.records.last().unwrap()["exit"], 4);
    // a dry run says the same
    untouched(bed, &format!("{args} -n"), 4);
    ran
}

/// Makes a class device below a function, as sysfs shows it: the class has a
/// link to its directory. Returns that directory.
fn hang(bed: &Bed, class: &str, address: &str, below: &str) -> String {
    let function = fs::read_link(bed.at(&format!("/sys/bus/pci/devices/{address}"))).unwrap();
    let function = function.to_str().unwrap().replace("../../../", "/sys/");
    let path = format!("{function}/{below}");
    fs::create_dir_all(bed.at(&path)).unwrap();
    let name = below.rsplit('/').next().unwrap();
    bed.link(&format!("/sys/class/{class}/{name}"), &path);
    path
}

#[test]
fn a_free_slot_is_planned_as_a_whole() {
    let bed = free();
    for operand in ["2c:00", "2c:00.0", "0000:2C:00.3"] {
        let ran = untouched(&bed, &format!("bind {operand} -n"), 0);
        assert_eq!(
            ran.values("change", "target"),
            ["0000:2c:00.0", "0000:2c:00.1", "0000:2c:00.2", "0000:2c:00.3"]
        );
        assert_eq!(
            ran.values("change", "from"),
            ["nvidia", "snd_hda_intel", "xhci_hcd", "nvidia-gpu"]
        );
        assert!(ran.values("change", "status").iter().all(|s| s == "planned"));
    }
    let ran = untouched(&bed, "bind 2c:00 --check", 1);
    assert_eq!(ran.values("check", "status"), vec![json!("drift"); 4]);
    let record = "{\"type\":\"pci-device\",\"address\":\"0000:2c:00.1\"}\n";
    let ran = bed.tool(TOOL).args("bind -n").input(record).run().expect(0);
    assert_eq!(ran.records.len(), 4);
}

#[test]
fn what_names_nothing_is_bad_input() {
    let bed = free();
    for (args, what) in [
        ("bind 99:00", "no slot 0000:99:00"),
        ("bind 28", "is the number of an IOMMU group"),
        ("bind 00:03.1", "bridges stay with the host"),
        ("bind gpu", "is neither a function"),
        ("bind 2c:00 --driver nvidia", "is not a VFIO driver"),
        ("bind 2c:00 --timeout 0", "0"),
        ("release 99:00", "no slot"),
        ("bind", "standard input is empty"),
    ] {
        let ran = untouched(&bed, args, 2);
        assert!(ran.stderr.contains(what), "{args}: {}", ran.stderr);
    }
}

#[test]
fn without_an_iommu_nothing_goes_and_force_does_not_help() {
    let bed = Bed::new("iommu-off");
    refused(&bed, "bind 07:00", "the IOMMU is off");
    refused(&bed, "bind 07:00 --force display,network,container,group,no-gpu", "the IOMMU is off");
    let bed = free();
    fs::remove_file(bed.at("/sys/bus/pci/devices/0000:2c:00.0/iommu_group")).unwrap();
    refused(&bed, "bind 2c:00 --force display,network,container,group", "has no IOMMU group");
}

#[test]
fn virtual_functions_and_their_parents_stay() {
    let bed = Bed::new("pve9-l40s-vgpu");
    refused(
        &bed,
        "bind 41:00.5 --force display,network,container,group,no-gpu",
        "virtual function of NVIDIA's vGPU",
    );
    refused(
        &bed,
        "bind 41:00.0 --force display,network,container,group,no-gpu",
        "32 virtual functions enabled",
    );
    // the slot number that PF and VFs share names the PF only
    let ran = refused(
        &bed,
        "bind 41:00 --force display,network,container,group,no-gpu",
        "32 virtual functions enabled",
    );
    assert!(ran.of_type("change").all(|c| c["target"] == "0000:41:00.0"));
}

#[test]
fn a_process_that_holds_it_is_named() {
    for (node, fd_of) in [
        ("/dev/nvidia1", "2c:00.0"),
        ("/dev/dri/renderD129", "2c:00.0"),
        ("/dev/dri/card2", "2c:00.0"),
    ] {
        let bed = free();
        bed.link("/proc/4242/fd/7", node);
        bed.write("/proc/4242/comm", "python3\n");
        for force in ["", " --force display,network,container,group"] {
            let what = format!("0000:{fd_of}: process 4242 (python3) has {node} open");
            refused(&bed, &format!("bind 2c:00{force}"), &what);
        }
        // the other card is nobody's business
        bed.link("/proc/4242/fd/8", "/dev/nvidiactl");
        untouched(&bed, "bind 2b:00 --force container -n", 0);
    }
    let bed = free();
    bed.link("/proc/77/fd/3", "/dev/nvidia1");
    bed.write("/proc/77/comm", "nvidia-persiste\n");
    let ran = refused(&bed, "bind 2c:00", "process 77");
    let hint = "  hint: gpu-vfio-bind bind 0000:2c:00 --stop-persistenced\n";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    let ran = untouched(&bed, "bind 2c:00 --stop-persistenced -n", 0);
    assert!(ran.stderr.contains("nvidia-persistenced would be stopped"), "{}", ran.stderr);
    // below --root it cannot be, and so it still stands in the way
    refused_now(&bed, "bind 2c:00 --stop-persistenced", "process 77");
}

#[test]
fn a_sound_server_holds_the_companion() {
    let bed = free();
    for (node, number) in [("controlC1", "116:2"), ("pcmC1D3p", "116:3")] {
        let path = hang(&bed, "sound", "0000:2c:00.1", &format!("sound/card1/{node}"));
        bed.write(&format!("{path}/dev"), format!("{number}\n"));
        bed.write(&format!("{path}/uevent"), format!("DEVNAME=snd/{node}\n"));
    }
    bed.add_nodes("c /dev/snd/controlC1 116:2 0660 0:29\nc /dev/snd/controlC10 116:9 0660 0:29\n");
    bed.write("/proc/900/comm", "pipewire\n");
    bed.link("/proc/900/fd/20", "/dev/snd/controlC10");
    untouched(&bed, "bind 2c:00 -n", 0);
    bed.link("/proc/900/fd/21", "/dev/snd/controlC1");
    refused(&bed, "bind 2c:00", "0000:2c:00.1: process 900 (pipewire) has /dev/snd/controlC1 open");
}

#[test]
fn guests_that_use_it_are_named() {
    let bed = free();
    bed.write("/run/qemu-server/pci-id-reservations", "0000:2c:00.0 100 pid:4000\n");
    untouched(&bed, "bind 2c:00 -n", 0);
    bed.write("/proc/4000/comm", "kvm\n");
    refused(
        &bed,
        "bind 2c:00 --force display,network,container,group",
        "running VM 100 has reserved 0000:2c:00.0",
    );

    // a VM whose configuration names it: fine while it is stopped
    let bed = free();
    untouched(&bed, "bind 2c:00 -n", 0);
    bed.write("/run/qemu-server/100.pid", "4001\n");
    untouched(&bed, "bind 2c:00 -n", 0);
    bed.write("/proc/4001/comm", "kvm\n");
    refused(
        &bed,
        "bind 2c:00 --force display,network,container,group",
        "running VM 100 has it as hostpci0",
    );

    let bed = free();
    refused(&bed, "bind 2b:00", "0000:2b:00.0: container 902 is given /dev/nvidia0");
    fs::create_dir_all(bed.at("/sys/fs/cgroup/lxc/902")).unwrap();
    let ran = refused(&bed, "bind 2b:00", "running container 902 is given /dev/nvidia0");
    let hint = "  hint: lxc-gpu-conf remove 902 --gpu 0000:2b:00.0\n";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    let ran = untouched(&bed, "bind 2b:00 --force container -n", 0);
    assert!(
        ran.stderr.contains("warning: 0000:2b:00.0: running container 902 is given /dev/nvidia0")
    );
}

#[test]
fn displays_and_consoles_need_force() {
    let bed = free();
    refused(&bed, "bind 29:00", "the boot display is on it");
    untouched(&bed, "bind 29:00 --force display -n", 0);
    hang(&bed, "graphics", "0000:2c:00.0", "graphics/fb0");
    bed.write("/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n");
    bed.write("/sys/class/vtconsole/vtcon1/bind", "0\n");
    untouched(&bed, "bind 2c:00 -n", 0);
    bed.write("/sys/class/vtconsole/vtcon1/bind", "1\n");
    refused(&bed, "bind 2c:00", "the text console is drawn by it");
}

#[test]
fn strangers_in_the_group_are_named_and_go_along_on_request() {
    let bed = Bed::new("desktop-one-group");
    refused(&bed, "bind 06:00", "shares IOMMU group 15 with 0000:02:00.0 (xhci_hcd)");
    untouched(&bed, "bind 06:00 --force group -n", 0);
    let ran = untouched(&bed, "bind 06:00 --group -n --force group", 0);
    let targets = ran.values("change", "target");
    assert!(targets.contains(&json!("0000:02:00.1")) && !targets.contains(&json!("0000:03:04.0")));
}

#[test]
fn a_disk_or_the_network_behind_a_member_is_named() {
    let bed = Bed::new("desktop-one-group");
    let nic = hang(&bed, "net", "0000:05:00.0", "net/enp5s0");
    untouched(&bed, "bind 06:00 --group -n", 0);
    bed.write("/proc/net/route", "Iface\tDestination\tGateway\nenp5s0\t00000000\t0101A8C0\n");
    refused(&bed, "bind 06:00 --group", "0000:05:00.0: enp5s0 carries the default route");
    bed.write("/proc/net/route", "Iface\n");
    bed.link(&format!("{nic}/master"), "../../vmbr0");
    refused(&bed, "bind 06:00 --group", "enp5s0 is a port of vmbr0");

    let bed = Bed::new("desktop-one-group");
    let disk = "ata1/host0/target0:0:0/0:0:0:0/block/sda";
    let disk = hang(&bed, "block", "0000:02:00.1", disk);
    hang(&bed, "block", "0000:02:00.1", "ata1/host0/target0:0:0/0:0:0:0/block/sda/sda2");
    bed.write("/proc/mounts", "/dev/sdab1 /other ext4 rw 0 0\n");
    untouched(&bed, "bind 06:00 --group -n", 0);
    bed.write("/proc/mounts", "/dev/sda2 /srv ext4 rw 0 0\n");
    refused(
        &bed,
        "bind 06:00 --group --force display,network,container,group",
        "/dev/sda2 is mounted on /srv",
    );
    bed.write("/proc/mounts", "");
    fs::create_dir_all(bed.at(&format!("{disk}/holders/dm-0"))).unwrap();
    refused(
        &bed,
        "bind 06:00 --group --force display,network,container,group",
        "/dev/sda is part of dm-0",
    );
}

#[test]
fn what_a_vm_holds_is_not_given_back() {
    let bed = Bed::new("nouveau-bound");
    untouched(&bed, "release 0b:00 -n", 0);
    bed.link("/proc/5000/fd/30", "/dev/vfio/30");
    bed.write("/proc/5000/comm", "kvm\n");
    refused(&bed, "release 0b:00", "process 5000 (kvm) has /dev/vfio/30 open");
    let bed = Bed::new("nouveau-bound");
    bed.write("/run/qemu-server/pci-id-reservations", "0000:0b:00.1 101 time:99\n");
    untouched(&bed, "release 0b:00 -n", 0);
    bed.write("/run/qemu-server/pci-id-reservations", "0000:0b:00.1 101 time:99999999999\n");
    refused(&bed, "release 0b:00", "0000:0b:00.1: running VM 101 has reserved");
}

#[test]
fn what_is_so_already_is_unchanged_and_asks_nothing() {
    let bed = Bed::new("nouveau-bound");
    bed.link("/proc/5000/fd/30", "/dev/vfio/30");
    let ran = untouched(&bed, "bind 0b:00", 0);
    assert_eq!(ran.values("change", "status"), ["unchanged", "unchanged"]);
    let ran = untouched(&bed, "release 0c:00", 0);
    assert_eq!(ran.values("change", "status"), ["unchanged", "unchanged"]);
    let ran = untouched(&bed, "status", 0);
    assert_eq!(ran.values("check", "status"), vec![json!("ok"); 4]);
}

#[test]
fn the_variant_is_the_most_exact_by_modules_alias() {
    let bed = free();
    let ran = untouched(&bed, "bind 2c:00 -n --driver auto", 0);
    assert_eq!(ran.values("change", "to"), vec![json!("vfio-pci"); 4]);
    let alias = "/lib/modules/6.14.11-4-pve/modules.alias";
    let text =
        bed.read(alias) + "alias vfio_pci:v000010DEd00001E07sv*sd*bc*sc*i* special_vfio_pci\n";
    bed.write(alias, text);
    let ran = untouched(&bed, "bind 2c:00 -n --driver auto", 0);
    assert_eq!(ran.records[0]["to"], "special_vfio_pci");
    assert_eq!(ran.records[1]["to"], "vfio-pci");
}

#[test]
fn a_dry_run_of_a_release_shows_the_driver_that_comes_or_who_decides() {
    let bed = free();
    bed.remove("/sys/bus/pci/devices/0000:2c:00.0/driver");
    bed.link("/sys/bus/pci/devices/0000:2c:00.0/driver", "../../../../bus/pci/drivers/vfio-pci");
    let driver_of = |bed: &Bed| {
        let ran = bed.tool(TOOL).args("release 2c:00 -n").run().expect(0);
        ran.one("change", "target", "0000:2c:00.0").clone()
    };
    // nvidia and nouveau claim it, and nvidia is loaded
    assert_eq!(driver_of(&bed)["to"], "nvidia");
    bed.write("/sys/bus/pci/drivers/nouveau/bind", "");
    let change = driver_of(&bed);
    assert_eq!(change["to"], json!(null));
    assert_eq!(change["reason"], "the kernel decides which driver binds it");
    // it had none when it was bound; its driver was installed since
    bed.write("/run/gpu-vfio-bind/0000:2c:00.0", "driver=\nmoved_to=vfio-pci\n");
    fs::remove_dir_all(bed.at("/sys/bus/pci/drivers/nouveau")).unwrap();
    assert_eq!(driver_of(&bed)["to"], "nvidia");
}

#[test]
fn a_reset_takes_functions_that_nobody_uses_and_no_driver_of_the_host_has() {
    let ran = untouched(&free(), "reset 2c:00", 4);
    assert!(ran.stderr.contains("is bound to nvidia, which does not expect a reset"));
    let bed = Bed::new("nouveau-bound");
    let reset = "/sys/bus/pci/devices/0000:0b:00.0/reset";
    bed.write(reset, "");
    let ran = untouched(&bed, "reset 0b:00 -n", 0);
    let gpu = ran.one("change", "target", "0000:0b:00.0");
    assert_eq!((&gpu["property"], &gpu["status"]), (&json!("reset"), &json!("planned")));
    // the audio function has no method of its own
    assert_eq!(ran.one("change", "target", "0000:0b:00.1")["status"], "skipped");
    bed.tool(TOOL).args("reset 0b:00").run().expect(0);
    assert_eq!(bed.read(reset), "1");
    // a VM has it
    bed.write("/proc/5000/comm", "kvm\n");
    let group = fs::read_link(bed.at("/sys/bus/pci/devices/0000:0b:00.0/iommu_group")).unwrap();
    let group = group.file_name().unwrap().to_string_lossy().into_owned();
    bed.link("/proc/5000/fd/30", &format!("/dev/vfio/{group}"));
    let ran = bed.tool(TOOL).args("reset 0b:00").run().expect(4);
    assert!(ran.stderr.contains("process 5000 (kvm) has /dev/vfio/"), "{}", ran.stderr);
}

/// A slot's functions have drivers of their own: one that claims none is refused
/// before anything loses the driver that it has, one that claims some gets these.
#[test]
fn a_release_to_a_driver_is_for_the_functions_that_it_claims() {
    let bed = testbed::Bed::new("pve9-two-gpus");
    let release = |to: &str| {
        bed.tool("gpu-vfio-bind").args(&format!("release 2c:00 --to {to} -n -o jsonl")).run()
    };
    for driver in ["nosuch", "ast"] {
        let refused = release(driver).expect(4);
        assert!(
            refused.stderr.contains("these do: i2c_nvidia_gpu, nouveau, nvidia"),
            "{refused:?}"
        );
    }
    let planned = release("nouveau").expect(0);
    let of = |target: &str| planned.one("change", "target", target)["to"].clone();
    assert_eq!(of("0000:2c:00.0"), "nouveau");
    assert_eq!(of("0000:2c:00.1"), "snd_hda_intel");
}
