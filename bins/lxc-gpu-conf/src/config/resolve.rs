//! Resolves an assignment to the nodes and files that it means on this host now.

use std::collections::BTreeMap;

use advice::gpu_vfio_bind;
use advice::lxc_gpu_conf::{RemoveOptions, nodes, remove, show};
use nvidia::NodeClass;
use pve::{Conf, Guest};
use record::Hint;

use crate::config::assignment::{GpuAssignment, GpuIdentity};
use crate::config::container_groups::ContainerGroups;
use crate::config::libraries::library_mounts;
use crate::config::node_requests::{
    NodeRequest, ResolveError, drm_requests, fabric_requests, find_instance, gpu_name,
    gpu_requests, instance_requests, mig_requests,
};
use crate::host_facts::gpu_selection::usable;
use crate::host_facts::{HostFacts, check_numbers};
use crate::plan::model::{DesiredAccess, HostNode, NodeOptions, NodeStyle, Refusal};

/// An assignment as nodes and files.
#[derive(Clone, Debug, Default)]
pub struct ResolvedAssignment {
    /// For the plan.
    pub desired: DesiredAccess,
    /// Path of each node of a GPU, by the name under which it is remembered:
    /// `GPU-.../gpu`, `GPU-.../gi1`, `GPU-.../drm-render`.
    pub names: BTreeMap<String, String>,
    /// For the user.
    pub notes: Vec<String>,
}

/// Resolves an assignment for a container. Refuses a node that is missing or has
/// other numbers than its driver: it would keep a container with dev[n] from
/// starting.
pub fn resolve(
    assignment: &GpuAssignment,
    facts: &HostFacts<'_>,
    guest: &Guest,
    conf: &Conf,
    style: NodeStyle,
) -> Result<ResolvedAssignment, ResolveError> {
    let mut resolved = ResolvedAssignment::default();
    let mut requests = Vec::new();
    for gpu in &assignment.gpus {
        let Some(present) = facts.same_gpu(gpu.uuid.as_deref(), gpu.address) else {
            return Err(missing_gpu(facts, assignment, gpu, guest.ctid).into());
        };
        let minor = usable(facts, present.address)?.minor;
        requests.extend(gpu_requests(gpu, minor));
        if assignment.graphics {
            requests.extend(drm_requests(facts, present.address, gpu));
        }
        let instances = facts.mig().of_gpu(minor).count();
        if instances > 0 && !assignment.mig.iter().any(|mig| mig.gpu.same(gpu)) {
            resolved.notes.push(format!(
                "{} has {instances} MIG instances, and without --mig the container cannot use any",
                present.address
            ));
        }
    }
    requests.extend(mig_requests(assignment, facts, guest.ctid)?);
    requests.extend(fabric_requests(assignment, facts, guest.ctid)?);
    // the GPUs' own nodes first, then shared ones
    requests.sort_by_key(|request| request.spec.class.is_shared());
    let groups = match assignment.graphics {
        true => ContainerGroups::of(facts.machine, guest, conf),
        false => ContainerGroups::default(),
    };
    if let Some(why) = groups.unknown.as_ref().filter(|_| assignment.gid.is_none()) {
        resolved.notes.push(format!(
            "the groups of the container are not known ({why}): DRM nodes get mode 0666"
        ));
    }
    add_nodes(&mut resolved, assignment, facts, requests, &groups, style)?;
    if let Some(selection) = &assignment.userspace {
        let (files, note) = library_mounts(facts, conf, selection, guest)?;
        resolved.desired.files = Some(files);
        resolved.notes.extend(note);
    }
    Ok(resolved)
}

/// Adds each requested node once, without those that the user removed.
fn add_nodes(
    resolved: &mut ResolvedAssignment,
    assignment: &GpuAssignment,
    facts: &HostFacts<'_>,
    requests: Vec<NodeRequest>,
    groups: &ContainerGroups,
    style: NodeStyle,
) -> Result<(), Refusal> {
    for request in requests {
        let path = &request.spec.path;
        let removed = [request.name.as_ref(), Some(path)];
        if resolved.desired.nodes.iter().any(|node| node.spec.path == *path)
            || removed.into_iter().flatten().any(|name| assignment.without.contains(name))
        {
            continue;
        }
        if let Some(name) = &request.name {
            resolved.names.insert(name.clone(), path.clone());
        }
        resolved.desired.nodes.extend(host_node(assignment, facts, &request, groups, style)?);
    }
    Ok(())
}

/// Present path of each node of a GPU, by the name under which it is remembered.
/// Nodes that do not exist are left out.
pub fn present_names(
    assignment: &GpuAssignment,
    facts: &HostFacts<'_>,
) -> BTreeMap<String, String> {
    let mut requests = Vec::new();
    let mut names = BTreeMap::new();
    for gpu in &assignment.gpus {
        let Some(present) = facts.same_gpu(gpu.uuid.as_deref(), gpu.address) else { continue };
        names.extend(present.minor.map(|minor| (gpu_name(gpu), format!("/dev/nvidia{minor}"))));
        if assignment.graphics {
            requests.extend(drm_requests(facts, present.address, gpu));
        }
    }
    for mig in &assignment.mig {
        let instance = find_instance(facts, mig);
        requests.extend(instance.into_iter().flat_map(|found| instance_requests(mig, &found)));
    }
    names.extend(requests.into_iter().filter_map(|r| Some((r.name?, r.spec.path))));
    names
}

/// A node as the host has it; `None` for an optional one that does not exist.
fn host_node(
    assignment: &GpuAssignment,
    facts: &HostFacts<'_>,
    request: &NodeRequest,
    groups: &ContainerGroups,
    style: NodeStyle,
) -> Result<Option<HostNode>, Refusal> {
    let spec = &request.spec;
    let refuse = |reason: String| Refusal {
        property: spec.path.clone(),
        reason,
        hint: Hint::command(nodes()),
    };
    let Some(node) = facts.node(&spec.path) else {
        // displays need nvidia-modeset
        let modeset = assignment.graphics && spec.class == NodeClass::Modeset;
        if !spec.required && !modeset {
            return Ok(None);
        }
        let effect = match style {
            NodeStyle::Dev => "with a dev[n] for it the container would not start",
            NodeStyle::Mount => "the container would have an empty file instead",
        };
        return Err(refuse(format!("does not exist on the host: {effect}")));
    };
    if !node.is_char() {
        return Err(refuse("is not a character device on the host".into()));
    }
    check_numbers(spec.class, node.major, node.minor, facts.major(spec.class)).map_err(refuse)?;
    Ok(Some(HostNode {
        spec: spec.clone(),
        major: node.major,
        minor: node.minor,
        options: node_options(assignment, request, groups),
    }))
}

/// Owner and mode in the container. A dev[n] without a mode is for root alone, so
/// each gets one: as the nodes are on the host, or by the container's own group.
fn node_options(
    assignment: &GpuAssignment,
    request: &NodeRequest,
    groups: &ContainerGroups,
) -> NodeOptions {
    let gid = request.group.and_then(|name| groups.gid(name));
    let is_cap = matches!(request.spec.class, NodeClass::Cap(_));
    let default = match request.group {
        _ if is_cap => "0444",
        Some(_) if gid.is_some() || assignment.gid.is_some() => "0660",
        _ => "0666",
    };
    // to read a capability is to use its instance: a mode for the GPU does not
    // apply to it
    let mode = assignment.mode.clone().filter(|_| !is_cap);
    NodeOptions {
        uid: assignment.uid,
        gid: assignment.gid.or(gid),
        asked: assignment.uid.is_some() || assignment.gid.is_some() || mode.is_some(),
        mode: mode.unwrap_or_else(|| default.into()),
    }
}

fn missing_gpu(
    facts: &HostFacts<'_>,
    assignment: &GpuAssignment,
    gpu: &GpuIdentity,
    ctid: u32,
) -> Refusal {
    let system = facts.system().ok();
    let function = system.and_then(|system| system.functions.get(&gpu.address));
    let driver = function.and_then(|function| function.driver.as_deref());
    let (reason, hint) = match driver {
        Some(driver) if driver != "nvidia" => (
            format!("{} is bound to {driver}, not to nvidia", gpu.address),
            Hint::command(gpu_vfio_bind::release(gpu.address.slot())),
        ),
        _ => (
            format!(
                "{} (last seen at {}) is not bound to the nvidia driver of this host",
                gpu.key(),
                gpu.address
            ),
            match assignment.gpus.len() {
                1 => Hint::command(remove(ctid, &RemoveOptions::default())),
                // the minor that the container has for it is not known here
                _ => Hint::command(show(ctid)),
            }
            .because("reinstall the GPU, or remove it from the container"),
        ),
    };
    Refusal { property: "gpu".into(), reason, hint }
}
