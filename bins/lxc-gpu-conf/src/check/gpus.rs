//! The GPUs behind the configured minors: renumbered, bound to another driver,
//! removed, or given without a node that CUDA needs.

use advice::gpu_vfio_bind::release;
use advice::lxc_gpu_conf::{AddOptions, RemoveOptions, add, remove, sync};
use record::Hint;

use crate::check::finding::{Cause, Finding};
use crate::config::given_nodes::ContainerView;
use crate::host_facts::HostFacts;
use crate::host_facts::gpu_selection::choices;

/// The GPU of each minor, and the nodes that CUDA needs.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let Some(facts) = view.facts else { return Vec::new() };
    let mut found = renumbered(view, facts);
    let minors = view.minors();
    for minor in &minors {
        match facts.by_minor(*minor) {
            None => found.push(missing_gpu(view, facts, *minor)),
            Some(_) => found.extend(missing_nodes(view, *minor)),
        }
    }
    // what a hook gives is not known before it has run
    if minors.is_empty() && !view.has_hook() && view.given.iter().any(|given| given.class.is_some())
    {
        found.push(Finding {
            property: "gpu".into(),
            expected: Some("/dev/nvidia<minor>".into()),
            reason: "the nodes that all GPUs share are given, but no GPU".into(),
            hint: add_a_gpu(view, facts),
            ..Finding::error(Cause::Incomplete)
        });
    }
    found
}

/// Which GPU was meant is known only where the host has one.
fn add_a_gpu(view: &ContainerView<'_>, facts: &HostFacts<'_>) -> Hint {
    let mut gpus = facts.gpus.keys();
    match (gpus.next(), gpus.next()) {
        (Some(only), None) => {
            let gpus = vec![only.to_string()];
            Hint::command(add(view.guest.ctid, &AddOptions { gpus, ..AddOptions::default() }))
        }
        _ => Hint::words(format!("add the GPU that the container is to have; {}", choices(facts))),
    }
}

/// Nodes that were given to a GPU which has others now.
fn renumbered(view: &ContainerView<'_>, facts: &HostFacts<'_>) -> Vec<Finding> {
    let nodes = view.renamed_nodes(facts).into_iter();
    nodes
        .map(|(then, (name, now))| {
            let gpu = name.split('/').next().unwrap_or_default();
            let reason = format!("the GPU that had {then} ({gpu}) now has {now}");
            Finding {
                property: then.clone(),
                expected: Some(now),
                actual: Some(then),
                reason,
                ..Finding::error(Cause::OtherCard)
            }
            .run(sync(view.guest.ctid))
        })
        .collect()
}

fn missing_nodes(view: &ContainerView<'_>, minor: u32) -> Vec<Finding> {
    let gpus = vec![minor.to_string()];
    let command = add(view.guest.ctid, &AddOptions { gpus, ..AddOptions::default() });
    let specs = nvidia::gpu_nodes(minor).into_iter().filter(|spec| spec.required);
    specs
        .filter(|spec| !view.given.iter().any(|given| given.target == spec.path))
        .map(|spec| {
            Finding {
                property: spec.path.clone(),
                expected: Some("given".into()),
                reason: format!("{} is not given, and CUDA needs it", spec.path),
                ..Finding::error(Cause::Incomplete)
            }
            .run(command.clone())
        })
        .collect()
}

/// Why no GPU of the nvidia driver has a minor.
fn missing_gpu(view: &ContainerView<'_>, facts: &HostFacts<'_>, minor: u32) -> Finding {
    let reason = format!("no GPU of this host that is bound to nvidia has /dev/nvidia{minor}");
    let base = Finding {
        property: format!("/dev/nvidia{minor}"),
        expected: Some("a GPU of the nvidia driver".into()),
        ..Finding::error(Cause::NoGpu)
    };
    let gpus = vec![minor.to_string()];
    let remove = remove(view.guest.ctid, &RemoveOptions { gpus, ..RemoveOptions::default() });
    let system = facts.system().ok();
    let on_vfio: Vec<_> = system
        .iter()
        .flat_map(|system| system.functions.values())
        .filter(|f| f.is_gpu() && f.vendor == Some(pci::NVIDIA) && f.on_vfio() && f.pf.is_none())
        .map(|f| f.address)
        .collect();
    if on_vfio.is_empty() {
        return Finding { reason, ..base }.run(remove);
    }
    let list: Vec<String> = on_vfio.iter().map(ToString::to_string).collect();
    let hint = match on_vfio.as_slice() {
        [only] => Hint::command(release(only.slot()))
            .because("release the GPU to the host, or remove it from the container"),
        _ => Hint::command(remove)
            .because("release one of these GPUs to the host, or remove it from the container"),
    };
    Finding {
        cause: Cause::OnVfio,
        actual: Some("bound to VFIO".into()),
        reason: format!("{reason} (bound to VFIO: {})", list.join(", ")),
        hint,
        ..base
    }
}
