//! From what the host and the configuration show, and what is asked, to a list
//! of steps. Pure: reads and writes nothing.

use nvidia::{GPU_MAJOR, NodeClass, NodeSpec};

use crate::access::Access;
use pve::Conf;

/// How nodes are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `dev[n]`.
    Dev,
    /// `lxc.mount.entry` and, in a privileged container, device rules.
    Mount,
}

/// A node that the container should have, as the host has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// Path and purpose.
    pub spec: NodeSpec,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// One step: a key of the main section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `dev1`, `lxc.mount.entry`, `lxc.cgroup2.devices.allow`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// It stands there already.
    pub there: bool,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

/// Why nothing can be planned: reason and way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about: a key or path.
    pub property: String,
    /// In words.
    pub reason: String,
    /// What to do next.
    pub hint: String,
}

/// All steps, and the configuration as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The file with the steps done.
    pub conf: Conf,
}

/// Facts about the container.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// Its id, for hints.
    pub ctid: u32,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
}

/// NVIDIA's nodes are open to everybody on the host; a dev[n] node is for root
/// alone unless told otherwise, and then only root could use the GPU.
const DEV_OPTIONS: &str = "mode=0666";

const MOUNT_OPTIONS: &str = "none bind,optional,create=file";

/// Plans giving `nodes` to a container.
pub fn plan(
    conf: &Conf,
    container: Container,
    nodes: &[HostNode],
    style: Style,
) -> Result<Plan, Refusal> {
    let mut plan = Plan { steps: Vec::new(), conf: conf.clone() };
    match style {
        Style::Dev => dev(&mut plan, container, nodes)?,
        Style::Mount => mount(&mut plan, container, nodes)?,
    }
    Ok(plan)
}

fn dev(plan: &mut Plan, container: Container, nodes: &[HostNode]) -> Result<(), Refusal> {
    let access = Access::of(&plan.conf);
    let mut taken = access.taken.clone();
    for node in nodes {
        let path = &node.spec.path;
        if let Some(mount) = access.mount(path) {
            return Err(Refusal {
                property: "lxc.mount.entry".into(),
                reason: format!(
                    "{} is mounted to {path} already: a dev[n] for it would keep the container \
                     from starting (mknod: file exists)",
                    mount.source
                ),
                hint: format!(
                    "'lxc-gpu-conf add {} --style mount' completes what is there, or take these \
                     lines out first",
                    container.ctid
                ),
            });
        }
        if access.wipes_dev_rules()
            && !access.allows(path, node.major, node.minor, container.unprivileged)
        {
            return Err(Refusal {
                property: "lxc.cgroup2.devices.deny".into(),
                reason: "'lxc.cgroup2.devices.deny: a' wipes out the rules that Proxmox VE makes \
                         for dev[n]: the container could not open its nodes"
                    .into(),
                hint: "take that line out of the configuration".into(),
            });
        }
        if let Some((key, entry)) = access.dev(path) {
            let options = entry.options.iter().map(|(k, v)| format!(",{k}={v}"));
            plan.steps.push(Step {
                key: key.to_string(),
                value: format!("{path}{}", options.collect::<String>()),
                there: true,
                reason: None,
            });
            continue;
        }
        let Some(index) = (0..256).find(|index| !taken.contains(index)) else {
            return Err(Refusal {
                property: "dev255".into(),
                reason: "dev0 to dev255 are all taken".into(),
                hint: "remove entries that are no longer used".into(),
            });
        };
        taken.push(index);
        add(plan, format!("dev{index}"), format!("{path},{DEV_OPTIONS}"));
    }
    Ok(())
}

fn mount(plan: &mut Plan, container: Container, nodes: &[HostNode]) -> Result<(), Refusal> {
    for node in nodes {
        let access = Access::of(&plan.conf);
        let path = &node.spec.path;
        if let Some((key, _)) = access.dev(path) {
            return Err(Refusal {
                property: key.to_string(),
                reason: format!(
                    "{key} gives {path} already: a mount entry beside it would keep the container \
                     from starting (mknod: file exists)"
                ),
                hint: format!(
                    "'lxc-gpu-conf add {} --style dev' completes what is there",
                    container.ctid
                ),
            });
        }
        let entry = format!("{path} {} {MOUNT_OPTIONS}", path.trim_start_matches('/'));
        match access.mount(path) {
            Some(mount) => there(plan, "lxc.mount.entry", &mount.text),
            None => add(plan, "lxc.mount.entry".into(), entry),
        }
        // Proxmox VE starts an unprivileged container with 'allow = a': rules
        // would do nothing there
        if !container.unprivileged {
            match access.deciding_rule(path, node.major, node.minor) {
                Some(rule) if rule.allow => there(plan, "lxc.cgroup2.devices.allow", &rule.text),
                _ => {
                    let rule = format!("c {}:{} rw", node.major, node.minor);
                    add(plan, "lxc.cgroup2.devices.allow".into(), rule);
                }
            }
        }
    }
    Ok(())
}

/// What is there already is told once, also where it serves several nodes.
fn there(plan: &mut Plan, key: &str, value: &str) {
    if plan.steps.iter().any(|step| step.key == key && step.value == value) {
        return;
    }
    plan.steps.push(Step { key: key.into(), value: value.into(), there: true, reason: None });
}

fn add(plan: &mut Plan, key: String, value: String) {
    if key.starts_with("lxc.") {
        plan.conf.append_lxc(&key, &value);
    } else {
        plan.conf.insert_key(&key, &value);
    }
    plan.steps.push(Step { key, value, there: false, reason: None });
}

/// The style that `auto` stands for: what the container has already, else
/// dev[n] where this Proxmox VE knows it.
pub fn auto_style(access: &Access, has_dev: bool) -> Style {
    let nvidia = |path: &str| nvidia::classify(path).is_some();
    let mounts = access.mounts.iter().any(|mount| nvidia(&mount.target));
    let devs = access.devs.values().any(|dev| nvidia(&dev.path));
    if has_dev && (devs || !mounts) { Style::Dev } else { Style::Mount }
}

/// Whether a node's numbers are those that the driver has now; `Err` says what
/// is wrong.
pub fn check_numbers(
    spec: &NodeSpec,
    major: u32,
    minor: u32,
    driver_major: Option<u32>,
) -> Result<(), String> {
    let expected = match spec.class {
        NodeClass::Other => return Ok(()),
        class => match class.driver() {
            None => GPU_MAJOR,
            Some(driver) => match driver_major {
                Some(major) => major,
                None => return Err(format!("no driver '{driver}' is loaded behind it")),
            },
        },
    };
    let expected_minor = spec.class.minor().unwrap_or(minor);
    if (major, minor) == (expected, expected_minor) {
        return Ok(());
    }
    Err(format!("is {major}:{minor}, but the driver has {expected}:{expected_minor} now"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvidia::gpu_nodes;

    fn nodes() -> Vec<HostNode> {
        gpu_nodes(0)
            .into_iter()
            .map(|spec| {
                let minor = spec.class.minor().unwrap();
                let major = if spec.class.driver().is_some() { 511 } else { 195 };
                HostNode { spec, major, minor }
            })
            .collect()
    }

    fn planned(text: &str, unprivileged: bool, style: Style) -> Result<String, Refusal> {
        let conf = Conf::parse(text.as_bytes());
        let container = Container { ctid: 901, unprivileged };
        let first = plan(&conf, container, &nodes(), style)?;
        // a second plan has nothing to do
        let second = plan(&first.conf, container, &nodes(), style)?;
        assert!(second.steps.iter().all(|step| step.there));
        assert_eq!(second.conf.bytes(), first.conf.bytes());
        Ok(String::from_utf8(first.conf.bytes()).unwrap())
    }

    #[test]
    fn dev_entries_take_free_indices_of_main_and_pending() {
        let text =
            "arch: amd64\ndev0: /dev/a\ndev3: /dev/b\nhostname: x\n\n[pve:pending]\ndev1: /dev/c\n";
        assert_eq!(
            planned(text, true, Style::Dev).unwrap(),
            "arch: amd64\ndev0: /dev/a\ndev2: /dev/nvidia0,mode=0666\ndev3: /dev/b\n\
             dev4: /dev/nvidiactl,mode=0666\ndev5: /dev/nvidia-uvm,mode=0666\n\
             dev6: /dev/nvidia-uvm-tools,mode=0666\ndev7: /dev/nvidia-modeset,mode=0666\n\
             hostname: x\n\n[pve:pending]\ndev1: /dev/c\n"
        );
    }

    #[test]
    fn an_index_that_is_about_to_be_deleted_is_not_free() {
        let text = "arch: amd64\n[pve:pending]\ndelete: dev0, !dev1;dev2\n";
        let after = planned(text, true, Style::Dev).unwrap();
        assert!(after.contains("dev3: /dev/nvidia0") && !after.contains("dev0: "), "{after}");
    }

    #[test]
    fn an_unprivileged_container_needs_no_rules_and_a_privileged_one_exact_ones() {
        let unprivileged = planned("arch: amd64\nunprivileged: 1\n", true, Style::Mount).unwrap();
        assert_eq!(unprivileged.matches("lxc.mount.entry").count(), 5);
        assert!(!unprivileged.contains("cgroup2"));
        let privileged = planned("arch: amd64\n", false, Style::Mount).unwrap();
        for rule in ["c 195:0 rw", "c 195:255 rw", "c 195:254 rw", "c 511:0 rw", "c 511:1 rw"] {
            assert!(privileged.contains(&format!("lxc.cgroup2.devices.allow: {rule}\n")), "{rule}");
        }
    }

    #[test]
    fn a_hand_made_block_gets_what_it_lacks() {
        let text = "arch: amd64\nlxc.cgroup2.devices.allow: c 195:* rwm\n\
            lxc.cgroup2.devices.allow: c 509:* rwm\n\
            lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file\n";
        let after = planned(text, false, Style::Mount).unwrap();
        assert!(after.starts_with(text));
        assert!(after.contains("allow: c 511:0 rw\n") && !after.contains("allow: c 195:0 rw\n"));
        assert_eq!(after.matches("/dev/nvidia0 ").count(), 1);
    }

    #[test]
    fn one_target_is_never_given_twice() {
        let mounted = "lxc.mount.entry: /dev/nvidiactl dev/nvidiactl none bind\n";
        assert_eq!(planned(mounted, true, Style::Dev).unwrap_err().property, "lxc.mount.entry");
        let dev = "dev0: /dev/nvidiactl\n";
        assert_eq!(planned(dev, true, Style::Mount).unwrap_err().property, "dev0");
    }

    #[test]
    fn a_deny_that_wipes_our_rules_is_refused() {
        let deny = "lxc.cgroup2.devices.deny: a\n";
        assert_eq!(
            planned(deny, true, Style::Dev).unwrap_err().property,
            "lxc.cgroup2.devices.deny"
        );
        let open = format!("{deny}lxc.cgroup2.devices.allow: c *:* rwm\n");
        assert!(planned(&open, true, Style::Dev).is_ok());
    }

    #[test]
    fn a_full_container_is_refused() {
        let text: String = (0..254).map(|n| format!("dev{n}: /dev/x{n}\n")).collect();
        assert_eq!(planned(&text, true, Style::Dev).unwrap_err().property, "dev255");
    }

    #[test]
    fn auto_keeps_to_what_is_there() {
        let style = |text: &str, has| auto_style(&Access::of(&Conf::parse(text.as_bytes())), has);
        assert_eq!(style("", true), Style::Dev);
        assert_eq!(style("", false), Style::Mount);
        let mounted = "lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind\n";
        assert_eq!(style(mounted, true), Style::Mount);
        assert_eq!(style("lxc.mount.entry: /dev/fuse dev/fuse none bind\n", true), Style::Dev);
    }

    #[test]
    fn stale_numbers_are_told() {
        let specs = gpu_nodes(1);
        assert!(check_numbers(&specs[0], 195, 1, None).is_ok());
        assert!(check_numbers(&specs[0], 195, 0, None).unwrap_err().contains("195:1 now"));
        assert!(check_numbers(&specs[2], 509, 0, Some(511)).unwrap_err().contains("511:0 now"));
        assert!(check_numbers(&specs[2], 511, 0, None).unwrap_err().contains("nvidia-uvm"));
    }
}
