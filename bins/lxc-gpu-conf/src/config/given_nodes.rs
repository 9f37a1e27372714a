//! The GPU nodes that a container's configuration gives it, as this host has
//! them.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::Failure;
use host::NodeKind;
use nvidia::{Capability, GpuInfo, NodeClass, classify};
use pve::{
    Conf, ContainerStart, DevValue, GivenPath, GiverKind, Guest, MountLine, Opening, OtherHost,
    Outcome, normal,
};
use record::{LxcGpu, LxcNode, LxcStyle};

use crate::config::access::{Access, is_driver_file};
use crate::config::resolve::present_names;
use crate::host_facts::HostFacts;
use crate::host_facts::required_nodes::capability_exists;
use crate::store::StoredAssignment;

/// A node that the configuration gives.
#[derive(Clone, Debug)]
pub struct GivenNode {
    /// Its part of the record.
    pub node: LxcNode,
    /// Path in the container.
    pub target: String,
    /// Its class; `None` for a DRM node.
    pub class: Option<NodeClass>,
    /// Whether dev[n], a mount entry or a hook gives it.
    pub style: LxcStyle,
    /// What the container has there after its next start.
    pub outcome: Outcome,
    /// A line of the container's own configuration gives it, and not an included file.
    pub is_own_line: bool,
    /// It is one node of a mounted directory.
    pub in_directory: bool,
}

impl GivenNode {
    /// How the container's root opens it, where it is a device.
    pub fn opening(&self) -> Option<&Opening> {
        let Outcome::Device(device) = &self.outcome else { return None };
        match self.class {
            Some(NodeClass::Cap(_)) => Some(&device.read),
            _ => Some(&device.write),
        }
    }
}

/// A container with what its configuration gives it.
pub struct ContainerView<'a> {
    /// The container.
    pub guest: &'a Guest,
    /// This host, where the container is on it.
    pub facts: Option<&'a HostFacts<'a>>,
    /// Its configuration.
    pub conf: Conf,
    /// What the configuration gives.
    pub access: Access,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
    /// Its next start.
    pub start: ContainerStart,
    /// The GPU nodes that its lines are to give, whatever becomes of them.
    pub given: Vec<GivenNode>,
    /// What the tool remembers of the container.
    pub stored: Option<StoredAssignment>,
}

/// Whether `lxc-gpu-conf nodes` can create a node of this class.
pub fn can_create(facts: &HostFacts<'_>, class: Option<NodeClass>) -> bool {
    match class {
        None | Some(NodeClass::Other | NodeClass::Cap(0 | 1)) => false,
        Some(NodeClass::Gpu(minor)) => facts.by_minor(minor).is_some(),
        Some(NodeClass::Cap(cap)) => capability_exists(facts, cap),
        Some(_) => true,
    }
}

/// `/dev/dri/card1`, `/dev/dri/renderD128`.
pub fn is_drm(path: &str) -> bool {
    let digits = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let name = path.strip_prefix("/dev/dri/").unwrap_or_default();
    name.strip_prefix("card").or(name.strip_prefix("renderD")).is_some_and(digits)
}

/// The mode of a dev[n]; `None` where Proxmox VE cannot parse the value.
fn dev_mode(value: &str) -> Option<String> {
    let dev = DevValue::parse(value);
    dev.fault.is_none().then(|| format!("{:04o}", dev.mode()))
}

/// Says that the mode of a mounted node denies access.
pub fn no_access(path: &str, mode: u32) -> String {
    format!(
        "{path} has mode {mode:04o} on the host, which a mount entry keeps: an unprivileged \
         container cannot open it"
    )
}

impl<'a> ContainerView<'a> {
    /// Reads a container's configuration. `facts` and `stored` are `None` for a
    /// container on another cluster node, whose devices are not known here.
    pub fn of(
        guest: &'a Guest,
        bytes: &[u8],
        facts: Option<&'a HostFacts<'a>>,
        stored: Option<StoredAssignment>,
    ) -> Result<ContainerView<'a>, Failure> {
        let conf = Conf::parse(bytes);
        let access = Access::of(&conf);
        let start = match facts {
            Some(facts) => ContainerStart::of(guest.ctid, &conf, facts),
            None => ContainerStart::of(guest.ctid, &conf, &OtherHost),
        };
        let mut view = ContainerView {
            guest,
            facts,
            unprivileged: start.unprivileged,
            given: Vec::new(),
            start,
            stored: stored.filter(|stored| stored.is_of(&conf)),
            access,
            conf,
        };
        view.given = view.start.paths.iter().filter_map(|path| view.given_node(path)).collect();
        Ok(view)
    }

    /// Whether its lines are to give a node of a GPU, or driver libraries.
    pub fn has_gpu(&self) -> bool {
        !self.given.is_empty()
            || self.access.mounts.iter().any(|mount| is_driver_file(&mount.target))
    }

    /// Whether a hook gives GPUs: what it gives is not known before it has run.
    pub fn has_hook(&self) -> bool {
        self.given.iter().any(|given| given.style == LxcStyle::Hook)
    }

    /// A path that is a node of a GPU; `None` for others.
    fn given_node(&self, given: &GivenPath) -> Option<GivenNode> {
        let class = classify(&given.target);
        let path = given.source.as_str();
        let node = self.facts.and_then(|facts| facts.node(path));
        // a DRM node that does not exist was a GPU's, whose number has changed
        let lost = node.is_none() && self.facts.is_some() && is_drm(path);
        let drm = self.facts.and_then(|facts| facts.of_drm(path)).is_some();
        if class.is_none() && !drm && !lost {
            return None;
        }
        // the nodes of a mounted directory follow it
        if node.is_some_and(|node| node.kind == NodeKind::Dir) && given.outcome == Outcome::Other {
            return None;
        }
        let node = node.filter(host::Node::is_char);
        let giver = &given.giver;
        let (style, mode) = match giver.kind {
            GiverKind::Dev => (LxcStyle::Dev, dev_mode(&giver.value)),
            GiverKind::Mount => (LxcStyle::Mount, None),
            GiverKind::Hook => (LxcStyle::Hook, None),
        };
        let own = match MountLine::parse(&giver.value) {
            Some(line) if giver.kind == GiverKind::Mount => line.target,
            _ => given.target.clone(),
        };
        Some(GivenNode {
            node: LxcNode {
                path: path.into(),
                key: giver.key.clone(),
                major: node.map(|n| n.major),
                minor: node.map(|n| n.minor),
                mode,
                present: self.facts.map(|_| node.is_some()),
            },
            in_directory: !normal(&own).ends_with(&given.target) && giver.kind == GiverKind::Mount,
            target: given.target.clone(),
            class,
            style,
            outcome: given.outcome.clone(),
            is_own_line: giver.file.is_none(),
        })
    }
    /// Whether a node is given alone, and not with its directory.
    pub fn is_given_alone(&self, given: &GivenNode) -> bool {
        !given.in_directory || self.access.mount(&given.target).is_some()
    }

    /// Nodes that were given to a GPU which has others now: by path, the name that
    /// is stored for it and its present path.
    pub fn renamed_nodes(&self, facts: &HostFacts<'_>) -> BTreeMap<String, (String, String)> {
        let Some(stored) = &self.stored else { return BTreeMap::new() };
        let present = present_names(&stored.assignment, facts);
        let is_given = |path: &str| self.given.iter().any(|given| given.node.path == path);
        let names = stored.names.iter().filter(|(_, then)| is_given(then));
        names
            .filter_map(|(name, then)| {
                let now = present.get(name).filter(|now| *now != then)?;
                Some((then.clone(), (name.clone(), now.clone())))
            })
            .collect()
    }

    /// Minors of the GPUs that are given.
    pub fn minors(&self) -> BTreeSet<u32> {
        let lines = self.given.iter().filter(|given| given.style != LxcStyle::Hook);
        let minors = lines.filter_map(|g| match g.class {
            Some(NodeClass::Gpu(minor)) => Some(minor),
            _ => None,
        });
        minors.collect()
    }

    /// One record for each GPU; shared nodes are in each of them. `problems` are the
    /// property and reason of each finding.
    pub fn records(&self, problems: &[(&str, &str)]) -> Vec<LxcGpu> {
        let minors = self.minors();
        if minors.is_empty() && self.has_gpu() {
            return vec![self.record(None, problems)];
        }
        minors.iter().map(|minor| self.record(Some(*minor), problems)).collect()
    }

    fn record(&self, minor: Option<u32>, problems: &[(&str, &str)]) -> LxcGpu {
        let gpu = self.facts.zip(minor).and_then(|(facts, minor)| facts.by_minor(minor));
        let gpu = gpu.or_else(|| self.gpu_of_drm_nodes());
        let own: Vec<&GivenNode> =
            self.given.iter().filter(|given| self.belongs(given, minor)).collect();
        // a problem of another GPU's node is in the record of that GPU
        let of_others: BTreeSet<&str> = self
            .given
            .iter()
            .filter(|given| !self.belongs(given, minor))
            .flat_map(|given| [given.node.path.as_str(), given.target.as_str()])
            .collect();
        let problems = problems.iter().filter(|(property, _)| !of_others.contains(property));
        LxcGpu {
            ctid: self.guest.ctid,
            node: self.guest.node.clone(),
            unprivileged: self.unprivileged,
            gpu: gpu.map(|gpu| gpu.address),
            minor,
            uuid: gpu.and_then(|gpu| gpu.uuid.clone()),
            model: gpu.and_then(|gpu| gpu.model.clone()),
            style: self.style(&own),
            nodes: own
                .iter()
                .filter(|given| given.style != LxcStyle::Hook)
                .map(|given| given.node.clone())
                .collect(),
            problems: problems.map(|(_, reason)| (*reason).to_string()).collect(),
        }
    }

    /// The GPU of a container that has DRM nodes only, where all are of one.
    fn gpu_of_drm_nodes(&self) -> Option<&GpuInfo> {
        let facts = self.facts.filter(|_| self.given.iter().all(|given| given.class.is_none()))?;
        let mut gpus = self.given.iter().filter_map(|given| facts.of_drm(&given.node.path));
        let first = gpus.next()?;
        gpus.all(|gpu| gpu.address == first.address).then_some(first)
    }

    /// Whether a node belongs to a GPU, or to all GPUs.
    fn belongs(&self, given: &GivenNode, minor: Option<u32>) -> bool {
        match given.class {
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
            None if minor.is_none() => true,
            None => {
                let gpu = self.facts.and_then(|facts| facts.of_drm(&given.node.path));
                gpu.and_then(|gpu| gpu.minor) == minor
            }
        }
    }

    fn style(&self, own: &[&GivenNode]) -> LxcStyle {
        let has = |style| own.iter().any(|g| g.style == style);
        if has(LxcStyle::Hook) && !has(LxcStyle::Dev) && !has(LxcStyle::Mount) {
            return LxcStyle::Hook;
        }
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
