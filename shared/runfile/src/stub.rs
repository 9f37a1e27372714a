//! What a stub says in its texts. Options and sizes stand there as literals,
//! so that nothing need be run to know them.

use crate::assignments::{lines, number};
use crate::layout::Dialect;

/// Options at most; a driver of 2025 has 110.
const MOST_OPTIONS: usize = 1000;

/// What a stub's texts say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stub {
    /// Bytes that the content takes, in steps of 1024.
    pub unpacked: Option<u64>,
    /// When it was packed, in the words of date(1).
    pub date: Option<String>,
    /// Options of the installer, with their dashes. `None` where the stub does
    /// not list them.
    pub options: Option<Vec<String>>,
}

/// Whether an installer understands an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionSupport {
    /// Its own help lists it.
    Listed,
    /// Its own help lists others.
    NotListed,
    /// Its stub lists none: the version decides.
    Unknown,
}

impl Stub {
    /// Reads the texts of a stub.
    pub(crate) fn of(dialect: Dialect, stub: &[u8]) -> Stub {
        let mut found = Stub::default();
        let mut options = Vec::new();
        for line in lines(stub) {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some(said) = said(line) else { continue };
            if let Some(value) = value_of(said, "Uncompressed size") {
                let kilobytes = value.split(' ').next().and_then(|n| number(n.as_bytes()));
                found.unpacked = found.unpacked.or(kilobytes.map(|n| n.saturating_mul(1024)));
            } else if let Some(value) = value_of(said, "Date of packaging") {
                found.date = found.date.or_else(|| Some(value.chars().take(80).collect()));
            } else if dialect == Dialect::Nvidia && options.len() < MOST_OPTIONS {
                options.extend(options_of(said));
            }
        }
        // two or three are the stub's own usage, not the installer's list
        options.sort();
        options.dedup();
        found.options = (options.len() > 8).then_some(options);
        found
    }

    /// Whether the installer understands an option such as `--no-dkms`.
    pub fn option_support(&self, option: &str) -> OptionSupport {
        match &self.options {
            None => OptionSupport::Unknown,
            Some(options) if options.iter().any(|o| o == option) => OptionSupport::Listed,
            Some(_) => OptionSupport::NotListed,
        }
    }
}

/// The text of an `echo` line, without its quotes.
fn said(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("echo ")?.trim_end();
    let text = text.trim_end_matches(';').trim_end();
    Some(text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text))
}

fn value_of<'a>(said: &'a str, key: &str) -> Option<&'a str> {
    let rest = said.trim_start().strip_prefix(key)?;
    Some(rest.trim_start().strip_prefix(':')?.trim())
}

/// An option's line is indented by two and begins with a dash, its description
/// by six: `  -k KERNEL-NAME, --kernel-name=KERNEL-NAME`.
fn options_of(said: &str) -> Vec<String> {
    let Some(rest) = said.strip_prefix("  ").filter(|rest| rest.starts_with('-')) else {
        return Vec::new();
    };
    let words = rest.split([' ', ',']).filter(|word| word.starts_with('-'));
    let names = words.map(|word| word.split(['=', '[']).next().unwrap_or(word));
    names.filter(|name| is_option(name)).map(str::to_string).collect()
}

fn is_option(name: &str) -> bool {
    let bare = name.trim_start_matches('-');
    !bare.is_empty()
        && name.len() <= 64
        && name.len() - bare.len() <= 2
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_dates_of_both_dialects_are_read() {
        let nvidia = "    echo \"  Uncompressed size : 1766470 KB\"\n    \
                      echo \"  Date of packaging : Tue Apr  8 12:00:00 UTC 2025\"\n";
        let stub = Stub::of(Dialect::Nvidia, nvidia.as_bytes());
        assert_eq!(stub.unpacked, Some(1_766_470 * 1024));
        assert_eq!(stub.date.as_deref(), Some("Tue Apr  8 12:00:00 UTC 2025"));
        let upstream = "\techo Uncompressed size: 40 KB\n\techo Date of packaging: yesterday\n";
        let stub = Stub::of(Dialect::Makeself, upstream.as_bytes());
        assert_eq!((stub.unpacked, stub.date.as_deref()), (Some(40 * 1024), Some("yesterday")));
        assert_eq!(stub.option_support("--silent"), OptionSupport::Unknown);
    }

    #[test]
    fn options_are_told_from_their_descriptions() {
        let mut text = String::new();
        for option in [
            "-s, --silent",
            "-k KERNEL-NAME, --kernel-name=KERNEL-NAME",
            "--dkms, --no-dkms",
            "-m=kernel-open",
            "-a",
            "-b",
            "-z, --no-nouveau-check",
        ] {
            text +=
                &format!("    echo \"  {option}\"\n    echo \"      As --not-an-option says.\"\n");
        }
        let stub = Stub::of(Dialect::Nvidia, text.as_bytes());
        for option in ["-s", "--silent", "--kernel-name", "--dkms", "--no-dkms", "-m"] {
            assert_eq!(stub.option_support(option), OptionSupport::Listed, "{option}");
        }
        assert_eq!(stub.option_support("--not-an-option"), OptionSupport::NotListed);
        assert_eq!(stub.option_support("--no-kernel-modules"), OptionSupport::NotListed);
    }
}
