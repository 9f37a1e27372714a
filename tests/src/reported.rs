//! Hosts from public reports: `tests/reported/<name>.toml` has what a report
//! tells of the host's PCI side, one line a function, and the files that
//! matter. Addresses, ids, groups and drivers are the report's; what it does
//! not say has the usual shape of such a host.
//!
//! A line of `functions` is address, class, `vendor:device`, then in any order
//! `gN` (IOMMU group), a driver, `^ADDRESS` (the bridge above it) and what is
//! on it: `drm=`, `fb=`, `net=`, `nvme=DISK:PARTITIONS`, `sata=`, `usbdisk=`,
//! `usbnet=`, `usbhid=`, `sriov=TOTAL/ENABLED`, `pf=`, `boot_vga=`,
//! `override=`, `reset=`, `vfiodev=`, `sub=` (subsystem ids).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use record::Address;
use serde::Deserialize;

use crate::machine::machines_dir;
use crate::tree::Tree;

/// What a report tells of a host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Where it was reported.
    pub source: String,
    /// Release of the running kernel.
    pub kernel: String,
    cmdline: Option<String>,
    cpu: Option<String>,
    cpuinfo: Option<String>,
    iommu: Vec<String>,
    functions: String,
    #[serde(default)]
    mounts: Option<String>,
    #[serde(default)]
    routes: String,
    #[serde(default)]
    nodes: String,
    #[serde(default)]
    dirs: Vec<String>,
    #[serde(default)]
    reserved: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    links: BTreeMap<String, String>,
}

/// One line of a report's functions.
#[derive(Default)]
struct Function {
    class: String,
    id: String,
    group: Option<u32>,
    driver: Option<String>,
    parent: Option<Address>,
    extra: BTreeMap<String, String>,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reported")
}

/// Names of all reported hosts, sorted.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(dir()).expect("tests/reported");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("tests/reported").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_string))
        .collect();
    names.sort();
    names
}

/// A report by name.
pub fn load(name: &str) -> Result<Report> {
    let path = dir().join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// The tree that such a host's kernel shows.
pub fn tree(name: &str) -> Result<Tree> {
    load(name)?.build()
}

impl Report {
    /// The tree that such a host's kernel shows. Errors: a line that cannot be
    /// parsed.
    pub fn build(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        for path in [
            "/sys/bus/pci/devices",
            "/sys/bus/pci/drivers",
            "/sys/kernel/iommu_groups",
            "/sys/class/iommu",
            "/etc/modprobe.d",
            "/run",
            "/boot",
        ] {
            tree.dir(path);
        }
        tree.file("/sys/bus/pci/drivers_probe", "");
        let functions = self.parse()?;
        let paths: BTreeMap<Address, String> =
            functions.keys().map(|address| (*address, path_of(*address, &functions))).collect();
        for (address, function) in &functions {
            self.function(&mut tree, *address, function, &paths);
        }
        for (address, function) in &functions {
            let Some(pf) = function.extra.get("pf") else { continue };
            let pf: Address = pf.parse()?;
            tree.link_to(&format!("{}/physfn", paths[address]), &paths[&pf]);
            let taken = |n: &u32| tree.entries.contains_key(&format!("{}/virtfn{n}", paths[&pf]));
            let index = (0..).find(|n| !taken(n)).unwrap_or_default();
            tree.link_to(&format!("{}/virtfn{index}", paths[&pf]), &paths[address]);
        }
        for unit in &self.iommu {
            tree.dir(format!("/sys/class/iommu/{unit}"));
        }
        self.host(&mut tree)?;
        Ok(tree)
    }

    fn parse(&self) -> Result<BTreeMap<Address, Function>> {
        let mut functions = BTreeMap::new();
        for line in self.functions.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(class), Some(id)) = (words.next(), words.next(), words.next())
            else {
                bail!("'{line}' needs address, class and ids");
            };
            let mut function =
                Function { class: class.into(), id: id.into(), ..Function::default() };
            for word in words {
                let group = word.strip_prefix('g').and_then(|n| n.parse().ok());
                if let Some(parent) = word.strip_prefix('^') {
                    function.parent = Some(parent.parse()?);
                } else if let Some((key, value)) = word.split_once('=') {
                    function.extra.insert(key.into(), value.into());
                } else if group.is_some() {
                    function.group = group;
                } else if word != "-" {
                    function.driver = Some(word.into());
                }
            }
            functions.insert(address.parse()?, function);
        }
        Ok(functions)
    }

    fn function(
        &self,
        tree: &mut Tree,
        address: Address,
        function: &Function,
        paths: &BTreeMap<Address, String>,
    ) {
        let path = &paths[&address];
        let extra = |name: &str| function.extra.get(name).map(String::as_str);
        let (vendor, device) = function.id.split_once(':').unwrap_or_default();
        let (subvendor, subdevice) =
            extra("sub").and_then(|ids| ids.split_once(':')).unwrap_or(("0000", "0000"));
        let class = format!("{:0<6}", function.class);
        for (name, value) in [
            ("vendor", format!("0x{vendor}")),
            ("device", format!("0x{device}")),
            ("subsystem_vendor", format!("0x{subvendor}")),
            ("subsystem_device", format!("0x{subdevice}")),
            ("class", format!("0x{class}")),
            ("revision", "0x00".into()),
            ("numa_node", "-1".into()),
            ("driver_override", extra("override").unwrap_or("(null)").into()),
            ("modalias", modalias(&[vendor, device, subvendor, subdevice], &class)),
        ] {
            tree.attr(format!("{path}/{name}"), value);
        }
        tree.link_to(&format!("/sys/bus/pci/devices/{address}"), path);
        if class.starts_with("0604") {
            tree.dir(format!("{path}/pci_bus"));
        }
        if class.starts_with("0300") {
            tree.attr(format!("{path}/boot_vga"), extra("boot_vga").unwrap_or("0"));
        }
        if let Some(driver) = &function.driver {
            let dir = format!("/sys/bus/pci/drivers/{driver}");
            for name in ["bind", "unbind", "new_id", "remove_id"] {
                tree.file(format!("{dir}/{name}"), "");
            }
            tree.link_to(&format!("{path}/driver"), &dir);
            tree.link_to(&format!("{dir}/{address}"), path);
        }
        if let Some(id) = function.group {
            let dir = format!("/sys/kernel/iommu_groups/{id}");
            tree.attr(format!("{dir}/type"), "DMA-FQ");
            let direct = self.reserved.get(&id.to_string()).map_or("", String::as_str);
            let msi = "0x00000000fee00000 0x00000000feefffff msi\n";
            tree.file(format!("{dir}/reserved_regions"), format!("{}{msi}", direct.trim_start()));
            tree.link_to(&format!("{path}/iommu_group"), &dir);
            tree.link_to(&format!("{dir}/devices/{address}"), path);
        }
        if let Some((total, enabled)) = extra("sriov").and_then(|counts| counts.split_once('/')) {
            tree.attr(format!("{path}/sriov_totalvfs"), total);
            tree.attr(format!("{path}/sriov_numvfs"), enabled);
        }
        if let Some(methods) = extra("reset") {
            tree.attr(format!("{path}/reset_method"), methods.replace('+', " "));
        }
        if let Some(name) = extra("vfiodev") {
            tree.dir(format!("{path}/vfio-dev/{name}"));
        }
        devices(tree, path, function);
    }

    fn host(&self, tree: &mut Tree) -> Result<()> {
        let kernel = &self.kernel;
        tree.attr("/proc/sys/kernel/osrelease", kernel);
        let cmdline =
            format!("BOOT_IMAGE=/boot/vmlinuz-{kernel} root=/dev/mapper/pve-root ro quiet");
        tree.attr("/proc/cmdline", self.cmdline.as_ref().unwrap_or(&cmdline));
        let cpu = self.cpu.as_deref().unwrap_or("AuthenticAMD");
        let cpuinfo = format!("processor\t: 0\nvendor_id\t: {cpu}\n");
        tree.file("/proc/cpuinfo", self.cpuinfo.as_ref().unwrap_or(&cpuinfo));
        let mounts = "/dev/mapper/pve-root / ext4 rw 0 0\n";
        tree.file("/proc/mounts", self.mounts.as_deref().unwrap_or(mounts));
        let routes = format!("Iface\tDestination\tGateway\n{}", self.routes);
        tree.file("/proc/net/route", routes);
        let common = machines_dir().join("common");
        let aliases = format!("/lib/modules/{kernel}/modules.alias");
        for (name, path) in
            [("modules.alias", aliases.as_str()), ("pci.ids", "/usr/share/misc/pci.ids")]
        {
            tree.file(path, fs::read(common.join(name))?);
        }
        tree.file("/usr/sbin/update-initramfs", "#!/bin/sh\n");
        let grub = "GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n\
                    GRUB_CMDLINE_LINUX=\"\"\n";
        tree.file("/etc/default/grub", grub);
        tree.file("/etc/debian_version", "12.9\n");
        tree.file("/etc/hostname", "pve\n");
        tree.file("/dev.list", self.nodes.trim_start());
        for path in &self.dirs {
            tree.dir(path);
        }
        for (path, text) in &self.files {
            tree.file(path, text);
        }
        for (path, target) in &self.links {
            tree.link(path, target);
        }
        Ok(())
    }
}

/// Where a function is in sysfs, below the bridges above it.
fn path_of(address: Address, functions: &BTreeMap<Address, Function>) -> String {
    let mut chain = vec![address];
    let mut top = address;
    while let Some(parent) = functions.get(&top).and_then(|function| function.parent) {
        chain.insert(0, parent);
        top = parent;
    }
    let chain: Vec<String> = chain.iter().map(ToString::to_string).collect();
    format!("/sys/devices/pci{:04x}:{:02x}/{}", top.domain, top.bus, chain.join("/"))
}

fn modalias(ids: &[&str; 4], class: &str) -> String {
    let [vendor, device, subvendor, subdevice] = ids.map(|id| format!("{:0>8}", id.to_uppercase()));
    let class = class.to_uppercase();
    let (base, sub, interface) = (&class[..2], &class[2..4], &class[4..]);
    format!("pci:v{vendor}d{device}sv{subvendor}sd{subdevice}bc{base}sc{sub}i{interface}")
}

/// What hangs below a function.
fn devices(tree: &mut Tree, path: &str, function: &Function) {
    for (kind, value) in &function.extra {
        let names = value.split(',');
        match kind.as_str() {
            "drm" => names.for_each(|name| {
                tree.attr(format!("{path}/drm/{name}/dev"), "226:0");
                tree.link_to(&format!("/sys/class/drm/{name}"), &format!("{path}/drm/{name}"));
            }),
            "fb" => {
                tree.attr(format!("{path}/graphics/{value}/name"), "x");
                let fb = format!("{path}/graphics/{value}");
                tree.link_to(&format!("/sys/class/graphics/{value}"), &fb);
            }
            "net" => names.for_each(|name| interface(tree, &format!("{path}/net/{name}"), name)),
            "usbnet" => interface(tree, &format!("{path}/usb2/2-2/2-2:1.0/net/{value}"), value),
            "usbhid" => {
                let hid = format!("{path}/usb1/1-1/1-1:1.0/0003:046D:C31C.0001/input/input3");
                tree.dir(&hid);
                tree.link_to("/sys/class/input/input3", &hid);
            }
            "nvme" => {
                let (controller, parts) = value.split_once(':').unwrap_or((value, "3"));
                let name = format!("{controller}n1");
                let disk = format!("{path}/nvme/{controller}/{name}");
                disks(tree, &disk, &name, &format!("{name}p"), parts);
            }
            "sata" => {
                let (name, parts) = value.split_once(':').unwrap_or((value, "3"));
                let disk = format!("{path}/ata1/host0/target0:0:0/0:0:0:0/block/{name}");
                disks(tree, &disk, name, name, parts);
            }
            "usbdisk" => {
                let port = format!("{path}/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0");
                disks(tree, &format!("{port}/block/{value}"), value, value, "2");
            }
            _ => {}
        }
    }
}

fn interface(tree: &mut Tree, path: &str, name: &str) {
    tree.attr(format!("{path}/operstate"), "up");
    tree.link_to(&format!("/sys/class/net/{name}"), path);
}

fn disks(tree: &mut Tree, path: &str, name: &str, prefix: &str, parts: &str) {
    tree.dir(format!("{path}/holders"));
    tree.dir(format!("{path}/slaves"));
    tree.link_to(&format!("/sys/class/block/{name}"), path);
    tree.link_to(&format!("/sys/block/{name}"), path);
    for number in 1..=parts.parse::<u32>().unwrap_or(0) {
        let part = format!("{prefix}{number}");
        tree.dir(format!("{path}/{part}/holders"));
        tree.attr(format!("{path}/{part}/partition"), number);
        tree.link_to(&format!("/sys/class/block/{part}"), &format!("{path}/{part}"));
    }
}
