//! What drivers put into the tree beside their links: VFIO and DRM nodes,
//! nvidia's directory in /proc.

use record::Address;
use testbed::tree::Entry;

use crate::files::Node;
use crate::state::{GPUS, Saved, State};

impl State {
    /// Major number of a character device by its name in /proc/devices.
    fn major(&self, name: &str, otherwise: u32) -> u32 {
        let text = self.files.text("/proc/devices").unwrap_or_default();
        let found = text.lines().find_map(|line| {
            let (number, known) = line.trim().split_once(' ')?;
            (known == name).then(|| number.parse().ok())?
        });
        found.unwrap_or(otherwise)
    }

    /// The lowest number of which `name` makes no device that is there.
    fn free(&self, from: u32, name: impl Fn(u32) -> String) -> u32 {
        (from..).find(|n| !self.files.devices().contains_key(&name(*n))).unwrap_or(from)
    }

    fn add_node(&mut self, path: &str, major: u32, minor: u32, mode: &str) {
        let entry = Entry::Node('c', format!("{major}:{minor} {mode} 0:0"));
        self.files.device(path, entry);
    }

    /// vfio_register_group_dev(): vfio-dev/vfioN with its node, and the group's
    /// node with its first member.
    pub fn add_vfio(&mut self, address: Address) {
        let function = &self.functions[&address];
        let (dir, group) = (format!("{}/vfio-dev", function.dir), function.group);
        if self.files.names(&dir).is_empty() {
            let n = self.free(0, |n| format!("/dev/vfio/devices/vfio{n}"));
            let major = self.major("vfio-dev", 511);
            self.files.attr(&format!("{dir}/vfio{n}/dev"), format_args!("{major}:{n}"));
            self.add_node(&format!("/dev/vfio/devices/vfio{n}"), major, n, "0600");
        }
        let Some(group) = group else { return };
        let path = format!("/dev/vfio/{group}");
        if !self.files.devices().contains_key(&path) {
            let minors: Vec<String> = self
                .files
                .devices()
                .iter()
                .filter(|(path, _)| path.starts_with("/dev/vfio/"))
                .filter_map(|(_, entry)| match entry {
                    Entry::Node(_, rest) => rest.split(' ').next().map(str::to_string),
                    _ => None,
                })
                .collect();
            let major = self.major("vfio", 509);
            let free = |n: &u32| !minors.contains(&format!("{major}:{n}"));
            let minor = (0..).find(free).unwrap_or(0);
            self.add_node(&path, major, minor, "0600");
        }
    }

    /// Takes away what a VFIO driver made; the group's node with its last member.
    pub fn remove_vfio(&mut self, address: Address) {
        let function = &self.functions[&address];
        let (dir, group) = (format!("{}/vfio-dev", function.dir), function.group);
        for name in self.files.names(&dir) {
            self.files.remove_device(&format!("/dev/vfio/devices/{name}"));
        }
        self.files.remove(&dir);
        let Some(group) = group else { return };
        let other = self.members(group).any(|member| {
            self.on_vfio(member)
                || !self.files.names(&format!("{}/vfio-dev", member.dir)).is_empty()
        });
        if !other {
            self.files.remove_device(&format!("/dev/vfio/{group}"));
        }
    }

    /// The minor number of a GPU, from its directory in /proc.
    pub fn gpu_minor(&self, gpu: &str) -> Option<u32> {
        let text = self.files.text(&format!("{GPUS}/{gpu}/information"))?;
        let line = text.lines().find(|line| line.starts_with("Device Minor:"))?;
        line.rsplit([' ', '\t']).next()?.parse().ok()
    }

    /// nv_procfs_add_gpu(), with the lowest free minor.
    pub fn add_gpu(&mut self, address: Address) {
        let dir = format!("{GPUS}/{address}");
        let gpus = self.files.names(GPUS);
        let used: Vec<u32> = gpus.iter().filter_map(|gpu| self.gpu_minor(gpu)).collect();
        let minor = (0..).find(|minor| !used.contains(minor)).unwrap_or(0);
        let saved = std::mem::take(&mut self.function_mut(address).gpu);
        for (path, node) in saved {
            self.files.put(&path, node);
        }
        let path = format!("{dir}/information");
        let text = self.files.text(&path).unwrap_or_else(|| {
            // nv-procfs.c, with the tabs it writes
            format!(
                "Model: \t\t NVIDIA Graphics Device\nIRQ:   \t\t 255\nGPU UUID: \t GPU-????????\
                 -????-????-????-????????????\nVideo BIOS: \t ??.??.??.??.??\nBus Type: \t PCIe\n\
                 DMA Size: \t 47 bits\nDMA Mask: \t 0x7fffffffffff\nBus Location: \t {address}\n\
                 Device Minor: \t 0\nGPU Excluded:\t No"
            )
        });
        let minor = format!("Device Minor: \t {minor}");
        let line = |line: &str| match line.starts_with("Device Minor:") {
            true => format!("{minor}\n"),
            false => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        self.files.put(&path, Node::File(text.into_bytes()));
        self.files.attr(&format!("{dir}/unbindLock"), 0);
    }

    pub fn remove_gpu(&mut self, address: Address) {
        let removed = self.files.remove(&format!("{GPUS}/{address}"));
        self.function_mut(address).gpu = removed;
    }

    /// DRM nodes of a display driver: those that were there, or new ones.
    pub fn add_drm(&mut self, address: Address, driver: &str) {
        let function = self.function_mut(address);
        let saved = std::mem::take(&mut function.drm);
        let (dir, class, none) = (function.dir.clone(), function.ids.class, function.no_drm);
        if !saved.nodes.is_empty() {
            for (path, node) in saved.nodes {
                self.files.put(&path, node);
            }
            for (path, entry) in saved.devices {
                self.files.device(&path, entry);
            }
            return;
        }
        let module = driver != "nvidia" || self.files.node("/sys/module/nvidia_drm").is_some();
        if none || class >> 16 != 0x03 || !module {
            return;
        }
        for (name, from) in [("card", 0), ("renderD", 128)] {
            // no DRIVER_RENDER
            if name == "renderD" && matches!(driver, "ast" | "bochs-drm" | "mgag200") {
                continue;
            }
            let n = self.free(from, |n| format!("/dev/dri/{name}{n}"));
            let drm = format!("{dir}/drm/{name}{n}");
            self.files.attr(&format!("{drm}/dev"), format_args!("226:{n}"));
            self.files.link_to(&format!("/sys/class/drm/{name}{n}"), &drm);
            self.add_node(&format!("/dev/dri/{name}{n}"), 226, n, "0660");
        }
    }

    pub fn remove_drm(&mut self, address: Address) {
        let dir = format!("{}/drm", self.functions[&address].dir);
        let names = self.files.names(&dir);
        let mut saved = Saved { nodes: self.files.remove(&dir), devices: Vec::new() };
        for name in &names {
            saved.nodes.extend(self.files.remove(&format!("/sys/class/drm/{name}")));
        }
        let ours = |path: &str, entry: &Entry| match entry {
            Entry::Node(..) => names.iter().any(|name| path == format!("/dev/dri/{name}")),
            Entry::Link(target) => {
                path.starts_with("/dev/dri/")
                    && names.iter().any(|name| crate::files::split(target).1 == name)
            }
            _ => false,
        };
        let devices = self.files.devices().iter().filter(|(path, entry)| ours(path, entry));
        let paths: Vec<String> = devices.map(|(path, _)| path.clone()).collect();
        for path in paths {
            if let Some(entry) = self.files.remove_device(&path) {
                saved.devices.push((path, entry));
            }
        }
        if !saved.nodes.is_empty() {
            self.function_mut(address).drm = saved;
        }
    }
}
