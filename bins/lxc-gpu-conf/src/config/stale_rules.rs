//! Which device rules are about NVIDIA's nodes, and which of them are stale.

use std::collections::BTreeSet;

use nvidia::{GPU_MAJOR, NodeClass, classify};

use crate::config::access::Access;
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::{DeviceRule, RuleDevices, is_dynamic_major};

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

/// Whether a rule allows a dynamic major that no node of the container has.
pub fn is_dynamic_rule(rule: &DeviceRule, numbers: &DeviceNumbers) -> bool {
    match &rule.what {
        RuleDevices::Numbers { char: true, major: Some(major), .. } => {
            rule.allow
                && is_dynamic_major(*major)
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

/// The rules among the stale ones that are certainly about NVIDIA's nodes: those
/// that this tool remembers, and the pair that it writes for nvidia-uvm and
/// nvidia-uvm-tools. Any other may belong to another device.
pub fn own_stale_rules(
    access: &Access,
    numbers: &DeviceNumbers,
    remembered: &BTreeSet<String>,
) -> Vec<DeviceRule> {
    let uvm = numbers.drivers.get(nvidia::UVM_DRIVER);
    let allowed = access.rules.iter().any(|rule| rule_major(rule).as_ref() == uvm);
    let mounted = access.mounts.iter().any(|mount| {
        classify(&mount.target).and_then(NodeClass::driver) == Some(nvidia::UVM_DRIVER)
    });
    let needs_rule = uvm.is_some() && mounted && !allowed;
    let has = |text: String| access.rules.iter().any(|rule| rule.allow && rule.text == text);
    let rules = access.rules.iter().filter(|rule| {
        let Some(major) = rule_major(rule).filter(|_| is_dynamic_rule(rule, numbers)) else {
            return false;
        };
        let pair = [0, 1].map(|minor| format!("c {major}:{minor} rw"));
        let is_pair = pair.contains(&rule.text) && pair.into_iter().all(has);
        remembered.contains(&rule.text) || (is_pair && needs_rule)
    });
    rules.cloned().collect()
}

/// The major that a rule names.
pub fn rule_major(rule: &DeviceRule) -> Option<u32> {
    match rule.what {
        RuleDevices::Numbers { major, .. } => major,
        _ => None,
    }
}
