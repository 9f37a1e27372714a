//! Plans the removal of nodes, device rules and libraries.

use std::collections::{BTreeMap, BTreeSet};

use advice::external::pct_revert;
use nvidia::classify;
use record::Hint;

use crate::config::access::{Access, is_driver_file};
use crate::config::device_numbers::DeviceNumbers;
use crate::config::device_rules::{DeviceRule, RuleDevices};
use crate::config::node_entries::MountEntry;
use crate::config::stale_rules::{concerns, concerns_v1};
use crate::plan::model::{ConfigPlan, ContainerFacts, Refusal};

/// What is removed from a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// All of NVIDIA's nodes; otherwise only `paths`.
    pub all: bool,
    /// Nodes, with their numbers where they are known.
    pub paths: BTreeMap<String, Option<(u32, u32)>>,
    /// Mounted driver libraries.
    pub libraries: bool,
}

/// Plans the removal. Refuses a node that only a pending change gives, because
/// that section belongs to Proxmox VE.
pub fn remove_nodes(
    plan: &mut ConfigPlan,
    container: &ContainerFacts,
    removal: &Removal,
    numbers: &DeviceNumbers,
) -> Result<(), Refusal> {
    let access = Access::of(&plan.conf);
    let main: BTreeSet<String> =
        plan.conf.keys(&pve::Section::Main).keys().map(|key| (*key).to_string()).collect();
    let pending = plan.conf.keys(&pve::Section::Pending);
    let gone = |path: &str| {
        removal.paths.contains_key(path)
            || (removal.all && (classify(path).is_some() || path == "/dev/nvidia-caps"))
    };
    for (key, dev) in access.devs.iter().filter(|(_, dev)| gone(&dev.path)) {
        if pending.contains_key(key.as_str()) {
            return Err(Refusal {
                property: key.clone(),
                reason: format!("{} is given by {key}, which is a pending change", dev.path),
                hint: Hint::command(pct_revert(container.ctid, key))
                    .because("discard the pending change, then run this command again"),
            });
        }
    }
    for (key, dev) in access.devs.iter().filter(|(key, dev)| gone(&dev.path) && main.contains(*key))
    {
        plan.conf.remove_key(key);
        plan.step(key, Some(dev.to_string()), None, None);
    }
    let drm = |path: &&String| path.starts_with("/dev/dri/");
    let exact: BTreeSet<(u32, u32)> = removal
        .paths
        .iter()
        .filter(|(path, _)| !removal.all || drm(path))
        .filter_map(|(_, numbers)| *numbers)
        .collect();
    plan.remove_lxc(|key, value| {
        if key == "lxc.mount.entry" {
            let mount = MountEntry::parse(value)?;
            let library = removal.libraries && is_driver_file(&mount.target);
            return (gone(&mount.target) || library).then_some("");
        }
        let v1 = key.starts_with("lxc.cgroup.devices.");
        let rule = DeviceRule::parse(&key.replace("lxc.cgroup.", "lxc.cgroup2."), value)?;
        let of_node = match &rule.what {
            RuleDevices::Numbers { char: true, major: Some(major), minor: Some(minor), .. } => {
                exact.contains(&(*major, *minor))
            }
            RuleDevices::Path { path, .. } => gone(path),
            _ => false,
        };
        let concerns = if v1 { concerns_v1 } else { concerns };
        let all = removal.all && concerns(&rule, &access, numbers);
        (of_node || all).then_some("")
    });
    Ok(())
}
