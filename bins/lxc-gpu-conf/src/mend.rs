//! What takes lines away or gives them other numbers: rules of before, cards
//! that are called otherwise now, and everything of a GPU that goes.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::{GPU_MAJOR, NodeClass, classify};
use pve::Fate;

use crate::access::{Access, DevEntry, Devices, MountEntry, Opening, Rule, is_userspace};
use crate::plan::{Container, Numbers, Plan, Refusal, dev_text};

/// Whether a rule is about NVIDIA's nodes and nothing else.
pub(crate) fn concerns(rule: &Rule, numbers: &Numbers) -> bool {
    match &rule.what {
        Devices::Numbers { char, major: Some(major), .. } => {
            *char && (*major == GPU_MAJOR || numbers.drivers.values().any(|m| m == major))
        }
        Devices::Path { path, .. } => classify(path).is_some(),
        _ => false,
    }
}

/// Whether a rule allows a major that the kernel gives to whoever asks next
/// (include/linux/fs.h: 234 to 254 and 384 to 511), that no node of the
/// container has.
pub(crate) fn is_dynamic_rule(rule: &Rule, numbers: &Numbers) -> bool {
    match &rule.what {
        Devices::Numbers { char: true, major: Some(major), .. } => {
            rule.allow
                && (matches!(major, 234..=254 | 384..=511))
                && !numbers.others.contains(major)
                && !numbers.drivers.values().any(|m| m == major)
        }
        _ => false,
    }
}

/// Rules that let the container open NVIDIA's nodes before their majors moved.
///
/// A number alone does not say whose it was. So they are named only where a
/// mounted node has no rule with its number now, and the rules for dynamic
/// majors that serve none of the container's nodes are not more than such
/// drivers.
pub fn stale_rules(access: &Access, numbers: &Numbers) -> Vec<Rule> {
    let uncovered: BTreeSet<&str> = access
        .mounts
        .iter()
        .filter_map(|mount| classify(&mount.target)?.driver())
        .filter(|driver| {
            let major = numbers.drivers.get(driver);
            let named = |rule: &&Rule| match &rule.what {
                Devices::Numbers { major: m, .. } => m.is_some() && m.as_ref() == major,
                Devices::Path { path, .. } => {
                    classify(path).and_then(NodeClass::driver) == Some(*driver)
                }
                _ => false,
            };
            !access.rules.iter().any(|rule| named(&rule))
        })
        .collect();
    let orphans: Vec<&Rule> =
        access.rules.iter().filter(|rule| is_dynamic_rule(rule, numbers)).collect();
    let majors: BTreeSet<u32> = orphans.iter().filter_map(|rule| rule_major(rule)).collect();
    if majors.len() > uncovered.len() {
        return Vec::new();
    }
    orphans.into_iter().cloned().collect()
}

/// The major that a rule names.
pub fn rule_major(rule: &Rule) -> Option<u32> {
    match rule.what {
        Devices::Numbers { major, .. } => major,
        _ => None,
    }
}

/// Takes stale rules away, and in a privileged container allows what is mounted
/// and no rule allows, as numbers are now.
pub fn repair(plan: &mut Plan, container: Container, numbers: &Numbers) {
    let access = Access::of(&plan.conf);
    let stale = stale_rules(&access, numbers);
    plan.take_lxc(|key, value| {
        let rule = Rule::parse(key, value)?;
        stale.contains(&rule).then_some("the driver has another major now")
    });
    if container.unprivileged {
        return;
    }
    for mounted in &numbers.mounted {
        let (major, minor) = mounted.numbers;
        let opening = Opening { path: &mounted.path, major, minor, access: mounted.access };
        if !Access::of(&plan.conf).allows(&opening, false) {
            let rule = format!("c {major}:{minor} {}", mounted.access);
            plan.add("lxc.cgroup2.devices.allow", rule);
        }
    }
}

/// Which lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taking {
    /// Everything of NVIDIA's; otherwise only `paths`.
    pub all: bool,
    /// Nodes to take away, with their numbers, where they are known.
    pub paths: BTreeMap<String, Option<(u32, u32)>>,
    /// Userspace too.
    pub userspace: bool,
}

/// Adds to a plan what takes nodes away from a container. Refuses what only a
/// pending change gives: that section is Proxmox VE's.
pub fn take(
    plan: &mut Plan,
    container: Container,
    taking: &Taking,
    numbers: &Numbers,
) -> Result<(), Refusal> {
    let access = Access::of(&plan.conf);
    let main: BTreeSet<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    let pending = plan.conf.keys(&pve::Section::Pending);
    let gone = |path: &str| {
        taking.paths.contains_key(path)
            || (taking.all && (classify(path).is_some() || path == "/dev/nvidia-caps"))
    };
    for (key, dev) in access.devs.iter().filter(|(_, dev)| gone(&dev.path)) {
        if pending.contains_key(key.as_str()) {
            return Err(Refusal {
                property: key.clone(),
                reason: format!("a pending change gives {} with {key} at the next start", dev.path),
                hint: format!("'pct set {} --revert {key}', then run it again", container.ctid),
            });
        }
    }
    let devs: Vec<(String, DevEntry)> = access
        .devs
        .iter()
        .filter(|(key, dev)| gone(&dev.path) && main.contains(*key))
        .map(|(key, dev)| (key.clone(), dev.clone()))
        .collect();
    for (key, dev) in devs {
        plan.conf.remove_key(&key);
        plan.step(&key, Some(dev_text(&dev.path, &dev.options)), None, None);
    }
    let stale = if taking.all { stale_rules(&access, numbers) } else { Vec::new() };
    let drm = |path: &&String| path.starts_with("/dev/dri/");
    let exact: BTreeSet<(u32, u32)> = taking
        .paths
        .iter()
        .filter(|(path, _)| !taking.all || drm(path))
        .filter_map(|(_, numbers)| *numbers)
        .collect();
    plan.take_lxc(|key, value| {
        if key == "lxc.mount.entry" {
            let mount = MountEntry::parse(value)?;
            let userspace = taking.userspace && is_userspace(&mount.target);
            return (gone(&mount.target) || userspace).then_some("");
        }
        let v1 = key.starts_with("lxc.cgroup.devices.");
        let rule = Rule::parse(&key.replace("lxc.cgroup.", "lxc.cgroup2."), value)?;
        let of_node = match &rule.what {
            Devices::Numbers { char: true, major: Some(major), minor: Some(minor), .. } => {
                exact.contains(&(*major, *minor))
            }
            Devices::Path { path, .. } => gone(path),
            _ => false,
        };
        let all = taking.all
            && (concerns(&rule, numbers)
                || stale.contains(&rule)
                || (v1 && is_dynamic_rule(&rule, numbers)));
        (of_node || all).then_some("")
    });
    Ok(())
}

/// Gives nodes that have other names now their new ones: a card that was
/// /dev/nvidia0 is /dev/nvidia1 since another was put in. All at once, since
/// two may have changed places.
pub fn renumber(
    plan: &mut Plan,
    names: &BTreeMap<String, String>,
    rules: &BTreeMap<(u32, u32), (u32, u32)>,
) {
    let why = "the GPU has another number now";
    let access = Access::of(&plan.conf);
    let main: Vec<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    // a node that is given already is not given twice
    let taken = |new: &str| {
        let given = access.dev(new).is_some() || access.mount(new).is_some();
        given && !names.contains_key(new)
    };
    for (key, dev) in &access.devs {
        if let Some(new) = names.get(&dev.path).filter(|_| main.contains(key)) {
            if taken(new) {
                plan.conf.remove_key(key);
                plan.step(key, Some(dev_text(&dev.path, &dev.options)), None, Some(why));
                continue;
            }
            let text = dev_text(new, &dev.options);
            plan.set(key, &dev_text(&dev.path, &dev.options), text, why);
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
            None => Rule::parse(key, value).and_then(|rule| match rule.what {
                Devices::Numbers { char: true, major: Some(a), minor: Some(i), access } => {
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
