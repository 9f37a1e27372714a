//! Whether the installed pve-container supports what the configuration uses.

use advice::lxc_gpu_conf::{AddOptions, RemoveOptions, add, remove};
use record::{Hint, LxcStyle};

use crate::check::finding::{Cause, Finding};
use crate::config::configured::configured_assignment;
use crate::config::given_nodes::ContainerView;

/// dev[n] that this Proxmox VE treats as an unknown key.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let Some(facts) = view.facts else { return Vec::new() };
    let dev = view.given.iter().find(|given| given.style == LxcStyle::Dev);
    let (Some(dev), Ok(Some(version))) = (dev, facts.pve_container()) else { return Vec::new() };
    if pve::has_dev(version) {
        return Vec::new();
    }
    let version: Vec<String> = version.iter().map(u32::to_string).collect();
    let ctid = view.guest.ctid;
    let again = AddOptions {
        style: Some("mount"),
        ..configured_assignment(&view.access, facts).add_options()
    };
    let commands = [remove(ctid, &RemoveOptions::default()), add(ctid, &again)];
    vec![Finding {
        property: dev.node.key.clone(),
        expected: Some("pve-container 5.0.7".into()),
        actual: Some(version.join(".")),
        reason: "this Proxmox VE does not support dev[n]: the container gets no device nodes"
            .into(),
        hint: Hint::commands(commands)
            .because("upgrade pve-container, or use mount entries instead"),
        ..Finding::error(Cause::OldProxmox)
    }]
}
