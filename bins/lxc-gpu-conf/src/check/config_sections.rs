//! Lines of the configuration that have no effect: in a snapshot section, or
//! such as Proxmox VE drops.

use std::collections::BTreeSet;

use advice::lxc_gpu_conf::{AddOptions, add};
use nvidia::{NodeClass, classify};
use pve::Section;
use record::Hint;

use crate::check::finding::{Cause, Finding};
use crate::config::access::Access;
use crate::config::given_nodes::ContainerView;

/// Lines in snapshot sections, lines that cannot be parsed, forbidden keys.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(dropped_lines(view));
    if view.has_gpu() {
        found.extend(forbidden_keys(view));
    } else {
        found.extend(snapshot_lines(view));
    }
    found
}

/// GPU lines of snapshots, which `echo >>` adds to a container that has
/// snapshots. A container that has a GPU has them in its snapshots as well.
fn snapshot_lines(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in view.conf.snapshots() {
        let section = Section::Snapshot(name.to_string());
        let keys = view.conf.keys(&section);
        let devs = keys.iter().map(|(key, value)| format!("{key}: {value}"));
        let lxc = view.conf.lxc_in(&section).map(|(key, value)| format!("{key}: {value}"));
        let lines: Vec<String> =
            devs.chain(lxc).filter(|line| line.contains("/dev/nvidia")).collect();
        let Some(first) = lines.first() else { continue };
        found.push(Finding {
            property: format!("[{name}]"),
            expected: None,
            actual: Some(first.clone()),
            reason: format!(
                "{} GPU lines are only in the section of snapshot '{name}' and have no effect: \
                 lines at the end of the file belong to its last section",
                lines.len()
            ),
            hint: add_what_they_name(view, &lines),
            ..Finding::warning(Cause::SnapshotOnly)
        });
    }
    found
}

/// The command that gives the GPUs of these lines.
fn add_what_they_name(view: &ContainerView<'_>, lines: &[String]) -> Hint {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let access = Access::of(&pve::Conf::parse(text.as_bytes()));
    let minors: BTreeSet<u32> = access
        .targets()
        .filter_map(|path| match classify(path) {
            Some(NodeClass::Gpu(minor)) => Some(minor),
            _ => None,
        })
        .collect();
    if minors.is_empty() {
        return Hint::words("move these lines to the top of the file, above the snapshots");
    }
    let gpus = minors.iter().map(u32::to_string).collect();
    Hint::command(add(view.guest.ctid, &AddOptions { gpus, ..AddOptions::default() }))
}

fn dropped_lines(view: &ContainerView<'_>) -> Vec<Finding> {
    let invalid = view.conf.invalid();
    // a line that was meant to give a GPU counts also where it is the only one
    let is_gpu = |line: &str| line.contains("/dev/nvidia") || line.contains("/dev/dri");
    let lines =
        invalid.iter().filter(|line| is_gpu(line) || (view.has_gpu() && line.contains("lxc.")));
    lines
        .map(|line| {
            Finding {
                property: "lxc".into(),
                actual: Some(line.to_string()),
                reason: format!("Proxmox VE cannot parse '{line}' and drops it at the next write"),
                ..Finding::warning(Cause::DroppedLine)
            }
            .words("remove the line, or write it as 'key: value' without spaces before the key and the colon")
        })
        .collect()
}

fn forbidden_keys(view: &ContainerView<'_>) -> Vec<Finding> {
    let keys: BTreeSet<&str> = view.conf.lxc().map(|(key, _)| key).collect();
    keys.into_iter()
        .filter(|key| !pve::is_permitted_lxc_key(key))
        .map(|key| {
            Finding {
                property: key.into(),
                actual: Some(key.into()),
                reason: format!(
                    "Proxmox VE does not permit '{key}' and drops it at the next write"
                ),
                ..Finding::warning(Cause::ForbiddenKey)
            }
            .words("see 'lxc' in pct.conf(5) for the permitted keys")
        })
        .collect()
}
