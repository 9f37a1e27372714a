//! The configuration files of NVIDIA's vgpu-device-manager and mig-parted (v1): named
//! configurations, each a list of which GPUs get how many of which profiles.

use crate::input::selection::{DeviceFilter, DeviceSelection, GpuSelection};
use crate::input::settings::{GpuSettings, MigSetting, SettingsOf, is_mig_profile};
use crate::input::yaml::{self, Value};

/// One entry of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The file, as it is named in messages.
    pub file: String,
    /// Line of the file, from 1.
    pub line: usize,
    pub gpus: GpuSelection,
    /// Profile and how many of it.
    pub vgpus: Vec<(String, u32)>,
}

/// Parses a file of vgpu-device-manager and gives the configuration with this name.
/// Errors: what is wrong, with the line.
pub fn parse(text: &str, config: Option<&str>) -> Result<Vec<ConfigEntry>, String> {
    choose(text, "vgpu-configs", config, &entry)
}

/// The same for a file of mig-parted.
pub fn parse_mig(text: &str, config: Option<&str>, file: &str) -> Result<Vec<GpuSettings>, String> {
    choose(text, "mig-configs", config, &|item| mig_entry(item, file))
}

/// The entries of the chosen configuration.
fn choose<T>(
    text: &str,
    key: &str,
    config: Option<&str>,
    entry: &dyn Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let root = yaml::parse(text)?;
    let top = mapping(&root, "the file", &["version", key])?;
    let field = |name: &str| top.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    match field("version").map(|value| &value.kind) {
        Some(yaml::Kind::Scalar(version)) if version == "v1" => {}
        Some(_) => return Err("version is not v1".into()),
        None => return Err("version is missing".into()),
    }
    let configs = field(key).ok_or_else(|| format!("{key} is missing"))?;
    let configs = mapping(configs, key, &[])?;
    let mut parsed = Vec::new();
    for (name, value) in configs {
        // all are checked, so that an error is found before its configuration is used
        parsed.push((name.as_str(), entries(name, value, entry)?));
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

fn entries<T>(
    name: &str,
    value: &Value,
    entry: &dyn Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let yaml::Kind::Sequence(items) = &value.kind else {
        return Err(format!("line {}: {name} is not a list", value.line));
    };
    items.iter().map(entry).collect()
}

/// The GPUs that an entry is for.
fn selection(fields: &[(String, Value)], line: usize) -> Result<GpuSelection, String> {
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let filter = field("device-filter").map_or(Ok(Vec::new()), filter)?;
    let devices_field = field("devices");
    let devices =
        devices(devices_field.ok_or_else(|| format!("line {line}: devices is missing"))?)?;
    Ok(GpuSelection { filter, devices })
}

fn entry(item: &Value) -> Result<ConfigEntry, String> {
    let fields = mapping(item, "an entry", &["device-filter", "devices", "vgpu-devices"])?;
    let line = item.line;
    let gpus = selection(fields, line)?;
    let given = fields.iter().find(|(key, _)| key == "vgpu-devices");
    let (_, given) = given.ok_or_else(|| format!("line {line}: vgpu-devices is missing"))?;
    let what = "vGPU profile";
    let vgpus = counts(given, what, &|name| nvidia::Profile::parse(name).is_some())?;
    Ok(ConfigEntry { file: String::new(), line, gpus, vgpus })
}

/// An entry of mig-parted: MIG mode off, or on with these instances.
fn mig_entry(item: &Value, file: &str) -> Result<GpuSettings, String> {
    let known = ["device-filter", "devices", "mig-enabled", "mig-devices"];
    let fields = mapping(item, "an entry", &known)?;
    let line = item.line;
    let gpus = selection(fields, line)?;
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let enabled = match field("mig-enabled").map(|value| &value.kind) {
        Some(yaml::Kind::Scalar(text)) if text == "true" => true,
        Some(yaml::Kind::Scalar(text)) if text == "false" => false,
        Some(_) => return Err(format!("line {line}: mig-enabled is true or false")),
        None => return Err(format!("line {line}: mig-enabled is missing")),
    };
    let none = || Ok(Vec::new());
    let devices = field("mig-devices");
    let devices = devices.map_or_else(none, |v| counts(v, "MIG profile", &is_mig_profile))?;
    let names = devices.into_iter().flat_map(|(name, n)| std::iter::repeat_n(name, n as usize));
    let mig = match enabled {
        true => MigSetting::Instances(names.collect()),
        false => MigSetting::Off,
    };
    Ok(GpuSettings {
        at: format!("{file}: line {line}"),
        of: SettingsOf::Selected(gpus),
        own: false,
        mig: Some(mig),
        power: None,
        persistence: None,
    })
}

/// `0x26B910DE`, or a list of such; an empty string is any.
fn filter(value: &Value) -> Result<Vec<DeviceFilter>, String> {
    let number = |text: &str| {
        let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
        u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 8)
    };
    let parsed = |text: &str| match text.split_once(':') {
        None => Some(DeviceFilter { ids: number(text)?, subsystem: None }),
        Some((ids, subsystem)) => {
            Some(DeviceFilter { ids: number(ids)?, subsystem: Some(number(subsystem)?) })
        }
    };
    let one = |value: &Value| match &value.kind {
        yaml::Kind::Scalar(text) => parsed(text).ok_or_else(|| {
            format!("line {}: '{text}' is not a device filter (like 0x26B910DE)", value.line)
        }),
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

/// A mapping from profiles to how many of each.
fn counts(
    value: &Value,
    what: &str,
    valid: &dyn Fn(&str) -> bool,
) -> Result<Vec<(String, u32)>, String> {
    // no value means an empty mapping
    if matches!(&value.kind, yaml::Kind::Scalar(text) if text.is_empty() || text == "null" || text == "~")
    {
        return Ok(Vec::new());
    }
    let fields = mapping(value, "a list of devices", &[])?;
    fields
        .iter()
        .map(|(name, count)| {
            if !valid(name) {
                return Err(format!("line {}: '{name}' is not a {what}", count.line));
            }
            let yaml::Kind::Scalar(text) = &count.kind else {
                return Err(format!("line {}: {name}: not a count", count.line));
            };
            let number = text.parse().ok().filter(|n| (1..=MOST_DEVICES).contains(n));
            let number = number
                .ok_or_else(|| format!("line {}: {name}: '{text}' is not a count", count.line));
            Ok((name.clone(), number?))
        })
        .collect()
}

/// No GPU has more vGPUs or MIG instances.
const MOST_DEVICES: u32 = 1024;

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
        let filter = DeviceFilter { ids: 0x26b9_10de, subsystem: None };
        assert_eq!(entries[0].gpus.filter, [filter]);
        assert_eq!(entries[0].vgpus, [("L40S-24Q".to_string(), 2)]);
        assert_eq!(entries[1].gpus.devices, DeviceSelection::Numbers(vec![0, 2]));
        assert_eq!(entries[1].vgpus.len(), 2);
        assert_eq!(parse(FILE, Some("off")).unwrap()[0].vgpus, []);
        assert!(parse(FILE, None).unwrap_err().contains("choose one with --config: default, off"));
        assert!(parse(FILE, Some("x")).unwrap_err().contains("no configuration 'x'"));
    }

    /// Names and a filter as in the examples of vgpu-device-manager and its tests.
    #[test]
    fn profiles_of_mig_instances_and_filters_by_subsystem_are_read() {
        let file = FILE
            .replace("\"0x26B910DE\"", "\"0x25B610DE:0x14A910DE\"")
            .replace("\"L40S-24Q\": 2", "{A100-1-5CME: 1, DC-1-24QGFX: 4, A30-1-6CNOME: 2}");
        let file = file.replace("vgpu-devices:\n      {A100", "vgpu-devices: {A100");
        let entries = parse(&file, Some("default")).unwrap();
        assert_eq!(entries[0].gpus.filter[0].subsystem, Some(0x14a9_10de));
        assert_eq!(entries[0].vgpus.len(), 3);
    }

    /// The example of mig-parted (examples/config.yaml), shortened.
    #[test]
    fn a_configuration_of_mig_parted_is_read() {
        let file = "version: v1\nmig-configs:\n  all-disabled:\n    - devices: all\n      mig-enabled: false\n\n  \
            all-balanced:\n    - device-filter: [\"0x20B010DE\"]\n      devices: all\n      mig-enabled: true\n      \
            mig-devices:\n        \"1g.5gb\": 2\n        \"2g.10gb\": 1\n        \"3g.20gb\": 1\n";
        let off = parse_mig(file, Some("all-disabled"), "f").unwrap();
        assert_eq!((off[0].mig.clone(), off[0].at.as_str()), (Some(MigSetting::Off), "f: line 4"));
        let on = parse_mig(file, Some("all-balanced"), "f").unwrap();
        let names = ["1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"].map(str::to_string).to_vec();
        assert_eq!(on[0].mig, Some(MigSetting::Instances(names)));
        assert!(parse_mig(&file.replace("1g.5gb", "1g5gb"), Some("all-disabled"), "f").is_err());
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
