//! What a container's configuration gives it: dev[n], mount entries, device
//! rules.

use std::collections::BTreeMap;

use pve::{Conf, Section};

/// The value of a `dev[n]` key: `[path=]/dev/x[,mode=0666][,uid=0]...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevEntry {
    /// Path on the host and in the container.
    pub path: String,
    /// Other properties, sorted.
    pub options: BTreeMap<String, String>,
}

impl DevEntry {
    /// Parses a property string; `path` is the default key.
    pub fn parse(value: &str) -> Option<DevEntry> {
        let mut path = None;
        let mut options = BTreeMap::new();
        for part in value.split(',') {
            match part.split_once('=') {
                Some(("path", value)) => path = Some(value.to_string()),
                Some((key, value)) => {
                    options.insert(key.to_string(), value.to_string());
                }
                None if path.is_none() => path = Some(part.to_string()),
                None => return None,
            }
        }
        Some(DevEntry { path: path.filter(|path| path.starts_with("/dev/"))?, options })
    }
}

/// Keys `dev0` to `dev255`.
pub fn dev_index(key: &str) -> Option<u32> {
    let digits = key.strip_prefix("dev")?;
    let number: u32 = digits.parse().ok()?;
    (number < 256 && number.to_string() == digits).then_some(number)
}

/// `lxc.mount.entry`: source, target in the container, options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// `bind`, `optional`, `create=file`, ...
    pub options: Vec<String>,
    /// The line's value.
    pub text: String,
}

impl MountEntry {
    /// Parses it as fstab(5): fields between white space, octal escapes.
    pub fn parse(value: &str) -> Option<MountEntry> {
        let mut fields = value.split_ascii_whitespace().map(unescape);
        let (source, target) = (fields.next()?, fields.next()?);
        let options = fields.nth(1).unwrap_or_default();
        let parts: Vec<&str> = target.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        Some(MountEntry {
            source,
            target: format!("/{}", parts.join("/")),
            options: options.split(',').map(str::to_string).collect(),
            text: value.to_string(),
        })
    }
}

fn unescape(field: &str) -> String {
    let field = field.replace("\\040", " ").replace("\\011", "\t");
    field.replace("\\012", "\n").replace("\\134", "\\")
}

/// One `lxc.cgroup2.devices.allow` or `.deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allow rather than deny.
    pub allow: bool,
    /// What it is about.
    pub what: Devices,
    /// The line's value.
    pub text: String,
}

/// The devices of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// `a`: all, and everything said before is forgotten.
    All,
    /// `c 195:0 rwm`; `None` is `*`.
    Numbers {
        /// Whether character devices are meant.
        char: bool,
        /// Major number.
        major: Option<u32>,
        /// Minor number.
        minor: Option<u32>,
        /// Some of `rwm`.
        access: String,
    },
    /// `/dev/nvidia-uvm rwm`: numbers are looked up at each start (allow only).
    Path {
        /// Path on the host.
        path: String,
        /// Some of `rwm`.
        access: String,
    },
    /// LXC logs an error and goes on without it.
    Invalid,
}

impl Rule {
    /// Its key.
    pub fn key(&self) -> &'static str {
        if self.allow { "lxc.cgroup2.devices.allow" } else { "lxc.cgroup2.devices.deny" }
    }

    /// Parses it; `None` where the key is no device rule.
    pub fn parse(key: &str, value: &str) -> Option<Rule> {
        let allow = match key {
            "lxc.cgroup2.devices.allow" => true,
            "lxc.cgroup2.devices.deny" => false,
            _ => return None,
        };
        Some(Rule { allow, what: devices(value, allow), text: value.to_string() })
    }
}

/// LXC's own parser (cgfsng.c, device_cgroup_rule_parse): `a`, or type, one
/// space, numbers, one space, access. It stops reading after three letters of
/// access, so that `rwm # x` is a rule and `rw # x` is none.
fn devices(value: &str, allow: bool) -> Devices {
    if value == "a" {
        return Devices::All;
    }
    let access_of = |text: &str| -> Option<String> {
        let letters: String = text.chars().take(3).collect();
        let valid = !letters.is_empty() && letters.bytes().all(|b| b"rwm".contains(&b));
        valid.then_some(letters)
    };
    if value.starts_with('/') {
        return match value.split_once(' ') {
            Some((path, access)) if allow => match access_of(access) {
                Some(access) => Devices::Path { path: path.into(), access },
                None => Devices::Invalid,
            },
            _ => Devices::Invalid,
        };
    }
    let parse = || -> Option<Devices> {
        let mut words = value.splitn(3, ' ');
        let kind = words.next()?;
        let (major, minor) = words.next()?.split_once(':')?;
        let access = access_of(words.next()?)?;
        if !matches!(kind, "a" | "b" | "c") {
            return None;
        }
        let number = |text: &str| match text {
            "*" => Some(None),
            text => text.parse().ok().map(Some),
        };
        Some(Devices::Numbers {
            char: kind != "b",
            major: number(major)?,
            minor: number(minor)?,
            access,
        })
    };
    parse().unwrap_or(Devices::Invalid)
}

/// A character device and how it is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Path on the host.
    pub path: &'a str,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// `r` or `rw`.
    pub access: &'a str,
}

/// All of it, for the main section (pending applied where it counts).
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// dev[n] in force after the next start, by key.
    pub devs: BTreeMap<String, DevEntry>,
    /// Mount entries, in order.
    pub mounts: Vec<MountEntry>,
    /// Device rules, in order.
    pub rules: Vec<Rule>,
    /// Device rules of cgroup v1, which do nothing on cgroup v2.
    pub v1: Vec<Rule>,
    /// Indices that a new dev[n] must not take.
    pub taken: Vec<u32>,
}

impl Access {
    /// Reads it.
    pub fn of(conf: &Conf) -> Access {
        let mut access = Access::default();
        for (key, value) in conf.effective() {
            let entry = DevEntry::parse(value).filter(|_| dev_index(key).is_some());
            if let Some(entry) = entry {
                access.devs.insert(key.to_string(), entry);
            }
        }
        for (key, value) in conf.lxc() {
            if key == "lxc.mount.entry" {
                access.mounts.extend(MountEntry::parse(value));
            } else if let Some(what) = key.strip_prefix("lxc.cgroup.devices.") {
                let rule = Rule::parse(&format!("lxc.cgroup2.devices.{what}"), value);
                access.v1.extend(rule);
            } else {
                access.rules.extend(Rule::parse(key, value));
            }
        }
        for section in [Section::Main, Section::Pending] {
            access.taken.extend(conf.keys(&section).keys().filter_map(|key| dev_index(key)));
        }
        // what is deleted at the next start would take a new entry with it
        access.taken.extend(conf.pending_deletions().iter().filter_map(|key| dev_index(key)));
        access
    }

    /// The dev[n] that gives a path, with its key.
    pub fn dev(&self, path: &str) -> Option<(&str, &DevEntry)> {
        self.devs.iter().find(|(_, dev)| dev.path == path).map(|(key, dev)| (key.as_str(), dev))
    }

    /// Whether it gives any node of NVIDIA's, or its userspace.
    pub fn has_nvidia(&self) -> bool {
        let node = |path: &str| nvidia::classify(path).is_some() || path == "/dev/nvidia-caps";
        self.devs.values().any(|dev| node(&dev.path))
            || self.mounts.iter().any(|mount| node(&mount.target) || is_userspace(&mount.target))
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

    /// Whether the rules let a character device be opened. `before` is what holds
    /// before the first rule. Where `a` empties the list and nothing follows, LXC
    /// attaches no device program at all and everything may be opened, also behind
    /// `deny: a` (cgfsng.c, cgfsng_devices_activate; measured on 5.0.2).
    pub fn allows(&self, node: &Opening<'_>, before: bool) -> bool {
        match self.deciding_rule(node) {
            Some(rule) => rule.allow || self.open_to_all(),
            None => before,
        }
    }

    /// The last rule that counts is `a`: there is no list.
    pub fn open_to_all(&self) -> bool {
        let last = self.rules.iter().rev().find(|rule| rule.what != Devices::Invalid);
        last.is_some_and(|rule| rule.what == Devices::All)
    }

    /// The rule that decides about opening a character device. Later rules come
    /// first, the first that matches decides, and `a` forgets what was before it
    /// (cgroup2_devices.c).
    pub fn deciding_rule(&self, node: &Opening<'_>) -> Option<&Rule> {
        let Opening { path, major, minor, access: needed } = *node;
        let grants = |access: &str| needed.chars().all(|c| access.contains(c));
        let covers = |m: &Option<u32>, n: u32| m.is_none_or(|m| m == n);
        for rule in self.rules.iter().rev() {
            let matches = match &rule.what {
                Devices::All => true,
                Devices::Invalid => false,
                Devices::Numbers { char, major: m, minor: n, access } => {
                    *char
                        && covers(m, major)
                        && covers(n, minor)
                        && if rule.allow {
                            grants(access)
                        } else {
                            needed.chars().any(|c| access.contains(c))
                        }
                }
                Devices::Path { path: p, access } => p == path && grants(access),
            };
            if matches {
                return Some(rule);
            }
        }
        None
    }

    /// A user's `deny: a` comes behind the rules that Proxmox VE makes for
    /// dev[n] and wipes them out.
    pub fn wipes_dev_rules(&self) -> bool {
        self.rules.iter().any(|rule| !rule.allow && rule.what == Devices::All)
    }
}

/// Whether a mount's target is a file of the driver's userspace, by its name.
pub fn is_userspace(target: &str) -> bool {
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
    fn property_strings_are_read_in_any_order() {
        let dev = DevEntry::parse("/dev/nvidia0,mode=0666,uid=0").unwrap();
        assert_eq!((dev.path.as_str(), dev.options["mode"].as_str()), ("/dev/nvidia0", "0666"));
        assert_eq!(DevEntry::parse("gid=44,path=/dev/dri/card0").unwrap().path, "/dev/dri/card0");
        assert_eq!(DevEntry::parse("nvidia0"), None);
        assert_eq!(dev_index("dev255"), Some(255));
        for key in ["dev256", "dev01", "dev", "device1", "dev-1", "dev+1"] {
            assert_eq!(dev_index(key), None, "{key}");
        }
    }

    #[test]
    fn mount_targets_are_normal_paths() {
        let mount =
            MountEntry::parse("/dev/nvidia0 dev/nvidia0 none bind,optional,create=file").unwrap();
        assert_eq!(mount.target, "/dev/nvidia0");
        assert_eq!(mount.options, ["bind", "optional", "create=file"]);
        assert_eq!(MountEntry::parse("/a\\040b /dev//./x none bind 0 0").unwrap().source, "/a b");
        assert_eq!(MountEntry::parse("/a\\040b /dev//./x none bind 0 0").unwrap().target, "/dev/x");
        assert_eq!(MountEntry::parse("one"), None);
    }

    #[test]
    fn rules_decide_as_lxc_does() {
        let uvm = Opening { path: "/dev/nvidia-uvm", major: 511, minor: 0, access: "rw" };
        let allows = |text: &str| access(text).allows(&uvm, false);
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
        // an empty list is no list
        assert!(allows(&(line("allow", "c 511:* rwm") + &line("deny", "a"))));
        let other = line("deny", "a") + &line("allow", "c 1:3 rwm");
        assert!(!allows(&(line("allow", "c 511:* rwm") + &other)));
        assert!(allows(&(line("deny", "a") + &line("allow", "c 511:* rwm"))));
        assert!(!allows(&(line("allow", "c 511:* rwm") + &line("deny", "c 511:0 w"))));
        assert!(access("").allows(&uvm, true));
        let cap = Opening { access: "r", ..uvm };
        assert!(access(&line("allow", "c 511:0 r")).allows(&cap, false));
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
