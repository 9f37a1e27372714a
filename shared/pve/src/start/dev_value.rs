//! The value of a `dev[n]`, as Proxmox VE parses it.

use std::collections::BTreeMap;

use crate::conf::boolean;

/// A property string `[path=]/dev/x[,mode=0666][,uid=0][,gid=0][,deny-write=1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevValue {
    /// Path on the host and in the container; where the value is wrong, what was
    /// meant as one.
    pub path: String,
    /// Other properties.
    pub options: BTreeMap<String, String>,
    /// Why Proxmox VE does not take the value, with which the container does not start.
    pub fault: Option<String>,
}

/// The number of a key `dev[n]`. Proxmox VE offers dev0 to dev255 and applies every
/// key that matches `^dev(\d+)$` (PVE::LXC::Config, foreach_passthrough_device).
pub fn dev_number(key: &str) -> Option<u32> {
    let digits = key.strip_prefix("dev")?;
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| digits.parse().unwrap_or(u32::MAX))
}

impl DevValue {
    /// Parses it: PVE::JSONSchema::parse_property_string with the schema of dev[n]
    /// (PVE::LXC::Config, 6.1.10).
    pub fn parse(value: &str) -> DevValue {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut fault = None;
        let mut plain = false;
        for part in value.split(',').filter(|part| !part.trim().is_empty()) {
            let (key, text) = match part.split_once('=') {
                Some((key, text)) if !key.is_empty() && !text.is_empty() => (key, text),
                Some(_) => {
                    fault.get_or_insert_with(|| format!("'{part}' lacks a key or a value"));
                    continue;
                }
                None => ("path", part),
            };
            let bare = !part.contains('=');
            let twice = (bare && plain) || all.contains_key(key);
            plain |= bare;
            if twice {
                let why = if bare {
                    format!("'{part}' has no key")
                } else {
                    format!("'{key}' is given twice")
                };
                fault.get_or_insert(why);
                continue;
            }
            if let Some(why) = wrong(key, text) {
                fault.get_or_insert(why);
            }
            all.insert(key.to_string(), text.to_string());
        }
        let path = all.remove("path").unwrap_or_default();
        if path.is_empty() {
            fault.get_or_insert_with(|| "it names no path".into());
        }
        let options = all.into_iter().map(|(key, text)| (key.trim().to_string(), text)).collect();
        DevValue { path, options, fault }
    }

    /// Mode in the container: 0660 where none is given.
    pub fn mode(&self) -> u32 {
        let mode = self.options.get("mode").map(String::as_str).unwrap_or("0660");
        u32::from_str_radix(mode, 8).unwrap_or(0o660)
    }

    /// An id of the container's; 0 where none is given.
    pub fn id(&self, key: &str) -> u32 {
        self.options.get(key).and_then(|id| id.parse().ok()).unwrap_or(0)
    }

    /// Whether writing is denied.
    pub fn denies_write(&self) -> bool {
        self.options.get("deny-write").and_then(|value| boolean(value)) == Some(true)
    }
}

/// Why the schema does not take a property.
fn wrong(key: &str, text: &str) -> Option<String> {
    let octal = |b: u8| (b'0'..=b'7').contains(&b);
    match key {
        "path" => {
            let parts = || text.split('/').skip(1);
            let dots = parts().any(|part| part == "." || part == "..");
            (!text.starts_with("/dev/") || dots)
                .then(|| format!("'{text}' is not a path below /dev"))
        }
        "mode" => {
            let good = text.len() == 4 && text.starts_with('0') && text.bytes().all(octal);
            (!good).then(|| format!("mode '{text}' is not of the form 0666"))
        }
        "uid" | "gid" => {
            let number = text.strip_prefix('+').unwrap_or(text);
            let good = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            (!good).then(|| format!("{key} '{text}' is not a number"))
        }
        "deny-write" => {
            boolean(text).is_none().then(|| format!("deny-write '{text}' is not 0 or 1"))
        }
        _ => Some(format!("'{key}' is not an option of dev[n]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_and_refused_as_proxmox_does() {
        for (value, path) in [
            ("/dev/nvidia0", "/dev/nvidia0"),
            ("/dev/nvidia0,", "/dev/nvidia0"),
            ("/dev/nvidia0,,gid=44", "/dev/nvidia0"),
            ("gid=44,path=/dev/dri/card0", "/dev/dri/card0"),
            ("/dev//nvidia0,deny-write=yes", "/dev//nvidia0"),
            ("/dev/a,uid=+7,mode=0000", "/dev/a"),
        ] {
            let dev = DevValue::parse(value);
            assert_eq!((dev.path.as_str(), dev.fault.as_deref()), (path, None), "{value}");
        }
        for value in [
            " ",
            "nvidia0",
            "/dev/nvidia0,mode=666",
            "/dev/nvidia0,mode=00666",
            "/dev/nvidia0,gid=video",
            "/dev/nvidia0, mode=0666",
            "/dev/nvidia0,rw",
            "/dev/nvidia0,path=/dev/nvidia1",
            "path=/dev/nvidia0,/dev/nvidia1",
            "/dev/nvidia0,gid=1,gid=2",
            "/dev/nvidia0,deny-write=2",
            "/dev/nvidia0,=x",
            "/dev/nvidia0,gid=",
            "/dev/../etc/passwd",
            "/dev/x/.",
            "/etc/passwd",
        ] {
            assert!(DevValue::parse(value).fault.is_some(), "{value}");
        }
        assert_eq!(DevValue::parse("/dev/a").mode(), 0o660);
        let numbers = ["dev0", "dev00", "dev300", "dev", "dev1a", "device1"].map(dev_number);
        assert_eq!(numbers, [Some(0), Some(0), Some(300), None, None, None]);
    }
}
