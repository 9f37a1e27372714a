//! The device nodes that are given, as they are on the host.

use std::collections::BTreeSet;

use advice::lxc_gpu_conf::{AddOptions, RemoveOptions, add, remove, sync};
use host::Node;
use nvidia::{NodeClass, classify};
use pve::{Opening, Outcome};
use record::{Hint, LxcStyle, Severity};

use crate::check::finding::{Cause, Finding};
use crate::config::given_nodes::{ContainerView, GivenNode, can_create, no_access};
use crate::host_facts::required_nodes::has_unbound_gpu;
use crate::host_facts::{HostFacts, check_numbers};

/// Each given node, and nodes that are given twice.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for given in view.given.iter().filter(|given| given.style != LxcStyle::Hook) {
        found.extend(mig_admin(view, given));
        if let Some(facts) = view.facts {
            found.extend(link_path(facts, given));
            found.extend(host_node(view, facts, given));
        }
    }
    found.extend(mounted_twice(view));
    found
}

/// The right to reconfigure MIG.
fn mig_admin(view: &ContainerView<'_>, given: &GivenNode) -> Option<Finding> {
    if given.class != Some(NodeClass::Cap(1)) {
        return None;
    }
    // a single node cannot be removed from a mounted directory
    let hint = match view.is_given_alone(given) {
        true => Hint::command(remove_node(view, given)),
        false => Hint::command(convert(view))
            .because("with --mig GI/CI as well for each MIG instance that the container uses"),
    };
    Some(Finding {
        property: given.target.clone(),
        actual: Some(given.node.key.clone()),
        reason: format!(
            "{} lets the container create and destroy the MIG instances of every GPU",
            given.target
        ),
        hint,
        ..Finding::error(Cause::MigAdmin)
    })
}

fn link_path(facts: &HostFacts<'_>, given: &GivenNode) -> Option<Finding> {
    let path = &given.node.path;
    (given.style == LxcStyle::Dev && facts.is_link(path)).then(|| {
        Finding {
            property: given.node.key.clone(),
            expected: facts.drm_path(path),
            actual: Some(path.clone()),
            reason: format!(
                "{path} is a symbolic link: the container has the node only under this name"
            ),
            ..Finding::warning(Cause::LinkPath)
        }
        .words("write the path of the device node itself")
    })
}

/// What exists on the host at the path of a node.
fn host_node(view: &ContainerView<'_>, facts: &HostFacts<'_>, given: &GivenNode) -> Vec<Finding> {
    let found = source_findings(view, facts, given);
    // a source that is not the driver's own node is named as the container knows it
    match classify(&given.node.path).is_some() || given.class.is_none() {
        true => found,
        false => {
            let of_target = |found| Finding { property: given.target.clone(), ..found };
            found.into_iter().map(of_target).collect()
        }
    }
}

fn source_findings(
    view: &ContainerView<'_>,
    facts: &HostFacts<'_>,
    given: &GivenNode,
) -> Vec<Finding> {
    match facts.node(&given.node.path) {
        None => vec![missing_node(view, facts, given)],
        Some(node) if !node.is_char() => vec![Finding {
            property: given.node.path.clone(),
            expected: Some("a character device".into()),
            actual: Some("no device".into()),
            reason: format!(
                "{} on the host is not a character device but what a failed mount left there",
                given.node.path
            ),
            hint: repair(view, facts, given),
            prevents_start: given.style == LxcStyle::Dev,
            ..Finding::error(Cause::Stub)
        }],
        Some(node) => {
            let denied = denied_by_mode(view, given, &node);
            if matches!(given.outcome, Outcome::Nothing(_)) {
                return Vec::new();
            }
            denied.into_iter().chain(stale_node(view, facts, given, &node)).collect()
        }
    }
}

fn missing_node(view: &ContainerView<'_>, facts: &HostFacts<'_>, given: &GivenNode) -> Finding {
    let fatal = view.start.faults.iter().any(|fault| fault.target.as_ref() == Some(&given.target));
    let effect = match &given.outcome {
        _ if fatal => "the container cannot start",
        Outcome::EmptyFile => "the container has an empty file instead",
        _ => "the container does not have it",
    };
    Finding {
        property: given.node.path.clone(),
        expected: Some("a character device".into()),
        reason: format!("{} does not exist on the host: {effect}", given.node.path),
        hint: repair(view, facts, given),
        prevents_start: fatal,
        ..Finding::error(Cause::MissingNode)
    }
}

/// A mounted node keeps owner and mode of the host; those of a dev[n] are its line's.
fn denied_by_mode(view: &ContainerView<'_>, given: &GivenNode, node: &Node) -> Option<Finding> {
    if given.opening() != Some(&Opening::DeniedByMode) || given.class == Some(NodeClass::Cap(1)) {
        return None;
    }
    let base = Finding {
        property: given.target.clone(),
        expected: Some("0666".into()),
        // CUDA does not need DRM nodes
        severity: if given.class.is_some() { Severity::Error } else { Severity::Warning },
        ..Finding::error(Cause::NoAccess)
    };
    if given.style == LxcStyle::Dev {
        let reason = format!(
            "owner and mode of {} keep the container from opening {}",
            given.node.key, given.target
        );
        let finding = Finding { actual: given.node.mode.clone(), reason, ..base };
        return Some(finding.run(remove_node(view, given)));
    }
    let finding = Finding {
        actual: Some(format!("{:04o}", node.mode)),
        reason: no_access(&given.node.path, node.mode),
        ..base
    };
    // dev[n] cannot give one node of a directory beside the directory
    Some(match given.class.is_some() || view.is_given_alone(given) {
        true => finding.run(convert(view)),
        false => {
            finding.words("replace the mounted directory by dev[n] for the nodes that are needed")
        }
    })
}

fn stale_node(
    view: &ContainerView<'_>,
    facts: &HostFacts<'_>,
    given: &GivenNode,
    node: &Node,
) -> Option<Finding> {
    // what a node is to be, its own path says, whatever its name in the container
    let class = classify(&given.node.path).or(given.class)?;
    let why = check_numbers(class, node.major, node.minor, facts.major(class)).err()?;
    let numbers = facts.numbers(class);
    Some(Finding {
        property: given.node.path.clone(),
        expected: numbers.map(|(major, minor)| format!("{major}:{minor}")),
        actual: Some(format!("{}:{}", node.major, node.minor)),
        reason: format!("{} on the host {why}", given.node.path),
        hint: repair(view, facts, given),
        ..Finding::error(Cause::StaleNode)
    })
}

/// Two mount entries for one path: the last is on top, which does no harm. A dev[n]
/// beside another giver keeps the container from starting; `start` has that.
fn mounted_twice(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mounts = view.given.iter().filter(|g| g.style == LxcStyle::Mount && !g.in_directory);
    let mut found = Vec::new();
    for given in mounts.filter(|given| !seen.insert(&given.target)) {
        let finding = Finding {
            property: given.target.clone(),
            actual: Some(given.node.key.clone()),
            reason: format!("{} is mounted twice", given.target),
            ..Finding::warning(Cause::GivenTwice)
        };
        found.push(finding.run(convert(view)));
    }
    found
}

/// The command that repairs a node of the host, or else removes it from the
/// container. What can be created is judged by its own path.
fn repair(view: &ContainerView<'_>, facts: &HostFacts<'_>, given: &GivenNode) -> Hint {
    let path = &given.node.path;
    let repairable =
        can_create(facts, classify(path)) || view.renamed_nodes(facts).contains_key(path);
    // the driver's shared nodes belong to a loaded driver
    let has_gpu = !facts.gpus.is_empty() || has_unbound_gpu(facts).unwrap_or(false);
    match repairable {
        true if !has_gpu => Hint::words(
            "the node can be created again once the nvidia driver has a GPU of this host",
        ),
        true => Hint::command(sync(view.guest.ctid)),
        false if view.is_given_alone(given) => Hint::command(remove_node(view, given)),
        false => Hint::words(format!("the node is part of a mounted directory: remove {path}")),
    }
}

fn remove_node(view: &ContainerView<'_>, given: &GivenNode) -> record::CommandLine {
    let nodes = vec![given.target.clone()];
    remove(view.guest.ctid, &RemoveOptions { nodes, ..RemoveOptions::default() })
}

fn convert(view: &ContainerView<'_>) -> record::CommandLine {
    add(view.guest.ctid, &AddOptions { convert: true, ..AddOptions::default() })
}
