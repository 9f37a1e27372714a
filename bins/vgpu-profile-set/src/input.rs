//! What is requested, in any of three forms: lines `ADDRESS=PROFILE` and
//! `ADDRESS KEY=VALUE`, records, and the configuration files of NVIDIA's
//! vgpu-device-manager and mig-parted.

pub mod device_manager;
pub mod selection;
pub mod settings;
pub mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Read};
use std::path::Path;

use ::cli::{Exit, Failure, fail};
use advice::vgpu_profile_set;
use host::Machine;
use record::{Address, ReadError, ReadLimits, Record, VgpuKind};

use crate::input::device_manager::ConfigEntry;
use crate::input::settings::{GpuSettings, SettingsOf};

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
    /// It is in a section for this cluster node, so that this host must have it.
    pub own: bool,
}

/// All that is requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    pub vgpus: RequestedVgpus,
    /// Settings of whole GPUs.
    pub settings: Vec<GpuSettings>,
}

/// The vGPUs that are requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedVgpus {
    Assignments(Vec<Assignment>),
    /// A configuration of vgpu-device-manager. It selects GPUs by number and
    /// device id, so only a host can give it a meaning.
    Config(Vec<ConfigEntry>),
}

impl Default for RequestedVgpus {
    fn default() -> RequestedVgpus {
        RequestedVgpus::Assignments(Vec::new())
    }
}

impl Input {
    /// Assignments, and no settings.
    pub fn of(assignments: Vec<Assignment>) -> Input {
        Input { vgpus: RequestedVgpus::Assignments(assignments), settings: Vec::new() }
    }
}

/// What decides which part of an input counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct InputChoice<'a> {
    /// The configuration of a file with several.
    pub config: Option<&'a str>,
    /// The name of this cluster node.
    pub node: &'a str,
}

/// Longer input is refused.
const MOST_BYTES: usize = 16 << 20;

/// Reads a file, or standard input for `-` and for none.
pub fn read(file: Option<&Path>, choice: InputChoice<'_>) -> Result<Input, Failure> {
    let (bytes, from) = match file {
        Some(path) if path != Path::new("-") => (read_file(path)?, path.display().to_string()),
        _ => (read_stdin()?, "standard input".to_string()),
    };
    parse(&bytes, &from, choice)
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
pub fn parse(text: &[u8], from: &str, choice: InputChoice<'_>) -> Result<Input, Failure> {
    let bad = |why: String| fail(Exit::Usage, format!("{from}: {why}"));
    let readable = std::str::from_utf8(text).map_err(|_| bad("not UTF-8 text".into()))?;
    let first = readable.trim_start_matches('\u{feff}').trim_start().chars().next();
    let has_key = |key: &str| readable.lines().any(|line| line.trim_end().starts_with(key));
    if has_key("vgpu-configs:") {
        let entries = device_manager::parse(readable, choice.config).map_err(bad)?;
        let of = |entry| ConfigEntry { file: from.into(), ..entry };
        let vgpus = RequestedVgpus::Config(entries.into_iter().map(of).collect());
        return Ok(Input { vgpus, settings: Vec::new() });
    }
    if has_key("mig-configs:") {
        let settings = device_manager::parse_mig(readable, choice.config, from).map_err(bad)?;
        return Ok(Input { settings, ..Input::default() });
    }
    if let Some(config) = choice.config {
        return Err(bad(format!(
            "has no vgpu-configs and no mig-configs, so it has no '{config}'"
        ))
        .hint("--config is for configuration files of vgpu-device-manager and mig-parted"));
    }
    let Lines { mut assignments, settings, sections } = match first {
        Some('{') => Lines { assignments: records(text, from)?, ..Lines::default() },
        _ => lines(readable, from, choice.node)?,
    };
    if assignments.is_empty() && settings.is_empty() && !sections {
        return Err(bad("assigns no profile".into())
            .hint("expected lines like 0000:41:00.4=L40S-24Q, or vgpu-assignment records"));
    }
    check_once(&assignments, &bad)?;
    for assignment in &mut assignments {
        assignment.at = format!("{from}: {}", assignment.at);
    }
    Ok(Input { vgpus: RequestedVgpus::Assignments(assignments), settings })
}

fn check_once(assignments: &[Assignment], bad: &dyn Fn(String) -> Failure) -> Result<(), Failure> {
    let mut seen: BTreeMap<(Address, Option<&RequestedProfile>), &str> = BTreeMap::new();
    for assignment in assignments {
        // by count, one GPU may have several profiles, each once
        let key = (assignment.address, assignment.count.map(|_| &assignment.profile));
        if let Some(before) = seen.insert(key, &assignment.at) {
            let Assignment { at, address, .. } = assignment;
            return Err(bad(format!("{at} names {address} again ({before})")));
        }
    }
    Ok(())
}

/// What a file of lines holds for one cluster node.
#[derive(Default)]
struct Lines {
    assignments: Vec<Assignment>,
    settings: Vec<GpuSettings>,
    /// It has sections, so that it may hold nothing for this node.
    sections: bool,
}

/// `ADDRESS=PROFILE` with comments, as in the ConfigMap of the usual loader;
/// `ADDRESS KEY=VALUE` for settings of a GPU; `[node NAME]` before the lines for one
/// cluster node. All lines are checked, those of this node and before the first section
/// count.
fn lines(text: &str, from: &str, node: &str) -> Result<Lines, Failure> {
    let mut found = Lines::default();
    let mut section: Option<String> = None;
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let at = format!("line {}", number + 1);
        let bad = |why: String| fail(Exit::Usage, format!("{from}: {at}: {why}"));
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if line.starts_with('[') {
            section = Some(node_of(line).ok_or_else(|| {
                let shown: String = line.chars().take(60).collect();
                bad(format!("'{shown}' is not a section (like [node pve1])"))
            })?);
            found.sections = true;
            continue;
        }
        let counts = section.as_ref().is_none_or(|name| name == node);
        let own = section.is_some();
        if let Some((address, words)) = settings::split(line) {
            let of = SettingsOf::Function(one_address(address, &bad)?);
            let place = format!("{from}: {at}");
            let one = settings::parse(of, words, place, own).map_err(&bad)?;
            if counts {
                settings::add(&mut found.settings, one).map_err(&bad)?;
            }
            continue;
        }
        let assignment = assignment(line, at.clone(), own, &bad)?;
        found.assignments.extend(Some(assignment).filter(|_| counts));
    }
    Ok(found)
}

/// The name in `[node NAME]`.
fn node_of(line: &str) -> Option<String> {
    let inner = line.strip_prefix('[')?.strip_suffix(']')?.trim();
    let name = inner.strip_prefix("node")?;
    let name = name.strip_prefix([' ', '\t'])?.trim();
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    (!name.is_empty() && name.bytes().all(valid)).then(|| name.to_string())
}

fn one_address(text: &str, bad: &dyn Fn(String) -> Failure) -> Result<Address, Failure> {
    text.trim().parse().map_err(|error: record::AddressError| bad(error.to_string()))
}

fn assignment(
    line: &str,
    at: String,
    own: bool,
    bad: &dyn Fn(String) -> Failure,
) -> Result<Assignment, Failure> {
    let shown: String = line.chars().take(60).collect();
    let (address, profile) = line.split_once('=').ok_or_else(|| {
        bad(format!("'{shown}' is not ADDRESS=PROFILE (like 0000:41:00.4=L40S-24Q)"))
    })?;
    let address = one_address(address, bad)?;
    let profile = requested_profile(profile, bad)?;
    Ok(Assignment { at, address, profile, count: None, own })
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
    let mut assignments: Vec<Assignment> = Vec::new();
    for (number, record) in stream.records {
        let at = format!("line {number}");
        let mediated = matches!(&record, Record::Vgpu(of) if of.kind == VgpuKind::Mdev);
        let (address, profile, count) = match record {
            Record::VgpuAssignment(of) => (of.address, of.profile, of.count),
            // another program made it, which is not requested of this tool
            Record::Vgpu(of) if of.kind == VgpuKind::Mdev && of.index.is_none() => continue,
            // a full GPU lists no names, so that a profile may have its id only
            Record::Vgpu(of) => match of.profile.or(of.profile_id.map(|id| id.to_string())) {
                // one GPU can be the parent of several devices
                Some(profile) if of.kind == VgpuKind::Mdev && of.gpu == Some(of.address) => {
                    (of.address, profile, Some(1))
                }
                Some(profile) => (of.address, profile, None),
                None => continue,
            },
            _ => continue,
        };
        let bad = |why: String| fail(Exit::Usage, format!("{from}: {at}: {why}"));
        let profile = requested_profile(&profile, &bad)?;
        let same = |known: &&mut Assignment| {
            mediated
                && known.address == address
                && known.count.is_some()
                && known.profile == profile
        };
        match assignments.iter_mut().find(same) {
            Some(known) => known.count = known.count.map(|n| n + 1),
            None => assignments.push(Assignment { at, address, profile, count, own: false }),
        }
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

    fn choice(config: Option<&str>) -> InputChoice<'_> {
        InputChoice { config, node: "pve1" }
    }

    fn assignments(text: &str) -> Result<Vec<(String, String, Option<u32>)>, String> {
        let input = parse(text.as_bytes(), "x", choice(None)).map_err(|f| f.to_string())?;
        match input.vgpus {
            RequestedVgpus::Assignments(assignments) => Ok(assignments
                .into_iter()
                .map(|w| (w.address.to_string(), w.profile.to_string(), w.count))
                .collect()),
            RequestedVgpus::Config(_) => Err("a config".into()),
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
        let message = parse(b"\xff\xfe", "x", choice(None)).unwrap_err().to_string();
        assert!(message.contains("not UTF-8"), "{message}");
        let message = parse(b"41:00.4=1155\n", "x", choice(Some("a"))).unwrap_err().to_string();
        assert!(message.contains("has no vgpu-configs"), "{message}");
    }

    /// One file for all nodes of a cluster.
    #[test]
    fn sections_are_for_one_node_and_lines_before_them_for_all() {
        let text = "41:00.4=L40S-24Q\n[node pve1]\n42:00.0 power=250W persistence=on\n\
                    42:00.4=L40S-12Q\n[ node pve2 ]\n42:00.4=A40-24Q\n42:00.0 power=300\n";
        let on = |node| parse(text.as_bytes(), "x", InputChoice { config: None, node }).unwrap();
        let functions = |input: Input| match input.vgpus {
            RequestedVgpus::Assignments(all) => {
                all.iter().map(|a| (a.profile.to_string(), a.own)).collect::<Vec<_>>()
            }
            RequestedVgpus::Config(_) => panic!(),
        };
        assert_eq!(on("pve1").settings[0].power, Some(250));
        assert_eq!(on("pve2").settings[0].power, Some(300));
        let first = ("L40S-24Q".to_string(), false);
        assert_eq!(functions(on("pve1")), [first.clone(), ("L40S-12Q".into(), true)]);
        assert_eq!(functions(on("pve2")), [first.clone(), ("A40-24Q".into(), true)]);
        assert_eq!(functions(on("pve3")), [first]);
        let none = parse(b"[node pve2]\n41:00.4=L40S-24Q\n", "x", choice(None)).unwrap();
        assert_eq!(none, Input::default());
        for (text, why) in [
            ("[nod pve1]\n", "line 1: '[nod pve1]' is not a section"),
            ("[node]\n", "is not a section"),
            ("[node pve2]\n41:00.4\n", "line 2: '41:00.4' is not ADDRESS=PROFILE"),
            ("41:00.0 power=lots\n", "line 1: power=lots: not watts (like 250W)"),
            ("41:00.0 colour=red\n", "line 1: unknown setting 'colour' (mig, power, persistence)"),
            ("41:00.0 mig=3g20gb\n", "line 1: mig: '3g20gb' is not a MIG profile (like 3g.20gb)"),
            ("41:00.0 power=1 power=2\n", "line 1: power is given twice"),
            ("41:00.0 power=1\n41:00.0 power=2\n", "line 2: power is given twice"),
            ("41:00.0 mig=1c.3g.20gb\n", "compute instances that are smaller"),
        ] {
            let message = assignments(text).unwrap_err();
            assert!(message.contains(why), "{text:?}: {message}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(vgpu-configs:\n)?[ a-z0-9:=.#{}\\[\\]\"\n-]{0,120}") {
            let _ = parse(&bytes, "x", choice(None));
            let _ = parse(text.as_bytes(), "x", choice(Some("a")));
            let _ = parse(text.as_bytes(), "x", choice(None));
        }
    }
}
