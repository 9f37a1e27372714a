//! Plans the conversion of mount entries and device rules to `dev[n]`.

use std::collections::BTreeSet;

use nvidia::classify;

use crate::config::access::Access;
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::DeviceRule;
use crate::config::node_entries::MountEntry;
use crate::config::stale_rules::{concerns, concerns_v1};
use crate::plan::model::{ConfigPlan, DesiredAccess};

/// Removes the mount entries of nodes that dev[n] is to give, and their rules.
pub fn convert(plan: &mut ConfigPlan, target: &DesiredAccess, numbers: &DeviceNumbers) {
    let access = Access::of(&plan.conf);
    let mut seen = BTreeSet::new();
    let main: BTreeSet<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    for (key, dev) in access.devs.iter().filter(|(key, _)| main.contains(*key)) {
        let why = match () {
            () if classify(&dev.path).is_none() => continue,
            () if !dev.is_valid => "Proxmox VE cannot parse it",
            () if !seen.insert(&dev.path) => "another dev[n] gives the same node",
            () => continue,
        };
        let from = plan.conf.keys(&pve::Section::Main).get(key.as_str()).map(|v| (*v).to_string());
        plan.conf.remove_key(key);
        plan.step(key, from, None, Some(why));
    }
    let given = |path: &str| target.nodes.iter().any(|node| node.spec.path == path);
    plan.remove_lxc(|key, value| {
        if key == "lxc.mount.entry" {
            let mount = MountEntry::parse(value)?;
            return if given(&mount.target) {
                Some("replaced by dev[n]")
            } else if classify(&mount.target).is_some() || mount.target == "/dev/nvidia-caps" {
                Some("not requested, or missing on the host")
            } else {
                None
            };
        }
        let v1 = key.starts_with("lxc.cgroup.devices.");
        let rule = DeviceRule::parse(&key.replace("lxc.cgroup.", "lxc.cgroup2."), value)?;
        let concerns = if v1 { concerns_v1 } else { concerns };
        concerns(&rule, &access, numbers).then_some("dev[n] does not need a device rule")
    });
}
