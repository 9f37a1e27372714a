//! The lines that give a container device nodes and files: `dev[n]` and
//! `lxc.mount.entry`.

use std::collections::BTreeMap;
use std::fmt;

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
}
