//! `--pin`: the required version, from the command line or standard input.

use std::io::{self, IsTerminal, Read};

use ::cli::{Exit, Failure, Say, fail};
use nvidia::is_version;
use serde_json::Value;

/// Bytes of standard input: a `runfile` record or a line with a version.
const MOST: u64 = 16 << 20;

/// The pinned version. Errors: standard input has no version, or not exactly one,
/// or an `error` record.
pub fn pinned(pin: &str, say: &Say) -> Result<String, Failure> {
    if pin != "-" {
        return Ok(pin.to_string());
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(fail(Exit::Usage, "--pin -: standard input is a terminal")
            .hint("pipe a runfile record or a line with a version, or use --pin VERSION"));
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
            Err(LineError::Upstream(record)) => {
                return Err(record::ReadError::Upstream(record).into());
            }
            Err(LineError::NoVersion) => {
                let why =
                    format!("standard input line {}: not a version and not a record", number + 1);
                return Err(fail(Exit::Usage, why).hint(expected(line.trim())));
            }
        }
    }
    if others > 0 {
        say.note(&format!("ignored {others} records of other types than runfile"));
    }
    match versions.as_slice() {
        [version] => Ok(version.clone()),
        [] => Err(fail(Exit::Usage, "no runfile record and no version on standard input")
            .hint("pipe a runfile record or a line with a version, such as 550.163.01")),
        [a, b, ..] => {
            Err(fail(Exit::Usage, format!("two versions on standard input: {a} and {b}")))
        }
    }
}

/// Why a line gives no version.
enum LineError {
    Upstream(record::ErrorRecord),
    NoVersion,
}

/// The version that a line gives; `None` for a record of another type.
fn version_in(line: &str) -> Result<Option<String>, LineError> {
    if is_version(line) {
        return Ok(Some(line.to_string()));
    }
    let value: Value = serde_json::from_str(line).map_err(|_| LineError::NoVersion)?;
    match value["type"].as_str() {
        Some("error") => {
            let record = serde_json::from_value(value).map_err(|_| LineError::NoVersion)?;
            Err(LineError::Upstream(record))
        }
        Some("runfile") => {
            let version = value["version"].as_str().filter(|version| is_version(version));
            version.map(|version| Some(version.to_string())).ok_or(LineError::NoVersion)
        }
        Some(_) => Ok(None),
        None => Err(LineError::NoVersion),
    }
}

/// A version on the command line, or `-`.
pub fn parse(text: &str) -> Result<String, String> {
    match text == "-" || is_version(text) {
        true => Ok(text.to_string()),
        false => Err(expected(text)),
    }
}

/// What the text probably means, or what a version looks like.
fn expected(text: &str) -> String {
    let bare = text.trim_start_matches(['v', 'V', '=', '<', '>', '~', '^', ' ']);
    if is_version(bare) && bare != text {
        return format!("did you mean {bare}?");
    }
    let branch = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
    match branch {
        true => format!("{bare} is a branch; a pin is a complete version, such as {bare}.163.01"),
        false => "a driver version looks like 550.163.01".into(),
    }
}
