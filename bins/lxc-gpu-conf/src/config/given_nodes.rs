//! The GPU nodes that a container's configuration gives it, as this host has
//! them.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::Failure;
use host::{Machine, NodeKind};
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Guest};
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
    /// Whether dev[n] or a mount entry gives it.
    pub style: LxcStyle,
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
    /// The GPU nodes among that.
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

/// Whether the mode of a host node keeps an unprivileged container from opening
/// it when it is mounted: owner and group of the node do not exist in the
/// container, so only the last digit counts. With ids mapped by hand this can
/// differ.
pub fn mode_denies(conf: &Conf, node: &host::Node, class: Option<NodeClass>) -> bool {
    let needed = match class {
        Some(NodeClass::Cap(_)) => 0o4,
        _ => 0o6,
    };
    node.is_char() && node.mode & needed != needed && conf.lxc().all(|(key, _)| key != "lxc.idmap")
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
        let mut view = ContainerView {
            guest,
            facts,
            unprivileged: pve::is_unprivileged(&conf),
            given: Vec::new(),
            stored: stored.filter(|stored| stored.is_of(&conf)),
            access,
            conf,
        };
        let devs = view.access.devs.clone();
        for (key, dev) in &devs {
            let mode = dev.options.get("mode").cloned().unwrap_or_else(|| "0660".into());
            view.add_node(key, &dev.path, &dev.path, Some(mode), LxcStyle::Dev);
        }
        for mount in view.access.mounts.clone() {
            view.add_mount(&mount.source, &mount.target)?;
        }
        Ok(view)
    }

    /// Whether it gives a node of NVIDIA's, or driver libraries.
    pub fn has_gpu(&self) -> bool {
        self.given.iter().any(|g| g.class.is_some())
            || self.access.mounts.iter().any(|mount| is_driver_file(&mount.target))
    }

    fn machine(&self) -> Option<&Machine> {
        self.facts.map(|facts| facts.machine)
    }

    /// Adds the nodes of a mount entry: a mounted directory gives all nodes in it.
    fn add_mount(&mut self, source: &str, target: &str) -> Result<(), Failure> {
        let key = "lxc.mount.entry";
        let dir = self
            .facts
            .filter(|_| source.starts_with("/dev/"))
            .and_then(|facts| facts.node(source))
            .is_some_and(|node| node.kind == NodeKind::Dir);
        let (true, Some(machine)) = (dir, self.machine()) else {
            self.add_node(key, source, target, None, LxcStyle::Mount);
            return Ok(());
        };
        for name in machine.nodes_in(source)? {
            let (source, target) = (format!("{source}/{name}"), format!("{target}/{name}"));
            self.add_node(key, &source, &target, None, LxcStyle::Mount);
        }
        Ok(())
    }

    fn add_node(
        &mut self,
        key: &str,
        path: &str,
        target: &str,
        mode: Option<String>,
        style: LxcStyle,
    ) {
        let class = classify(target);
        let node = self.facts.and_then(|facts| facts.node(path));
        // a DRM node that does not exist was a GPU's, whose number has changed
        let lost = node.is_none() && self.facts.is_some() && is_drm(path);
        let drm = self.facts.and_then(|facts| facts.of_drm(path)).is_some();
        if class.is_none() && !drm && !lost {
            return;
        }
        let node = node.filter(host::Node::is_char);
        self.given.push(GivenNode {
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

    /// Whether a node is given alone, and not with its directory.
    pub fn is_given_alone(&self, given: &GivenNode) -> bool {
        given.style == LxcStyle::Dev || self.access.mount(&given.target).is_some()
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
        let minors = self.given.iter().filter_map(|g| match g.class {
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
            nodes: own.iter().map(|g| g.node.clone()).collect(),
            problems: problems.map(|(_, reason)| (*reason).to_string()).collect(),
        }
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
            None => {
                let gpu = self.facts.and_then(|facts| facts.of_drm(&given.node.path));
                gpu.and_then(|gpu| gpu.minor) == minor
            }
        }
    }

    fn style(&self, own: &[&GivenNode]) -> LxcStyle {
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
