//! `--pin`: the version that everything must have, from the command line or
//! from standard input.

use std::io::{self, IsTerminal, Read};

use ::cli::{Exit, Failure, Say, fail};
use nvidia::is_version;
use serde_json::Value;

/// What may come in: a `runfile` record or one line with a version.
const MOST: u64 = 16 << 20;

/// The pinned version. Errors: no version, bad input, or an `error` record came
/// in.
pub fn pinned(pin: &str, say: &Say) -> Result<String, Failure> {
    if pin != "-" {
        return Ok(pin.to_string());
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let what = "nothing to read: pipe a runfile record or a version, or give --pin VERSION";
        return Err(fail(Exit::Usage, what));
    }
    let mut text = String::new();
    stdin
        .lock()
        .take(MOST)
        .read_to_string(&mut text)
        .map_err(|error| fail(Exit::Usage, format!("cannot read standard input: {error}")))?;
    let mut versions: Vec<String> = Vec::new();
    let mut others = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match version_in(line.trim()) {
            Ok(Some(version)) if !versions.contains(&version) => versions.push(version),
            Ok(Some(_)) => {}
            Ok(None) => others += 1,
            Err(Trouble::Upstream(record)) => {
                return Err(record::ReadError::Upstream(record).into());
            }
            Err(Trouble::NoRecord) => {
                let why =
                    format!("standard input line {}: neither a version nor a record", number + 1);
                return Err(fail(Exit::Usage, why).hint(spelled(line.trim())));
            }
        }
    }
    if others > 0 {
        say.note(&format!("passed over {others} records that are no runfile"));
    }
    match versions.as_slice() {
        [version] => Ok(version.clone()),
        [] => Err(fail(Exit::Usage, "standard input holds no runfile record and no version")
            .hint("pipe 'nv-runfile info FILE' or a line like 550.163.01")),
        [a, b, ..] => {
            Err(fail(Exit::Usage, format!("standard input holds two versions: {a} and {b}")))
        }
    }
}

enum Trouble {
    Upstream(record::ErrorRecord),
    NoRecord,
}

/// The version that a line gives; `None` for a record of another type.
fn version_in(line: &str) -> Result<Option<String>, Trouble> {
    if is_version(line) {
        return Ok(Some(line.to_string()));
    }
    let value: Value = serde_json::from_str(line).map_err(|_| Trouble::NoRecord)?;
    match value["type"].as_str() {
        Some("error") => {
            let record = serde_json::from_value(value).map_err(|_| Trouble::NoRecord)?;
            Err(Trouble::Upstream(record))
        }
        Some("runfile") => {
            let version = value["version"].as_str().filter(|version| is_version(version));
            version.map(|version| Some(version.to_string())).ok_or(Trouble::NoRecord)
        }
        Some(_) => Ok(None),
        None => Err(Trouble::NoRecord),
    }
}

/// A version on the command line, or `-`.
pub fn parse(text: &str) -> Result<String, String> {
    match text == "-" || is_version(text) {
        true => Ok(text.to_string()),
        false => Err(spelled(text)),
    }
}

/// How the version is spelled that somebody had in mind.
fn spelled(text: &str) -> String {
    let bare = text.trim_start_matches(['v', 'V', '=', '<', '>', '~', '^', ' ']);
    if is_version(bare) && bare != text {
        return format!("did you mean {bare}?");
    }
    let branch = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
    match branch {
        true => format!("{bare} is a branch: a pin is a whole version, like {bare}.163.01"),
        false => "a driver version is spelled like 550.163.01".into(),
    }
}
