//! Records on their way out: JSON lines into a pipe, tables onto a terminal.

use std::io::{self, BufWriter, IsTerminal, Write};

use crate::table::render;
use crate::{Change, ChangeStatus, Record};

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

/// Where a tool puts its records: standard output, buffered.
///
/// Lines go out as they come; tables wait for [`RecordWriter::finish`], since a column
/// is as wide as its widest cell.
pub struct RecordWriter {
    out: BufWriter<io::Stdout>,
    jsonl: bool,
    held: Vec<Record>,
}

impl RecordWriter {
    /// A writer for standard output.
    pub fn stdout(output: Output) -> RecordWriter {
        RecordWriter {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
            jsonl: output.is_jsonl(),
            held: Vec::new(),
        }
    }

    /// Whether records come out as JSON lines.
    pub fn is_jsonl(&self) -> bool {
        self.jsonl
    }

    /// Writes or holds one record. Errors: those of standard output.
    pub fn put(&mut self, record: Record) -> io::Result<()> {
        if self.jsonl {
            serde_json::to_writer(&mut self.out, &record)?;
            self.out.write_all(b"\n")
        } else {
            self.held.push(record);
            Ok(())
        }
    }

    /// Writes what is held and flushes. Errors: those of standard output; a
    /// full disk shows here, so the result must not be dropped.
    pub fn finish(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.out.write_all(render(&held).as_bytes())?;
        }
        self.out.flush()
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
