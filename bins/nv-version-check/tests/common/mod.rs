//! A Proxmox VE host with the driver, and containers on it.

#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods)]

use serde_json::Value;
use testbed::driver::{RootFs, running};
use testbed::{Bed, Ran, Tool};

pub const TOOL: &str = "nv-version-check";
/// The running kernel of the recorded host.
pub const KERNEL: &str = "6.14.11-4-pve";
/// A newer one, for which 550 does not build.
pub const NEWER: &str = "6.17.13-2-pve";
/// The version that it has.
pub const V: &str = "550.163.01";

/// The recorded host with two GPUs, correctly set up: its module on disk, built by
/// DKMS, its libraries, and container 901's volume with the same.
pub struct Host {
    pub bed: Bed,
}

impl Host {
    /// By Debian's packages, proprietary module.
    pub fn debian() -> Host {
        let host = Host::bare();
        let root = host.root();
        root.debian(V).kernel(KERNEL, Some(("updates/dkms/nvidia-current.ko", V)));
        let packages = ["libcuda1", "libnvidia-ml1", "nvidia-kernel-dkms"];
        root.debian_status(&packages, &format!("{V}-2"), "installed");
        root.dkms("nvidia-current", V, &[KERNEL]);
        root.file("/lib/firmware/nvidia/550.163.01/gsp_ga10x.bin", "x");
        root.ldconfig();
        host
    }

    /// By a .run file, open module.
    pub fn run_open(version: &str) -> Host {
        let host = Host::bare();
        host.without_packages();
        let root = host.root();
        host.load(version, true);
        root.run_install("/usr/lib/x86_64-linux-gnu", version).kernel(KERNEL, None);
        let module = testbed::driver::module_file(version, "Dual MIT/GPL", KERNEL);
        root.module(KERNEL, "updates/dkms/nvidia.ko", &module, testbed::driver::Packed::Zstd);
        root.dkms("nvidia", version, &[KERNEL]);
        root.file(&format!("/lib/firmware/nvidia/{version}/gsp_ga10x.bin"), "x");
        root.ldconfig();
        host
    }

    /// The recording with storage for the containers.
    pub fn bare() -> Host {
        let bed = Bed::new("pve9-two-gpus");
        // it has a GPU, and a volume that the recording does not have
        bed.remove("/etc/pve/nodes/pve1/lxc/902.conf");
        bed.write(
            "/etc/pve/storage.cfg",
            "zfspool: local-zfs\n\tpool rpool/data\n\tcontent rootdir\n",
        );
        Host { bed }
    }

    /// The recording has Debian's packages of the driver.
    pub fn without_packages(&self) {
        let path = "/var/lib/dpkg/status";
        let names =
            ["nvidia", "libnvidia", "libcuda", "firmware-nvidia", "xserver-xorg-video-nvidia"];
        let driver = |paragraph: &&str| {
            let name = paragraph.trim_start().strip_prefix("Package: ").unwrap_or_default();
            !names.iter().any(|driver| name.starts_with(driver))
        };
        let status = self.bed.read(path);
        let rest: Vec<&str> = status.split("\n\n").filter(driver).collect();
        self.bed.write(path, rest.join("\n\n"));
    }

    pub fn root(&self) -> RootFs {
        RootFs::new(self.bed.path())
    }

    /// Gives the loaded module another version and wording.
    pub fn load(&self, version: &str, open: bool) {
        let wording = match open {
            true => format!(
                "NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (root@pve1)  "
            ),
            false => {
                format!("NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Apr  8 12:41:17 UTC 2025")
            }
        };
        self.bed.write(
            "/proc/driver/nvidia/version",
            format!(
                "NVRM version: {wording}\nGCC version:  gcc version 14.2.0 (Debian 14.2.0-19) \n"
            ),
        );
        for name in ["nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm"] {
            self.bed.write(&format!("/sys/module/{name}/version"), format!("{version}\n"));
        }
    }

    /// No module is loaded.
    pub fn unload(&self) {
        let _ = std::fs::remove_file(self.bed.at("/proc/driver/nvidia/version"));
        for name in ["nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm"] {
            let _ = std::fs::remove_dir_all(self.bed.at(&format!("/sys/module/{name}")));
        }
    }

    /// Gives a GPU of the recording another device id and driver.
    pub fn gpu(&self, address: &str, device: u16, driver: Option<&str>) {
        let dir = format!("/sys/bus/pci/devices/{address}");
        self.bed.write(&format!("{dir}/device"), format!("0x{device:04x}\n"));
        let modalias = self.bed.read(&format!("{dir}/modalias"));
        let (_, rest) = modalias.split_once("sv").unwrap();
        self.bed.write(&format!("{dir}/modalias"), format!("pci:v000010DEd{device:08X}sv{rest}"));
        let link = self.bed.at(&format!("{dir}/driver"));
        let _ = std::fs::remove_file(&link);
        if let Some(driver) = driver {
            self.bed.write(&format!("/sys/bus/pci/drivers/{driver}/bind"), "");
            let to = self.bed.at(&format!("/sys/bus/pci/drivers/{driver}"));
            let from = std::fs::canonicalize(self.bed.at(&dir)).unwrap();
            let depth = from.strip_prefix(self.bed.path()).unwrap().components().count();
            let to = to.strip_prefix(self.bed.path()).unwrap().to_path_buf();
            let relative = std::path::PathBuf::from("../".repeat(depth)).join(to);
            std::os::unix::fs::symlink(relative, link).unwrap();
        }
    }

    /// A kernel's headers, as far as NVIDIA's installer looks at them.
    pub fn headers(&self, package: &str) {
        for file in ["Makefile", "include/linux/kernel.h", "include/linux/version.h"] {
            self.root().file(&format!("/usr/src/{package}/{file}"), "");
        }
    }

    /// The volume of a stopped container.
    pub fn volume(&self, ctid: u32) -> RootFs {
        RootFs::new(self.bed.at(&format!("/rpool/data/subvol-{ctid}-disk-0")))
    }

    /// A running container: its first process sees this root.
    pub fn running(&self, ctid: u32) -> RootFs {
        running(&self.bed, ctid)
    }

    /// Gives a container the first GPU.
    pub fn give(&self, ctid: u32) {
        let path = format!("/etc/pve/nodes/pve1/lxc/{ctid}.conf");
        let text = format!("dev9: /dev/nvidia0,mode=0666\n{}", self.bed.read(&path));
        self.bed.write(&path, text);
    }

    pub fn tool(&self, args: &str) -> Tool {
        self.bed.tool(TOOL).args(args)
    }

    pub fn run(&self, args: &str) -> Ran {
        self.tool(args).run()
    }
}

/// Causes of what drifted, with their subjects.
pub fn drifts(ran: &Ran) -> Vec<(String, String)> {
    let drift = ran.of_type("check").filter(|record| record["status"] == "drift");
    drift.map(|record| (text(&record["subject"]), text(&record["cause"]))).collect()
}

/// The one check of a subject and property.
pub fn check<'a>(ran: &'a Ran, subject: &str, property: &str) -> &'a Value {
    let mut found = ran
        .of_type("check")
        .filter(|record| record["subject"] == subject && record["property"] == property);
    let record = found.next().unwrap_or_else(|| panic!("no {subject} {property}:\n{}", ran.stdout));
    assert!(found.next().is_none(), "two of {subject} {property}");
    record
}

/// A record's hint and commands on one line, separated by semicolons.
pub fn advice(record: &Value) -> String {
    let commands = record["commands"].as_array().expect("commands").iter().map(|command| {
        let words = command.as_array().expect("an argument vector").iter();
        words.map(text).collect::<Vec<_>>().join(" ")
    });
    let hint = record["hint"].as_str().map(str::to_string);
    hint.into_iter().chain(commands).collect::<Vec<_>>().join("; ")
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}
