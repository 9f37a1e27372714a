//! Which device rules are about NVIDIA's nodes, and which of them are stale.

use std::collections::BTreeSet;

use nvidia::{GPU_MAJOR, NodeClass, classify};

use crate::config::access::Access;
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::{DeviceRule, RuleDevices};

/// Whether a rule is about NVIDIA's nodes and nothing else.
pub fn concerns(rule: &DeviceRule, numbers: &DeviceNumbers) -> bool {
    match &rule.what {
        RuleDevices::Numbers { char, major: Some(major), .. } => {
            *char && (*major == GPU_MAJOR || numbers.drivers.values().any(|m| m == major))
        }
        RuleDevices::Path { path, .. } => classify(path).is_some(),
        _ => false,
    }
}

/// Whether a rule allows a major from the range that the kernel assigns
/// dynamically (include/linux/fs.h: 234 to 254 and 384 to 511) and that no node
/// of the container has.
pub fn is_dynamic_rule(rule: &DeviceRule, numbers: &DeviceNumbers) -> bool {
    match &rule.what {
        RuleDevices::Numbers { char: true, major: Some(major), .. } => {
            rule.allow
                && (matches!(major, 234..=254 | 384..=511))
                && !numbers.others.contains(major)
                && !numbers.drivers.values().any(|m| m == major)
        }
        _ => false,
    }
}

/// Rules that let the container open NVIDIA's nodes before their majors changed.
///
/// A number alone does not show which driver had it. A rule counts as stale only
/// where a mounted node has no rule with its present number, and where the rules
/// for dynamic majors that serve none of the container's nodes are not more than
/// the drivers without a rule.
pub fn stale_rules(access: &Access, numbers: &DeviceNumbers) -> Vec<DeviceRule> {
    let uncovered: BTreeSet<&str> = access
        .mounts
        .iter()
        .filter_map(|mount| classify(&mount.target)?.driver())
        .filter(|driver| {
            let major = numbers.drivers.get(driver);
            let named = |rule: &&DeviceRule| match &rule.what {
                RuleDevices::Numbers { major: m, .. } => m.is_some() && m.as_ref() == major,
                RuleDevices::Path { path, .. } => {
                    classify(path).and_then(NodeClass::driver) == Some(*driver)
                }
                _ => false,
            };
            !access.rules.iter().any(|rule| named(&rule))
        })
        .collect();
    let orphans: Vec<&DeviceRule> =
        access.rules.iter().filter(|rule| is_dynamic_rule(rule, numbers)).collect();
    let majors: BTreeSet<u32> = orphans.iter().filter_map(|rule| rule_major(rule)).collect();
    if majors.len() > uncovered.len() {
        return Vec::new();
    }
    orphans.into_iter().cloned().collect()
}

/// The major that a rule names.
pub fn rule_major(rule: &DeviceRule) -> Option<u32> {
    match rule.what {
        RuleDevices::Numbers { major, .. } => major,
        _ => None,
    }
}
