//! The strict reader: all of the input, checked, before the caller changes
//! anything.

use std::fmt;
use std::io::{self, BufRead};

use serde::Deserialize;

use crate::{Address, ErrorRecord, Record, SCHEMAS, StreamPart};

/// How much a reader takes in before it gives up. A pipe may be hostile or
/// simply the wrong one.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Bytes in one line, its newline not counted.
    pub line: usize,
    /// Bytes in all.
    pub total: u64,
    /// Records that are kept. Each takes far more memory than the shortest line that makes
    /// one.
    pub records: usize,
}

impl Default for ReadLimits {
    /// 1 MiB a line (a PF with 256 VFs needs 16 KiB), 256 MiB in all, twice the functions
    /// of a PCI domain.
    fn default() -> ReadLimits {
        ReadLimits { line: 1 << 20, total: 256 << 20, records: 131_072 }
    }
}

/// What a stream held.
#[derive(Debug, Default)]
pub struct RecordStream {
    /// The records that the caller wanted, each with its line number (from 1).
    pub records: Vec<(usize, Record)>,
    /// Records that it has no use for: of an unknown type, or known and not
    /// wanted. By type, in order of first appearance.
    pub passed_over: Vec<(String, usize)>,
    /// The tool whose stream has begun and not ended.
    open: Option<String>,
}

/// Why a stream cannot be used.
#[derive(Debug)]
pub enum ReadError {
    /// The input itself failed.
    Io(io::Error),
    /// A line is not a record.
    Line {
        /// From 1.
        number: usize,
        /// Why, for the message.
        why: String,
    },
    /// More than [`ReadLimits::total`] bytes.
    TooLarge(u64),
    /// More than [`ReadLimits::records`] records, or as many types.
    TooMany(usize),
    /// The stream of this tool began and did not end.
    CutOff(String),
    /// A tool earlier in the pipeline failed and printed an `error` record.
    Upstream(ErrorRecord),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "cannot read standard input: {error}"),
            ReadError::Line { number, why } => write!(f, "standard input line {number}: {why}"),
            ReadError::TooLarge(most) => {
                write!(f, "standard input is larger than {most} bytes: not a stream of records")
            }
            ReadError::TooMany(most) => {
                write!(f, "standard input has more than {most} records or types of records")
            }
            ReadError::CutOff(tool) => write!(
                f,
                "the records of {tool} are cut off: it was ended, or not all lines were passed on"
            ),
            ReadError::Upstream(error) => {
                write!(
                    f,
                    "stopped: {} failed earlier in the pipeline: {}",
                    error.tool, error.message
                )
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// Types of records that a stream may have beside those that are wanted: each is remembered
/// and counted. These tools have a dozen.
const MOST_TYPES: usize = 1_000;

/// The one key that every record must have.
#[derive(Deserialize)]
struct Peek {
    r#type: String,
}

/// Whether a type is one of ours: those that have a schema.
fn is_known(name: &str) -> bool {
    SCHEMAS.iter().any(|schema| schema.name == name)
}

/// Reads a whole stream. `wanted` names the types that the caller has a use
/// for; others are checked to be records, counted and passed over. Blank lines
/// are skipped. An `error` record is always an error: it says that what follows
/// is missing.
pub fn read(
    input: &mut dyn BufRead,
    limits: ReadLimits,
    wanted: &[&str],
) -> Result<RecordStream, ReadError> {
    let mut stream = RecordStream::default();
    let mut line = Vec::new();
    let mut total = 0u64;
    let mut number = 0usize;
    loop {
        number += 1;
        line.clear();
        let ended = read_line(input, &mut line, limits.line).map_err(|error| match error {
            LineError::Io(error) => ReadError::Io(error),
            LineError::TooLong => {
                ReadError::Line { number, why: format!("longer than {} bytes", limits.line) }
            }
        })?;
        total += line.len() as u64 + 1;
        if total > limits.total {
            return Err(ReadError::TooLarge(limits.total));
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            take(&line, number, wanted, &mut stream)?;
        }
        if stream.records.len() > limits.records {
            return Err(ReadError::TooMany(limits.records));
        }
        if stream.passed_over.len() > MOST_TYPES {
            return Err(ReadError::TooMany(MOST_TYPES));
        }
        if ended {
            return match stream.open.take() {
                Some(tool) => Err(ReadError::CutOff(tool)),
                None => Ok(stream),
            };
        }
    }
}

fn take(
    line: &[u8],
    number: usize,
    wanted: &[&str],
    stream: &mut RecordStream,
) -> Result<(), ReadError> {
    let bad = |why: String| ReadError::Line { number, why };
    let text = std::str::from_utf8(line).map_err(|_| bad("not UTF-8".into()))?;
    if !text.trim_start().starts_with('{') {
        return Err(bad(no_object(text)));
    }
    let peek: Peek = serde_json::from_str(text).map_err(|error| bad(explain(&error)))?;
    let pass = |stream: &mut RecordStream, name: String| match stream
        .passed_over
        .iter_mut()
        .find(|(known, _)| *known == name)
    {
        Some((_, count)) => *count += 1,
        None => stream.passed_over.push((name, 1)),
    };
    if !is_known(peek.r#type.as_str()) {
        pass(stream, peek.r#type);
        return Ok(());
    }
    let record: Record = serde_json::from_str(text)
        .map_err(|error| bad(format!("not a {} record: {}", peek.r#type, explain(&error))))?;
    match record {
        Record::Error(error) => Err(ReadError::Upstream(error)),
        Record::Stream(of) => {
            stream.open = (of.part == StreamPart::Begin).then_some(of.tool);
            Ok(())
        }
        record if wanted.contains(&record.type_name()) => {
            stream.records.push((number, record));
            Ok(())
        }
        _ => {
            pass(stream, peek.r#type);
            Ok(())
        }
    }
}

/// Of a line that does not even look like a record. A person who pipes an
/// address or a table does not need JSON's grammar explained.
fn no_object(line: &str) -> String {
    let shown: String = line.trim().chars().take(40).collect();
    if line.trim().parse::<Address>().is_ok() {
        return format!("'{shown}' is an address, not a record; name it on the command line");
    }
    format!(
        "'{shown}' is not a record: one JSON object a line is expected (as --output jsonl prints)"
    )
}

/// serde_json's message without its own line number, which is always 1 here.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = match text.split_once(" at line ") {
        Some((why, _)) => why.to_string(),
        None => text,
    };
    if error.is_eof() {
        format!("cut off ({text})")
    } else if error.is_syntax() {
        format!("not JSON ({text} at column {})", error.column())
    } else {
        text
    }
}

enum LineError {
    Io(io::Error),
    TooLong,
}

/// Reads up to and without the next newline; true at the end of the input.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>, most: usize) -> Result<bool, LineError> {
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(LineError::Io(error)),
        };
        if chunk.is_empty() {
            return Ok(true);
        }
        let (part, used, done) = match chunk.iter().position(|b| *b == b'\n') {
            Some(at) => (&chunk[..at], at + 1, true),
            None => (chunk, chunk.len(), false),
        };
        if line.len() + part.len() > most {
            return Err(LineError::TooLong);
        }
        line.extend_from_slice(part);
        input.consume(used);
        if done {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<RecordStream, ReadError> {
        read(&mut text.as_bytes(), ReadLimits::default(), &["pci-device"])
    }

    #[test]
    fn an_address_is_enough_of_a_pci_device() {
        let stream = all("{\"type\":\"pci-device\",\"address\":\"41:00.0\"}").unwrap();
        let Record::PciDevice(device) = &stream.records[0].1 else { panic!() };
        assert_eq!(device.address.to_string(), "0000:41:00.0");
    }

    #[test]
    fn keys_of_a_later_version_are_ignored() {
        let line = "{\"type\":\"pci-device\",\"address\":\"0000:41:00.0\",\"new\":[1]}\n";
        assert_eq!(all(line).unwrap().records.len(), 1);
    }

    #[test]
    fn unknown_and_unwanted_types_are_counted() {
        let stream = all("{\"type\":\"weather\"}\n\n{\"type\":\"weather\",\"x\":1}\n\
             {\"type\":\"check\",\"subject\":\"a\",\"property\":\"b\",\"expected\":null,\
             \"actual\":null,\"status\":\"ok\",\"severity\":\"info\",\"hint\":null}\n")
        .unwrap();
        assert!(stream.records.is_empty());
        assert_eq!(stream.passed_over, [("weather".to_string(), 2), ("check".to_string(), 1)]);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for (text, why) in [
            ("{\"type\":\"pci-device\",\"address\":\"0000:41:0", "line 1: cut off"),
            ("\n\n{]\n", "line 3: not JSON"),
            ("{}\n", "line 1: missing field `type`"),
            ("[]\n", "line 1: "),
            (
                "{\"type\":\"pci-device\"}\n",
                "line 1: not a pci-device record: missing field `address`",
            ),
            ("{\"type\":\"pci-device\",\"address\":\"1\"}\n", "is not a PCI address"),
            (
                "{\"type\":\"pci-device\",\"type\":\"error\",\"address\":\"41:00.0\"}\n",
                "duplicate field",
            ),
            (
                "{\"type\":\"pci-device\",\"address\":\"41:00.0\",\"address\":\"42:00.0\"}\n",
                "duplicate field",
            ),
        ] {
            let message = all(text).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
        let message = read(&mut &b"\xff\xfe\n"[..], ReadLimits::default(), &[]).unwrap_err();
        assert!(message.to_string().contains("line 1: not UTF-8"));
    }

    #[test]
    fn limits_hold_for_a_line_and_for_the_whole() {
        let limits = ReadLimits { line: 64, total: 200, records: 10 };
        let long = format!("{{\"type\":\"{}\"}}\n", "x".repeat(80));
        assert!(matches!(
            read(&mut long.as_bytes(), limits, &[]),
            Err(ReadError::Line { number: 1, .. })
        ));
        let many = "{\"type\":\"x\"}\n".repeat(100);
        assert!(matches!(read(&mut many.as_bytes(), limits, &[]), Err(ReadError::TooLarge(200))));
        // an endless line is refused without being held
        let endless = io::BufReader::new(io::repeat(b'a'));
        assert!(read(&mut { endless }, limits, &[]).is_err());
    }

    /// 210 MB of minimal records took 7.4 GB, and 80,000 distinct types 28 s.
    #[test]
    fn records_and_types_are_limited_by_their_number() {
        let limits = ReadLimits { records: 3, ..ReadLimits::default() };
        let many = "{\"type\":\"pci-device\",\"address\":\"41:00.0\"}\n".repeat(4);
        let read = |text: &str| read(&mut text.as_bytes(), limits, &["pci-device"]);
        assert!(matches!(read(&many), Err(ReadError::TooMany(3))));
        let types: String = (0..80_000).map(|n| format!("{{\"type\":\"t{n}\"}}\n")).collect();
        assert!(matches!(read(&types), Err(ReadError::TooMany(MOST_TYPES))));
    }

    /// `(lister | head -4; kill -9) | lxc-gpu-conf add` planned the first GPU only.
    #[test]
    fn a_stream_that_begins_and_does_not_end_is_cut_off() {
        let line = |part: &str, records: &str| {
            format!(
                "{{\"type\":\"stream\",\"tool\":\"x\",\"part\":\"{part}\",\"records\":{records}}}\n"
            )
        };
        let device = "{\"type\":\"pci-device\",\"address\":\"41:00.0\"}\n";
        let whole = format!("{}{device}{device}{}", line("begin", "null"), line("end", "2"));
        assert_eq!(all(&whole).unwrap().records.len(), 2);
        assert_eq!(all(&format!("{whole}{whole}")).unwrap().records.len(), 4);
        // what a filter leaves of it, with both ends or with neither
        assert_eq!(all(&whole.replacen(device, "", 1)).unwrap().records.len(), 1);
        assert_eq!(all(device).unwrap().records.len(), 1);
        let cut: String = whole.lines().take(3).map(|line| format!("{line}\n")).collect();
        assert!(matches!(all(&cut), Err(ReadError::CutOff(tool)) if tool == "x"));
    }

    #[test]
    fn an_error_record_stops_the_reader() {
        let text = "{\"type\":\"error\",\"tool\":\"x\",\"message\":\"no\",\"exit\":3}\n";
        assert!(matches!(all(text), Err(ReadError::Upstream(error)) if error.exit == 3));
    }
}
