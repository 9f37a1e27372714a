//! Words for people, on standard error: `tool: what 'thing': why`.

// This module and shared/record are where printing happens.
#![allow(clippy::print_stderr)]

use std::fmt::Display;
use std::io::{self, Write};

use record::escape_controls;

/// Speaks for one tool.
pub struct Say {
    tool: String,
    verbose: u8,
    quiet: bool,
}

impl Say {
    /// A voice for `tool`.
    pub fn new(tool: &str, verbose: u8, quiet: bool) -> Say {
        Say { tool: tool.into(), verbose, quiet }
    }

    /// The tool's name.
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// Whether only errors are said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Why the tool fails; always said.
    pub fn error(&self, what: &dyn Display) {
        self.line(&what.to_string());
    }

    /// Something that the user should know.
    pub fn warn(&self, what: &str) {
        if !self.quiet {
            self.line(&format!("warning: {what}"));
        }
    }

    /// Something that is good to know.
    pub fn note(&self, what: &str) {
        if !self.quiet {
            self.line(what);
        }
    }

    /// Something for `-v`.
    pub fn detail(&self, what: &str) {
        if self.verbose > 0 {
            self.line(what);
        }
    }

    /// Text as it is.
    pub(crate) fn plain(&self, text: &str) {
        eprint!("{text}");
    }

    fn line(&self, what: &str) {
        // names in messages may come from anywhere: no control characters
        let line = format!("{}: {}\n", self.tool, escape_controls(what.trim_end()));
        // one write, so that lines of two tools in a pipeline do not mix; a
        // closed standard error is no reason to fail
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Help and version text on standard output.
pub(crate) fn print_help(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
