//! Digests: those that a file states of itself, and how they are computed.

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::header::{Vars, number};
use crate::{Cksum, Dialect, Part};

/// What is computed.
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

/// Where a digest was stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covers {
    /// In the file: everything behind its third line.
    AfterLine3,
    /// In the file: one archive of the payload, counted from 1.
    Part(usize),
    /// In the file: the whole payload.
    Payload,
    /// Outside of it: the whole file.
    File,
}

/// A digest that somebody stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// What is to be computed.
    pub algorithm: Algorithm,
    /// Over what.
    pub covers: Covers,
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What should come out: decimal for size and cksum, lower case hex else,
    /// or whatever stands there.
    /// `None` where only the value is asked for.
    pub expected: Option<String>,
}

/// A digest with what came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// What was stated.
    pub stated: Stated,
    /// What came out.
    pub actual: String,
}

impl Digested {
    /// Whether it is what was stated; `None` where nothing was.
    pub fn matches(&self) -> Option<bool> {
        let expected = self.stated.expected.as_deref()?;
        Some(match self.stated.algorithm {
            Algorithm::Size => number(expected.as_bytes()) == number(self.actual.as_bytes()),
            // as text, like the stubs
            _ => expected == self.actual,
        })
    }
}

impl Stated {
    /// SHA-256 of a whole file of `size` bytes; `expected` where it is known.
    pub fn whole_file(size: u64, expected: Option<&str>) -> Stated {
        Stated {
            algorithm: Algorithm::Sha256,
            covers: Covers::File,
            start: 0,
            end: size,
            expected: expected.map(str::to_ascii_lowercase),
        }
    }
}

/// The digests that a file carries.
pub(crate) fn stated_digests(
    dialect: Dialect,
    bytes: &[u8],
    vars: &Vars<'_>,
    parts: &[Part],
    payload: u64,
    size: u64,
    problems: &mut Vec<String>,
) -> Vec<Stated> {
    match dialect {
        Dialect::Nvidia => after_line_3(bytes, size, problems),
        Dialect::Makeself => of_parts(vars, parts, payload, size, problems),
    }
}

/// NVIDIA's fork takes everything from line 4 on, stub and all. That is by
/// position: where the two digests do not stand in lines 2 and 3 (as before
/// 2005) nobody knows what they cover.
fn after_line_3(bytes: &[u8], size: u64, problems: &mut Vec<String>) -> Vec<Stated> {
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
        push(&mut found, algorithm, Covers::AfterLine3, start, size, &value, problems);
    }
    found
}

/// Upstream's lists, one word a part.
fn of_parts(
    vars: &Vars<'_>,
    parts: &[Part],
    payload: u64,
    size: u64,
    problems: &mut Vec<String>,
) -> Vec<Stated> {
    let mut found = Vec::new();
    if let Some(total) = vars.text("totalsize") {
        let covers = Covers::Payload;
        push(&mut found, Algorithm::Size, covers, payload, size, total.as_bytes(), problems);
    }
    for (key, algorithm) in
        [("CRCsum", Algorithm::Cksum), ("MD5", Algorithm::Md5), ("SHA", Algorithm::Sha256)]
    {
        let Some(values) = vars.text(key) else { continue };
        for (at, (value, part)) in values.split_ascii_whitespace().zip(parts).enumerate() {
            let covers = Covers::Part(at + 1);
            let value = value.as_bytes();
            push(&mut found, algorithm, covers, part.start, part.end, value, problems);
        }
    }
    found
}

/// Adds one, unless it is the row of zeros that says there is none.
fn push(
    found: &mut Vec<Stated>,
    algorithm: Algorithm,
    covers: Covers,
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
        problems.push(format!("its {} is none: it cannot be checked", algorithm.as_str()));
    }
    // a value that is none is kept: what comes out will differ from it
    let expected = String::from_utf8_lossy(&value[..value.len().min(128)]).into_owned();
    found.push(Stated { algorithm, covers, start, end, expected: Some(expected) });
}

/// One digest in the making.
pub(crate) struct Computing {
    at: usize,
    start: u64,
    end: u64,
    state: State,
}

enum State {
    Size(u64),
    Cksum(Cksum),
    Md5(Md5),
    Sha256(Sha256),
}

impl Computing {
    /// The digest number `at` of a list.
    pub(crate) fn new(at: usize, stated: &Stated) -> Computing {
        let state = match stated.algorithm {
            Algorithm::Size => State::Size(0),
            Algorithm::Cksum => State::Cksum(Cksum::default()),
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
        };
        Computing { at, start: stated.start, end: stated.end, state }
    }

    /// Takes what of `bytes`, which stand at `offset` of the file, it covers.
    pub(crate) fn update(&mut self, offset: u64, bytes: &[u8]) {
        let to = |at: u64| at.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let (from, to) = (to(self.start), to(self.end));
        if from >= to {
            return;
        }
        let bytes = &bytes[from..to];
        match &mut self.state {
            State::Size(size) => *size += bytes.len() as u64,
            State::Cksum(cksum) => cksum.update(bytes),
            State::Md5(md5) => md5.update(bytes),
            State::Sha256(sha) => sha.update(bytes),
        }
    }

    /// Its number in the list and its value.
    pub(crate) fn finish(self) -> (usize, String) {
        let value = match self.state {
            State::Size(size) => size.to_string(),
            State::Cksum(cksum) => cksum.finish().to_string(),
            State::Md5(md5) => hex::encode(md5.finalize()),
            State::Sha256(sha) => hex::encode(sha.finalize()),
        };
        (self.at, value)
    }
}
