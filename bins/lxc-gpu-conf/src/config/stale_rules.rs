//! Which device rules are about NVIDIA's nodes, and which of them are stale. One proof
//! serves `check`, `sync`, `remove` and `add --convert`.

use std::collections::BTreeSet;

use nvidia::{GPU_MAJOR, NodeClass, classify};

use crate::config::access::Access;
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::{DeviceRule, RuleDevices, is_dynamic_major};

/// Whether a rule is about NVIDIA's nodes and nothing else: it names one of them, or
/// the major of a loaded driver, or it is proven to be for an earlier major. Such
/// rules may be removed; any other may belong to another device.
pub fn concerns(rule: &DeviceRule, access: &Access, numbers: &DeviceNumbers) -> bool {
    match &rule.what {
        RuleDevices::Numbers { char: true, major: Some(major), .. } => {
            *major == GPU_MAJOR
                || numbers.drivers.values().any(|m| m == major)
                || is_proven(rule, access, numbers)
        }
        RuleDevices::Path { path, .. } => classify(path).is_some(),
        _ => false,
    }
}

/// Whether a rule for cgroup v1 may be removed with those of NVIDIA's nodes. It has
/// no effect on cgroup v2, so that its removal takes nothing from another device,
/// and it may be years old, so that its major shows nothing.
pub fn concerns_v1(rule: &DeviceRule, access: &Access, numbers: &DeviceNumbers) -> bool {
    concerns(rule, access, numbers) || is_dynamic_rule(rule, numbers)
}

/// The rules that are for an earlier major of a driver and that `sync` removes.
/// While a driver of a mounted node is not loaded, its major is unknown and no
/// rule is stale.
pub fn stale_rules(access: &Access, numbers: &DeviceNumbers) -> Vec<DeviceRule> {
    if mounted_drivers(access).any(|driver| !numbers.drivers.contains_key(driver)) {
        return Vec::new();
    }
    let rules = access.rules.iter().filter(|rule| is_proven(rule, access, numbers));
    rules.cloned().collect()
}

/// Whether a rule allows a dynamic major that no driver of NVIDIA's and no node of
/// the container has.
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

/// Whether a rule for a dynamic major is known to be for an earlier major of a
/// driver of NVIDIA's. A number does not show which driver had it: the tool
/// remembers the rule, or it is of the pair that the tool writes.
fn is_proven(rule: &DeviceRule, access: &Access, numbers: &DeviceNumbers) -> bool {
    is_dynamic_rule(rule, numbers)
        && (numbers.remembered.contains(&rule.text)
            || uvm_pair(access, numbers).is_some_and(|pair| pair.contains(&rule.text)))
}

/// The pair of rules that this tool writes for nvidia-uvm and nvidia-uvm-tools, for
/// an earlier major. `None` where the present major has a rule already, and where
/// two majors have such a pair: then one of them is another device's.
fn uvm_pair(access: &Access, numbers: &DeviceNumbers) -> Option<[String; 2]> {
    let uvm = numbers.drivers.get(nvidia::UVM_DRIVER).copied();
    let allowed = uvm.is_some() && access.rules.iter().any(|rule| rule_major(rule) == uvm);
    if allowed || !mounted_drivers(access).any(|driver| driver == nvidia::UVM_DRIVER) {
        return None;
    }
    let has = |text: &String| access.rules.iter().any(|rule| rule.allow && rule.text == *text);
    let rules = access.rules.iter().filter(|rule| is_dynamic_rule(rule, numbers));
    let majors: BTreeSet<u32> = rules.filter_map(rule_major).collect();
    let pair = |major: u32| [0, 1].map(|minor| format!("c {major}:{minor} rw"));
    let mut pairs = majors.into_iter().map(pair).filter(|pair| pair.iter().all(has));
    pairs.next().filter(|_| pairs.next().is_none())
}

/// The drivers with a dynamic major whose nodes are mounted.
fn mounted_drivers(access: &Access) -> impl Iterator<Item = &'static str> {
    let mounts = access.mounts.iter();
    mounts.filter_map(|mount| classify(&mount.target).and_then(NodeClass::driver))
}

/// The major that a rule names.
pub fn rule_major(rule: &DeviceRule) -> Option<u32> {
    match rule.what {
        RuleDevices::Numbers { major, .. } => major,
        _ => None,
    }
}
