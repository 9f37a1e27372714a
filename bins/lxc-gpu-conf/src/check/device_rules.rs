//! The device rules of a container: stale, missing, invalid and useless ones.

use advice::lxc_gpu_conf::{AddOptions, add, sync};
use nvidia::NodeClass;
use pve::Outcome;
use record::{CommandLine, LxcStyle};

use crate::check::finding::{Cause, Finding};
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::{DeviceRule, RuleDevices};
use crate::config::given_nodes::ContainerView;
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
    }
    found.extend(missing(view));
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
    let rules = rules.filter(|rule| !rule.text.is_empty());
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
            let denied =
                view.start.rules.opening('c', numbers.0, numbers.1, class.access()).is_err();
            denied.then_some((driver, numbers.0))
        })
        .collect();
    majors.sort_unstable();
    majors.dedup();
    majors
}

/// Nodes that the rules do not let the container open.
fn missing(view: &ContainerView<'_>) -> Vec<Finding> {
    let Some(facts) = view.facts else { return Vec::new() };
    let mut found = Vec::new();
    for given in view.given.iter().filter(|given| given.style != LxcStyle::Hook) {
        let class = given.class.unwrap_or(NodeClass::Other);
        // the right to reconfigure MIG is not missed; which nodes of a mounted
        // directory are meant, only the rules say
        if matches!(class, NodeClass::Cap(0 | 1)) || !view.is_given_alone(given) {
            continue;
        }
        let Outcome::Device(device) = &given.outcome else { continue };
        let node = (device.node.major, device.node.minor);
        // a mounted node with an outdated number gets its own again
        let numbers = match given.style {
            LxcStyle::Dev => node,
            _ => facts.numbers(class).unwrap_or(node),
        };
        let denied = view.start.rules.opening('c', numbers.0, numbers.1, class.access());
        let Err(rule) = denied else { continue };
        let (major, minor) = numbers;
        let finding = Finding {
            property: given.target.clone(),
            expected: Some(format!("c {major}:{minor} {}", class.access())),
            actual: rule.map(str::to_string),
            reason: match rule {
                Some(rule) => format!(
                    "the device rule '{rule}' keeps the container from opening {} ({major}:{minor})",
                    given.target
                ),
                None => format!(
                    "no device rule lets the container open {} ({major}:{minor})",
                    given.target
                ),
            },
            ..Finding::error(Cause::NoRule)
        };
        // what a rule about the node denies, sync does not allow
        found.push(match (rule, given.style) {
            (Some(rule), _) => {
                finding.words(&format!("remove the rule 'lxc.cgroup2.devices.deny: {rule}'"))
            }
            (None, LxcStyle::Dev) => finding.words(
                "remove the line that discards the rules of Proxmox VE ('lxc.cgroup2.devices.deny: \
                 a', or an empty 'lxc.cgroup2.devices.allow:')",
            ),
            (None, _) => finding.run(sync(view.guest.ctid)),
        });
    }
    found
}
