//! Digests: those that a file carries, and how they are computed.

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::assignments::{Assignments, number};
use crate::cksum::Cksum;
use crate::layout::{Dialect, Part};

/// How a digest is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// The number of bytes.
    Size,
    /// POSIX cksum, which is not zlib's crc32.
    Cksum,
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// The word used in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Size => "size",
            Algorithm::Cksum => "cksum",
            Algorithm::Md5 => "md5",
            Algorithm::Sha256 => "sha256",
        }
    }
}

/// What a digest covers, and so where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestScope {
    /// Carried by the file: everything behind its third line.
    AfterLine3,
    /// Carried by the file: one archive of the payload, counted from 1.
    Part(usize),
    /// Carried by the file: the whole payload.
    Payload,
    /// Given by the caller: the whole file.
    File,
}

/// A digest to compute, with the value that is expected where one is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestSpec {
    /// How it is computed.
    pub algorithm: Algorithm,
    /// What it covers.
    pub scope: DigestScope,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// The expected value: decimal for size and cksum, else lower case hex, or
    /// whatever the file has in its place. `None` where only the value is asked for.
    pub expected: Option<String>,
}

/// A computed digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestResult {
    /// What was asked for.
    pub spec: DigestSpec,
    /// The computed value.
    pub actual: String,
}

impl DigestResult {
    /// Whether the value is the expected one; `None` where none was expected.
    pub fn matches(&self) -> Option<bool> {
        let expected = self.spec.expected.as_deref()?;
        Some(match self.spec.algorithm {
            Algorithm::Size => number(expected.as_bytes()) == number(self.actual.as_bytes()),
            // as text, like the stubs
            _ => expected == self.actual,
        })
    }
}

impl DigestSpec {
    /// SHA-256 of a whole file of `size` bytes; `expected` where it is known.
    pub fn whole_file(size: u64, expected: Option<&str>) -> DigestSpec {
        DigestSpec {
            algorithm: Algorithm::Sha256,
            scope: DigestScope::File,
            start: 0,
            end: size,
            expected: expected.map(str::to_ascii_lowercase),
        }
    }
}

/// The digests that a file carries.
pub(crate) fn carried_digests(
    dialect: Dialect,
    bytes: &[u8],
    vars: &Assignments<'_>,
    parts: &[Part],
    payload: u64,
    size: u64,
    problems: &mut Vec<String>,
) -> Vec<DigestSpec> {
    match dialect {
        Dialect::Nvidia => after_line_3(bytes, size, problems),
        Dialect::Makeself => of_parts(vars, parts, payload, size, problems),
    }
}

/// NVIDIA's fork takes everything from line 4 on, stub and all. That is by
/// position: where the two digests are not in lines 2 and 3 (as before 2005) it
/// is not known what they cover.
fn after_line_3(bytes: &[u8], size: u64, problems: &mut Vec<String>) -> Vec<DigestSpec> {
    let mut lines = bytes.splitn(4, |b| *b == b'\n');
    let (first, second, third) = (lines.next(), lines.next(), lines.next());
    let value = |line: Option<&[u8]>, key: &[u8]| {
        line.and_then(|line| line.strip_prefix(key)).map(<[u8]>::to_vec)
    };
    let (Some(crc), Some(md5)) = (value(second, b"CRCsum="), value(third, b"MD5=")) else {
        problems.push("unknown digest layout: lines 2 and 3 are not CRCsum= and MD5=".into());
        return Vec::new();
    };
    let start = [first, second, third].iter().flatten().map(|line| line.len() as u64 + 1).sum();
    let mut found = Vec::new();
    for (algorithm, value) in [(Algorithm::Cksum, crc), (Algorithm::Md5, md5)] {
        push(&mut found, algorithm, DigestScope::AfterLine3, start, size, &value, problems);
    }
    found
}

/// Upstream's lists, one word a part.
fn of_parts(
    vars: &Assignments<'_>,
    parts: &[Part],
    payload: u64,
    size: u64,
    problems: &mut Vec<String>,
) -> Vec<DigestSpec> {
    let mut found = Vec::new();
    if let Some(total) = vars.text("totalsize") {
        let scope = DigestScope::Payload;
        push(&mut found, Algorithm::Size, scope, payload, size, total.as_bytes(), problems);
    }
    for (key, algorithm) in
        [("CRCsum", Algorithm::Cksum), ("MD5", Algorithm::Md5), ("SHA", Algorithm::Sha256)]
    {
        let Some(values) = vars.text(key) else { continue };
        for (at, (value, part)) in values.split_ascii_whitespace().zip(parts).enumerate() {
            let scope = DigestScope::Part(at + 1);
            let value = value.as_bytes();
            push(&mut found, algorithm, scope, part.start, part.end, value, problems);
        }
    }
    found
}

/// Adds a digest, unless it is the row of zeros that stands for a missing one.
fn push(
    found: &mut Vec<DigestSpec>,
    algorithm: Algorithm,
    scope: DigestScope,
    start: u64,
    end: u64,
    value: &[u8],
    problems: &mut Vec<String>,
) {
    let zeros = !value.is_empty() && value.iter().all(|b| *b == b'0');
    let valid = match algorithm {
        Algorithm::Size => number(value).is_some(),
        Algorithm::Cksum => number(value).is_some_and(|n| n <= u64::from(u32::MAX)),
        Algorithm::Md5 => value.len() == 32 && value.iter().all(u8::is_ascii_hexdigit),
        Algorithm::Sha256 => value.len() == 64 && value.iter().all(u8::is_ascii_hexdigit),
    };
    let none = match algorithm {
        Algorithm::Size => false,
        Algorithm::Cksum => zeros && value.len() == 10,
        _ => zeros && valid,
    };
    if none {
        return;
    }
    if !valid {
        problems.push(format!("its {} is malformed and cannot be checked", algorithm.as_str()));
    }
    // an invalid value is kept: the computed one will differ from it
    let expected = String::from_utf8_lossy(&value[..value.len().min(128)]).into_owned();
    found.push(DigestSpec { algorithm, scope, start, end, expected: Some(expected) });
}

/// A digest that is being computed.
pub(crate) struct DigestComputation {
    at: usize,
    start: u64,
    end: u64,
    state: DigestState,
}

enum DigestState {
    Size(u64),
    Cksum(Cksum),
    Md5(Md5),
    Sha256(Sha256),
}

impl DigestComputation {
    /// The digest number `at` of a list.
    pub(crate) fn new(at: usize, spec: &DigestSpec) -> DigestComputation {
        let state = match spec.algorithm {
            Algorithm::Size => DigestState::Size(0),
            Algorithm::Cksum => DigestState::Cksum(Cksum::default()),
            Algorithm::Md5 => DigestState::Md5(Md5::new()),
            Algorithm::Sha256 => DigestState::Sha256(Sha256::new()),
        };
        DigestComputation { at, start: spec.start, end: spec.end, state }
    }

    /// Adds the bytes that it covers of those at `offset` of the file.
    pub(crate) fn update(&mut self, offset: u64, bytes: &[u8]) {
        let to = |at: u64| at.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let (from, to) = (to(self.start), to(self.end));
        if from >= to {
            return;
        }
        let bytes = &bytes[from..to];
        match &mut self.state {
            DigestState::Size(size) => *size += bytes.len() as u64,
            DigestState::Cksum(cksum) => cksum.update(bytes),
            DigestState::Md5(md5) => md5.update(bytes),
            DigestState::Sha256(sha) => sha.update(bytes),
        }
    }

    /// Its number in the list and its value.
    pub(crate) fn finish(self) -> (usize, String) {
        let value = match self.state {
            DigestState::Size(size) => size.to_string(),
            DigestState::Cksum(cksum) => cksum.finish().to_string(),
            DigestState::Md5(md5) => hex::encode(md5.finalize()),
            DigestState::Sha256(sha) => hex::encode(sha.finalize()),
        };
        (self.at, value)
    }
}
