//! Major and minor numbers on this host that device rules are compared with.

use std::collections::{BTreeMap, BTreeSet};

use host::NodeKind;
use nvidia::{NodeClass, classify};

use crate::config::access::Access;
use crate::host_facts::HostFacts;

/// The numbers that device rules are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceNumbers {
    /// Dynamic majors of NVIDIA's drivers, by driver.
    pub drivers: BTreeMap<&'static str, u32>,
    /// Majors of other nodes that the configuration gives.
    pub others: BTreeSet<u32>,
    /// Nodes of GPUs that mount entries give.
    pub mounted: Vec<MountedNode>,
    /// Rules with a dynamic major that the tool remembers as NVIDIA's.
    pub remembered: BTreeSet<String>,
}

/// A node that a mount entry gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedNode {
    /// Path on the host.
    pub path: String,
    /// Major and minor, as the driver has them.
    pub numbers: (u32, u32),
    /// `r` or `rw`.
    pub access: &'static str,
    /// Whether it has an entry of its own, and is not part of a mounted directory.
    pub alone: bool,
}

impl MountedNode {
    /// The value of the device rule that allows exactly this node.
    pub fn rule(&self) -> String {
        let (major, minor) = self.numbers;
        format!("c {major}:{minor} {}", self.access)
    }
}

impl DeviceNumbers {
    /// The numbers on this host that matter for a configuration.
    pub fn of(access: &Access, facts: &HostFacts<'_>) -> DeviceNumbers {
        let mut numbers = DeviceNumbers::default();
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
            numbers.mounted.extend(paths.iter().filter_map(|path| mounted(facts, path, !dir)));
        }
        numbers
    }

    /// The same numbers with the rules that are remembered of the container.
    pub fn remembering(self, rules: Option<&BTreeSet<String>>) -> DeviceNumbers {
        DeviceNumbers { remembered: rules.cloned().unwrap_or_default(), ..self }
    }

    /// Whether a driver of NVIDIA's with a dynamic major has a node.
    pub fn is_dynamic(&self, node: &MountedNode) -> bool {
        self.drivers.values().any(|major| *major == node.numbers.0)
    }

    /// The rules of mounted nodes whose majors are dynamic.
    pub fn dynamic_rules(&self) -> impl Iterator<Item = String> {
        self.mounted.iter().filter(|node| self.is_dynamic(node)).map(MountedNode::rule)
    }
}

/// A node of a GPU whose numbers are known. This tool never allows the right to
/// reconfigure MIG.
fn mounted(facts: &HostFacts<'_>, path: &str, alone: bool) -> Option<MountedNode> {
    let class = classify(path).or_else(|| facts.of_drm(path).map(|_| NodeClass::Other))?;
    if matches!(class, NodeClass::Cap(0 | 1)) {
        return None;
    }
    let node = facts.node(path).filter(host::Node::is_char);
    let numbers = facts.numbers(class).or(node.map(|node| (node.major, node.minor)))?;
    Some(MountedNode { path: path.into(), numbers, access: class.access(), alone })
}
