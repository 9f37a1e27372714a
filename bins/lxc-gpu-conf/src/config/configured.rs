//! The assignment that a configuration amounts to, read from its device nodes.

use nvidia::{NodeClass, classify};

use crate::config::access::Access;
use crate::config::assignment::{GpuAssignment, GpuIdentity};
use crate::config::device_rules::is_dynamic_major;
use crate::config::node_entries::MountEntry;
use crate::host_facts::HostFacts;
use crate::host_facts::mig;

/// What the nodes of a configuration stand for. GPUs that this host no longer has
/// are left out.
pub fn configured_assignment(access: &Access, facts: &HostFacts<'_>) -> GpuAssignment {
    let mut found = GpuAssignment::default();
    for path in access.targets() {
        match classify(path) {
            Some(NodeClass::Gpu(minor)) => {
                found.gpus.extend(facts.by_minor(minor).map(GpuIdentity::from));
            }
            Some(NodeClass::Cap(2)) => found.mig_monitor = true,
            Some(NodeClass::ImexChannel(id)) => found.imex.push(id),
            Some(NodeClass::Cap(cap)) => found.mig.extend(mig::of_capability(facts, cap)),
            _ => {}
        }
        found.graphics |= facts.of_drm(path).is_some();
    }
    found
}

/// A mount entry that gives the container something else under the name of an
/// NVIDIA node: another GPU, /dev/null, a regular file. dev[n] cannot do that.
pub fn misnamed_mount<'a>(access: &'a Access, facts: &HostFacts<'_>) -> Option<&'a MountEntry> {
    access.mounts.iter().find(|mount| {
        let class = classify(&mount.target).filter(|_| mount.source != mount.target);
        class.is_some_and(|class| !is_node_of(class, &mount.source, facts))
    })
}

/// Whether a path on the host is a node of a class, perhaps one with an outdated
/// dynamic major.
fn is_node_of(class: NodeClass, path: &str, facts: &HostFacts<'_>) -> bool {
    let Some(node) = facts.node(path).filter(host::Node::is_char) else { return false };
    let outdated = class.driver().is_some() && is_dynamic_major(node.major);
    class.minor() == Some(node.minor) && (outdated || facts.major(class) == Some(node.major))
}
