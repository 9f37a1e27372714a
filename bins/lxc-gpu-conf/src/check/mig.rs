//! The MIG instances of a container: both capabilities are given, exist, and
//! their GPU is given as well.

use std::collections::BTreeSet;

use advice::lxc_gpu_conf::{AddOptions, RemoveOptions, add, remove};
use nvidia::{Capability, NodeClass, cap_path};
use record::Hint;

use crate::check::finding::{Cause, Finding};
use crate::config::given_nodes::ContainerView;
use crate::host_facts::HostFacts;

/// Capabilities from 3 on are those of instances. A mounted directory has those of
/// all GPUs, of which the container need not use any.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let Some(facts) = view.facts else { return Vec::new() };
    let alone = view.given.iter().filter(|given| view.is_given_alone(given));
    let caps: BTreeSet<u32> = alone
        .filter_map(|given| match given.class {
            Some(NodeClass::Cap(minor)) if minor > 2 => Some(minor),
            _ => None,
        })
        .collect();
    caps.iter().flat_map(|cap| of_capability(view, facts, &caps, *cap)).collect()
}

fn of_capability(
    view: &ContainerView<'_>,
    facts: &HostFacts<'_>,
    caps: &BTreeSet<u32>,
    cap: u32,
) -> Vec<Finding> {
    let mig = facts.mig();
    let (gpu, gi, ci) = match mig.capabilities.get(&cap) {
        Some(Capability::Gi(gpu, gi)) => (*gpu, *gi, 0),
        Some(Capability::Ci(gpu, gi, ci)) => (*gpu, *gi, *ci),
        _ => return Vec::new(),
    };
    let finding = |cause, reason: String, hint: Hint| Finding {
        property: cap_path(cap),
        actual: Some(format!("gpu{gpu}/gi{gi}")),
        reason,
        hint,
        ..Finding::error(cause)
    };
    let ctid = view.guest.ctid;
    let gpus = vec![gpu.to_string()];
    let mut of_cap = mig.instances.iter().filter(|i| i.gi_cap == cap || i.ci_cap == cap).peekable();
    if of_cap.peek().is_none() {
        let mig = vec![format!("{gi}/{ci}")];
        let removal = RemoveOptions { gpus, mig, ..RemoveOptions::default() };
        let hint = Hint::command(remove(ctid, &removal))
            .because("create the instance again, or remove it from the container");
        let reason = format!("the MIG instance of nvidia-cap{cap} does not exist any more");
        return vec![finding(Cause::MigGone, reason, hint)];
    }
    let mut found = Vec::new();
    if !of_cap.any(|i| caps.contains(&i.gi_cap) && caps.contains(&i.ci_cap)) {
        let instance = mig.instances.iter().find(|i| i.gi == gi && i.gpu == gpu);
        let mig = vec![format!("{gi}/{}", instance.map_or(0, |i| i.ci))];
        let addition = AddOptions { gpus: gpus.clone(), mig, ..AddOptions::default() };
        let reason = format!(
            "nvidia-cap{cap} alone is not enough: a MIG instance needs the capabilities of its \
             GPU instance and of its compute instance"
        );
        found.push(finding(Cause::MigPair, reason, Hint::command(add(ctid, &addition))));
    }
    if !view.minors().contains(&gpu) {
        let reason = format!("nvidia-cap{cap} needs /dev/nvidia{gpu}, which is not given");
        let addition = AddOptions { gpus, ..AddOptions::default() };
        found.push(finding(Cause::MigParent, reason, Hint::command(add(ctid, &addition))));
    }
    found
}
