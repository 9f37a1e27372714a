//! The assignment that a configuration amounts to, read from its device nodes.

use nvidia::{NodeClass, classify};

use crate::config::access::Access;
use crate::config::assignment::{GpuAssignment, GpuIdentity};
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
