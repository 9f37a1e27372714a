//! What is requested, in any of three forms: lines `ADDRESS=PROFILE`, records,
//! and the configuration file of NVIDIA's vgpu-device-manager.

pub mod device_manager;
pub mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Read};
use std::path::Path;

use ::cli::{Exit, Failure, fail};
use advice::vgpu_profile_set;
use host::Machine;
use record::{Address, ReadError, ReadLimits, Record};

use crate::input::device_manager::ConfigEntry;

/// A profile as it is written in the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestedProfile {
    /// No profile.
    None,
    /// By name, with or without what drivers write in front of it.
    Name(String),
    /// By the driver's id.
    Id(u32),
}

impl RequestedProfile {
    /// `L40S-24Q`, `NVIDIA L40S-24Q`, `1155`, `nvidia-1155`, `none` or `0`.
    /// `None`: not the form of a profile.
    pub fn parse(text: &str) -> Option<RequestedProfile> {
        let text = text.trim();
        let id = text.strip_prefix("nvidia-").unwrap_or(text);
        if text == "none" || text == "0" {
            return Some(RequestedProfile::None);
        }
        if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) {
            return id.parse().ok().filter(|id| *id != 0).map(RequestedProfile::Id);
        }
        nvidia::Profile::parse(text).map(|_| RequestedProfile::Name(text.to_string()))
    }
}

impl fmt::Display for RequestedProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestedProfile::None => f.write_str("none"),
            RequestedProfile::Name(name) => f.write_str(nvidia::short_name(name)),
            RequestedProfile::Id(id) => write!(f, "id {id}"),
        }
    }
}

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Where in the input it is: `line 3`.
    pub at: String,
    /// A VF or the parent of mediated devices; with a count the GPU.
    pub address: Address,
    pub profile: RequestedProfile,
    /// For how many of the GPU's functions.
    pub count: Option<u32>,
}

/// All that is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Assignments(Vec<Assignment>),
    /// A configuration of vgpu-device-manager. It selects GPUs by number and
    /// device id, so only a host can give it a meaning.
    Config(Vec<ConfigEntry>),
}

/// Longer input is refused.
const MOST_BYTES: usize = 16 << 20;

/// Reads a file, or standard input for `-` and for none.
pub fn read(file: Option<&Path>, config: Option<&str>) -> Result<Input, Failure> {
    let (bytes, from) = match file {
        Some(path) if path != Path::new("-") => (read_file(path)?, path.display().to_string()),
        _ => (read_stdin()?, "standard input".to_string()),
    };
    parse(&bytes, &from, config)
}

/// Reads a file that the user names: its path is used as given, also with
/// `--root`.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let path = std::path::absolute(path).map_err(|error| fail(Exit::Usage, error.to_string()))?;
    let read = Machine::new(None)?.read(&path.display().to_string(), MOST_BYTES);
    read.map_err(|error| fail(Exit::Usage, error.to_string()))
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let words = "pipe lines like 0000:41:00.4=L40S-24Q, or name a file";
        return Err(fail(Exit::Usage, "standard input is a terminal").hint(words));
    }
    let mut bytes = Vec::new();
    let read = stdin.lock().take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| fail(Exit::System, format!("cannot read standard input: {error}")))?;
    if bytes.len() > MOST_BYTES {
        return Err(fail(Exit::Usage, "standard input is larger than 16 MiB"));
    }
    Ok(bytes)
}

/// Parses any of the forms. `from` names the input in messages. Errors: invalid
/// input (exit 2), with its line; an `error` record in the input.
pub fn parse(text: &[u8], from: &str, config: Option<&str>) -> Result<Input, Failure> {
    let bad = |why: String| fail(Exit::Usage, format!("{from}: {why}"));
    let readable = std::str::from_utf8(text).map_err(|_| bad("not UTF-8 text".into()))?;
    let first = readable.trim_start_matches('\u{feff}').trim_start().chars().next();
    let is_config = readable.lines().any(|line| line.trim_end().starts_with("vgpu-configs:"));
    if is_config {
        return device_manager::parse(readable, config).map(Input::Config).map_err(bad);
    }
    if let Some(config) = config {
        return Err(bad(format!("has no vgpu-configs, so it has no '{config}'"))
            .hint("--config is for configuration files of vgpu-device-manager"));
    }
    let mut assignments = match first {
        Some('{') => records(text, from)?,
        _ => lines(readable, from)?,
    };
    if assignments.is_empty() {
        return Err(bad("assigns no profile".into())
            .hint("expected lines like 0000:41:00.4=L40S-24Q, or vgpu-assignment records"));
    }
    let mut seen: BTreeMap<(Address, Option<&RequestedProfile>), &str> = BTreeMap::new();
    for assignment in &assignments {
        // by count, one GPU may have several profiles, each once
        let key = (assignment.address, assignment.count.map(|_| &assignment.profile));
        if let Some(before) = seen.insert(key, &assignment.at) {
            let Assignment { at, address, .. } = assignment;
            return Err(bad(format!("{at} names {address} again ({before})")));
        }
    }
    for assignment in &mut assignments {
        assignment.at = format!("{from}: {}", assignment.at);
    }
    Ok(Input::Assignments(assignments))
}

/// `ADDRESS=PROFILE` with comments, as in the ConfigMap of the usual loader.
fn lines(text: &str, from: &str) -> Result<Vec<Assignment>, Failure> {
    let mut assignments = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let at = format!("line {}", number + 1);
        let bad = |why: String| fail(Exit::Usage, format!("{from}: {at}: {why}"));
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let shown: String = line.chars().take(60).collect();
        let (address, profile) = line.split_once('=').ok_or_else(|| {
            bad(format!("'{shown}' is not ADDRESS=PROFILE (like 0000:41:00.4=L40S-24Q)"))
        })?;
        let address =
            address.trim().parse().map_err(|error: record::AddressError| bad(error.to_string()))?;
        let profile = requested_profile(profile, &bad)?;
        assignments.push(Assignment { at, address, profile, count: None });
    }
    Ok(assignments)
}

/// `vgpu-assignment` records, and `vgpu` records of functions that have a
/// profile: what `list` printed can be set again.
fn records(text: &[u8], from: &str) -> Result<Vec<Assignment>, Failure> {
    let types = ["vgpu-assignment", "vgpu"];
    let stream =
        record::read(&mut &text[..], ReadLimits::default(), &types).map_err(
            |error| match error {
                ReadError::Line { number, why } => {
                    fail(Exit::Usage, format!("{from}: line {number}: {why}"))
                }
                ReadError::Upstream(_) => Failure::from(error),
                _ => fail(Exit::Usage, format!("{from}: {error}")),
            },
        )?;
    let mut assignments = Vec::new();
    for (number, record) in stream.records {
        let at = format!("line {number}");
        let (address, profile, count) = match record {
            Record::VgpuAssignment(of) => (of.address, of.profile, of.count),
            // a full GPU lists no names, so that a profile may have its id only
            Record::Vgpu(of) => match of.profile.or(of.profile_id.map(|id| id.to_string())) {
                Some(profile) => (of.address, profile, None),
                None => continue,
            },
            _ => continue,
        };
        let bad = |why: String| fail(Exit::Usage, format!("{from}: {at}: {why}"));
        let profile = requested_profile(&profile, &bad)?;
        assignments.push(Assignment { at, address, profile, count });
    }
    Ok(assignments)
}

/// The profile of an assignment, or what is wrong with its name.
fn requested_profile(
    name: &str,
    bad: &dyn Fn(String) -> Failure,
) -> Result<RequestedProfile, Failure> {
    RequestedProfile::parse(name).ok_or_else(|| {
        let shown: String = name.trim().chars().take(60).collect();
        let failure = bad(format!("'{shown}' is not a vGPU profile (like L40S-24Q)"));
        match RequestedProfile::parse(&shown.to_uppercase()) {
            Some(_) => failure.hint("the last letter is a capital: A, B, C or Q"),
            None => failure.run(vgpu_profile_set::list_all_types()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assignments(text: &str) -> Result<Vec<(String, String, Option<u32>)>, String> {
        match parse(text.as_bytes(), "x", None).map_err(|failure| failure.to_string())? {
            Input::Assignments(assignments) => Ok(assignments
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
            assignments(lines).unwrap(),
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
            assignments(records).unwrap(),
            [one("0000:41:00.0", "L40S-12Q", Some(4)), one("0000:42:00.4", "L40S-8Q", None)]
        );
    }

    #[test]
    fn bad_input_is_named_with_its_line() {
        for (text, why) in [
            ("", "x: assigns no profile"),
            ("# only this\n", "x: assigns no profile"),
            ("0000:41:00.4\n", "line 1: '0000:41:00.4' is not ADDRESS=PROFILE"),
            ("\n41:00=L40S-24Q\n", "line 2: '41:00' is not a PCI address"),
            ("41:00.4=\n", "line 1: '' is not a vGPU profile"),
            ("41:00.4=L40S\n", "line 1: 'L40S' is not a vGPU profile"),
            ("41:00.4=-1\n", "line 1: '-1' is not a vGPU profile"),
            ("41:00.4=99999999999\n", "is not a vGPU profile"),
            ("41:00.4=L40S-24Q;reboot\n", "is not a vGPU profile"),
            ("41:00.4=<profile-id>\n", "line 1: '<profile-id>' is not a vGPU profile"),
            ("41:00.4=1155\n0000:41:00.4=1156\n", "line 2 names 0000:41:00.4 again (line 1)"),
            ("{\"type\":\"vgpu-assignment\"}\n", "line 1: not a vgpu-assignment record"),
            ("{\"type\":\"weather\"}\n", "assigns no profile"),
            ("{]\n", "line 1: not JSON"),
            (
                "{\"type\":\"error\",\"tool\":\"t\",\"message\":\"m\",\"exit\":3}\n",
                "stopped: t failed earlier in the pipeline: m",
            ),
        ] {
            let message = assignments(text).unwrap_err();
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
