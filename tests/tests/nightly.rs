//! The nightly look at driver versions, with the very options of the package's
//! unit, on ten hosts: the six recorded machines, and four of which public
//! reports tell the versions.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

use testbed::driver::{LIB, Packed, RootFs, module_file, running};
use testbed::pipelines::make;
use testbed::{Bed, Ran, machine};

/// A host as it is one night.
struct Night {
    name: &'static str,
    /// Where its versions are from; the recorded machines have their own sources.
    source: &'static str,
    host: fn() -> Bed,
    code: i32,
    /// What the mail holds: nothing where all is well.
    says: &'static [&'static str],
}

const NIGHTS: &[Night] = &[
    Night {
        name: "two RTX 2080 Ti, Debian's packages, and a container that follows",
        source: "",
        host: || {
            let bed = right("pve9-two-gpus", "550.163.01");
            // its volume is not recorded
            bed.remove("/etc/pve/nodes/pve1/lxc/902.conf");
            let root = RootFs::new(bed.at("/rpool/data/subvol-901-disk-0"));
            root.run_install(LIB, "550.163.01").ldconfig();
            bed
        },
        code: 0,
        says: &[],
    },
    Night {
        name: "AM4 desktop on the last driver of a GT 720",
        source: "",
        host: || right("desktop-one-group", "470.256.02"),
        code: 0,
        says: &[],
    },
    Night {
        name: "GTX 1660: a kernel came for which nothing was built",
        source: "",
        host: || {
            let bed = right("iommu-off", "525.147.05");
            RootFs::new(bed.path()).kernel("6.2.16-20-pve", None);
            bed
        },
        code: 1,
        says: &["DRIFT   kernel 6.2.16-20-pve", "525.147.05"],
    },
    Night {
        name: "nouveau for the console, the other card for a VM",
        source: "",
        host: || recorded("nouveau-bound"),
        code: 0,
        says: &[],
    },
    Night {
        name: "A100 with MIG: a container has an older driver",
        source: "",
        host: || {
            let bed = right("a100-mig", "580.126.09");
            running(&bed, 101).run_install(LIB, "580.126.09").ldconfig();
            running(&bed, 102).run_install(LIB, "580.105.08").ldconfig();
            bed
        },
        code: 1,
        says: &["DRIFT   ct 102", "580.105.08", "NVIDIA-Linux-x86_64-580.126.09.run --ct 102"],
    },
    Night {
        name: "L40S with the vGPU host driver",
        source: "",
        host: || right("pve9-l40s-vgpu", "580.105.06"),
        code: 0,
        says: &[],
    },
    Night {
        name: "Proxmox VE 9.1: 550 does not build for the kernel that boots next",
        source: "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1143",
        host: || {
            let bed = told("6.14.11-4-pve", "550.163.01", true);
            RootFs::new(bed.path()).kernel("6.17.13-2-pve", None);
            bed
        },
        code: 1,
        says: &["DRIFT   kernel 6.17.13-2-pve", "does not build"],
    },
    Night {
        name: "an update of the libraries, and no reboot yet",
        source: "https://github.com/zzzhouuu/truenas-nvidia-drivers/issues/19",
        host: || {
            let bed = told("6.12.33-production+truenas", "580.173.02", false);
            library(&bed, "580.178.04");
            bed
        },
        code: 1,
        says: &["DRIFT   host", "580.173.02", "580.178.04"],
    },
    Night {
        name: "Debian 11 with DKMS, as it should be",
        source: "https://github.com/NVIDIA/nvidia-container-toolkit/issues/171",
        host: || told("5.10.0-26-amd64", "470.199.02", false),
        code: 0,
        says: &[],
    },
    Night {
        name: "Ubuntu 22.04: a patched open module beside the distribution's libraries",
        source: "https://github.com/tinygrad/open-gpu-kernel-modules/issues/47",
        host: || {
            let bed = told("5.15.0-157-generic", "570.124.06", true);
            library(&bed, "570.195.03");
            bed
        },
        code: 1,
        says: &["DRIFT   host", "570.195.03"],
    },
];

fn recorded(name: &str) -> Bed {
    let bed = Bed::new(name);
    let storage = "zfspool: local-zfs\n\tpool rpool/data\n\tcontent rootdir\n";
    bed.write("/etc/pve/storage.cfg", storage);
    bed
}

/// A recorded machine with what no recording has: the driver's files of the
/// version that it has loaded.
fn right(name: &str, version: &str) -> Bed {
    let bed = recorded(name);
    let loaded = bed.read("/proc/driver/nvidia/version");
    assert!(loaded.contains(version), "{name}: {loaded}");
    let kernel = machine::load(name).unwrap().kernel;
    installed(&bed, &kernel, version, loaded.contains("Open Kernel Module"));
    bed
}

/// A host of which only kernel and versions are told.
fn told(kernel: &str, version: &str, open: bool) -> Bed {
    let bed = Bed::empty();
    let wording = match open {
        true => format!("NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build"),
        false => {
            format!("NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Jun 23 08:38:17 UTC 2026")
        }
    };
    bed.write("/proc/driver/nvidia/version", format!("NVRM version: {wording}\n"));
    bed.write("/proc/sys/kernel/osrelease", format!("{kernel}\n"));
    bed.write("/proc/devices", "Character devices:\n195 nvidia\n\nBlock devices:\n");
    bed.write("/dev.list", "c /dev/nvidia0 195:0 0666 0:0\n");
    for name in ["nvidia", "nvidia_uvm"] {
        bed.write(&format!("/sys/module/{name}/version"), format!("{version}\n"));
    }
    installed(&bed, kernel, version, open);
    bed
}

fn installed(bed: &Bed, kernel: &str, version: &str, open: bool) {
    let root = RootFs::new(bed.path());
    let license = if open { "Dual MIT/GPL" } else { "NVIDIA" };
    root.kernel(kernel, None).dkms("nvidia", version, &[kernel]);
    let module = module_file(version, license, kernel);
    root.module(kernel, "updates/dkms/nvidia.ko", &module, Packed::No);
    root.file(&format!("/lib/firmware/nvidia/{version}/gsp_ga10x.bin"), "x");
    root.run_install(LIB, version).ldconfig();
}

/// The host's libraries become those of another version.
fn library(bed: &Bed, version: &str) {
    fs::remove_dir_all(bed.at(LIB)).unwrap();
    RootFs::new(bed.path()).run_install(LIB, version).ldconfig();
}

/// The words of the package's unit, after the program.
fn options(file: &str, before: &str) -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/nv-version-check/package");
    let text = fs::read_to_string(package.join(file)).unwrap();
    let line = text.lines().find(|line| line.contains(before) && !line.starts_with('#')).unwrap();
    let (_, options) = line.split_once("/usr/bin/nv-version-check ").unwrap();
    options.to_string()
}

fn night(bed: &Bed, more: &[&str]) -> Ran {
    let words = options("nv-version-check.service", "ExecStart=");
    let tool = bed.tool("nv-version-check").args(&words);
    more.iter().fold(tool, |tool, word| tool.arg(word)).text().run()
}

#[test]
fn ten_hosts_say_something_only_where_something_is_wrong() {
    assert!(NIGHTS.len() >= 10);
    let names = machine::names();
    let sources = NIGHTS.iter().filter(|night| night.source.starts_with("https://")).count();
    assert_eq!(NIGHTS.len(), names.len() + sources, "each recorded machine is one of them");
    for Night { name, host, code, says, .. } in NIGHTS {
        let bed = host();
        let ran = night(&bed, &[]);
        assert_eq!(ran.code(), *code, "{name}: {ran:?}");
        assert_eq!(ran.stderr, "", "{name}");
        assert_eq!(ran.stdout.is_empty(), says.is_empty(), "{name}:\n{}", ran.stdout);
        for words in *says {
            assert!(ran.stdout.contains(words), "{name}: {words}:\n{}", ran.stdout);
        }
    }
}

#[test]
fn the_metrics_of_each_host_say_the_same() {
    for Night { name, host, code, .. } in NIGHTS {
        let bed = host();
        bed.write("/metrics/.keep", "");
        let file = bed.at("/metrics/nvidia.prom");
        let ran = night(&bed, &["--prometheus-file", file.to_str().unwrap()]);
        assert_eq!(ran.code(), *code, "{name}: {ran:?}");
        let metrics = fs::read_to_string(&file).unwrap();
        let drifts = metrics.lines().find_map(|line| line.strip_prefix("nvidia_version_drifts "));
        let drifts: u32 = drifts.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap();
        assert_eq!(drifts > 0, *code == 1, "{name}: {metrics}");
        let good = metrics.contains("nvidia_version_check_last_good_timestamp_seconds ");
        assert_eq!(good, *code == 0, "{name}: {metrics}");
    }
}

#[test]
fn make_drift_tells_all_of_it_and_fails_where_the_unit_does() {
    for Night { name, host, code, .. } in NIGHTS {
        let bed = host();
        let made = make(bed.path(), "drift-versions");
        assert_eq!(made.ran.code(), if *code == 0 { 0 } else { 2 }, "{name}: {:?}", made.ran);
        let drifted = made.records.iter().any(|record| record["status"] == "drift");
        assert_eq!(drifted, *code == 1, "{name}: {:?}", made.ran);
    }
}
