//! What is read: modules on disk, the kernel that boots next, libraries, CUDA
//! and CDI.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use common::{Host, KERNEL, NEWER, V, advice, check, drifts, text};
use testbed::driver::{LIB, Packed, RootFs, module_file};

#[test]
fn modules_are_read_in_every_compression() {
    for packed in [Packed::No, Packed::Xz, Packed::Zstd, Packed::Gzip] {
        for (license, words) in [("NVIDIA", "proprietary module"), ("Dual MIT/GPL", "open module")]
        {
            let host = Host::bare();
            host.unload();
            let root = host.root();
            root.kernel(KERNEL, None);
            root.file("/lib/firmware/nvidia/580.95.05/gsp_ga10x.bin", "x");
            let module = module_file("580.95.05", license, KERNEL);
            root.module(KERNEL, "kernel/drivers/video/nvidia.ko", &module, packed);
            let ran = host.run("").expect(0);
            let check = check(&ran, "kernel 6.14.11-4-pve", "module");
            assert_eq!(check["actual"], "580.95.05", "{packed:?}");
            assert!(text(&check["reason"]).contains(words), "{packed:?}");
        }
    }
    let host = Host::bare();
    host.root().kernel(KERNEL, None).module(KERNEL, "updates/nvidia.ko", b"junk", Packed::Xz);
    let ran = host.run("").expect(3);
    assert_eq!(check(&ran, "kernel 6.14.11-4-pve", "module")["status"], "unknown");
}

#[test]
fn the_kernel_that_boots_next_is_found_as_proxmox_does() {
    let with = |files: &[(&str, &str)]| {
        let host = Host::debian();
        let root = host.root();
        root.kernel("6.8.12-4-pve", Some(("updates/dkms/nvidia-current.ko", V)));
        root.kernel("6.14.11-10-pve", None);
        for (path, text) in files {
            root.file(path, text);
        }
        let ran = host.run("");
        let drift = drifts(&ran).into_iter().map(|(subject, _)| subject).collect::<Vec<_>>();
        (drift, ran)
    };
    let newest = vec!["kernel 6.14.11-10-pve".to_string()];
    // -10 is newer than -4
    assert_eq!(with(&[]).0, newest);
    let pin = ("/etc/kernel/proxmox-boot-pin", "6.14.11-4-pve\n");
    assert_eq!(with(&[pin]).0, Vec::<String>::new());
    assert_eq!(with(&[pin, ("/etc/kernel/next-boot-pin", "6.14.11-10-pve\n")]).0, newest);
    let default = "GRUB_DEFAULT=\"gnulinux-advanced-1>gnulinux-6.8.12-4-pve-advanced-1\"\n";
    assert_eq!(with(&[("/etc/default/grub", default)]).0, Vec::<String>::new());
    let zero = ("/etc/default/grub", "GRUB_DEFAULT=0\n");
    assert_eq!(with(&[zero]).0, newest);
    assert_eq!(
        with(&[zero, ("/etc/default/grub.d/proxmox-kernel-pin.cfg", default)]).0,
        Vec::<String>::new()
    );
    let saved = ("/etc/default/grub", "GRUB_DEFAULT=saved\n");
    let env = "# GRUB Environment Block\nsaved_entry=Proxmox VE GNU/Linux, with Linux 6.14.11-4-pve\n####\n";
    assert_eq!(with(&[saved, ("/boot/grub/grubenv", env)]).0, Vec::<String>::new());
    let next = format!("{env}next_entry=gnulinux-6.14.11-10-pve-advanced\n");
    assert_eq!(with(&[saved, ("/boot/grub/grubenv", &next)]).0, newest);
    // an ESP that proxmox-boot-tool keeps does not ask GRUB's files
    assert_eq!(
        with(&[("/etc/default/grub", default), ("/etc/kernel/proxmox-boot-uuids", "1234\n")]).0,
        newest
    );
    let (drift, ran) = with(&[("/etc/default/grub", "GRUB_DEFAULT='1>2'\n")]);
    assert_eq!(drift, Vec::<String>::new());
    assert!(
        text(&check(&ran, "host", "next boot")["reason"]).contains("names no installed kernel")
    );
    assert_eq!(ran.code(), 0);
    let host = Host::debian();
    host.root().file("/etc/kernel/proxmox-boot-pin", "6.2.16-3-pve\n");
    host.run("--next-boot").expect(3);
}

#[test]
fn next_boot_compares_everything_with_what_will_be_loaded() {
    let host = Host::debian();
    host.load("550.144.03", false);
    host.give(901);
    host.volume(901).debian(V).ldconfig();
    let ran = host.run("--ct 901 --next-boot").expect(1);
    assert_eq!(check(&ran, "ct 901", "userspace")["status"], "ok");
    assert_eq!(drifts(&ran), [("host".to_string(), "host-not-rebooted".to_string())]);
}

#[test]
fn what_is_worth_knowing_is_not_a_mismatch() {
    let host = Host::debian();
    let root = host.volume(901);
    // behind ldconfig's back: it would make a link to it
    root.debian(V).ldconfig().library(LIB, "libcuda.so", "535.247.01");
    root.file("/usr/local/cuda-12.8/version.json", r#"{"cuda":{"version":"12.8.1"}}"#);
    root.library("/usr/local/cuda-12.8/compat", "libcuda.so", "570.124.06");
    root.file("/usr/local/cuda-12.4/version.json", r#"{"cuda":{"version":"12.4.1"}}"#);
    let ran = host.run("--ct 901 --cuda").expect(0);
    let cause = |property: &str| text(&check(&ran, "ct 901", property)["cause"]);
    assert_eq!(cause("leftovers"), "stale-leftovers");
    assert_eq!(cause("cuda /usr/local/cuda-12.8"), "toolkit-newer");
    assert_eq!(cause("forward compatibility"), "forward-compat");
    assert_eq!(
        check(&ran, "ct 901", "cuda /usr/local/cuda-12.4")["cause"],
        serde_json::Value::Null
    );
    assert_eq!(check(&ran, "ct 901", "userspace")["actual"], V);
    assert_eq!(host.run("--ct 901 --cuda --problems").expect(0).stdout, "");
}

#[test]
fn a_specification_in_a_container_is_repaired_there() {
    let host = Host::debian();
    let root = host.volume(901);
    root.debian(V).ldconfig();
    root.file("/etc/cdi/nvidia.yaml", "# nvidia\n- hostPath: /usr/lib/libcuda.so.535.247.01\n");
    let ran = host.run("--ct 901").expect(1);
    let stale = check(&ran, "ct 901", "cdi /etc/cdi/nvidia.yaml");
    assert_eq!(stale["actual"], "535.247.01");
    assert!(advice(stale).starts_with("pct exec 901 -- nvidia-ctk"), "{stale}");
}

#[test]
fn the_next_kernel_without_a_module_does_not_make_containers_wrong() {
    let host = Host::debian();
    host.root().kernel(NEWER, None);
    host.give(901);
    host.volume(901).debian(V).ldconfig();
    let ran = host.run("--all-cts --next-boot").expect(1);
    let found = [("kernel 6.17.13-2-pve".to_string(), "kernel-unsupported".to_string())];
    assert_eq!(drifts(&ran), found);
}

#[test]
fn a_library_for_forward_compatibility_in_the_cache_is_not_a_mismatch() {
    let host = Host::debian();
    // on a GeForce it fails with CUDA error 804
    for slot in ["0000:2b:00.0", "0000:2c:00.0"] {
        let path = format!("/proc/driver/nvidia/gpus/{slot}/information");
        let text = host.bed.read(&path).replace("GeForce RTX 2080 Ti", "L40S");
        host.bed.write(&path, text);
    }
    let root: RootFs = host.running(901);
    root.debian(V).library("/usr/local/cuda-12.8/compat", "libcuda.so", "570.124.06");
    root.link("/usr/local/cuda-12.8/compat/libcuda.so.1", "libcuda.so.570.124.06");
    root.file("/etc/ld.so.conf.d/000_cuda.conf", "/usr/local/cuda-12.8/compat\n").ldconfig();
    let ran = host.run("--ct 901").expect(0);
    assert_eq!(check(&ran, "ct 901", "userspace")["actual"], V);
    // NVML must match the kernel module
    root.link(&format!("{LIB}/nvidia/current/libnvidia-ml.so.1"), "libnvidia-ml.so.535.247.01");
    root.library(&format!("{LIB}/nvidia/current"), "libnvidia-ml.so", "535.247.01");
    let found = drifts(&host.run("--ct 901").expect(1));
    assert_eq!(found, [("ct 901".to_string(), "two-userspaces".to_string())]);
}

#[test]
fn a_kernel_that_was_removed_does_not_boot_next() {
    let host = Host::debian();
    host.root().kernel("6.8.12-4-pve", None);
    // the running one is newer, and its image is gone
    std::fs::remove_file(host.bed.at(&format!("/boot/vmlinuz-{KERNEL}"))).unwrap();
    let found = [("kernel 6.8.12-4-pve".to_string(), "module-old-kernel-only".to_string())];
    assert_eq!(drifts(&host.run("").expect(1)), found);
}

/// A host with GPUDirect Storage: its version was taken for the driver's.
#[test]
fn a_dkms_module_that_is_not_the_driver_says_nothing_about_its_version() {
    let host = Host::debian();
    host.root().dkms("nvidia-fs", "2.26.6", &[KERNEL]);
    let ran = host.run("").expect(0);
    assert!(!ran.stdout.contains("nvidia-fs"), "{}", ran.stdout);
    let host = Host::bare();
    host.unload();
    host.root().dkms("nvidia-fs", "2.26.6", &[KERNEL]).kernel(KERNEL, None);
    assert!(!host.run("").stdout.contains("2.26.6"));
}

/// nvidia-ctk names egl-gbm 1.1.1 and egl-wayland 1.1.13 in every specification
/// that it generates; such a fresh one was called stale for ever.
#[test]
fn a_fresh_cdi_specification_may_name_libraries_with_versions_of_their_own() {
    let host = Host::debian();
    let root = host.root();
    let mut spec = String::from("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n");
    for file in ["libcuda.so.550.163.01", "libnvidia-egl-gbm.so.1.1.1"] {
        let dir =
            if file.starts_with("libcuda") { format!("{LIB}/nvidia/current") } else { LIB.into() };
        root.file(&format!("{dir}/{file}"), "x");
        spec += &format!("- hostPath: {dir}/{file}\n");
    }
    root.file("/etc/cdi/nvidia.yaml", &spec);
    let ran = host.run("").expect(0);
    assert_eq!(check(&ran, "cdi /etc/cdi/nvidia.yaml", "libraries")["status"], "ok");
    // one that does not exist is stale, whatever its version
    let stale = [("cdi /etc/cdi/nvidia.yaml".to_string(), "cdi-stale".to_string())];
    root.file(
        "/etc/cdi/nvidia.yaml",
        format!("{spec}- hostPath: {LIB}/libnvidia-egl-gbm.so.1.1.2\n"),
    );
    assert_eq!(drifts(&host.run("").expect(1)), stale);
}

/// After the reboot the module is of another version than the libraries, and so is
/// every container that matches now.
#[test]
fn next_boot_does_not_call_ok_what_works_only_until_then() {
    let host = Host::debian();
    let module = module_file("550.144.03", "NVIDIA", KERNEL);
    host.root().module(KERNEL, "updates/dkms/nvidia-current.ko", &module, Packed::No);
    host.give(901);
    host.volume(901).debian(V).ldconfig();
    let now = drifts(&host.run("--ct 901").expect(1));
    assert_eq!(now, [("kernel 6.14.11-4-pve".to_string(), "reboot-breaks".to_string())]);
    let next = drifts(&host.run("--ct 901 --next-boot").expect(1));
    for subject in ["host", "ct 901"] {
        assert!(next.iter().any(|(found, _)| found == subject), "{subject}: {next:?}");
    }
}

/// dkms 3.2 leaves the directory of a build that failed.
#[test]
fn a_build_of_dkms_that_did_not_end_is_not_built() {
    let host = Host::run_open("580.105.08");
    let tree =
        format!("/var/lib/dkms/nvidia/580.105.08/{NEWER}/.tmp_x86_64_AbCdEf/module/nvidia.ko");
    host.root().kernel(NEWER, None).file(&tree, "");
    let ran = host.run("").expect(1);
    let reason = text(&check(&ran, "kernel 6.17.13-2-pve", "module")["reason"]);
    assert!(reason.contains("nvidia/580.105.08 added"), "{reason}");
}

/// A recording has no module files: that its kernel has no module is not known.
#[test]
fn a_recorded_host_without_module_files_is_unknown() {
    let host = Host::debian();
    std::fs::remove_dir_all(host.bed.at("/lib/modules")).unwrap();
    let ran = host.run("").expect(0);
    let record = check(&ran, "kernel 6.14.11-4-pve", "module");
    assert_eq!((&record["status"], &record["cause"]), (&"unknown".into(), &"unreadable".into()));
}

/// CUDA 13.3 and newer, on a driver of today and on an older one.
#[test]
fn a_toolkit_past_the_tables_end_is_unknown() {
    let host = Host::run_open("610.43.02");
    let version = r#"{"cuda":{"version":"13.4.0"}}"#;
    host.root().file("/usr/local/cuda-13.4/version.json", version);
    let status = |host: &Host| {
        let ran = host.run("--cuda").expect(0);
        let record = check(&ran, "host", "cuda /usr/local/cuda-13.4").clone();
        (text(&record["status"]), text(&record["cause"]))
    };
    assert_eq!(status(&host), ("unknown".into(), "not-in-table".into()));
    let host = Host::run_open("580.95.05");
    host.root().file("/usr/local/cuda-13.4/version.json", version);
    assert_eq!(status(&host), ("ok".into(), "toolkit-newer".into()));
}

/// NVML without a version in its name comes first: libcuda does not answer for it.
#[test]
fn one_good_library_does_not_answer_for_another() {
    let host = Host::debian();
    let root = host.volume(901);
    root.run_install(LIB, V);
    std::fs::remove_file(root.at(&format!("{LIB}/libnvidia-ml.so.{V}"))).unwrap();
    root.file(&format!("{LIB}/libnvidia-ml.so.1.copy"), "x");
    root.link(&format!("{LIB}/libnvidia-ml.so.1"), "libnvidia-ml.so.1.copy");
    let ran = host.run("--ct 901").expect(3);
    assert_eq!(check(&ran, "ct 901", "nvml")["cause"], "unversioned");
}
