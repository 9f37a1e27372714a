//! Recorded machines: `tests/machines/<name>/machine.toml` describes the PCI
//! side of a host in the terms of lspci and IOMMU group listings, `files/`
//! holds the rest verbatim, `machine.tree` (optional) is the output of the
//! recording script. From these the tree that such a host's kernel shows is
//! built.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use record::Address;

use crate::tree::Tree;

mod described;

pub use described::*;

/// Where the recorded machines are.
pub fn machines_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("machines")
}

/// Names of all recorded machines, sorted.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(machines_dir())
        .expect("tests/machines")
        .map(|entry| entry.expect("tests/machines").path())
        .filter(|path| path.join("machine.toml").exists() || path.join("machine.tree").exists())
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The description of a recorded machine.
pub fn load(name: &str) -> Result<Machine> {
    let path = machines_dir().join(name).join("machine.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut machine: Machine = toml::from_str(&text).with_context(|| path.display().to_string())?;
    machine.expand_vf_ranges()?;
    Ok(machine)
}

/// The whole tree of a recorded machine.
pub fn tree(name: &str) -> Result<Tree> {
    let dir = machines_dir().join(name);
    let mut tree = Tree::default();
    let recorded = dir.join("machine.tree");
    if recorded.exists() {
        tree = Tree::parse(&fs::read_to_string(recorded)?)?;
    }
    if dir.join("machine.toml").exists() {
        load(name)?.build(&mut tree);
    }
    overlay(&mut tree, &dir.join("files"), name)?;
    versions(&mut tree);
    Ok(tree)
}

/// The recorded Proxmox VE host with one GPU, so that a run has few system
/// calls.
pub fn one_gpu() -> Tree {
    let mut tree = tree("pve9-two-gpus").expect("pve9-two-gpus");
    let gone = |path: &str| {
        let pci = path.starts_with("/sys/bus/pci/devices/") || path.starts_with("/sys/kernel/");
        (pci && !path.contains("0000:2b:00.0"))
            || path.starts_with("/usr")
            || path.starts_with("/lib")
    };
    tree.entries.retain(|path, _| !gone(path));
    tree
}

fn overlay(tree: &mut Tree, files: &Path, name: &str) -> Result<()> {
    if !files.exists() {
        return Ok(());
    }
    for entry in walkdir::WalkDir::new(files) {
        let entry = entry.with_context(|| name.to_string())?;
        let path = entry.path().strip_prefix(files)?.to_string_lossy().into_owned();
        if entry.file_type().is_file() {
            tree.file(format!("/{path}"), fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// /sys/module of what /proc/modules lists, with NVIDIA's version.
fn versions(tree: &mut Tree) {
    use crate::tree::Entry;
    let text = |path: &str, tree: &Tree| match tree.entries.get(path) {
        Some(Entry::File(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let version = text("/proc/driver/nvidia/version", tree);
    let version = version
        .split_ascii_whitespace()
        .find(|word| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        .map(str::to_string);
    for line in text("/proc/modules", tree).lines() {
        let Some(name) = line.split(' ').next().filter(|name| !name.is_empty()) else {
            continue;
        };
        tree.dir(format!("/sys/module/{name}"));
        if name == "nvidia_drm" {
            // not recorded; off is the default (nvidia-drm-os-interface.c)
            tree.attr(format!("/sys/module/{name}/parameters/modeset"), "N");
        }
        if let (true, Some(version)) = (name.starts_with("nvidia"), &version) {
            tree.attr(format!("/sys/module/{name}/version"), version);
        }
    }
}

impl Machine {
    /// VFs given as a range become functions of their own. Their addresses
    /// follow the PF's offset and stride, bus overflow included.
    fn expand_vf_ranges(&mut self) -> Result<()> {
        for range in std::mem::take(&mut self.vf_ranges) {
            let pf = self.functions.iter().find(|f| f.address == range.pf);
            let pf = pf.with_context(|| format!("no PF {}", range.pf))?.clone();
            let sriov = pf.sriov.clone().context("vf_range of a function without sriov")?;
            for index in 0..sriov.numvfs {
                let current = range.current.get(&index.to_string()).copied().unwrap_or(0);
                // a VF that has a type offers nothing more
                let creatable = if current == 0 { range.creatable.clone() } else { Vec::new() };
                let id = |text: Option<&str>| {
                    (current == 0).then(String::new).or(text.map(str::to_string))
                };
                self.functions.push(Function {
                    address: vf_address(range.pf, &sriov, index),
                    device: sriov.vf_device.clone(),
                    driver: range.driver.clone(),
                    group: (!self.iommu.is_empty()).then_some(range.first_group + index),
                    parent: None,
                    pf: Some(range.pf),
                    sriov: None,
                    drm: Vec::new(),
                    boot_vga: None,
                    // NVIDIA's own driver registers its vGPU VFs with VFIO
                    vfio_dev: Some(format!("vfio{index}")),
                    vgpu: Some(Vgpu {
                        current,
                        creatable,
                        gpu_instance_id: id(Some("4294967295")),
                        placement_id: id(Some("0")),
                    }),
                    ..pf.clone()
                });
            }
        }
        Ok(())
    }

    /// Adds what the kernel would show of this machine.
    pub fn build(&self, tree: &mut Tree) {
        let paths = self.paths();
        for dir in [
            "/sys/bus/pci/devices",
            "/sys/bus/pci/drivers",
            "/sys/kernel/iommu_groups",
            "/sys/class/iommu",
        ] {
            tree.dir(dir);
        }
        tree.file("/sys/bus/pci/drivers_probe", "");
        tree.attr("/sys/bus/pci/drivers_autoprobe", 1);
        for function in &self.functions {
            self.function(tree, function, &paths);
        }
        for unit in &self.iommu {
            tree.dir(format!("/sys/class/iommu/{unit}"));
        }
        self.groups(tree);
        self.proc(tree);
        for node in &self.nodes {
            let kind = node.kind.chars().next().unwrap_or('c');
            let rest =
                format!("{}:{} {} {}:{}", node.major, node.minor, node.mode, node.uid, node.gid);
            tree.entries.insert(node.path.clone(), crate::tree::Entry::Node(kind, rest));
        }
        for link in &self.links {
            tree.link(&link.path, &link.target);
        }
    }

    /// Directory of every function below /sys/devices.
    fn paths(&self) -> BTreeMap<Address, String> {
        let by_address: BTreeMap<Address, &Function> =
            self.functions.iter().map(|f| (f.address, f)).collect();
        let path = |function: &Function| {
            let mut chain = vec![function.address];
            // a VF sits beside its PF on the bus, below the same bridge
            let above = |f: &Function| match f.pf {
                Some(pf) => by_address.get(&pf).and_then(|pf| pf.parent),
                None => f.parent,
            };
            let mut at = above(function);
            let mut top = function.address;
            while let Some(parent) = at {
                chain.push(parent);
                top = parent;
                at = by_address.get(&parent).and_then(|f| above(f));
            }
            if let (Some(pf), 1) = (function.pf, chain.len()) {
                top = pf;
            }
            let chain: Vec<String> = chain.iter().rev().map(ToString::to_string).collect();
            format!("/sys/devices/pci{:04x}:{:02x}/{}", top.domain, top.bus, chain.join("/"))
        };
        self.functions.iter().map(|f| (f.address, path(f))).collect()
    }

    fn function(&self, tree: &mut Tree, f: &Function, paths: &BTreeMap<Address, String>) {
        let dir = &paths[&f.address];
        let sub = |id: &Option<String>| id.clone().unwrap_or_else(|| "0x0000".into());
        let (subvendor, subdevice) = (sub(&f.subsystem_vendor), sub(&f.subsystem_device));
        let revision = f.revision.clone().unwrap_or_else(|| "0x00".into());
        tree.link_to(&format!("/sys/bus/pci/devices/{}", f.address), dir);
        for (name, value) in [
            ("vendor", &f.vendor),
            ("device", &f.device),
            ("subsystem_vendor", &subvendor),
            ("subsystem_device", &subdevice),
            ("class", &f.class),
            ("revision", &revision),
        ] {
            tree.attr(format!("{dir}/{name}"), value);
        }
        let number =
            |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).expect("hex");
        let class = number(&f.class);
        tree.attr(
            format!("{dir}/modalias"),
            format_args!(
                "pci:v{:08X}d{:08X}sv{:08X}sd{:08X}bc{:02X}sc{:02X}i{:02X}",
                number(&f.vendor),
                number(&f.device),
                number(&subvendor),
                number(&subdevice),
                class >> 16,
                class >> 8 & 0xff,
                class & 0xff
            ),
        );
        tree.file(
            format!("{dir}/config"),
            config_space(f, number(&subvendor), number(&subdevice), number(&revision) as u8),
        );
        tree.attr(
            format!("{dir}/driver_override"),
            f.driver_override.as_deref().unwrap_or("(null)"),
        );
        tree.attr(format!("{dir}/numa_node"), f.numa_node.unwrap_or(-1));
        tree.attr(format!("{dir}/enable"), u8::from(f.driver.is_some()));
        tree.link_to(&format!("{dir}/subsystem"), "/sys/bus/pci");
        let bridge = f.header_type == 1 || class >> 8 == 0x0604;
        if bridge {
            tree.dir(format!("{dir}/pci_bus"));
        }
        if let Some(driver) = &f.driver {
            let driver_dir = format!("/sys/bus/pci/drivers/{driver}");
            tree.link_to(&format!("{dir}/driver"), &driver_dir);
            tree.link_to(&format!("{driver_dir}/{}", f.address), dir);
            for name in ["bind", "unbind", "new_id", "remove_id"] {
                tree.file(format!("{driver_dir}/{name}"), "");
            }
        }
        if let Some(group) = f.group {
            let group_dir = format!("/sys/kernel/iommu_groups/{group}");
            tree.link_to(&format!("{dir}/iommu_group"), &group_dir);
            tree.link_to(&format!("{group_dir}/devices/{}", f.address), dir);
        }
        if let Some(boot) = f.boot_vga {
            tree.attr(format!("{dir}/boot_vga"), boot);
        } else if class >> 8 == 0x0300 {
            tree.attr(format!("{dir}/boot_vga"), 0);
        }
        if let Some(link) = &f.link {
            tree.attr(format!("{dir}/current_link_speed"), &link.speed);
            tree.attr(format!("{dir}/current_link_width"), link.width);
            tree.attr(format!("{dir}/max_link_speed"), &link.max_speed);
            tree.attr(format!("{dir}/max_link_width"), link.max_width);
        }
        if let Some(reset) = &f.reset {
            tree.attr(format!("{dir}/reset_method"), reset);
            tree.file(format!("{dir}/reset"), "");
        }
        for name in &f.drm {
            let drm = format!("{dir}/drm/{name}");
            let node = self.nodes.iter().find(|n| n.path == format!("/dev/dri/{name}"));
            let minor = node.map_or(0, |n| n.minor);
            tree.attr(format!("{drm}/dev"), format_args!("226:{minor}"));
            tree.link_to(&format!("/sys/class/drm/{name}"), &drm);
        }
        if let Some(name) = &f.vfio_dev {
            tree.dir(format!("{dir}/vfio-dev/{name}"));
        }
        self.sriov(tree, f, dir, paths);
        if let Some(vgpu) = &f.vgpu {
            vgpu_files(tree, dir, vgpu);
        }
    }

    fn sriov(&self, tree: &mut Tree, f: &Function, dir: &str, paths: &BTreeMap<Address, String>) {
        if let Some(sriov) = &f.sriov {
            for (name, value) in [
                ("sriov_totalvfs", sriov.total.to_string()),
                ("sriov_numvfs", sriov.numvfs.to_string()),
                ("sriov_offset", sriov.offset.to_string()),
                ("sriov_stride", sriov.stride.to_string()),
                ("sriov_vf_device", sriov.vf_device.trim_start_matches("0x").to_string()),
                ("sriov_drivers_autoprobe", "1".to_string()),
            ] {
                tree.attr(format!("{dir}/{name}"), value);
            }
            for index in 0..sriov.numvfs {
                let address = vf_address(f.address, sriov, index);
                if paths.contains_key(&address) {
                    tree.link(format!("{dir}/virtfn{index}"), format!("../{address}"));
                }
            }
        }
        if let Some(pf) = f.pf {
            tree.link(format!("{dir}/physfn"), format!("../{pf}"));
        }
    }

    fn groups(&self, tree: &mut Tree) {
        let mut ids: Vec<u32> = self.functions.iter().filter_map(|f| f.group).collect();
        ids.extend(self.groups.iter().map(|g| g.id));
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let dir = format!("/sys/kernel/iommu_groups/{id}");
            let special = self.groups.iter().find(|g| g.id == id);
            let domain_type = special.and_then(|g| g.domain_type.as_deref()).unwrap_or("DMA-FQ");
            tree.attr(format!("{dir}/type"), domain_type);
            let msi = ["0x00000000fee00000 0x00000000feefffff msi".to_string()];
            let reserved = special.and_then(|g| g.reserved.as_deref()).unwrap_or(&msi);
            tree.file(
                format!("{dir}/reserved_regions"),
                reserved.iter().map(|line| format!("{line}\n")).collect::<String>(),
            );
            for member in special.map_or(&[][..], |g| &g.members) {
                let device = format!("/sys/devices/platform/{member}");
                tree.dir(&device);
                tree.link_to(&format!("{dir}/devices/{member}"), &device);
            }
        }
    }

    fn proc(&self, tree: &mut Tree) {
        tree.attr("/proc/cmdline", &self.cmdline);
        tree.attr("/proc/sys/kernel/osrelease", &self.kernel);
        let amd = self.functions.iter().any(|f| f.vendor == "0x1022");
        let vendor = if amd { "AuthenticAMD" } else { "GenuineIntel" };
        tree.attr("/proc/cpuinfo", format_args!("processor\t: 0\nvendor_id\t: {vendor}"));
        let common = machines_dir().join("common");
        for (name, path) in [
            ("modules.alias", format!("/lib/modules/{}/modules.alias", self.kernel)),
            ("pci.ids", "/usr/share/misc/pci.ids".to_string()),
        ] {
            if let Ok(bytes) = fs::read(common.join(name)) {
                tree.file(path, bytes);
            }
        }
        for gpu in &self.nvidia {
            let dir = format!("/proc/driver/nvidia/gpus/{}", gpu.address);
            // nv-procfs.c, with the tabs it writes
            tree.file(
                format!("{dir}/information"),
                format!(
                    "Model: \t\t {}\nIRQ:   \t\t {}\nGPU UUID: \t {}\nVideo BIOS: \t {}\n\
                     Bus Type: \t PCIe\nDMA Size: \t 47 bits\nDMA Mask: \t 0x7fffffffffff\n\
                     Bus Location: \t {}\nDevice Minor: \t {}\nGPU Excluded:\t No\n",
                    gpu.model, gpu.irq, gpu.uuid, gpu.vbios, gpu.address, gpu.minor
                ),
            );
            tree.attr(format!("{dir}/unbindLock"), 0);
        }
        for capability in &self.capabilities {
            tree.file(
                format!("/proc/driver/nvidia/capabilities/{}", capability.path),
                format!(
                    "DeviceFileMinor: {}\nDeviceFileMode: {}\nDeviceFileModify: 1\n",
                    capability.minor, capability.mode
                ),
            );
        }
        if self.mig_minors {
            tree.file("/proc/driver/nvidia-caps/mig-minors", mig_minors());
        }
    }
}

/// Address of a PF's VF: routing id plus offset plus index times stride.
fn vf_address(pf: Address, sriov: &Sriov, index: u32) -> Address {
    let rid = u32::from(pf.bus) << 8 | u32::from(pf.device) << 3 | u32::from(pf.function);
    let rid = rid + sriov.offset + index * sriov.stride;
    Address {
        domain: pf.domain,
        bus: (rid >> 8) as u8,
        device: (rid >> 3 & 0x1f) as u8,
        function: (rid & 7) as u8,
    }
}

/// First 64 bytes of configuration space: what lspci wants before it shows a function.
fn config_space(f: &Function, subvendor: u32, subdevice: u32, revision: u8) -> Vec<u8> {
    let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).expect("hex");
    let mut space = vec![0u8; 64];
    space[0..2].copy_from_slice(&(number(&f.vendor) as u16).to_le_bytes());
    space[2..4].copy_from_slice(&(number(&f.device) as u16).to_le_bytes());
    let class = number(&f.class);
    space[8] = revision;
    space[9..12].copy_from_slice(&class.to_le_bytes()[..3]);
    let bridge = f.header_type == 1 || class >> 8 == 0x0604;
    space[14] = u8::from(bridge) | if f.address.function == 0 { 0x80 } else { 0 };
    if !bridge {
        space[0x2c..0x2e].copy_from_slice(&(subvendor as u16).to_le_bytes());
        space[0x2e..0x30].copy_from_slice(&(subdevice as u16).to_le_bytes());
    }
    space
}

/// The driver lists every possible entry: 32 GPUs, 15 GIs, 8 CIs (nv-caps.c).
fn mig_minors() -> String {
    let mut text = String::from("config 1\nmonitor 2\n");
    for gpu in 0..32 {
        for gi in 0..15 {
            let base = 3 + 135 * gpu + 9 * gi;
            text.push_str(&format!("gpu{gpu}/gi{gi}/access {base}\n"));
            for ci in 0..8 {
                text.push_str(&format!("gpu{gpu}/gi{gi}/ci{ci}/access {}\n", base + 1 + ci));
            }
        }
    }
    text
}

fn vgpu_files(tree: &mut Tree, dir: &str, vgpu: &Vgpu) {
    let mut creatable = String::new();
    if vgpu.current == 0 {
        creatable.push_str("ID    : vGPU Name\n");
    }
    for (id, name) in &vgpu.creatable {
        creatable.push_str(&format!("{id:<5} : {name}\n"));
    }
    tree.file(format!("{dir}/nvidia/creatable_vgpu_types"), creatable);
    tree.attr(format!("{dir}/nvidia/current_vgpu_type"), vgpu.current);
    for (name, value) in
        [("gpu_instance_id", &vgpu.gpu_instance_id), ("placement_id", &vgpu.placement_id)]
    {
        // reading gives ENXIO while there is no vGPU: no file comes nearest
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            tree.attr(format!("{dir}/nvidia/{name}"), value);
        }
    }
    tree.file(format!("{dir}/nvidia/vgpu_params"), "");
}
