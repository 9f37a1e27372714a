//! The head of a `.run` file: shell assignments, then a stub, then perhaps a
//! decompressor program, then the payload.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use crate::assignments::{Assignments, lines, number, raw_value, trim_start, unquote};
use crate::compression::Compression;
use crate::digest::{DigestSpec, carried_digests};
use crate::installer_name::{Arch, Flavour, InstallerName};
use crate::layout::{Dialect, Part};
use crate::stub::Stub;

/// Where the payload may begin at the latest. A stub has 40 KB, an embedded
/// decompressor 100 KB to 2 MB.
const MOST_HEAD: usize = 16 << 20;
/// Lines before the payload at most.
const MOST_LINES: u64 = 1 << 20;
/// Bytes of stub in which assignments and texts are looked for.
const MOST_STUB: usize = 1 << 20;
/// Parts of an archive that was appended to.
const MOST_PARTS: usize = 64;
/// What sniffing a compression needs behind the payload's beginning.
const SNIFF: usize = 512;

/// Everything that the head of a file says.
#[derive(Clone, Debug)]
pub struct Header {
    /// Whose makeself wrote it.
    pub dialect: Dialect,
    /// Version of makeself, such as `1.6.0-nv9` or `2.4.5`.
    pub makeself: Option<String>,
    /// One line about the content.
    pub label: Option<String>,
    /// Directory that it unpacks to.
    pub target_dir: Option<String>,
    /// What it would run.
    pub script: Option<String>,
    /// Version, architecture and flavour.
    pub name: InstallerName,
    /// Size of the whole file in bytes.
    pub size: u64,
    /// First byte of the payload.
    pub payload: u64,
    /// The archives in it; one unless something was appended.
    pub parts: Vec<Part>,
    /// Embedded program for the payload's compression.
    pub decompressor: Option<Range<u64>>,
    /// How the first part is compressed, by its first bytes.
    pub compression: Compression,
    /// The digests that the file carries.
    pub digests: Vec<DigestSpec>,
    /// What the stub says beside its assignments.
    pub stub: Stub,
    /// What is odd about it, in words.
    pub problems: Vec<String>,
}

/// Why a file cannot be taken for a `.run` installer.
#[derive(Debug)]
pub enum HeaderError {
    /// It cannot be read.
    Io(io::Error),
    /// It is something else, or damaged.
    NotInstaller(String),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Io(error) => write!(f, "{error}"),
            HeaderError::NotInstaller(why) => write!(f, "not a .run installer: {why}"),
        }
    }
}

impl std::error::Error for HeaderError {}

fn not(why: impl Into<String>) -> HeaderError {
    HeaderError::NotInstaller(why.into())
}

impl Header {
    /// Reads the head of a file of `size` bytes from its beginning. `file_name`
    /// is where suffixes such as `-grid` stand; empty where it is not known.
    pub fn read(input: &mut dyn Read, size: u64, file_name: &str) -> Result<Header, HeaderError> {
        let mut head = Head { input, bytes: Vec::new(), ended: false };
        head.fill(64 << 10)?;
        if !first_line_is_shell(&head.bytes) {
            return Err(not("the first line is not '#!/bin/sh'"));
        }
        head.fill(256 << 10)?;
        let (rule, line) = payload_line(&head.bytes)?;
        let at = head.line_start(line)?;
        head.fill(at + SNIFF)?;
        Header::of(&head.bytes, size, at, rule, file_name)
    }

    fn of(
        bytes: &[u8],
        size: u64,
        at: usize,
        rule: Dialect,
        file_name: &str,
    ) -> Result<Header, HeaderError> {
        let vars = Assignments { text: &bytes[..at.min(MOST_STUB)] };
        let mut problems = Vec::new();
        let payload = at as u64;
        if payload >= size {
            return Err(not("there is nothing behind the stub"));
        }
        let decompressor = match rule {
            Dialect::Nvidia => decompressor(&vars, bytes, at, &mut problems),
            Dialect::Makeself => None,
        };
        let stub_end = decompressor.as_ref().map_or(at, |range| range.start as usize);
        let stub_text = &bytes[..stub_end.min(MOST_STUB)];
        let parts = match rule {
            Dialect::Nvidia => vec![Part { start: payload, end: size }],
            Dialect::Makeself => parts(&vars, payload, size, &mut problems)?,
        };
        let first = parts.first().map_or(payload, |part| part.start) as usize;
        let compression = Compression::sniff(bytes.get(first..).unwrap_or_default());
        let digests = carried_digests(rule, bytes, &vars, &parts, payload, size, &mut problems);
        let (label, target_dir) = (vars.text("label"), vars.text("targetdir"));
        let name = InstallerName::of(
            file_name,
            vars.text("version_string").as_deref(),
            vars.text("TARGET_ARCH").as_deref(),
            label.as_deref(),
            target_dir.as_deref(),
            &mut problems,
        );
        Ok(Header {
            dialect: rule,
            makeself: makeself_version(stub_text),
            label,
            target_dir,
            script: vars.text("script"),
            name,
            size,
            payload,
            parts,
            decompressor,
            compression,
            digests,
            stub: Stub::of(rule, stub_text),
            problems,
        })
    }

    /// Version of the driver, or of CUDA.
    pub fn version(&self) -> Option<&str> {
        self.name.version.as_deref()
    }

    /// Architecture.
    pub fn arch(&self) -> Option<Arch> {
        self.name.arch
    }

    /// Flavour.
    pub fn flavour(&self) -> Flavour {
        self.name.flavour
    }

    /// Compressed bytes in all parts.
    pub fn payload_size(&self) -> u64 {
        self.parts.iter().map(|part| part.end - part.start).sum()
    }
}

/// The beginning of a file, read as far as needed.
struct Head<'a> {
    input: &'a mut dyn Read,
    bytes: Vec<u8>,
    ended: bool,
}

impl Head<'_> {
    /// Has at least `most` bytes, fewer where the file ends before.
    fn fill(&mut self, most: usize) -> Result<(), HeaderError> {
        let most = most.min(MOST_HEAD + SNIFF);
        while !self.ended && self.bytes.len() < most {
            let missing = (most - self.bytes.len()) as u64;
            let got = (&mut *self.input).take(missing).read_to_end(&mut self.bytes);
            self.ended = got.map_err(HeaderError::Io)? == 0;
        }
        Ok(())
    }

    /// Offset of line `line`, counted from 1. Lines end at 0x0a wherever it
    /// stands: the embedded decompressor is counted through as well.
    fn line_start(&mut self, line: u64) -> Result<usize, HeaderError> {
        if line <= 1 || line > MOST_LINES {
            return Err(not(format!("the payload cannot begin at line {line}")));
        }
        let (mut from, mut left) = (0, line - 1);
        loop {
            for at in memchr::memchr_iter(b'\n', &self.bytes[from..]) {
                left -= 1;
                if left == 0 {
                    return Ok(from + at + 1);
                }
            }
            from = self.bytes.len();
            if from >= MOST_HEAD {
                return Err(not(format!("no payload in the first {} MiB", MOST_HEAD >> 20)));
            }
            self.fill(from + (1 << 20))?;
            if self.bytes.len() == from {
                return Err(not(format!("it ends before line {line}, where the payload begins")));
            }
        }
    }
}

fn first_line_is_shell(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    matches!(line, b"#! /bin/sh" | b"#!/bin/sh" | b"#! /bin/bash" | b"#!/bin/bash")
}

/// Which rule holds, and at which line the payload begins by it.
fn payload_line(bytes: &[u8]) -> Result<(Dialect, u64), HeaderError> {
    let text = &bytes[..bytes.len().min(MOST_STUB)];
    if let Some(value) = raw_value(text, "skip") {
        let quoted = unquote(value);
        let line = number(quoted).ok_or_else(|| not("its skip= is not a number"))?;
        let after = quoted.len() != value.len();
        return match after {
            true => Ok((Dialect::Makeself, line.saturating_add(1))),
            false => Ok((Dialect::Nvidia, line)),
        };
    }
    // before 2.4.2: offset=`head -n 401 "$0" | wc -c`, in 2.1.1 `head -401`
    for line in lines(text) {
        let Some(rest) = trim_start(line).strip_prefix(b"offset=`head -") else { continue };
        let rest = rest.strip_prefix(b"n ").unwrap_or(rest);
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if let Some(line) = number(&rest[..digits]) {
            return Ok((Dialect::Makeself, line.saturating_add(1)));
        }
    }
    Err(not("no skip= and no offset= says where the payload begins"))
}

/// The archives of upstream's `filesizes="S1 S2"`, clipped to the file.
fn parts(
    vars: &Assignments<'_>,
    payload: u64,
    size: u64,
    problems: &mut Vec<String>,
) -> Result<Vec<Part>, HeaderError> {
    let Some(sizes) = vars.text("filesizes") else {
        return Ok(vec![Part { start: payload, end: size }]);
    };
    let words: Vec<&str> = sizes.split_ascii_whitespace().collect();
    if words.is_empty() || words.len() > MOST_PARTS {
        return Err(not(format!("filesizes= names {} parts", words.len())));
    }
    let mut parts = Vec::new();
    let mut start = payload;
    for word in words {
        let bytes = number(word.as_bytes()).ok_or_else(|| not("filesizes= holds no numbers"))?;
        let end = start.saturating_add(bytes);
        parts.push(Part { start: start.min(size), end: end.min(size) });
        start = end;
    }
    if start > size {
        problems.push(format!("cut off: {} bytes are missing at its end", start - size));
    } else if start < size {
        problems.push(format!("{} bytes follow its last part", size - start));
    }
    Ok(parts)
}

/// NVIDIA's embedded decompressor: `size_decompress` lines from line
/// `skip_decompress` on, right before the payload.
fn decompressor(
    vars: &Assignments<'_>,
    bytes: &[u8],
    payload: usize,
    problems: &mut Vec<String>,
) -> Option<Range<u64>> {
    let line = number(vars.raw("skip_decompress")?)?;
    let lines = number(vars.raw("size_decompress")?)?;
    if lines == 0 {
        return None;
    }
    let newlines = usize::try_from(line.checked_sub(2)?).ok()?;
    let start = memchr::memchr_iter(b'\n', &bytes[..payload]).nth(newlines).map(|at| at + 1)?;
    let between = memchr::memchr_iter(b'\n', &bytes[start..payload]).count() as u64;
    if between != lines {
        problems.push(format!(
            "its decompressor should have {lines} lines and there are {between} before the payload"
        ));
    }
    Some(start as u64..payload as u64)
}

/// `Makeself 1.6.0-nv9` in NVIDIA's comment, `using Makeself 2.4.5` upstream.
fn makeself_version(stub: &[u8]) -> Option<String> {
    for line in lines(stub).take(200).filter(|line| line.starts_with(b"#")) {
        let text = String::from_utf8_lossy(line);
        let Some((_, rest)) = text.split_once("Makeself ") else { continue };
        let word = rest.split_ascii_whitespace().next().unwrap_or_default();
        if word.starts_with(|c: char| c.is_ascii_digit()) && word.len() <= 32 {
            return Some(word.to_string());
        }
    }
    None
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
