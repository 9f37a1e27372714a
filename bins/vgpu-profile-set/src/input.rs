//! What is asked for, in any of three forms: lines `ADDRESS=PROFILE`, records,
//! and the configuration file of NVIDIA's vgpu-device-manager.

use std::collections::BTreeMap;

use ::cli::{Exit, Failure, fail};
use record::{Address, ReadError, ReadLimits, Record};

use crate::manager;

/// A profile as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// No profile.
    Nothing,
    /// By name, with or without what drivers write in front of it.
    Name(String),
    /// By the driver's id.
    Id(u32),
}

impl Wanted {
    /// `L40S-24Q`, `NVIDIA L40S-24Q`, `1155`, `nvidia-1155`, `none` or `0`.
    /// `None`: no profile's name has that form.
    pub fn parse(text: &str) -> Option<Wanted> {
        let text = text.trim();
        let id = text.strip_prefix("nvidia-").unwrap_or(text);
        if text == "none" || text == "0" {
            return Some(Wanted::Nothing);
        }
        if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) {
            return id.parse().ok().filter(|id| *id != 0).map(Wanted::Id);
        }
        nvidia::Profile::parse(text).map(|_| Wanted::Name(text.to_string()))
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Nothing => f.write_str("none"),
            Wanted::Name(name) => f.write_str(nvidia::short_name(name)),
            Wanted::Id(id) => write!(f, "id {id}"),
        }
    }
}

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Where it stands: `line 3`.
    pub at: String,
    /// A VF or a mediated devices' parent; with a count the GPU.
    pub address: Address,
    /// The profile.
    pub profile: Wanted,
    /// How many of the GPU's functions.
    pub count: Option<u32>,
}

/// All that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Assignments.
    Wishes(Vec<Wish>),
    /// A configuration of vgpu-device-manager's: it speaks of GPUs by their
    /// number and device id, so that it means something on a machine only.
    Config(Vec<manager::Entry>),
}

/// Text longer than this is nothing of ours.
pub const MOST: usize = 16 << 20;

/// Parses any of the forms. `from` names it in messages. Errors: bad input
/// (exit 2), with its line; an `error` record that came in.
pub fn parse(text: &[u8], from: &str, config: Option<&str>) -> Result<Input, Failure> {
    let bad = |why: String| fail(Exit::Usage, format!("{from}: {why}"));
    let readable = std::str::from_utf8(text).map_err(|_| bad("not UTF-8 text".into()))?;
    let first = readable.trim_start_matches('\u{feff}').trim_start().chars().next();
    let is_config = readable.lines().any(|line| line.trim_end().starts_with("vgpu-configs:"));
    if is_config {
        let entries = manager::parse(readable, config).map_err(bad)?;
        return Ok(Input::Config(entries));
    }
    if let Some(config) = config {
        return Err(bad(format!("has no vgpu-configs, so no '{config}'"))
            .hint("--config is for configuration files of vgpu-device-manager"));
    }
    let mut wishes = match first {
        Some('{') => records(text, from)?,
        _ => lines(readable).map_err(bad)?,
    };
    if wishes.is_empty() {
        return Err(bad("assigns nothing".into())
            .hint("expected lines like 0000:41:00.4=L40S-24Q, or vgpu-assignment records"));
    }
    let mut seen: BTreeMap<(Address, Option<&Wanted>), &str> = BTreeMap::new();
    for wish in &wishes {
        // one GPU may have several profiles by count, each once
        let key = (wish.address, wish.count.map(|_| &wish.profile));
        if let Some(before) = seen.insert(key, &wish.at) {
            return Err(bad(format!("{} names {} again ({before})", wish.at, wish.address)));
        }
    }
    for wish in &mut wishes {
        wish.at = format!("{from}: {}", wish.at);
    }
    Ok(Input::Wishes(wishes))
}

/// `ADDRESS=PROFILE` with comments, as in the ConfigMap of the usual loader.
fn lines(text: &str) -> Result<Vec<Wish>, String> {
    let mut wishes = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let at = format!("line {}", number + 1);
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let shown: String = line.chars().take(60).collect();
        let (address, profile) = line.split_once('=').ok_or_else(|| {
            format!("{at}: '{shown}' is not ADDRESS=PROFILE (like 0000:41:00.4=L40S-24Q)")
        })?;
        let address = address.trim().parse().map_err(|error| format!("{at}: {error}"))?;
        let profile =
            Wanted::parse(profile).ok_or_else(|| format!("{at}: {}", no_profile(profile)))?;
        wishes.push(Wish { at, address, profile, count: None });
    }
    Ok(wishes)
}

/// What is wrong with the name of a profile.
fn no_profile(name: &str) -> String {
    let shown: String = name.trim().chars().take(60).collect();
    let hint = match Wanted::parse(&shown.to_uppercase()) {
        Some(_) => "its last letter is a capital: A, B, C or Q",
        None => "'vgpu-profile-set list --types' shows what the GPUs offer",
    };
    format!("'{shown}' is no vGPU profile (like L40S-24Q); {hint}")
}

/// `vgpu-assignment` records, and `vgpu` records of functions that have a
/// profile: what `list` printed can be put back.
fn records(text: &[u8], from: &str) -> Result<Vec<Wish>, Failure> {
    let wanted = ["vgpu-assignment", "vgpu"];
    let stream = record::read(&mut &text[..], ReadLimits::default(), &wanted).map_err(|error| {
        let upstream = matches!(error, ReadError::Upstream(_));
        match error {
            ReadError::Line { number, why } => {
                fail(Exit::Usage, format!("{from}: line {number}: {why}"))
            }
            _ if upstream => Failure::from(error),
            _ => fail(Exit::Usage, format!("{from}: {error}")),
        }
    })?;
    let mut wishes = Vec::new();
    for (number, record) in stream.records {
        let at = format!("line {number}");
        let (address, profile, count) = match record {
            Record::VgpuAssignment(of) => (of.address, of.profile, of.count),
            Record::Vgpu(of) => match of.profile {
                Some(profile) => (of.address, profile, None),
                None => continue,
            },
            _ => continue,
        };
        let profile = Wanted::parse(&profile)
            .ok_or_else(|| fail(Exit::Usage, format!("{from}: {at}: {}", no_profile(&profile))))?;
        wishes.push(Wish { at, address, profile, count });
    }
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wishes(text: &str) -> Result<Vec<(String, String, Option<u32>)>, String> {
        match parse(text.as_bytes(), "x", None).map_err(|failure| failure.to_string())? {
            Input::Wishes(wishes) => Ok(wishes
                .into_iter()
                .map(|w| (w.address.to_string(), w.profile.to_string(), w.count))
                .collect()),
            Input::Config(_) => Err("a config".into()),
        }
    }

    fn one(address: &str, profile: &str, count: Option<u32>) -> (String, String, Option<u32>) {
        (address.into(), profile.into(), count)
    }

    #[test]
    fn the_usual_forms_are_read() {
        let lines = "# a comment\n\n0000:02:00.4=1155\n 41:00.5 = NVIDIA L40S-24Q  # why\r\n\
                     0000:41:00.6=L40S-12Q\n0000:41:00.7=none\n";
        assert_eq!(
            wishes(lines).unwrap(),
            [
                one("0000:02:00.4", "id 1155", None),
                one("0000:41:00.5", "L40S-24Q", None),
                one("0000:41:00.6", "L40S-12Q", None),
                one("0000:41:00.7", "none", None)
            ]
        );
        let records = "{\"type\":\"vgpu-assignment\",\"address\":\"41:00.0\",\"profile\":\"L40S-12Q\",\"count\":4}\n\
            {\"type\":\"vgpu\",\"address\":\"0000:42:00.4\",\"kind\":\"vf\",\"profile\":\"L40S-8Q\"}\n\
            {\"type\":\"vgpu\",\"address\":\"0000:42:00.5\",\"kind\":\"vf\",\"profile\":null}\n";
        assert_eq!(
            wishes(records).unwrap(),
            [one("0000:41:00.0", "L40S-12Q", Some(4)), one("0000:42:00.4", "L40S-8Q", None)]
        );
    }

    #[test]
    fn bad_input_is_named_with_its_line() {
        for (text, why) in [
            ("", "x: assigns nothing"),
            ("# only this\n", "x: assigns nothing"),
            ("0000:41:00.4\n", "line 1: '0000:41:00.4' is not ADDRESS=PROFILE"),
            ("\n41:00=L40S-24Q\n", "line 2: '41:00' is not a PCI address"),
            ("41:00.4=\n", "line 1: '' is no vGPU profile"),
            ("41:00.4=L40S\n", "line 1: 'L40S' is no vGPU profile"),
            ("41:00.4=-1\n", "line 1: '-1' is no vGPU profile"),
            ("41:00.4=99999999999\n", "is no vGPU profile"),
            ("41:00.4=L40S-24Q;reboot\n", "is no vGPU profile"),
            ("41:00.4=<profile-id>\n", "line 1: '<profile-id>' is no vGPU profile"),
            ("41:00.4=1155\n0000:41:00.4=1156\n", "line 2 names 0000:41:00.4 again (line 1)"),
            ("{\"type\":\"vgpu-assignment\"}\n", "line 1: not a vgpu-assignment record"),
            ("{\"type\":\"weather\"}\n", "assigns nothing"),
            ("{]\n", "line 1: not JSON"),
            (
                "{\"type\":\"error\",\"tool\":\"t\",\"message\":\"m\",\"exit\":3}\n",
                "an error of t: m",
            ),
        ] {
            let message = wishes(text).unwrap_err();
            assert!(message.contains(why), "{text:?}: {message}");
        }
        let message = parse(b"\xff\xfe", "x", None).unwrap_err().to_string();
        assert!(message.contains("not UTF-8"), "{message}");
        let message = parse(b"41:00.4=1155\n", "x", Some("a")).unwrap_err().to_string();
        assert!(message.contains("has no vgpu-configs"), "{message}");
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(vgpu-configs:\n)?[ a-z0-9:=.#{}\\[\\]\"\n-]{0,120}") {
            let _ = parse(&bytes, "x", None);
            let _ = parse(text.as_bytes(), "x", Some("a"));
            let _ = parse(text.as_bytes(), "x", None);
        }
    }
}
