//! What a container's configuration gives it: dev[n], mount entries, device
//! rules.

use std::collections::BTreeMap;

use pve::{Conf, DeviceList, Section, dev_number};

use crate::config::device_rules::{DeviceRule, NodeOpening, RuleDevices};
use crate::config::node_entries::{DevEntry, MountEntry};

/// Whether a configuration can concern a GPU at all: most containers need no further
/// look. An included file may say what the configuration does not.
pub fn mentions_gpu(bytes: &[u8]) -> bool {
    let has = |word: &str| memchr::memmem::find(bytes, word.as_bytes()).is_some();
    ["nvidia", "/dev/", "dev/dri", "lxc.include", "lxc.mount.fstab"].iter().any(|word| has(word))
}

/// What the main section gives, with pending changes applied.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// dev[n] as they are after the next start, by key.
    pub devs: BTreeMap<String, DevEntry>,
    /// Mount entries, in order.
    pub mounts: Vec<MountEntry>,
    /// Device rules, in order.
    pub rules: Vec<DeviceRule>,
    /// The users of the container are others on the host, and the rules deny nothing
    /// at first.
    pub unprivileged: bool,
    /// Device rules for cgroup v1, which have no effect on cgroup v2.
    pub v1: Vec<DeviceRule>,
    /// Indices that a new dev[n] must not use.
    pub taken: Vec<u32>,
}

impl Access {
    /// Reads a configuration.
    pub fn of(conf: &Conf) -> Access {
        let unprivileged = pve::is_unprivileged(conf);
        let mut access = Access { unprivileged, ..Access::default() };
        for (key, value) in conf.effective() {
            let entry = DevEntry::parse(value).filter(|_| dev_number(key).is_some());
            if let Some(entry) = entry {
                access.devs.insert(key.to_string(), entry);
            }
        }
        for (key, value) in conf.lxc() {
            if key == "lxc.mount.entry" {
                access.mounts.extend(MountEntry::parse(value));
            } else if let Some(what) = key.strip_prefix("lxc.cgroup.devices.") {
                let rule = DeviceRule::parse(&format!("lxc.cgroup2.devices.{what}"), value);
                access.v1.extend(rule);
            } else {
                access.rules.extend(DeviceRule::parse(key, value));
            }
        }
        for section in [Section::Main, Section::Pending] {
            access.taken.extend(conf.keys(&section).keys().filter_map(|key| dev_number(key)));
        }
        // a pending deletion would delete a new entry of that name as well
        access.taken.extend(conf.pending_deletions().iter().filter_map(|key| dev_number(key)));
        access
    }

    /// The dev[n] that gives a path, with its key.
    pub fn dev(&self, path: &str) -> Option<(&str, &DevEntry)> {
        self.devs.iter().find(|(_, dev)| dev.path == path).map(|(key, dev)| (key.as_str(), dev))
    }

    /// Paths in the container of all that is given, those of `dev[n]` first.
    pub fn targets(&self) -> impl Iterator<Item = &String> {
        let devs = self.devs.values().map(|dev| &dev.path);
        devs.chain(self.mounts.iter().map(|mount| &mount.target))
    }

    /// Whether it gives a node of NVIDIA's, or driver libraries.
    pub fn has_nvidia(&self) -> bool {
        let node = |path: &str| nvidia::classify(path).is_some() || path == "/dev/nvidia-caps";
        self.devs.values().any(|dev| node(&dev.path))
            || self.mounts.iter().any(|mount| node(&mount.target) || is_driver_file(&mount.target))
    }

    /// The mount entry whose target is a path.
    pub fn mount(&self, path: &str) -> Option<&MountEntry> {
        self.mounts.iter().find(|mount| mount.target == path)
    }

    /// The mount entry that gives a node: its own, or that of its directory.
    pub fn mounted(&self, path: &str) -> Option<&MountEntry> {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent).filter(|p| *p != "/dev");
        let parent = parent.and_then(|parent| self.mount(parent));
        self.mount(path).or(parent.filter(|mount| mount.source == mount.target))
    }

    /// Whether the rules let a container open a mounted device; where not, the rule
    /// that denies it, if it is one.
    pub fn opening(&self, node: &NodeOpening<'_>) -> Result<(), Option<String>> {
        self.list(node, false)
            .opening('c', node.major, node.minor, node.access)
            .map_err(|rule| rule.map(str::to_string))
    }

    /// The same for a device that dev[n] gives.
    pub fn opening_as_dev(&self, node: &NodeOpening<'_>) -> Result<(), Option<String>> {
        self.list(node, true)
            .opening('c', node.major, node.minor, node.access)
            .map_err(|rule| rule.map(str::to_string))
    }

    /// The list that LXC makes of the rules, with that of Proxmox VE for a dev[n].
    fn list(&self, node: &NodeOpening<'_>, is_dev: bool) -> DeviceList {
        let mut lines = DeviceList::common(self.unprivileged);
        lines.extend(is_dev.then(|| (true, format!("c {}:{} rw", node.major, node.minor))));
        lines.extend(self.rules.iter().map(|rule| (rule.allow, rule.text.clone())));
        let number = |path: &str| (path == node.path).then_some(('c', node.major, node.minor));
        DeviceList::of(&lines, &number)
    }

    /// The newest rule that allows opening a device.
    pub fn allowing_rule(&self, node: &NodeOpening<'_>) -> Option<&DeviceRule> {
        self.rules.iter().rev().find(|rule| {
            let alone = [(false, "a".to_string()), (rule.allow, rule.text.clone())];
            let number = |path: &str| (path == node.path).then_some(('c', node.major, node.minor));
            let list = DeviceList::of(&alone, &number);
            let opens = list.opening('c', node.major, node.minor, node.access).is_ok();
            rule.allow && opens && !list.is_empty()
        })
    }

    /// Whether the last valid rule is `a`, so that LXC has no list of rules, attaches no
    /// program, and everything opens (cgfsng.c, cgfsng_devices_activate).
    pub fn open_to_all(&self) -> bool {
        let last = self.rules.iter().rev().find(|rule| rule.what != RuleDevices::Invalid);
        last.is_some_and(|rule| rule.what == RuleDevices::All)
    }

    /// Whether a line of the user discards the rules that Proxmox VE adds for dev[n]: it
    /// comes behind them.
    pub fn discards_dev_rules(&self) -> bool {
        self.rules.iter().any(|rule| !rule.allow && rule.what == RuleDevices::All)
    }
}

/// Whether the target of a mount is a driver file, by its name.
pub fn is_driver_file(target: &str) -> bool {
    let Some((dir, name)) = target.rsplit_once('/') else { return false };
    let library = name.find(".so").map(|at| &name[..at + 3]);
    dir.starts_with("/usr/")
        && nvidia::userspace::table().any(|(_, program, stem)| match program {
            true => name == stem,
            false => library == Some(stem),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        Access::of(&Conf::parse(text.as_bytes()))
    }

    #[test]
    fn rules_decide_as_lxc_does() {
        let uvm = NodeOpening { path: "/dev/nvidia-uvm", major: 511, minor: 0, access: "rw" };
        let allows = |text: &str| access(text).opening(&uvm).is_ok();
        let line = |what: &str, value: &str| format!("lxc.cgroup2.devices.{what}: {value}\n");
        assert!(!allows(""));
        assert!(allows(&line("allow", "c 511:* rwm")));
        assert!(allows(&line("allow", "c 511:0 rw")));
        assert!(allows(&line("allow", "c *:* rwm")));
        assert!(allows(&line("allow", "a")));
        assert!(allows(&line("allow", "/dev/nvidia-uvm rwm")));
        assert!(!allows(&line("allow", "c 509:* rwm")));
        assert!(!allows(&line("allow", "b 511:0 rwm")));
        assert!(!allows(&line("allow", "c 511:0 r")));
        assert!(allows(&line("allow", "c 511:0 rwm # uvm")));
        assert!(!allows(&line("allow", "c 511:0 rw # uvm")));
        assert!(!allows(&line("allow", "c  511:0 rwm")));
        // an empty list is not a list
        assert!(allows(&(line("allow", "c 511:* rwm") + &line("deny", "a"))));
        let other = line("deny", "a") + &line("allow", "c 1:3 rwm");
        assert!(!allows(&(line("allow", "c 511:* rwm") + &other)));
        assert!(allows(&(line("deny", "a") + &line("allow", "c 511:* rwm"))));
        // in a list of what is allowed only rules that allow count
        assert!(allows(&(line("allow", "c 511:* rwm") + &line("deny", "c 511:0 w"))));
        assert!(!allows(&(line("allow", "c 511:* rwm") + &line("deny", "c 511:* rwm"))));
        assert!(allows(&line("allow", "c\t511:*\trwm")));
        assert!(allows("unprivileged: 1\n"));
        assert!(!allows(&("unprivileged: 1\n".to_string() + &line("deny", "c 511:* rwm"))));
        let cap = NodeOpening { access: "r", ..uvm };
        assert!(access(&line("allow", "c 511:0 r")).opening(&cap).is_ok());
    }

    #[test]
    fn pending_changes_count() {
        let access = access(
            "dev0: /dev/a\ndev1: /dev/b\n[pve:pending]\ndelete: dev0\ndev1: /dev/c\ndev9: /dev/d\n[snap]\ndev5: /dev/e\n",
        );
        assert!(access.dev("/dev/a").is_none() && access.dev("/dev/b").is_none());
        assert_eq!(access.dev("/dev/c").unwrap().0, "dev1");
        assert_eq!(access.dev("/dev/d").unwrap().0, "dev9");
        assert_eq!(access.taken, [0, 1, 1, 9, 0]);
    }
}
