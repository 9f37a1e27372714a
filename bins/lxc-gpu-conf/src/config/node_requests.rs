//! The device nodes that an assignment asks for on this host.

use ::cli::Failure;
use advice::external::nvidia_smi_list_mig;
use advice::lxc_gpu_conf::{AddOptions, add};
use nvidia::{Capability, MigInstance, NodeClass, NodeSpec, cap_path};
use record::{Address, Hint};

use crate::config::assignment::{GpuAssignment, GpuIdentity, MigIdentity};
use crate::host_facts::HostFacts;
use crate::plan::model::Refusal;

/// Why an assignment cannot be resolved.
#[derive(Debug)]
pub enum ResolveError {
    /// The host cannot give what is assigned.
    Refused(Refusal),
    /// The request is invalid, or the host cannot be read.
    Failed(Failure),
}

impl From<Failure> for ResolveError {
    fn from(failure: Failure) -> ResolveError {
        ResolveError::Failed(failure)
    }
}

impl From<Refusal> for ResolveError {
    fn from(refusal: Refusal) -> ResolveError {
        ResolveError::Refused(refusal)
    }
}

/// A node that is to be given.
pub struct NodeRequest {
    /// The name under which its path is remembered, where it belongs to one GPU.
    pub name: Option<String>,
    /// Path and class.
    pub spec: NodeSpec,
    /// The group in the container that is to own it.
    pub group: Option<&'static str>,
}

impl NodeRequest {
    fn shared(spec: NodeSpec) -> NodeRequest {
        NodeRequest { name: None, spec, group: None }
    }
}

/// The nodes of one GPU, at its present minor.
pub fn gpu_requests(gpu: &GpuIdentity, minor: u32) -> Vec<NodeRequest> {
    let request = |spec: NodeSpec| NodeRequest {
        name: matches!(spec.class, NodeClass::Gpu(_)).then(|| gpu_name(gpu)),
        ..NodeRequest::shared(spec)
    };
    nvidia::gpu_nodes(minor).into_iter().map(request).collect()
}

/// The name under which the node of a GPU is remembered.
pub fn gpu_name(gpu: &GpuIdentity) -> String {
    format!("{}/gpu", gpu.key())
}

/// The DRM nodes of a GPU, at its present address.
pub fn drm_requests(
    facts: &HostFacts<'_>,
    address: Address,
    gpu: &GpuIdentity,
) -> Vec<NodeRequest> {
    let request = |name: String| {
        // controlD nodes were removed in Linux 4.10
        let (kind, group) = match name {
            _ if name.starts_with("renderD") => ("render", "render"),
            _ if name.starts_with("card") => ("card", "video"),
            _ => return None,
        };
        let path = format!("/dev/dri/{name}");
        Some(NodeRequest {
            name: Some(format!("{}/drm-{kind}", gpu.key())),
            spec: NodeSpec { path, class: NodeClass::Other, required: true },
            group: Some(group),
        })
    };
    facts.drm(address).into_iter().filter_map(request).collect()
}

/// The capabilities of a MIG instance.
pub fn instance_requests(mig: &MigIdentity, instance: &MigInstance) -> [NodeRequest; 2] {
    let gi = format!("{}/gi{}", mig.gpu.key(), mig.gi);
    [(gi, instance.gi_cap), (mig.name(), instance.ci_cap)].map(|(name, number)| NodeRequest {
        name: Some(name),
        ..NodeRequest::shared(cap_spec(number))
    })
}

fn cap_spec(minor: u32) -> NodeSpec {
    NodeSpec { path: cap_path(minor), class: NodeClass::Cap(minor), required: true }
}

/// The present instance of a MIG identity, where it exists.
pub fn find_instance(facts: &HostFacts<'_>, mig: &MigIdentity) -> Option<MigInstance> {
    let minor = facts.same_gpu(mig.gpu.uuid.as_deref(), mig.gpu.address)?.minor?;
    facts.mig().instance(minor, mig.gi, mig.ci).copied()
}

/// The capabilities of all MIG instances of an assignment. Refuses an instance
/// that does not exist.
pub fn mig_requests(
    assignment: &GpuAssignment,
    facts: &HostFacts<'_>,
    ctid: u32,
) -> Result<Vec<NodeRequest>, Refusal> {
    let mut requests = Vec::new();
    for mig in &assignment.mig {
        match find_instance(facts, mig) {
            Some(instance) => requests.extend(instance_requests(mig, &instance)),
            None => return Err(no_instance(facts, mig)),
        }
    }
    if assignment.mig_monitor {
        let Some(monitor) = facts.mig().minor(Capability::Monitor) else {
            return Err(Refusal {
                property: "mig-monitor".into(),
                reason: "the driver of the host does not support MIG".into(),
                hint: Hint::command(without(assignment, ctid, |o| o.mig_monitor = false)),
            });
        };
        requests.push(NodeRequest::shared(cap_spec(monitor)));
    }
    Ok(requests)
}

fn no_instance(facts: &HostFacts<'_>, mig: &MigIdentity) -> Refusal {
    let gpu = facts.same_gpu(mig.gpu.uuid.as_deref(), mig.gpu.address);
    let minor = gpu.and_then(|gpu| gpu.minor);
    let existing: Vec<String> = minor
        .into_iter()
        .flat_map(|minor| facts.mig().of_gpu(minor))
        .map(|instance| format!("{}/{}", instance.gi, instance.ci))
        .collect();
    let existing = if existing.is_empty() { "none".into() } else { existing.join(", ") };
    let ids = format!("{}/{}", mig.gi, mig.ci);
    Refusal {
        property: format!("mig {ids}"),
        reason: format!(
            "{} has no MIG instance {ids} (GPU instance/compute instance); it has: {existing}",
            mig.gpu.address
        ),
        hint: Hint::command(nvidia_smi_list_mig())
            .because("create the instance with nvidia-smi, or select one that exists"),
    }
}

/// IMEX channels, and NVSwitch and NVLink nodes. Refuses the latter on a host
/// that has none.
pub fn fabric_requests(
    assignment: &GpuAssignment,
    facts: &HostFacts<'_>,
    ctid: u32,
) -> Result<Vec<NodeRequest>, ResolveError> {
    let channel = |id: &u32| {
        let path = format!("/dev/nvidia-caps-imex-channels/channel{id}");
        let class = NodeClass::ImexChannel(*id);
        NodeRequest::shared(NodeSpec { path, class, required: true })
    };
    let mut requests: Vec<NodeRequest> = assignment.imex.iter().map(channel).collect();
    if !assignment.fabric {
        return Ok(requests);
    }
    let channels = requests.len();
    for name in facts.machine.nodes_in("/dev").map_err(Failure::from)? {
        let path = format!("/dev/{name}");
        if let Some(class) = nvidia::classify(&path).filter(|class| class.is_fabric()) {
            requests.push(NodeRequest::shared(NodeSpec { path, class, required: true }));
        }
    }
    if requests.len() == channels {
        return Err(ResolveError::Refused(Refusal {
            property: "fabric".into(),
            reason: "this host has no NVSwitch or NVLink device nodes".into(),
            hint: Hint::command(without(assignment, ctid, |o| o.fabric = false))
                .because("omit --fabric: only hosts with NVSwitch have such nodes"),
        }));
    }
    Ok(requests)
}

/// The command that asks for an assignment without one of its options.
fn without(
    assignment: &GpuAssignment,
    ctid: u32,
    change: impl FnOnce(&mut AddOptions),
) -> record::CommandLine {
    let mut options = assignment.add_options();
    change(&mut options);
    add(ctid, &options)
}
