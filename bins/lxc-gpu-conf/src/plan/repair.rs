//! Plans what `sync` changes: stale device rules, and nodes whose numbers have
//! changed.

use std::collections::BTreeMap;

use pve::Fate;

use crate::config::access::Access;
use crate::config::device_numbers::{DeviceNumbers, MountedNode};
use crate::config::device_rules::{DeviceRule, NodeOpening, RuleDevices};
use crate::config::node_entries::{DevEntry, MountEntry};
use crate::config::stale_rules::stale_rules;
use crate::plan::model::{ConfigPlan, ContainerFacts, HostNode};

/// Removes the stale rules that are NVIDIA's. In a privileged container, adds rules
/// for mounted nodes that no rule is about. A node of a mounted directory gets
/// none, nor does one that a rule denies: the administrator decides which of
/// those the container may open.
pub fn repair_rules(plan: &mut ConfigPlan, container: &ContainerFacts, numbers: &DeviceNumbers) {
    let access = Access::of(&plan.conf);
    let stale = stale_rules(&access, numbers);
    let is_stale = |rule: &DeviceRule| stale.contains(rule);
    // the node of a directory keeps what a stale rule allowed
    let driver_was_allowed = |mounted: &MountedNode| {
        remembered_minor(&stale, mounted.numbers.1) && numbers.is_dynamic(mounted)
    };
    plan.remove_lxc(|key, value| {
        let rule = DeviceRule::parse(key, value)?;
        is_stale(&rule).then_some("the major of the driver has changed")
    });
    if container.unprivileged {
        return;
    }
    for mounted in numbers.mounted.iter().filter(|node| node.alone || driver_was_allowed(node)) {
        let (major, minor) = mounted.numbers;
        let opening = NodeOpening { path: &mounted.path, major, minor, access: mounted.access };
        let access = Access::of(&plan.conf);
        if access.opening(&opening) == Err(None) {
            plan.add("lxc.cgroup2.devices.allow", mounted.rule());
        }
    }
}

/// Whether a stale rule was about a node with this minor.
fn remembered_minor(stale: &[DeviceRule], minor: u32) -> bool {
    stale.iter().any(|rule| {
        matches!(rule.what, RuleDevices::Numbers { minor: m, .. } if m.is_none_or(|m| m == minor))
    })
}

/// Reports the entries of nodes that stay as they are, each once.
pub fn keep_nodes(plan: &mut ConfigPlan, nodes: &[HostNode]) {
    let access = Access::of(&plan.conf);
    for node in nodes {
        if let Some((key, entry)) = access.dev(&node.spec.path) {
            plan.unchanged(key, &entry.to_string());
        } else if let Some(mount) = access.mounted(&node.spec.path) {
            plan.unchanged("lxc.mount.entry", &mount.text);
        }
    }
}

/// Renames nodes whose numbers have changed: a GPU that was /dev/nvidia0 is
/// /dev/nvidia1 after another was installed. All names change at once, because
/// two GPUs may have exchanged theirs.
pub fn renumber(
    plan: &mut ConfigPlan,
    names: &BTreeMap<String, String>,
    rules: &BTreeMap<(u32, u32), (u32, u32)>,
) {
    let why = "the number of the GPU has changed";
    let access = Access::of(&plan.conf);
    let main: Vec<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    // a node must not be given twice
    let taken = |new: &str| {
        let given = access.dev(new).is_some() || access.mount(new).is_some();
        given && !names.contains_key(new)
    };
    for (key, dev) in &access.devs {
        if let Some(new) = names.get(&dev.path).filter(|_| main.contains(key)) {
            if taken(new) {
                plan.conf.remove_key(key);
                plan.step(key, Some(dev.to_string()), None, Some(why));
                continue;
            }
            let renamed =
                DevEntry { path: new.clone(), options: dev.options.clone(), is_valid: true };
            plan.set(key, &dev.to_string(), renamed.to_string(), why);
        }
    }
    let mut steps = Vec::new();
    plan.conf.change_lxc(|key, value| {
        let new = match MountEntry::parse(value).filter(|_| key == "lxc.mount.entry") {
            Some(mount) if names.get(&mount.target).is_some_and(|new| taken(new)) => {
                steps.push((key.to_string(), value.to_string(), None));
                return Fate::Remove;
            }
            Some(mount) => {
                names.get(&mount.target).filter(|_| mount.source == mount.target).map(|new| {
                    let options = mount.options.join(",");
                    format!("{new} {} none {options}", new.trim_start_matches('/'))
                })
            }
            None => DeviceRule::parse(key, value).and_then(|rule| match rule.what {
                RuleDevices::Numbers { char: true, major: Some(a), minor: Some(i), access } => {
                    let (major, minor) = rules.get(&(a, i))?;
                    Some(format!("c {major}:{minor} {access}"))
                }
                _ => None,
            }),
        };
        match new {
            Some(new) if new != value => {
                steps.push((key.to_string(), value.to_string(), Some(new.clone())));
                Fate::Become(key.into(), new)
            }
            _ => Fate::Keep,
        }
    });
    for (key, from, to) in steps {
        plan.step(&key, Some(from), to, Some(why));
    }
}
