//! Plans the lines that give a container its nodes and files.

use nvidia::classify;
use record::Hint;

use crate::config::access::Access;
use crate::config::device_numbers::DeviceNumbers;
use crate::config::node_entries::DevEntry;
use crate::plan::convert::convert;
use crate::plan::model::{
    ConfigPlan, ContainerFacts, DesiredAccess, HostNode, NodeOptions, NodeStyle, Refusal,
};
use crate::plan::mount_libraries::mount_libraries;

const MOUNT_OPTIONS: &str = "none bind,optional,create=file";

/// Adds to a plan what gives a container what it is to have.
pub fn give(
    plan: &mut ConfigPlan,
    container: &ContainerFacts,
    target: &DesiredAccess,
    style: NodeStyle,
    numbers: &DeviceNumbers,
) -> Result<(), Refusal> {
    if target.convert {
        convert(plan, target, numbers);
    }
    match style {
        NodeStyle::Dev => add_dev_entries(plan, container, &target.nodes)?,
        NodeStyle::Mount => add_mount_entries(plan, container, &target.nodes)?,
    }
    if let Some(files) = &target.files {
        mount_libraries(plan, files);
    }
    Ok(())
}

fn add_dev_entries(
    plan: &mut ConfigPlan,
    container: &ContainerFacts,
    nodes: &[HostNode],
) -> Result<(), Refusal> {
    let access = Access::of(&plan.conf);
    let mut taken = access.taken.clone();
    for node in nodes {
        let path = &node.spec.path;
        if let Some(mount) = access.mounted(path) {
            return Err(Refusal {
                property: "lxc.mount.entry".into(),
                reason: format!(
                    "{} is already mounted to {path}, and with a dev[n] for it as well the \
                     container would not start (mknod: file exists)",
                    mount.source
                ),
                hint: Hint::command(container.add_with(|options| {
                    options.convert = true;
                    options.style = None;
                }))
                .because("convert the mount entries to dev[n], or use --style mount"),
            });
        }
        refuse_discarded_rules(&access, node)?;
        if let Some((key, entry)) = access.dev(path) {
            keep_dev_entry(plan, key, entry, &node.options);
            continue;
        }
        let Some(index) = (0..256).find(|index| !taken.contains(index)) else {
            return Err(Refusal {
                property: "dev255".into(),
                reason: "dev0 to dev255 are all in use".into(),
                hint: Hint::words("remove dev[n] entries that are no longer needed"),
            });
        };
        taken.push(index);
        plan.add(
            &format!("dev{index}"),
            DevEntry { path: path.clone(), options: node.options.pairs(), is_valid: true }
                .to_string(),
        );
    }
    Ok(())
}

/// Refuses a list of rules that a `deny: a` of the user has emptied.
fn refuse_discarded_rules(access: &Access, node: &HostNode) -> Result<(), Refusal> {
    let opening = access.opening_as_dev(&node.opening());
    // with an empty list everything opens: the node is among that
    if opening.is_ok() && !(access.discards_dev_rules() && access.open_to_all()) {
        return Ok(());
    }
    if let (Err(Some(rule)), false) = (&opening, access.discards_dev_rules()) {
        return Err(Refusal {
            property: "lxc.cgroup2.devices.deny".into(),
            reason: format!(
                "the device rule '{rule}' keeps the container from opening {}",
                node.spec.path
            ),
            hint: Hint::words("remove that line from the configuration"),
        });
    }
    let what = match access.open_to_all() {
        true => "LXC then lets the container open every device of the host",
        false => "the container could not open its nodes",
    };
    Err(Refusal {
        property: "lxc.cgroup2.devices.deny".into(),
        reason: format!(
            "'lxc.cgroup2.devices.deny: a' discards the rules that Proxmox VE adds: {what}"
        ),
        hint: Hint::words("remove that line from the configuration"),
    })
}

/// Keeps an entry that gives the node already. Its options stay unless the user
/// gave others.
fn keep_dev_entry(plan: &mut ConfigPlan, key: &str, entry: &DevEntry, options: &NodeOptions) {
    let mut new = entry.clone();
    if options.asked {
        new.options.extend(options.pairs());
    }
    if !entry.is_valid {
        let path = entry.path.clone();
        new = DevEntry { path, options: options.pairs(), is_valid: true };
    }
    // pending changes belong to Proxmox VE and are not overwritten
    if new == *entry || !plan.conf.keys(&pve::Section::Main).contains_key(key) {
        plan.unchanged(key, &entry.to_string());
    } else {
        plan.set(key, &entry.to_string(), new.to_string(), "owner or mode as requested");
    }
}

fn add_mount_entries(
    plan: &mut ConfigPlan,
    container: &ContainerFacts,
    nodes: &[HostNode],
) -> Result<(), Refusal> {
    for node in nodes {
        let access = Access::of(&plan.conf);
        let path = &node.spec.path;
        if let Some((key, _)) = access.dev(path) {
            return Err(Refusal {
                property: key.to_string(),
                reason: format!(
                    "{key} already gives {path}, and with a mount entry for it as well the \
                     container would not start (mknod: file exists)"
                ),
                hint: Hint::command(
                    container.add_with(|options| options.style = Some(NodeStyle::Dev.name())),
                ),
            });
        }
        match access.mounted(path) {
            Some(mount) => plan.unchanged("lxc.mount.entry", &mount.text),
            None => {
                let entry = format!("{path} {} {MOUNT_OPTIONS}", path.trim_start_matches('/'));
                plan.add("lxc.mount.entry", entry);
            }
        }
        refuse_discarded_rules(&access, node)?;
        // Proxmox VE starts an unprivileged container with 'allow = a', so rules
        // would have no effect there
        if !container.unprivileged {
            let opening = node.opening();
            match access.allowing_rule(&opening).filter(|_| access.opening(&opening).is_ok()) {
                Some(rule) => plan.unchanged(rule.key(), &rule.text),
                None if access.opening(&opening).is_ok() => {}
                _ => {
                    let rule = format!("c {}:{} {}", node.major, node.minor, opening.access);
                    plan.add("lxc.cgroup2.devices.allow", rule);
                }
            }
        }
    }
    Ok(())
}

/// The style that `auto` means: the one that the container uses already, else
/// dev[n] where this Proxmox VE supports it.
pub fn auto_style(access: &Access, has_dev: bool) -> NodeStyle {
    let nvidia = |path: &str| classify(path).is_some();
    let mounts = access.mounts.iter().any(|mount| nvidia(&mount.target));
    let devs = access.devs.values().any(|dev| nvidia(&dev.path));
    if has_dev && (devs || !mounts) { NodeStyle::Dev } else { NodeStyle::Mount }
}
