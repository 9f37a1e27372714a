//! What the next start makes of the lines: what keeps the container from starting, and
//! lines that give nothing.

use advice::external::pct_delete;
use advice::lxc_gpu_conf::{AddOptions, RemoveOptions, add, remove};
use nvidia::classify;
use pve::{FaultKind, Outcome, StartFault};
use record::{CommandLine, Hint, LxcStyle};

use crate::check::finding::{Cause, Finding};
use crate::config::given_nodes::{ContainerView, GivenNode};

/// What keeps the container from starting, lines without effect, stubs on the host.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        view.start.faults.iter().filter_map(|fault| of_fault(view, fault)).collect();
    found.extend(view.given.iter().filter_map(|given| without_effect(view, given)));
    found.extend(stubs_on_host(view));
    found.extend(root_only(view));
    found
}

fn of_fault(view: &ContainerView<'_>, fault: &StartFault) -> Option<Finding> {
    let cause = match fault.kind {
        // the check of the nodes has it, with what repairs the node
        FaultKind::DevMissing => return None,
        FaultKind::DevValue | FaultKind::DevNotDevice => Cause::BadDev,
        FaultKind::GivenTwice => Cause::GivenTwice,
        FaultKind::Mount => Cause::BadMount,
        FaultKind::Key => Cause::UnknownKey,
        FaultKind::Rules
        | FaultKind::IdMap
        | FaultKind::File
        | FaultKind::Hook
        | FaultKind::DevOfOstype => Cause::CannotStart,
    };
    let missing = fault.target.as_ref().is_some_and(|target| {
        let mut same = view.given.iter().filter(|given| given.target == *target);
        same.any(|given| given.node.present == Some(false))
    });
    // a missing node, or a file in its place, is what the check of the nodes says
    let in_place = fault.target.as_ref().is_some_and(|target| {
        let node = view.facts.and_then(|facts| facts.node(target));
        classify(target).is_some() && node.is_some_and(|node| node.device().is_none())
    });
    if (cause == Cause::BadMount && missing) || (fault.kind == FaultKind::DevNotDevice && in_place)
    {
        return None;
    }
    let is_node = cause == Cause::GivenTwice || cause == Cause::BadMount;
    let property = match &fault.target {
        Some(target) if is_node => target.clone(),
        _ => fault.key.clone(),
    };
    Some(Finding {
        property,
        actual: Some(if is_node { fault.key.clone() } else { fault.value.clone() }),
        reason: fault.reason.clone(),
        hint: repair(view, fault),
        prevents_start: true,
        ..Finding::error(cause)
    })
}

fn repair(view: &ContainerView<'_>, fault: &StartFault) -> Hint {
    let ctid = view.guest.ctid;
    let target = fault.target.as_deref().unwrap_or_default();
    let is_drm_of_nvidia = view.facts.is_some_and(|facts| facts.of_drm(target).is_some());
    let is_nvidia = classify(target).is_some() || is_drm_of_nvidia;
    let dev_line = fault.key.starts_with("dev");
    let of_file = view.start.paths.iter().any(|path| {
        path.target == target && path.giver.kind != pve::GiverKind::Dev && path.giver.file.is_some()
    });
    let hook = view.given.iter().any(|g| g.target == target && g.style == LxcStyle::Hook);
    match fault.kind {
        FaultKind::GivenTwice if hook || of_file => Hint::command(remove_node(ctid, target))
            .because("the other line is not this tool's: remove dev[n], or that line"),
        FaultKind::GivenTwice if classify(target).is_none() => {
            Hint::command(pct_delete(ctid, &fault.key))
        }
        FaultKind::GivenTwice => Hint::command(convert(ctid)),
        FaultKind::DevValue | FaultKind::DevNotDevice if is_nvidia && can_convert(view, target) => {
            Hint::command(convert(ctid))
        }
        FaultKind::Mount if is_nvidia && can_convert(view, target) => Hint::command(convert(ctid)),
        FaultKind::Mount if is_nvidia => Hint::command(remove_node(ctid, target)),
        _ if dev_line => Hint::command(pct_delete(ctid, &fault.key)),
        FaultKind::Mount => {
            Hint::words("write it as '/dev/X dev/X none bind,optional,create=file'")
        }
        _ => Hint::words("remove or correct that line of the configuration"),
    }
}

/// Whether `add --convert` can give a node by dev[n]: the host has it.
fn can_convert(view: &ContainerView<'_>, target: &str) -> bool {
    let node = view.facts.and_then(|facts| facts.node(target));
    node.is_some_and(|node| node.is_char()) && !view.minors().is_empty()
}

fn convert(ctid: u32) -> CommandLine {
    add(ctid, &AddOptions { convert: true, ..AddOptions::default() })
}

fn remove_node(ctid: u32, path: &str) -> CommandLine {
    let nodes = vec![path.to_string()];
    remove(ctid, &RemoveOptions { nodes, ..RemoveOptions::default() })
}

/// A mount entry of a node that exists and that the container does not get.
fn without_effect(view: &ContainerView<'_>, given: &GivenNode) -> Option<Finding> {
    let fatal = view.start.faults.iter().any(|fault| fault.target.as_ref() == Some(&given.target));
    if given.style != LxcStyle::Mount || fatal || given.node.present != Some(true) {
        return None;
    }
    let (has, why) = match &given.outcome {
        Outcome::Nothing(why) => ("nothing", why.clone()),
        Outcome::EmptyFile => ("an empty file", "its options are not those of a bind mount".into()),
        Outcome::EmptyDir => ("an empty directory", "a node needs create=file".into()),
        _ => return None,
    };
    // another line gives the path
    if view.start.device(&given.target).is_some() {
        return None;
    }
    let ctid = view.guest.ctid;
    let finding = Finding {
        property: given.target.clone(),
        expected: Some("a character device".into()),
        actual: Some(has.into()),
        reason: format!("the mount entry for {} gives the container {has}: {why}", given.target),
        ..Finding::error(Cause::NoEffect)
    };
    Some(match given.class.is_some() && can_convert(view, &given.target) && given.is_own_line {
        true => finding.run(convert(ctid)),
        false => finding.words("write it as '/dev/X dev/X none bind,optional,create=file'"),
    })
}

fn stubs_on_host(view: &ContainerView<'_>) -> Vec<Finding> {
    let paths = view.start.paths.iter();
    paths
        .filter_map(|path| {
            let stub = path.stub_on_host.as_ref()?;
            let finding = Finding {
                property: path.target.clone(),
                actual: Some(stub.clone()),
                reason: format!(
                    "the start creates an empty file {stub} on the host: its directory is mounted, \
                     and the node does not exist"
                ),
                ..Finding::warning(Cause::StubOnHost)
            };
            Some(match classify(&path.target).is_some() || path.target.starts_with("/dev/dri/") {
                true => finding.run(remove_node(view.guest.ctid, &path.target)),
                false => {
                    finding.words("remove that mount entry: the mounted directory gives its nodes")
                }
            })
        })
        .collect()
}

/// Services such as Jellyfin, Plex and Ollama do not run as root.
fn root_only(view: &ContainerView<'_>) -> Vec<Finding> {
    let devs = view.given.iter().filter(|given| given.style == LxcStyle::Dev);
    devs.filter_map(|given| {
        let Outcome::Device(device) = &given.outcome else { return None };
        let value = view.access.devs.get(&given.node.key)?;
        let owned = ["mode", "uid", "gid"].iter().any(|key| value.options.contains_key(*key));
        let faulty = |fault: &StartFault| fault.target.as_ref() == Some(&given.target);
        if owned
            || device.everybody
            || given.class.is_none()
            || view.start.faults.iter().any(faulty)
        {
            return None;
        }
        let finding = Finding {
            property: given.node.key.clone(),
            expected: Some("mode=0666".into()),
            actual: Some("0660".into()),
            reason: format!(
                "{} has no mode: only root of the container opens {}, and no service that runs as \
                 another user",
                given.node.key, given.target
            ),
            ..Finding::warning(Cause::RootOnly)
        };
        let gpus = view.minors().iter().map(u32::to_string).collect();
        let mode = Some("0666".into());
        let options = AddOptions { gpus, mode, ..AddOptions::default() };
        Some(match view.minors().is_empty() {
            true => finding.words("add mode=0666 to that line"),
            false => finding.run(add(view.guest.ctid, &options)),
        })
    })
    .collect()
}
