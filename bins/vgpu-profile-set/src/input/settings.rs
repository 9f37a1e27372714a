//! Settings of whole GPUs that a boot loses: MIG instances, power limit, persistence
//! mode. `41:00.0 mig=3g.20gb,2g.10gb power=250W persistence=on`.

use record::Address;

use crate::input::selection::GpuSelection;

/// Which GPUs settings are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsOf {
    Function(Address),
    /// Those that an entry of mig-parted's file selects.
    Selected(GpuSelection),
}

/// What is requested of MIG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigSetting {
    /// MIG mode off.
    Off,
    /// MIG mode on, with GPU instances of these profiles, each with one compute instance.
    Instances(Vec<String>),
}

/// Settings of one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSettings {
    /// Where in the input they are: `FILE: line 3`.
    pub at: String,
    pub of: SettingsOf,
    /// They are in a section for this cluster node.
    pub own: bool,
    pub mig: Option<MigSetting>,
    /// Power limit in watts.
    pub power: Option<u32>,
    /// Persistence mode.
    pub persistence: Option<bool>,
}

/// The address and the settings of a line; `None`: it has another form.
pub fn split(line: &str) -> Option<(&str, &str)> {
    let (before, _) = line.split_once('=')?;
    let (address, _) = before.trim().split_once([' ', '\t'])?;
    Some((address, line[address.len()..].trim()))
}

/// Parses the settings of a line. Errors: what is wrong.
pub fn parse(of: SettingsOf, words: &str, at: String, own: bool) -> Result<GpuSettings, String> {
    let mut found = GpuSettings { at, of, own, mig: None, power: None, persistence: None };
    for word in words.split_whitespace() {
        let word: String = word.chars().take(200).collect();
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("'{word}' is not KEY=VALUE (like power=250W)"))?;
        let again = match key {
            "mig" => found.mig.replace(mig(value)?).is_some(),
            "power" => found.power.replace(watts(value)?).is_some(),
            "persistence" => found.persistence.replace(on_or_off(value)?).is_some(),
            _ => return Err(format!("unknown setting '{key}' (mig, power, persistence)")),
        };
        if again {
            return Err(format!("{key} is given twice"));
        }
    }
    Ok(found)
}

/// Adds the settings of a line to those before it. Errors: a setting is given twice.
pub fn add(all: &mut Vec<GpuSettings>, new: GpuSettings) -> Result<(), String> {
    let Some(known) = all.iter_mut().find(|known| known.of == new.of) else {
        all.push(new);
        return Ok(());
    };
    let twice = [
        ("mig", known.mig.is_some() && new.mig.is_some()),
        ("power", known.power.is_some() && new.power.is_some()),
        ("persistence", known.persistence.is_some() && new.persistence.is_some()),
    ];
    if let Some((key, _)) = twice.iter().find(|(_, twice)| *twice) {
        return Err(format!("{key} is given twice"));
    }
    known.mig = known.mig.take().or(new.mig);
    known.power = known.power.or(new.power);
    known.persistence = known.persistence.or(new.persistence);
    Ok(())
}

fn mig(value: &str) -> Result<MigSetting, String> {
    match value {
        "off" => return Ok(MigSetting::Off),
        "on" => return Ok(MigSetting::Instances(Vec::new())),
        _ => {}
    }
    let names: Vec<&str> = value.split(',').collect();
    if let Some(name) = names.iter().find(|name| is_compute_profile(name)) {
        return Err(format!(
            "mig: '{name}': compute instances that are smaller than their GPU \
             instance are not supported"
        ));
    }
    match names.iter().find(|name| !is_mig_profile(name)) {
        Some(name) => Err(format!("mig: '{name}' is not a MIG profile (like 3g.20gb)")),
        None => Ok(MigSetting::Instances(names.iter().map(|name| (*name).into()).collect())),
    }
}

fn is_compute_profile(name: &str) -> bool {
    name.split_once('.').is_some_and(|(first, rest)| {
        first.strip_suffix('c').is_some_and(|n| n.parse::<u32>().is_ok()) && is_mig_profile(rest)
    })
}

/// Whether a name has the form of a GPU instance profile: `3g.20gb`, `1g.5gb+me`,
/// `1g.24gb-me`.
pub fn is_mig_profile(name: &str) -> bool {
    let Some((slices, rest)) = name.split_once("g.") else { return false };
    let Some((size, attributes)) = rest.split_once("gb") else { return false };
    let number = |text: &str| {
        !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit())
    };
    let attribute = |b: u8| b.is_ascii_lowercase() || b".+-".contains(&b);
    let plain = attributes.is_empty() || attributes.starts_with(['+', '-']);
    number(slices) && number(size) && plain && attributes.bytes().all(attribute)
}

fn watts(value: &str) -> Result<u32, String> {
    let number = value.strip_suffix(['W', 'w']).unwrap_or(value);
    let watts = number.parse().ok().filter(|watts| (1..=10_000).contains(watts));
    watts.ok_or_else(|| format!("power={value}: not watts (like 250W)"))
}

fn on_or_off(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("persistence={value}: neither on nor off")),
    }
}
