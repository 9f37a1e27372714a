//! What is written for the next boot, and what the script does with it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use testbed::{Bed, Ran};

const TOOL: &str = "gpu-vfio-bind";
const LIST: &str = "/etc/gpu-vfio-bind.list";
const SCRIPT: &str = "/etc/initramfs-tools/scripts/init-top/gpu-vfio-bind";
const MODPROBE: &str = "/etc/modprobe.d/gpu-vfio-bind.conf";

/// A recorded host with initramfs-tools, no container in the way.
fn host() -> Bed {
    Bed::new("pve9-two-gpus")
}

fn run(bed: &Bed, args: &str, code: i32) -> Ran {
    bed.tool(TOOL).args(args).run().expect(code)
}

#[test]
fn the_files_name_each_function_with_its_identity() {
    let bed = host();
    let ran = run(&bed, "persist 2c:00", 0);
    let list = bed.read(LIST);
    assert_eq!(
        list.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>(),
        [
            "0000:2c:00.0 0x10de 0x1e07 0x1458 0x37a9 vfio-pci address",
            "0000:2c:00.1 0x10de 0x10f7 0x1458 0x37a9 vfio-pci address",
            "0000:2c:00.2 0x10de 0x1ad6 0x1458 0x37a9 vfio-pci address",
            "0000:2c:00.3 0x10de 0x1ad7 0x1458 0x37a9 vfio-pci address",
        ]
    );
    let modprobe = bed.read(MODPROBE);
    for module in ["nvidia", "nouveau", "nvidia_drm", "snd_hda_intel", "xhci_pci", "i2c_nvidia_gpu"]
    {
        assert!(modprobe.contains(&format!("softdep {module} pre: vfio-pci\n")), "{module}");
    }
    assert!(!modprobe.contains("ids=") && !modprobe.contains("blacklist"));
    for script in [SCRIPT, "/etc/initramfs-tools/hooks/gpu-vfio-bind"] {
        assert_eq!(fs::metadata(bed.at(script)).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(bed.read(script).starts_with("#!/bin/sh\nPREREQ=\"\"\n"));
    }
    assert!(
        bed.read("/etc/initramfs-tools/hooks/gpu-vfio-bind")
            .contains("manual_add_modules vfio vfio_iommu_type1 vfio_pci\n")
    );
    // no command is run with --root, and it says so
    assert_eq!(ran.one("change", "property", "images")["status"], "skipped");
    let last = ran.records.last().unwrap();
    assert_eq!((&last["property"], &last["to"]), (&json!("reboot_required"), &json!("yes")));
    // nothing moved now
    assert_eq!(bed.read("/sys/bus/pci/devices/0000:2c:00.0/driver_override"), "(null)\n");

    let again = run(&bed, "persist 2c:00", 0);
    assert!(again.values("change", "status").iter().all(|s| s == "unchanged"));
    run(&bed, "persist 2c:00 --check", 0);
}

#[test]
fn a_second_slot_joins_and_each_can_be_taken_out() {
    let bed = host();
    let before = bed.contents();
    run(&bed, "persist 2c:00", 0);
    run(&bed, "persist 2b:00 --force container", 0);
    assert_eq!(bed.read(LIST).lines().filter(|l| !l.starts_with('#')).count(), 8);
    run(&bed, "unpersist 2c:00.1", 0);
    assert!(!bed.read(LIST).contains("2c:00") && bed.read(LIST).contains("0000:2b:00.3"));
    run(&bed, "unpersist --all", 0);
    for path in [LIST, SCRIPT, MODPROBE, "/etc/modules-load.d/gpu-vfio-bind.conf"] {
        assert!(!bed.at(path).exists(), "{path}");
    }
    let mut after = bed.contents();
    // directories and the lock file may stay
    after.retain(|path, what| before.contains_key(path) || !what.contains("FileType"));
    after.retain(|path, _| !path.ends_with("gpu-vfio-bind.lock"));
    assert_eq!(after, before);
    let ran = run(&bed, "unpersist --all", 0);
    assert!(ran.values("change", "status").iter().all(|s| s == "unchanged"));
}

#[test]
fn by_id_is_refused_while_a_twin_is_not_meant() {
    let bed = host();
    let before = bed.contents();
    let ran = run(&bed, "persist 2c:00 --by id", 4);
    assert!(
        ran.stderr.contains("0000:2b:00.0: has the same ids as 0000:2c:00.0"),
        "{}",
        ran.stderr
    );
    assert_eq!(bed.contents(), before);
    run(&bed, "persist 2c:00 2b:00 --by id --force container", 0);
    let modprobe = bed.read(MODPROBE);
    assert!(modprobe.contains("options vfio-pci ids=10de:10f7,10de:1ad6,10de:1ad7,10de:1e07\n"));
    let bed = host();
    bed.write("/etc/modprobe.d/old.conf", "# options vfio-pci ids=1:2\noptions vfio_pci ids=1:2\n");
    let ran = run(&bed, "persist 2c:00 2b:00 --by id --force container", 4);
    assert!(ran.stderr.contains("/etc/modprobe.d/old.conf"), "{}", ran.stderr);
    let ran = run(&bed, "persist 2c:00", 0);
    assert!(ran.stderr.contains("warning: '/etc/modprobe.d/old.conf' sets ids="), "{}", ran.stderr);
}

#[test]
fn a_driver_that_another_card_needs_is_not_blacklisted() {
    let bed = Bed::new("nouveau-bound");
    let ran = run(&bed, "persist 0b:00 --blacklist", 0);
    assert!(ran.stderr.contains("nouveau is not blacklisted"), "{}", ran.stderr);
    let modprobe = bed.read(MODPROBE);
    assert!(modprobe.contains("blacklist nvidiafb\n") && !modprobe.contains("blacklist nouveau"));
    // what was asked for once stays
    run(&bed, "persist 0b:00.1", 0);
    assert!(bed.read(MODPROBE).contains("blacklist nvidiafb\n"));
    let ran = run(&bed, "persist 0b:00 -n", 0);
    assert_eq!(ran.records.last().unwrap()["to"], "no", "it is on vfio-pci already");
}

#[test]
fn what_may_not_go_is_not_persisted_either() {
    let bed = host();
    run(&bed, "persist 29:00", 4).one_line("the boot display is on it");
    run(&bed, "persist 2b:00", 4).one_line("container 902 is given /dev/nvidia0");
    let bed = Bed::new("pve9-l40s-vgpu");
    run(&bed, "persist 41:00.5 --force display,network,container,group,no-gpu", 4);
    run(&bed, "persist 41:00 --force display,network,container,group,no-gpu", 4);
    // the IOMMU may be switched on with the same reboot
    let bed = Bed::new("iommu-off");
    let ran = run(&bed, "persist 07:00 --force display -n", 0);
    assert!(ran.stderr.contains("the IOMMU is off: enable AMD-Vi"), "{}", ran.stderr);
    let bed = host();
    bed.remove("/usr/sbin/update-initramfs");
    run(&bed, "persist 2c:00", 3).one_line("neither update-initramfs nor dracut");
    bed.write("/usr/bin/dracut", "");
    run(&bed, "persist 2c:00", 0);
    let setup = bed.read("/usr/lib/dracut/modules.d/90gpu-vfio-bind/module-setup.sh");
    assert!(setup.contains("instmods vfio vfio_iommu_type1 vfio_pci\n"));
    assert!(bed.at("/etc/dracut.conf.d/gpu-vfio-bind.conf").exists());
}

#[test]
fn status_tells_what_the_next_boot_will_change() {
    let bed = host();
    run(&bed, "persist 2c:00", 0);
    let ran = run(&bed, "status 2c:00", 1);
    let boot: Vec<_> = ran.of_type("check").filter(|c| c["property"] == "driver_at_boot").collect();
    assert_eq!(boot.len(), 4);
    assert_eq!((&boot[0]["expected"], &boot[0]["actual"]), (&json!("vfio-pci"), &json!("nvidia")));
    // another card at that address
    bed.write(
        "/sys/bus/pci/devices/0000:2c:00.0/modalias",
        "pci:v000010DEd00002204sv00001458sd000037A9bc03sc00i00\n",
    );
    let ran = run(&bed, "status 2c:00.0", 1);
    let boot = ran.one("check", "property", "driver_at_boot");
    assert!(boot["hint"].as_str().unwrap().contains("another function is at this address now"));
}

#[test]
fn the_command_line_gets_what_the_iommu_needs_and_nothing_else() {
    let intel = |release: &str| {
        let bed = Bed::new("iommu-off");
        bed.write("/proc/cpuinfo", "vendor_id\t: GenuineIntel\n");
        bed.write("/proc/sys/kernel/osrelease", release);
        bed.write("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n");
        bed
    };
    let bed = intel("6.2.16-20-pve\n");
    let ran = run(&bed, "persist 07:00 --force display --cmdline -n", 0);
    assert_eq!(ran.one("change", "property", "option")["status"], "planned");
    run(&bed, "persist 07:00 --force display --cmdline --check", 1);
    run(&bed, "persist 07:00 --force display --cmdline", 0);
    assert_eq!(
        bed.read("/etc/default/grub"),
        "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=on\"\n"
    );
    let ran = run(&bed, "persist 07:00 --force display --cmdline", 0);
    assert_eq!(ran.one("change", "property", "option")["status"], "unchanged");
    // Proxmox VE's kernels since 6.8 switch it on by themselves, AMD's is always on
    for bed in [intel("6.8.12-9-pve\n"), Bed::new("iommu-off")] {
        let ran = run(&bed, "persist 07:00 --force display --cmdline", 0);
        assert!(ran.stderr.contains("the kernel command line needs no option"), "{}", ran.stderr);
    }
    let bed = intel("6.2.16-20-pve\n");
    let cmdline = "initrd=\\EFI\\proxmox\\6.2.16-20-pve\\initrd.img-6.2.16-20-pve boot=zfs\n";
    bed.write("/proc/cmdline", cmdline);
    bed.write("/sys/firmware/efi/fw_platform_size", "64\n");
    bed.write("/etc/kernel/proxmox-boot-uuids", "0000-0000\n");
    bed.write("/etc/kernel/cmdline", "root=ZFS=rpool/ROOT/pve-1 boot=zfs\n");
    run(&bed, "persist 07:00 --force display --cmdline", 0);
    assert!(bed.read("/etc/kernel/cmdline").ends_with("boot=zfs intel_iommu=on\n"));
    assert!(!bed.read("/etc/default/grub").contains("intel_iommu"));
}

/// Runs with the n-th call of a kind failing, for all n that there are; gives
/// how often the run failed. Whenever it did, all files are as they were.
fn with_faults(call: &str, errno: &str, args: &str, prepare: &[&str]) -> usize {
    let mut failed = 0;
    let mut quiet = 0;
    for nth in 1..=400 {
        let bed = host();
        // directories and the lock file are there already
        prepare.iter().for_each(|args| drop(run(&bed, args, 0)));
        let before = bed.contents();
        let output = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-e"])
            .arg(format!("inject={call}:error={errno}:when={nth}"))
            .arg(testbed::bed::program(TOOL))
            .args(["--root".as_ref(), bed.path().as_os_str()])
            .arg("-q")
            .args(args.split(' '))
            .output()
            .expect("strace is needed: install strace");
        if output.status.success() {
            // past the last one, or one that does no harm
            quiet += 1;
            if quiet > if call == "openat2" { 200 } else { 25 } {
                return failed;
            }
            continue;
        }
        quiet = 0;
        failed += 1;
        assert_eq!(bed.contents(), before, "{call} {nth} {errno}: {output:?}");
    }
    failed
}

#[test]
fn a_failing_call_leaves_all_files_as_they_were() {
    let fresh = ["persist 2c:00", "unpersist --all"];
    for (call, errno) in [("renameat", "EROFS"), ("fsync", "EIO"), ("openat2", "EIO")] {
        let failed = with_faults(call, errno, "persist 2c:00", &fresh);
        assert!(failed >= 5, "{call}: {failed}");
    }
    let there = ["persist 2c:00", "persist 2b:00 --force container"];
    for (call, errno) in [("unlinkat", "EROFS"), ("openat2", "EIO")] {
        let failed = with_faults(call, errno, "unpersist --all", &there);
        assert!(failed >= 5, "{call}: {failed}");
    }
    // a list that cannot be read is not an empty one
    let failed = with_faults("openat2", "EIO", "unpersist 2c:00", &there);
    assert!(failed >= 5, "{failed}");
}

/// The script, run by a shell on a recorded machine: paths made to lie below
/// it, modprobe replaced by one that writes down its arguments.
fn boot(bed: &Bed, shell: &[&str]) -> String {
    let root = bed.path().display().to_string();
    let text = bed
        .read(SCRIPT)
        .replace("/sys/bus", &format!("{root}/sys/bus"))
        .replace("/etc/gpu-vfio-bind.list", &format!("{root}/etc/gpu-vfio-bind.list"))
        .replace("/dev/kmsg", &format!("{root}/none/kmsg"));
    bed.write("/script", text);
    bed.write("/bin/modprobe", format!("#!/bin/sh\necho modprobe \"$@\" >>{root}/modprobe.log\n"));
    fs::set_permissions(bed.at("/bin/modprobe"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{root}/bin:{}", std::env::var("PATH").unwrap());
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(bed.at("/script"))
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_script_moves_what_is_meant_and_leaves_other_cards_alone() {
    for shell in [&["dash"][..], &["bash", "--posix"]] {
        let bed = host();
        run(&bed, "persist 2c:00", 0);
        // function 1 is another one by now, function 3 is gone
        bed.write("/sys/bus/pci/devices/0000:2c:00.1/device", "0x1aef\n");
        fs::remove_file(bed.at("/sys/bus/pci/devices/0000:2c:00.3")).unwrap();
        let said = boot(&bed, shell);
        let over =
            |address: &str| bed.read(&format!("/sys/bus/pci/devices/{address}/driver_override"));
        assert_eq!(over("0000:2c:00.0"), "vfio-pci\n");
        assert_eq!(over("0000:2c:00.1"), "(null)\n");
        assert_eq!(over("0000:2c:00.2"), "vfio-pci\n");
        assert_eq!(over("0000:2b:00.0"), "(null)\n", "the identical card is left alone");
        assert!(said.contains("0000:2c:00.1: left alone: it is 0x10de 0x1aef"), "{said}");
        assert!(said.contains("0000:2c:00.3: no such function"), "{said}");
        assert_eq!(bed.read("/modprobe.log"), "modprobe vfio-pci\n");
        assert_eq!(bed.read("/sys/bus/pci/drivers/nvidia/unbind"), "0000:2c:00.0\n");
    }
    // initramfs-tools asks each script for its prerequisites
    let bed = host();
    run(&bed, "persist 2c:00", 0);
    let output = Command::new("sh").arg(bed.at(SCRIPT)).arg("prereqs").output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"\n".to_vec()));
}

#[test]
fn the_script_writes_the_name_that_the_kernel_has_for_a_driver() {
    // drivers/vfio/pci/nvgrace-gpu/main.c has .name = KBUILD_MODNAME
    for spelling in ["nvgrace-gpu-vfio-pci", "nvgrace_gpu_vfio_pci"] {
        let bed = host();
        run(&bed, "persist 2c:00", 0);
        bed.write(LIST, bed.read(LIST).replace("vfio-pci", spelling));
        bed.write("/sys/bus/pci/drivers/nvgrace_gpu_vfio_pci/bind", "");
        boot(&bed, &["dash"]);
        let over = bed.read("/sys/bus/pci/devices/0000:2c:00.0/driver_override");
        assert_eq!(over, "nvgrace_gpu_vfio_pci\n");
        assert_eq!(bed.read("/modprobe.log"), format!("modprobe {spelling}\n"));
    }
}

#[test]
fn shellcheck_has_nothing_to_say_of_the_scripts() {
    let bed = host();
    run(&bed, "persist 2c:00", 0);
    let bed2 = host();
    bed2.remove("/usr/sbin/update-initramfs");
    bed2.write("/usr/bin/dracut", "");
    run(&bed2, "persist 2c:00", 0);
    for script in [
        bed.at(SCRIPT),
        bed.at("/etc/initramfs-tools/hooks/gpu-vfio-bind"),
        bed2.at("/usr/lib/dracut/modules.d/90gpu-vfio-bind/gpu-vfio-bind.sh"),
    ] {
        let output = Command::new("shellcheck")
            .args(["-S", "warning", "-e", "SC1091,SC2034"])
            .arg(&script)
            .output()
            .expect("shellcheck is needed: install shellcheck");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
