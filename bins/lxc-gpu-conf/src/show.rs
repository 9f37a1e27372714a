//! `show`: which GPUs a container has, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Say};
use host::{Machine, NodeKind};
use nvidia::{NodeClass, NodeSpec, classify};
use record::{LxcGpu, LxcNode, LxcStyle, Record, Sink};

use crate::access::{Access, Devices};
use crate::cli::{Options, Show};
use crate::guest::{self, Guest};
use crate::host_gpus::HostGpus;
use crate::plan::check_numbers;
use pve::{Conf, Section};

/// The verb.
pub fn run(options: &Options, show: &Show, say: &Say, sink: &mut Sink) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, show.ctid)?;
    let conf = Conf::parse(&guest.read(&machine)?);
    let gpus = HostGpus::read(&machine, say)?;
    let view = View::of(&machine, &guest, &conf, &gpus)?;
    let records = view.records();
    if records.is_empty() {
        let snapshots = in_other_sections(&conf);
        match snapshots.as_str() {
            "" => say.note(&format!("{} has no GPU", guest.target())),
            names => say.note(&format!(
                "{} has no GPU; lines that give one stand in {names} only and have no effect",
                guest.target()
            )),
        }
    }
    for record in records {
        sink.put(Record::LxcGpu(Box::new(record)))?;
    }
    Ok(Exit::Done)
}

/// Sections other than the main one that give an NVIDIA node: what `echo >>`
/// leaves behind in a container that has snapshots.
fn in_other_sections(conf: &Conf) -> String {
    let gives = |section: &Section| {
        conf.keys(section).values().any(|value| value.contains("/dev/nvidia"))
            || conf.lxc_in(section).any(|(_, value)| value.contains("/dev/nvidia"))
    };
    conf.snapshots()
        .iter()
        .filter(|name| gives(&Section::Snapshot((**name).to_string())))
        .map(|name| format!("snapshot '{name}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// One node as the configuration gives it.
struct Granted {
    node: LxcNode,
    target: String,
    class: Option<NodeClass>,
    style: LxcStyle,
}

struct View<'a> {
    guest: &'a Guest,
    gpus: &'a HostGpus,
    access: Access,
    unprivileged: bool,
    granted: Vec<Granted>,
    problems: BTreeMap<String, Vec<String>>,
}

impl<'a> View<'a> {
    fn of(
        machine: &Machine,
        guest: &'a Guest,
        conf: &Conf,
        gpus: &'a HostGpus,
    ) -> anyhow::Result<View<'a>> {
        let access = Access::of(conf);
        let mut view = View {
            guest,
            gpus,
            unprivileged: guest::is_unprivileged(conf),
            granted: Vec::new(),
            problems: BTreeMap::new(),
            access,
        };
        let devs = view.access.devs.clone();
        for (key, dev) in &devs {
            let mode = dev.options.get("mode").cloned().unwrap_or_else(|| "0660".into());
            view.grant(machine, key, &dev.path, &dev.path, Some(mode), LxcStyle::Dev)?;
        }
        for mount in view.access.mounts.clone() {
            view.grant_mount(machine, &mount.source, &mount.target)?;
        }
        Ok(view)
    }

    /// One mount entry; a mounted directory gives every node in it.
    fn grant_mount(&mut self, machine: &Machine, source: &str, target: &str) -> anyhow::Result<()> {
        let key = "lxc.mount.entry";
        let is_dir = machine.node(source)?.is_some_and(|node| node.kind == NodeKind::Dir);
        if !is_dir || !source.starts_with("/dev/") {
            return self.grant(machine, key, source, target, None, LxcStyle::Mount);
        }
        for name in machine.nodes_in(source)? {
            let (source, target) = (format!("{source}/{name}"), format!("{target}/{name}"));
            self.grant(machine, key, &source, &target, None, LxcStyle::Mount)?;
        }
        Ok(())
    }

    fn grant(
        &mut self,
        machine: &Machine,
        key: &str,
        path: &str,
        target: &str,
        mode: Option<String>,
        style: LxcStyle,
    ) -> anyhow::Result<()> {
        let class = classify(target);
        if class.is_none() && !self.is_drm(path) {
            return Ok(());
        }
        let node = machine.node(path)?;
        let problem = match (&node, style) {
            (None, LxcStyle::Dev) => Some(format!(
                "{key}: {path} does not exist on the host: the container cannot start"
            )),
            (None, _) => Some(format!(
                "{path} does not exist on the host: the container finds an empty file in its place"
            )),
            (Some(node), _) if !node.is_char() => {
                Some(format!("{path} is no character device on the host"))
            }
            (Some(node), _) => self.wrong(target, class, node.major, node.minor, style),
        };
        let node = node.filter(host::Node::is_char);
        if let Some(problem) = problem {
            self.problems.entry(target.to_string()).or_default().push(problem);
        }
        if self.granted.iter().any(|g| g.target == target) {
            self.problems.entry(target.to_string()).or_default().push(format!(
                "{target} is given twice: the container cannot start if one is dev[n]"
            ));
        }
        self.granted.push(Granted {
            node: LxcNode {
                path: path.into(),
                key: key.into(),
                major: node.map(|n| n.major),
                minor: node.map(|n| n.minor),
                mode,
                present: node.is_some(),
            },
            target: target.into(),
            class,
            style,
        });
        Ok(())
    }

    fn is_drm(&self, path: &str) -> bool {
        let Some(name) = path.strip_prefix("/dev/dri/") else {
            return false;
        };
        self.gpus
            .gpus
            .keys()
            .filter_map(|address| self.gpus.system.functions.get(address))
            .any(|function| function.drm.iter().any(|n| n == name))
    }

    /// What is wrong with a node that exists.
    fn wrong(
        &self,
        target: &str,
        class: Option<NodeClass>,
        major: u32,
        minor: u32,
        style: LxcStyle,
    ) -> Option<String> {
        if let Some(class) = class {
            if class == NodeClass::Cap(1) {
                return Some(format!("{target} lets the container reconfigure MIG on the host"));
            }
            let spec = NodeSpec { path: target.into(), class, required: true };
            let driver_major = class.driver().and_then(|name| self.gpus.majors.major(name));
            if let Err(why) = check_numbers(&spec, major, minor, driver_major) {
                return Some(format!("{target} on the host {why}"));
            }
        }
        let made_by_pve = style == LxcStyle::Dev && !self.access.wipes_dev_rules();
        if made_by_pve || self.access.allows(target, major, minor, self.unprivileged) {
            return None;
        }
        Some(format!("no device rule lets the container open {target} ({major}:{minor})"))
    }

    /// One record a GPU; nodes that all GPUs share stand in each.
    fn records(&self) -> Vec<LxcGpu> {
        let minors: BTreeSet<u32> = self
            .granted
            .iter()
            .filter_map(|g| match g.class {
                Some(NodeClass::Gpu(minor)) => Some(minor),
                _ => None,
            })
            .collect();
        if minors.is_empty() && self.granted.iter().any(|g| g.class.is_some()) {
            return vec![self.record(None)];
        }
        minors.iter().map(|minor| self.record(Some(*minor))).collect()
    }

    fn record(&self, minor: Option<u32>) -> LxcGpu {
        let gpu = minor.and_then(|minor| self.gpus.by_minor(minor));
        let drm = gpu
            .and_then(|gpu| self.gpus.system.functions.get(&gpu.address))
            .map_or(&[][..], |function| &function.drm);
        let own: Vec<&Granted> = self
            .granted
            .iter()
            .filter(|g| match g.class {
                Some(NodeClass::Gpu(m)) => Some(m) == minor,
                Some(_) => true,
                None => drm.iter().any(|name| g.node.path == format!("/dev/dri/{name}")),
            })
            .collect();
        let mut problems: Vec<String> =
            own.iter().filter_map(|g| self.problems.get(&g.target)).flatten().cloned().collect();
        problems.extend(self.missing(minor, gpu.is_some(), &own));
        problems.dedup();
        LxcGpu {
            ctid: self.guest.ctid,
            node: self.guest.node.clone(),
            unprivileged: self.unprivileged,
            gpu: gpu.map(|gpu| gpu.address),
            minor,
            uuid: gpu.and_then(|gpu| gpu.uuid.clone()),
            model: gpu.and_then(|gpu| gpu.model.clone()),
            style: self.style(&own),
            nodes: own.iter().map(|g| g.node.clone()).collect(),
            problems,
        }
    }

    fn style(&self, own: &[&Granted]) -> LxcStyle {
        let has = |style| own.iter().any(|g| g.style == style);
        match (has(LxcStyle::Dev), has(LxcStyle::Mount)) {
            (true, true) => LxcStyle::Mixed,
            (true, false) => LxcStyle::Dev,
            (false, true) if !self.access.v1.is_empty() && self.access.rules.is_empty() => {
                LxcStyle::CgroupV1
            }
            _ => LxcStyle::Mount,
        }
    }

    /// What is not there, and what is there for nothing.
    fn missing(&self, minor: Option<u32>, known: bool, own: &[&Granted]) -> Vec<String> {
        let mut problems = Vec::new();
        match minor {
            Some(minor) if !known => problems.push(self.lost(minor)),
            Some(minor) => {
                for spec in nvidia::gpu_nodes(minor).iter().filter(|spec| spec.required) {
                    if !own.iter().any(|g| g.target == spec.path) {
                        problems.push(format!("{} is not given: CUDA needs it", spec.path));
                    }
                }
            }
            None => problems.push("nodes that all GPUs share are given, but no GPU".into()),
        }
        for line in &self.access.v1 {
            problems.push(format!("'{line}' does nothing: Proxmox VE uses cgroup v2"));
        }
        for rule in self.access.rules.iter().filter(|r| r.what == Devices::Invalid) {
            problems.push(format!(
                "device rule '{}' is invalid: the container cannot start",
                rule.text
            ));
        }
        if self.access.wipes_dev_rules() && own.iter().any(|g| g.style == LxcStyle::Dev) {
            problems.push(
                "'lxc.cgroup2.devices.deny: a' wipes out Proxmox VE's own rules for dev[n]".into(),
            );
        }
        problems
    }

    /// Why a minor has no GPU of NVIDIA's driver behind it.
    fn lost(&self, minor: u32) -> String {
        let text = format!("/dev/nvidia{minor} belongs to no GPU of the host's nvidia driver");
        let away: Vec<String> = self
            .gpus
            .system
            .functions
            .values()
            .filter(|f| {
                f.is_gpu() && f.vendor == Some(pci::NVIDIA) && f.on_vfio() && f.pf.is_none()
            })
            .map(|f| f.address.to_string())
            .collect();
        match away.len() {
            0 => text,
            _ => format!("{text} (bound to VFIO: {})", away.join(", ")),
        }
    }
}
