//! Which device nodes this host needs: those of its GPUs, and those that
//! containers are given beyond them.

use std::collections::BTreeMap;

use ::cli::Failure;
use nvidia::{Capability, NodeClass, classify};
use pve::{Conf, Guest};

use crate::config::access::{Access, mentions_gpu};
use crate::host_facts::HostFacts;

/// A device node that has to exist.
pub struct RequiredNode {
    /// Path in /dev.
    pub path: String,
    /// What it is.
    pub class: NodeClass,
    /// Whether no GPU works without it.
    pub essential: bool,
}

/// Whether an NVIDIA GPU is not bound to any driver.
pub fn has_unbound_gpu(facts: &HostFacts<'_>) -> Result<bool, Failure> {
    let system = facts.system()?;
    Ok(system.functions.values().any(|f| {
        f.is_gpu() && f.vendor == Some(pci::NVIDIA) && f.driver.is_none() && f.pf.is_none()
    }))
}

/// The nodes of the GPUs, of their MIG instances, and those that these containers
/// are given, by path.
pub fn required_nodes(facts: &HostFacts<'_>, guests: &[Guest]) -> Vec<RequiredNode> {
    let mut nodes: BTreeMap<String, RequiredNode> = BTreeMap::new();
    let mut add = |path: String, class, essential| {
        nodes.entry(path.clone()).or_insert(RequiredNode { path, class, essential });
    };
    for minor in facts.gpus.values().filter_map(|gpu| gpu.minor) {
        for spec in nvidia::gpu_nodes(minor) {
            if spec.class != NodeClass::Modeset || has_modeset(facts) {
                add(spec.path, spec.class, spec.required);
            }
        }
    }
    // 'add --mig' needs the nodes of all instances
    let instances = &facts.mig().instances;
    let mut caps: Vec<u32> = instances.iter().flat_map(|i| [i.gi_cap, i.ci_cap]).collect();
    caps.extend(facts.mig().minor(Capability::Monitor).filter(|_| !instances.is_empty()));
    for cap in caps.into_iter().filter(|cap| capability_exists(facts, *cap)) {
        add(nvidia::cap_path(cap), NodeClass::Cap(cap), false);
    }
    for path in guests.iter().flat_map(|guest| given_paths(facts, guest)) {
        match classify(&path) {
            // this tool never gives the right to reconfigure MIG
            None | Some(NodeClass::Other | NodeClass::Cap(0 | 1)) => {}
            // a GPU that was removed has no node
            Some(NodeClass::Gpu(minor)) if facts.by_minor(minor).is_none() => {}
            Some(NodeClass::Cap(cap)) if !capability_exists(facts, cap) => {}
            Some(class) => add(path, class, false),
        }
    }
    nodes.into_values().collect()
}

/// Paths on the host that a container is given.
fn given_paths(facts: &HostFacts<'_>, guest: &Guest) -> Vec<String> {
    let bytes = guest.read(facts.machine).unwrap_or_default();
    if !mentions_gpu(&bytes) {
        return Vec::new();
    }
    let access = Access::of(&Conf::parse(&bytes));
    let devs = access.devs.into_values().map(|dev| dev.path);
    devs.chain(access.mounts.into_iter().map(|mount| mount.source)).collect()
}

/// Whether nvidia-modeset is loaded.
pub fn has_modeset(facts: &HostFacts<'_>) -> bool {
    facts.machine.exists("/sys/module/nvidia_modeset")
        || facts.majors.names(nvidia::GPU_MAJOR).any(|name| name == "nvidia-modeset")
}

/// Whether the driver has the capability with this minor.
pub fn capability_exists(facts: &HostFacts<'_>, cap: u32) -> bool {
    facts.mig().file(cap).is_some_and(|file| facts.machine.exists(&file))
}
