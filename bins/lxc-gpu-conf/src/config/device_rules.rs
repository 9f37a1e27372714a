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
    /// LXC logs an error and ignores the line; an empty value takes back those before.
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

/// What a rule that LXC can parse is about.
fn devices(value: &str, allow: bool) -> RuleDevices {
    if value == "a" {
        return RuleDevices::All;
    }
    if value.is_empty() || !pve::is_valid_rule(allow, value) {
        return RuleDevices::Invalid;
    }
    let access_of = |text: &str| -> String {
        text.trim_start_matches(' ').chars().take(3).take_while(|c| "rwm".contains(*c)).collect()
    };
    if value.starts_with('/') {
        let (path, access) = value.split_once(' ').unwrap_or_default();
        return RuleDevices::Path { path: path.into(), access: access_of(access) };
    }
    let mut words = value.splitn(3, |c: char| c.is_ascii_whitespace());
    let mut next = || words.next().unwrap_or_default();
    let (kind, numbers, access) = (next(), next(), next());
    let (major, minor) = numbers.split_once(':').unwrap_or_default();
    RuleDevices::Numbers {
        char: kind != "b",
        major: major.parse().ok(),
        minor: minor.parse().ok(),
        access: access_of(access),
    }
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
