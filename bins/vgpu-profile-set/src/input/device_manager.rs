//! The configuration file of NVIDIA's vgpu-device-manager (v1): named
//! configurations, each a list of which GPUs get how many of which profiles.

use crate::input::yaml::{self, Value};

/// GPUs, by their number among all NVIDIA GPUs in order of address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSelection {
    All,
    Numbers(Vec<u32>),
}

/// One entry of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Line of the file, from 1.
    pub line: usize,
    /// Device and vendor id, each 16 bits; empty: any.
    pub filter: Vec<u32>,
    pub devices: DeviceSelection,
    /// Profile and how many of it.
    pub vgpus: Vec<(String, u32)>,
}

/// Parses the file and gives the configuration with this name. Errors: what is
/// wrong, with the line.
pub fn parse(text: &str, config: Option<&str>) -> Result<Vec<ConfigEntry>, String> {
    let root = yaml::parse(text)?;
    let top = mapping(&root, "the file", &["version", "vgpu-configs"])?;
    let field = |name: &str| top.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    match field("version").map(|value| &value.kind) {
        Some(yaml::Kind::Scalar(version)) if version == "v1" => {}
        Some(_) => return Err("version is not v1".into()),
        None => return Err("version is missing".into()),
    }
    let configs = field("vgpu-configs").ok_or("vgpu-configs is missing")?;
    let configs = mapping(configs, "vgpu-configs", &[])?;
    let mut parsed = Vec::new();
    for (name, value) in configs {
        // all are checked, so that an error is found before its configuration is used
        parsed.push((name.as_str(), entries(name, value)?));
    }
    let names = || {
        let names: Vec<&str> = parsed.iter().map(|(name, _)| *name).take(12).collect();
        let more = if parsed.len() > names.len() { ", ..." } else { "" };
        format!("{}{more}", names.join(", "))
    };
    let Some(config) = config else {
        return Err(format!("has several configurations: choose one with --config: {}", names()));
    };
    match parsed.iter().position(|(name, _)| *name == config) {
        Some(at) => Ok(parsed.swap_remove(at).1),
        None => Err(format!("has no configuration '{config}', only {}", names())),
    }
}

fn entries(name: &str, value: &Value) -> Result<Vec<ConfigEntry>, String> {
    let yaml::Kind::Sequence(items) = &value.kind else {
        return Err(format!("line {}: {name} is not a list", value.line));
    };
    items.iter().map(entry).collect()
}

fn entry(item: &Value) -> Result<ConfigEntry, String> {
    let known = ["device-filter", "devices", "vgpu-devices"];
    let fields = mapping(item, "an entry", &known)?;
    let line = item.line;
    let mut entry =
        ConfigEntry { line, filter: Vec::new(), devices: DeviceSelection::All, vgpus: Vec::new() };
    let mut given = [false; 2];
    for (key, value) in fields {
        match key.as_str() {
            "device-filter" => entry.filter = filter(value)?,
            "devices" => {
                entry.devices = devices(value)?;
                given[0] = true;
            }
            _ => {
                entry.vgpus = vgpus(value)?;
                given[1] = true;
            }
        }
    }
    match given {
        [true, true] => Ok(entry),
        [false, _] => Err(format!("line {line}: devices is missing")),
        [_, false] => Err(format!("line {line}: vgpu-devices is missing")),
    }
}

/// `0x26B910DE`, or a list of such; an empty string is any.
fn filter(value: &Value) -> Result<Vec<u32>, String> {
    let one = |value: &Value| match &value.kind {
        yaml::Kind::Scalar(text) => {
            let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
            hex.filter(|hex| hex.len() == 8)
                .and_then(|hex| u32::from_str_radix(hex, 16).ok())
                .ok_or_else(|| {
                    format!(
                        "line {}: '{text}' is not a device filter (like 0x26B910DE)",
                        value.line
                    )
                })
        }
        _ => Err(format!("line {}: a device filter is a string", value.line)),
    };
    match &value.kind {
        yaml::Kind::Scalar(text) if text.is_empty() => Ok(Vec::new()),
        yaml::Kind::Scalar(_) => Ok(vec![one(value)?]),
        yaml::Kind::Sequence(items) => items.iter().map(one).collect(),
        yaml::Kind::Mapping(_) => Err(format!("line {}: a device filter is a string", value.line)),
    }
}

fn devices(value: &Value) -> Result<DeviceSelection, String> {
    let bad = || format!("line {}: devices is 'all' or a list of numbers", value.line);
    match &value.kind {
        yaml::Kind::Scalar(text) if text == "all" => Ok(DeviceSelection::All),
        yaml::Kind::Sequence(items) => {
            let number = |item: &Value| match &item.kind {
                yaml::Kind::Scalar(text) => text.parse().map_err(|_| bad()),
                _ => Err(bad()),
            };
            Ok(DeviceSelection::Numbers(items.iter().map(number).collect::<Result<_, _>>()?))
        }
        _ => Err(bad()),
    }
}

fn vgpus(value: &Value) -> Result<Vec<(String, u32)>, String> {
    // no value means an empty mapping: no vGPUs
    if matches!(&value.kind, yaml::Kind::Scalar(text) if text.is_empty() || text == "null" || text == "~")
    {
        return Ok(Vec::new());
    }
    let fields = mapping(value, "vgpu-devices", &[])?;
    fields
        .iter()
        .map(|(name, count)| {
            nvidia::Profile::parse(name)
                .ok_or_else(|| format!("line {}: '{name}' is not a vGPU profile", count.line))?;
            let yaml::Kind::Scalar(text) = &count.kind else {
                return Err(format!("line {}: {name}: not a count", count.line));
            };
            let number = text.parse().ok().filter(|n| *n > 0);
            let number = number
                .ok_or_else(|| format!("line {}: {name}: '{text}' is not a count", count.line));
            Ok((name.clone(), number?))
        })
        .collect()
}

/// The fields of a mapping, of which only `known` are allowed (empty: any).
fn mapping<'a>(
    value: &'a Value,
    what: &str,
    known: &[&str],
) -> Result<&'a [(String, Value)], String> {
    let yaml::Kind::Mapping(fields) = &value.kind else {
        return Err(format!("line {}: {what} is not a mapping", value.line));
    };
    for (key, value) in fields {
        if !known.is_empty() && !known.contains(&key.as_str()) {
            return Err(format!("line {}: {what} has the unknown key '{key}'", value.line));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: v1\nvgpu-configs:\n  default:\n  - device-filter: \"0x26B910DE\"\n    devices: all\n    \
        vgpu-devices:\n      \"L40S-24Q\": 2\n  - device-filter: [\"0x223610DE\", 0x25B610DE]\n    devices: [0, 2]\n    \
        vgpu-devices: { A10-4Q: 3, A10-6Q: 2 }\n  off:\n  - devices: all\n    vgpu-devices: {}\n";

    #[test]
    fn a_configuration_is_taken_by_its_name() {
        let entries = parse(FILE, Some("default")).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].filter, [0x26b9_10de]);
        assert_eq!(entries[0].vgpus, [("L40S-24Q".to_string(), 2)]);
        assert_eq!(entries[1].devices, DeviceSelection::Numbers(vec![0, 2]));
        assert_eq!(entries[1].vgpus.len(), 2);
        assert_eq!(parse(FILE, Some("off")).unwrap()[0].vgpus, []);
        assert!(parse(FILE, None).unwrap_err().contains("choose one with --config: default, off"));
        assert!(parse(FILE, Some("x")).unwrap_err().contains("no configuration 'x'"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let with = |from: &str, to: &str| parse(&FILE.replace(from, to), Some("off")).unwrap_err();
        for (from, to, why) in [
            ("version: v1\n", "", "version is missing"),
            ("v1", "v2", "version is not v1"),
            (
                "devices: all\n    vgpu-devices:\n",
                "devics: all\n    vgpu-devices:\n",
                "line 5: an entry has the unknown key 'devics'",
            ),
            ("devices: [0, 2]\n    ", "", "line 8: devices is missing"),
            ("[0, 2]", "some", "line 9: devices is 'all' or a list"),
            ("[0, 2]", "[-1]", "line 9: devices is 'all' or a list"),
            ("A10-4Q: 3", "A10-4Q: many", "line 10: A10-4Q: 'many' is not a count"),
            ("A10-4Q: 3", "A10-4Q: 0", "is not a count"),
            ("A10-4Q: 3", "A10: 3", "'A10' is not a vGPU profile"),
            ("0x25B610DE", "A10", "'A10' is not a device filter"),
            ("  - devices: all\n    vgpu-devices: {}\n", "    x: y\n", "off is not a list"),
            ("\"L40S-24Q\": 2", "\"L40S-24Q\": [", "line "),
            ("A10-6Q", "A10-4Q", "'A10-4Q' is given twice"),
        ] {
            let message = with(from, to);
            assert!(message.contains(why), "{to}: {message}");
        }
    }
}
