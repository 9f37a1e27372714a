//! What a container has of this host's GPUs, and what is wrong with it.

use std::collections::BTreeSet;

use ::cli::Failure;
use host::{Machine, NodeKind};
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Guest};
use record::{LxcGpu, LxcNode, LxcStyle};

use crate::access::{Access, is_userspace};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::plan::{Mounted, Numbers};
use crate::state::State;

/// What a missing dev[n] means.
pub const NO_START: &str = "the container cannot start";

/// One node as the configuration gives it.
#[derive(Clone, Debug)]
pub struct Granted {
    /// For the record.
    pub node: LxcNode,
    /// Path in the container.
    pub target: String,
    /// What it is, where it is NVIDIA's.
    pub class: Option<NodeClass>,
    /// How it is given.
    pub style: LxcStyle,
}

/// One container.
pub struct View<'a> {
    /// The container.
    pub guest: &'a Guest,
    pub(crate) facts: Option<&'a Facts<'a>>,
    /// Its configuration.
    pub conf: Conf,
    /// What that gives.
    pub access: Access,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
    /// The nodes.
    pub granted: Vec<Granted>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    pub(crate) state: Option<State>,
}

/// Whether a configuration can say anything of NVIDIA's GPUs at all: nine of
/// ten containers need not be looked at further.
pub fn concerns_gpu(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"nvidia").is_some()
}

/// Whether `nodes` makes a node of this class.
pub fn makeable(facts: &Facts<'_>, class: Option<NodeClass>) -> bool {
    match class {
        None | Some(NodeClass::Other | NodeClass::Cap(0 | 1)) => false,
        Some(NodeClass::Gpu(minor)) => facts.by_minor(minor).is_some(),
        Some(_) => true,
    }
}

/// `/dev/dri/card1`, `/dev/dri/renderD128`.
pub fn is_drm(path: &str) -> bool {
    let digits = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let name = path.strip_prefix("/dev/dri/").unwrap_or_default();
    name.strip_prefix("card").or(name.strip_prefix("renderD")).is_some_and(digits)
}

/// The numbers that rules are held against.
pub fn numbers(access: &Access, facts: &Facts<'_>) -> Numbers {
    let mut numbers = Numbers::default();
    for driver in nvidia::DYNAMIC_DRIVERS {
        numbers.drivers.extend(facts.majors.major(driver).map(|major| (driver, major)));
    }
    let paths = access.devs.values().map(|dev| &dev.path);
    let sources = access.mounts.iter().map(|mount| &mount.source);
    for path in paths.chain(sources).filter(|path| path.starts_with("/dev/")) {
        if classify(path).is_none() {
            let node = facts.node(path).filter(host::Node::is_char);
            numbers.others.extend(node.map(|node| node.major));
        }
    }
    for mount in access.mounts.iter().filter(|mount| mount.source.starts_with("/dev/")) {
        let dir = facts.node(&mount.source).is_some_and(|node| node.kind == NodeKind::Dir);
        let paths: Vec<String> = match dir {
            false => vec![mount.source.clone()],
            true => {
                let names = facts.machine.nodes_in(&mount.source).unwrap_or_default();
                names.iter().map(|name| format!("{}/{name}", mount.source)).collect()
            }
        };
        numbers.mounted.extend(paths.iter().filter_map(|path| mounted(facts, path)));
    }
    numbers
}

/// Whether nobody in an unprivileged container may open a node of the host's
/// that is mounted there: its owner and group are no users of the container, so
/// that only the mode's last digit counts. With ids mapped by hand that need not
/// be so.
pub fn shuts_out(conf: &Conf, node: &host::Node, class: Option<NodeClass>) -> bool {
    let needed = match class {
        Some(NodeClass::Cap(_)) => 0o4,
        _ => 0o6,
    };
    node.is_char() && node.mode & needed != needed && conf.lxc().all(|(key, _)| key != "lxc.idmap")
}

/// The same in words.
pub fn no_access(path: &str, mode: u32) -> String {
    format!(
        "{path} has mode {mode:04o} on the host, and a mounted node keeps it: nobody in an \
         unprivileged container may open it"
    )
}

/// A GPU's node, where it is one and what its numbers should be is known. The
/// right to reconfigure MIG is never allowed by us.
fn mounted(facts: &Facts<'_>, path: &str) -> Option<Mounted> {
    let class = classify(path).or_else(|| facts.of_drm(path).map(|_| NodeClass::Other))?;
    if matches!(class, NodeClass::Cap(0 | 1)) {
        return None;
    }
    let node = facts.node(path).filter(host::Node::is_char);
    let numbers = facts.numbers(class).or(node.map(|node| (node.major, node.minor)))?;
    Some(Mounted { path: path.into(), numbers, access: class.access() })
}

impl<'a> View<'a> {
    /// Looks at a container. `facts` are this host's; `None` for a container of
    /// another node, whose nodes and numbers cannot be known here.
    pub fn of(
        guest: &'a Guest,
        bytes: &[u8],
        facts: Option<&'a Facts<'a>>,
    ) -> Result<View<'a>, Failure> {
        let conf = Conf::parse(bytes);
        let access = Access::of(&conf);
        let mut view = View {
            guest,
            facts,
            unprivileged: pve::is_unprivileged(&conf),
            granted: Vec::new(),
            findings: Vec::new(),
            state: facts.and_then(|facts| facts.state(guest.ctid)),
            access,
            conf,
        };
        let devs = view.access.devs.clone();
        for (key, dev) in &devs {
            let mode = dev.options.get("mode").cloned().unwrap_or_else(|| "0660".into());
            view.grant(key, &dev.path, &dev.path, Some(mode), LxcStyle::Dev);
        }
        for mount in view.access.mounts.clone() {
            view.grant_mount(&mount.source, &mount.target)?;
        }
        view.judge();
        Ok(view)
    }

    /// Whether there is anything of NVIDIA's.
    pub fn has_gpu(&self) -> bool {
        self.granted.iter().any(|g| g.class.is_some())
            || self.access.mounts.iter().any(|mount| is_userspace(&mount.target))
    }

    fn machine(&self) -> Option<&Machine> {
        self.facts.map(|facts| facts.machine)
    }

    /// One mount entry; a mounted directory gives every node in it.
    fn grant_mount(&mut self, source: &str, target: &str) -> Result<(), Failure> {
        let key = "lxc.mount.entry";
        let dir = self
            .facts
            .filter(|_| source.starts_with("/dev/"))
            .and_then(|facts| facts.node(source))
            .is_some_and(|node| node.kind == NodeKind::Dir);
        let (true, Some(machine)) = (dir, self.machine()) else {
            self.grant(key, source, target, None, LxcStyle::Mount);
            return Ok(());
        };
        for name in machine.nodes_in(source)? {
            let (source, target) = (format!("{source}/{name}"), format!("{target}/{name}"));
            self.grant(key, &source, &target, None, LxcStyle::Mount);
        }
        Ok(())
    }

    fn grant(
        &mut self,
        key: &str,
        path: &str,
        target: &str,
        mode: Option<String>,
        style: LxcStyle,
    ) {
        let class = classify(target);
        let node = self.facts.and_then(|facts| facts.node(path));
        // a DRM node that is not there was a card's: its number has moved
        let lost = node.is_none() && self.facts.is_some() && is_drm(path);
        let drm = self.facts.and_then(|facts| facts.of_drm(path)).is_some();
        if class.is_none() && !drm && !lost {
            return;
        }
        let node = node.filter(host::Node::is_char);
        self.granted.push(Granted {
            node: LxcNode {
                path: path.into(),
                key: key.into(),
                major: node.map(|n| n.major),
                minor: node.map(|n| n.minor),
                mode,
                present: self.facts.map(|_| node.is_some()),
            },
            target: target.into(),
            class,
            style,
        });
    }

    /// Notes what is wrong.
    pub(crate) fn found(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Minors of the GPUs that are given.
    pub fn minors(&self) -> BTreeSet<u32> {
        let minors = self.granted.iter().filter_map(|g| match g.class {
            Some(NodeClass::Gpu(minor)) => Some(minor),
            _ => None,
        });
        minors.collect()
    }

    /// One record a GPU; nodes that all GPUs share stand in each.
    pub fn records(&self) -> Vec<LxcGpu> {
        let minors = self.minors();
        if minors.is_empty() && self.has_gpu() {
            return vec![self.record(None)];
        }
        minors.iter().map(|minor| self.record(Some(*minor))).collect()
    }

    fn record(&self, minor: Option<u32>) -> LxcGpu {
        let gpu = self.facts.zip(minor).and_then(|(facts, minor)| facts.by_minor(minor));
        let own: Vec<&Granted> =
            self.granted.iter().filter(|granted| self.belongs(granted, minor)).collect();
        // what is about another card's node is told there
        let of_others: BTreeSet<&str> = self
            .granted
            .iter()
            .filter(|granted| !self.belongs(granted, minor))
            .flat_map(|granted| [granted.node.path.as_str(), granted.target.as_str()])
            .collect();
        let problems = self.findings.iter().filter(|f| !of_others.contains(f.property.as_str()));
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
            problems: problems.map(|finding| finding.reason.clone()).collect(),
        }
    }

    /// Whether a node is a card's own, or one that all share.
    fn belongs(&self, granted: &Granted, minor: Option<u32>) -> bool {
        match granted.class {
            Some(NodeClass::Gpu(m)) => Some(m) == minor,
            Some(NodeClass::Cap(cap)) if cap > 2 => {
                let capability = self.facts.and_then(|f| f.mig().capabilities.get(&cap));
                match capability {
                    Some(Capability::Gi(gpu, _) | Capability::Ci(gpu, _, _)) => {
                        minor.is_none() || Some(*gpu) == minor
                    }
                    _ => true,
                }
            }
            Some(_) => true,
            None => {
                let gpu = self.facts.and_then(|facts| facts.of_drm(&granted.node.path));
                gpu.and_then(|gpu| gpu.minor) == minor
            }
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
}
