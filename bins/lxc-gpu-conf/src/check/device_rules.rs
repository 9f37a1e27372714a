//! The device rules of a container: stale, missing, invalid and useless ones.

use advice::lxc_gpu_conf::{AddOptions, add, sync};
use nvidia::NodeClass;
use record::{CommandLine, LxcStyle};

use crate::check::finding::{Cause, Finding};
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::{DeviceRule, NodeOpening, RuleDevices};
use crate::config::given_nodes::{ContainerView, GivenNode};
use crate::config::stale_rules::{concerns, concerns_v1, rule_major, stale_rules};

/// All findings about device rules.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let numbers = match view.facts {
        Some(facts) => DeviceNumbers::of(&view.access, facts)
            .remembering(view.stored.as_ref().map(|stored| &stored.rules)),
        None => DeviceNumbers::default(),
    };
    let mut found = cgroup_v1(view, &numbers);
    found.extend(invalid(view));
    found.extend(discarded(view));
    if view.unprivileged {
        found.extend(idle(view, &numbers));
    } else {
        found.extend(outdated(view, &numbers));
        found.extend(missing(view));
    }
    found
}

fn convert(view: &ContainerView<'_>) -> CommandLine {
    add(view.guest.ctid, &AddOptions { convert: true, ..AddOptions::default() })
}

fn of_rule(rule: &DeviceRule, finding: Finding) -> Finding {
    Finding { property: rule.key().into(), actual: Some(rule.text.clone()), ..finding }
}

fn cgroup_v1(view: &ContainerView<'_>, numbers: &DeviceNumbers) -> Vec<Finding> {
    let finding = |rule: &DeviceRule| {
        let key = rule.key().replace("cgroup2", "cgroup");
        let reason = format!("'{key}: {}' has no effect: Proxmox VE uses cgroup v2", rule.text);
        let finding = Finding { reason, ..of_rule(rule, Finding::warning(Cause::CgroupV1)) };
        let finding = Finding { property: key, ..finding };
        match concerns_v1(rule, &view.access, numbers) {
            true => finding.run(convert(view)),
            false => finding.words("remove that line from the configuration"),
        }
    };
    view.access.v1.iter().map(finding).collect()
}

fn invalid(view: &ContainerView<'_>) -> Vec<Finding> {
    let rules = view.access.rules.iter().filter(|rule| rule.what == RuleDevices::Invalid);
    rules
        .map(|rule| {
            Finding {
                expected: Some("c MAJOR:MINOR rwm".into()),
                reason: format!(
                    "invalid device rule '{}': LXC logs an error and ignores it",
                    rule.text
                ),
                ..of_rule(rule, Finding::error(Cause::InvalidRule))
            }
            .words("write one space between type, numbers and access, and no comment")
        })
        .collect()
}

fn discarded(view: &ContainerView<'_>) -> Option<Finding> {
    if !view.access.discards_dev_rules() {
        return None;
    }
    let reason = match view.access.open_to_all() {
        true => {
            "'lxc.cgroup2.devices.deny: a' empties the list of device rules, and with an empty \
             list LXC lets the container open every device of the host"
        }
        false => {
            "'lxc.cgroup2.devices.deny: a' discards the rules that Proxmox VE adds, also those \
             for dev[n]"
        }
    };
    let finding = Finding {
        property: "lxc.cgroup2.devices.deny".into(),
        actual: Some("a".into()),
        reason: reason.into(),
        ..Finding::error(Cause::WipedRules)
    };
    Some(finding.words("remove that line from the configuration"))
}

/// Rules about GPU nodes in an unprivileged container. Behind a `deny: a` of the
/// user they do have an effect.
fn idle(view: &ContainerView<'_>, numbers: &DeviceNumbers) -> Vec<Finding> {
    if view.access.discards_dev_rules() {
        return Vec::new();
    }
    let rules = view.access.rules.iter();
    rules
        .filter(|rule| rule.allow && concerns(rule, &view.access, numbers))
        .map(|rule| {
            Finding {
                reason: format!(
                    "'{}' has no effect: an unprivileged container may open every given device \
                     whose mode permits it",
                    rule.text
                ),
                ..of_rule(rule, Finding::warning(Cause::IdleRule))
            }
            .run(convert(view))
        })
        .collect()
}

/// Rules for a major that the driver no longer has.
fn outdated(view: &ContainerView<'_>, numbers: &DeviceNumbers) -> Vec<Finding> {
    let majors = majors_without_rule(view);
    let now: Vec<String> =
        majors.iter().map(|(driver, major)| format!("{driver} now has major {major}")).collect();
    let finding = |rule: &DeviceRule| {
        let expected = match majors.as_slice() {
            [(_, major)] => rule_major(rule)
                .map(|old| rule.text.replacen(&old.to_string(), &major.to_string(), 1)),
            _ => None,
        };
        let why = match now.is_empty() {
            true => "no loaded NVIDIA driver has this major".to_string(),
            false => now.join(", "),
        };
        Finding {
            expected,
            reason: format!("stale device rule '{}': {why}", rule.text),
            ..of_rule(rule, Finding::error(Cause::StaleRule))
        }
        .run(sync(view.guest.ctid))
    };
    stale_rules(&view.access, numbers).iter().map(finding).collect()
}

/// Drivers with mounted nodes that no rule lets the container open.
fn majors_without_rule(view: &ContainerView<'_>) -> Vec<(&'static str, u32)> {
    let mut majors: Vec<(&'static str, u32)> = view
        .given
        .iter()
        .filter(|given| given.style != LxcStyle::Dev)
        .filter_map(|given| {
            let class = given.class?;
            let driver = class.driver()?;
            let numbers = view.facts?.numbers(class)?;
            let opening = opening(given, class, numbers);
            (!view.access.allows(&opening, false)).then_some((driver, numbers.0))
        })
        .collect();
    majors.sort_unstable();
    majors.dedup();
    majors
}

/// Nodes that no rule lets a privileged container open.
fn missing(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(facts) = view.facts else { return found };
    for given in &view.given {
        let added_by_pve = given.style == LxcStyle::Dev && !view.access.discards_dev_rules();
        let node = facts.node(&given.node.path).filter(host::Node::is_char);
        let class = given.class.unwrap_or(NodeClass::Other);
        // the right to reconfigure MIG is not missed
        if matches!(class, NodeClass::Cap(0 | 1)) {
            continue;
        }
        let numbers = facts.numbers(class).or(node.map(|node| (node.major, node.minor)));
        let Some(numbers) = numbers.filter(|_| !added_by_pve && node.is_some()) else { continue };
        let opening = opening(given, class, numbers);
        // which nodes of a mounted directory are meant, only the rules say
        if view.access.allows(&opening, false) || !view.is_given_alone(given) {
            continue;
        }
        let (major, minor) = numbers;
        let finding = Finding {
            property: given.target.clone(),
            expected: Some(format!("c {major}:{minor} {}", class.access())),
            reason: format!(
                "no device rule lets the container open {} ({major}:{minor})",
                given.target
            ),
            ..Finding::error(Cause::NoRule)
        };
        // what a rule about the node denies, sync does not allow
        found.push(match view.access.deciding_rule(&opening) {
            Some(rule) if view.access.denies(&opening) => {
                finding.words(&format!("remove the rule '{}: {}'", rule.key(), rule.text))
            }
            _ => finding.run(sync(view.guest.ctid)),
        });
    }
    found
}

fn opening(given: &GivenNode, class: NodeClass, numbers: (u32, u32)) -> NodeOpening<'_> {
    NodeOpening {
        path: &given.node.path,
        major: numbers.0,
        minor: numbers.1,
        access: class.access(),
    }
}
