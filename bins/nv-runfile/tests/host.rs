//! `install --host` on recorded hosts: what is found installed, and what would be
//! done. No command is run with --root.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use testbed::driver::RootFs;
use testbed::runfile::{NvidiaRun, Pack, driver_tree};
use testbed::{Bed, Ran};

/// The loaded module of the recorded host.
const V: &str = "550.163.01";

struct Host {
    bed: Bed,
}

impl Host {
    fn new() -> Host {
        let bed = Bed::new("pve9-two-gpus");
        // the recorded host has Debian's packages
        bed.write("/var/lib/dpkg/status", "");
        driver_tree(&bed.at("/tree"), V);
        let installer = NvidiaRun::new(V, Pack::Zstd).of_dir(&bed.at("/tree"));
        bed.write("/driver.run", installer);
        Host { bed }
    }

    fn root(&self) -> RootFs {
        RootFs::new(self.bed.path())
    }

    fn install(&self, args: &str) -> Ran {
        let tool = self.bed.tool("nv-runfile").args("install").arg(self.bed.at("/driver.run"));
        tool.args("--host").args(args).run()
    }
}

/// nvidia-installer 390 to 590 (backup.c) writes this first line; read as no
/// version, it made every second run a reinstallation.
#[test]
fn what_the_installer_recorded_is_installed_and_a_second_run_is_unchanged() {
    let host = Host::new();
    let root = host.root();
    root.run_install("/usr/lib/x86_64-linux-gnu", V);
    assert!(host.bed.read("/var/lib/nvidia/log").starts_with("1.0-55016301 (550.163.01)"));
    root.dkms("nvidia", V, &["6.14.11-4-pve"]);
    let ran = host.install("").expect(0);
    assert_eq!(ran.one("change", "property", "driver")["status"], "unchanged");
    host.install("--check").expect(0);
    // its own registration is not another driver's; that of Debian's packages is
    host.bed.write("/sys/module/nvidia/version", "550.144.03\n");
    host.bed.remove("/proc/driver/nvidia/version");
    let others = |ran: &Ran| ran.one("check", "property", "other_packaging").clone();
    assert_eq!(others(&host.install("--check").expect(1))["actual"], "none");
    root.dkms("nvidia-current", V, &["6.14.11-4-pve"]);
    let found = others(&host.install("--check").expect(1));
    assert_eq!(found["actual"], "nvidia-current/550.163.01");
}

/// A host with GPUDirect Storage: `dkms remove nvidia-fs/2.26.6` was planned.
#[test]
fn modules_of_nvidia_that_are_not_the_driver_are_left_alone() {
    let host = Host::new();
    host.root().dkms("nvidia-fs", "2.26.6", &["6.14.11-4-pve"]);
    let ran = host.install("--dry-run --purge --force").expect(0);
    assert_eq!(ran.one("check", "property", "other_packaging")["actual"], "none");
    assert!(ran.of_type("change").all(|change| change["property"] != "purge"), "{}", ran.stdout);
}

/// pop-os/pop#3811: the build of 580 failed, which left nvidia-kernel-dkms
/// half-configured, and the installer ran on top of it.
#[test]
fn packages_that_are_not_completely_installed_refuse() {
    for state in ["half-configured", "unpacked", "half-installed"] {
        let host = Host::new();
        let status =
            format!("Package: nvidia-kernel-dkms\nStatus: install ok {state}\nVersion: 1\n\n");
        host.bed.write("/var/lib/dpkg/status", status);
        let ran = host.install("--dry-run").expect(4);
        let check = ran.one("check", "property", "other_packaging");
        assert_eq!(check["actual"], "nvidia-kernel-dkms (not completely installed)", "{state}");
        let ran = host.install("--dry-run --purge --force").expect(0);
        let purge = ran.one("change", "property", "purge");
        assert_eq!(purge["to"], "/usr/bin/apt-get purge -y nvidia-kernel-dkms", "{state}");
    }
    // a status file that cannot be read does not say that there are none
    let host = Host::new();
    host.bed.remove("/var/lib/dpkg/status");
    std::fs::create_dir_all(host.bed.at("/var/lib/dpkg/status")).unwrap();
    let ran = host.install("--dry-run").expect(4);
    assert_eq!(ran.one("check", "property", "other_packaging")["status"], "unknown");
}

/// A .run host whose next kernel has no module: `install --host` said unchanged.
#[test]
fn a_kernel_without_a_module_is_named_and_its_module_is_built_alone() {
    let host = Host::new();
    let root = host.root();
    root.run_install("/usr/lib/x86_64-linux-gnu", V);
    let next = "6.14.11-9-pve";
    root.file(&format!("/boot/vmlinuz-{next}"), "");
    root.file(&format!("/lib/modules/{next}/modules.dep"), "kernel/fs/ext4.ko:\n");
    let ran = host.install("").expect(0);
    let check = ran.one("check", "property", "next_boot_module");
    let command: Vec<&str> =
        check["commands"][0].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(command[command.len() - 3..], ["--host", "--kernel", next]);
    // that command is not refused, and builds
    let dir = format!("/usr/src/proxmox-headers-{next}");
    for file in ["Makefile", "include/linux/kernel.h", "include/linux/version.h"] {
        root.file(&format!("{dir}/{file}"), "");
    }
    let ran = host.install(&format!("--kernel {next} -n --force")).expect(0);
    let reason = ran.one("change", "property", "driver")["reason"].as_str().unwrap().to_string();
    assert!(reason.ends_with(&format!(" -K --kernel-name={next}")), "{reason}");
    root.file(&format!("/lib/modules/{next}/modules.dep"), "updates/dkms/nvidia.ko.zst:\n");
    let ran = host.install(&format!("--kernel {next}")).expect(0);
    assert_eq!(ran.one("change", "property", "driver")["status"], "unchanged");
    let ran = host.install("").expect(0);
    assert!(ran.of_type("check").all(|check| check["property"] != "next_boot_module"));
}

/// Nothing looked at the flavour: a common driver was planned on a vGPU host.
#[test]
fn a_vgpu_host_gets_no_common_driver() {
    let host = Host::new();
    host.bed.write("/usr/bin/nvidia-vgpu-mgr", "");
    let ran = host.install("--dry-run").expect(4);
    assert_eq!(ran.one("check", "property", "flavour")["cause"], "vgpu-host");
}

/// The dry run of an installer that is not downloaded said planned on any host.
#[test]
fn a_planned_fetch_is_judged_as_the_file_is() {
    let host = Host::new();
    host.bed.write("/sys/module/nouveau/initstate", "live");
    let planned = "{\"type\":\"change\",\"tool\":\"nv-runfile\",\"target\":\
        \"/c/NVIDIA-Linux-x86_64-570.211.01.run\",\"property\":\"runfile\",\"from\":null,\
        \"to\":null,\"status\":\"planned\",\"reason\":null,\"hint\":null}\n";
    let ran = host.bed.tool("nv-runfile").args("install --host -n").input(planned).run().expect(4);
    assert_eq!(ran.one("check", "property", "nouveau")["actual"], "loaded");
}
