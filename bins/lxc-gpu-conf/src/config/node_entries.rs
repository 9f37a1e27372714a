//! The lines that give a container device nodes and files: `dev[n]` and
//! `lxc.mount.entry`.

use std::collections::BTreeMap;
use std::fmt;

use pve::{DevValue, MountLine, normal};

/// The value of a `dev[n]` key: `[path=]/dev/x[,mode=0666][,uid=0]...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevEntry {
    /// Path on the host and in the container.
    pub path: String,
    /// Other properties, sorted.
    pub options: BTreeMap<String, String>,
    /// Proxmox VE takes the value; with another the container does not start.
    pub is_valid: bool,
}

impl DevEntry {
    /// Parses it as Proxmox VE does. `None`: it names no path in /dev.
    pub fn parse(value: &str) -> Option<DevEntry> {
        let DevValue { path, options, fault } = DevValue::parse(value);
        let path = normal(&path);
        path.starts_with("/dev/").then_some(DevEntry { path, options, is_valid: fault.is_none() })
    }
}

impl fmt::Display for DevEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.options.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
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
    /// Parses it as LXC does. `None`: it names no target.
    pub fn parse(value: &str) -> Option<MountEntry> {
        let line = MountLine::parse(value).filter(|line| !line.target.is_empty())?;
        Some(MountEntry {
            source: line.source,
            target: normal(&line.target),
            options: line.options.split(',').map(str::to_string).collect(),
            text: value.to_string(),
        })
    }
}

/// White space in the fields of fstab(5).
pub fn escape(path: &str) -> String {
    let path = path.replace('\\', "\\134").replace(' ', "\\040");
    path.replace('\t', "\\011").replace('\n', "\\012")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_strings_are_read_in_any_order() {
        let dev = DevEntry::parse("/dev/nvidia0,mode=0666,uid=0").unwrap();
        assert_eq!((dev.path.as_str(), dev.options["mode"].as_str()), ("/dev/nvidia0", "0666"));
        assert_eq!(DevEntry::parse("gid=44,path=/dev/dri/card0").unwrap().path, "/dev/dri/card0");
        assert_eq!(DevEntry::parse("nvidia0"), None);
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
}
