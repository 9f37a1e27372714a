//! Device rules of a container, `lxc.cgroup2.devices.allow` and `.deny`, as LXC
//! parses them.

/// Whether the kernel assigns a major dynamically (include/linux/fs.h: 234 to 254
/// and 384 to 511).
pub fn is_dynamic_major(major: u32) -> bool {
    matches!(major, 234..=254 | 384..=511)
}

/// One `lxc.cgroup2.devices.allow` or `.deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow rather than deny.
    pub allow: bool,
    /// What it is about.
    pub what: RuleDevices,
    /// The line's value.
    pub text: String,
}

/// The devices of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleDevices {
    /// `a`: all devices. It discards the rules before it.
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
    /// LXC logs an error and ignores the line.
    Invalid,
}

impl DeviceRule {
    /// Its key.
    pub fn key(&self) -> &'static str {
        if self.allow { "lxc.cgroup2.devices.allow" } else { "lxc.cgroup2.devices.deny" }
    }

    /// Parses it; `None` where the key is not one of a device rule.
    pub fn parse(key: &str, value: &str) -> Option<DeviceRule> {
        let allow = match key {
            "lxc.cgroup2.devices.allow" => true,
            "lxc.cgroup2.devices.deny" => false,
            _ => return None,
        };
        Some(DeviceRule { allow, what: devices(value, allow), text: value.to_string() })
    }
}

/// LXC's own parser (cgfsng.c, device_cgroup_rule_parse): `a`, or type, one
/// space, numbers, one space, access. It stops reading after three letters of
/// access, so that `rwm # x` is valid and `rw # x` is not.
fn devices(value: &str, allow: bool) -> RuleDevices {
    if value == "a" {
        return RuleDevices::All;
    }
    let access_of = |text: &str| -> Option<String> {
        let letters: String = text.chars().take(3).collect();
        let valid = !letters.is_empty() && letters.bytes().all(|b| b"rwm".contains(&b));
        valid.then_some(letters)
    };
    if value.starts_with('/') {
        return match value.split_once(' ') {
            Some((path, access)) if allow => match access_of(access) {
                Some(access) => RuleDevices::Path { path: path.into(), access },
                None => RuleDevices::Invalid,
            },
            _ => RuleDevices::Invalid,
        };
    }
    let parse = || -> Option<RuleDevices> {
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
        Some(RuleDevices::Numbers {
            char: kind != "b",
            major: number(major)?,
            minor: number(minor)?,
            access,
        })
    };
    parse().unwrap_or(RuleDevices::Invalid)
}

/// A character device and how it is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct NodeOpening<'a> {
    /// Path on the host.
    pub path: &'a str,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// `r` or `rw`.
    pub access: &'a str,
}
