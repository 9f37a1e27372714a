//! Messages on standard error: `tool: what 'thing': why`.

// This module and shared/record are where printing happens.
#![allow(clippy::print_stderr)]

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

use record::{Exit, Failure, escape_controls, shell_words};

/// Prints the messages of one tool.
pub struct Say {
    tool: String,
    verbose: u8,
    quiet: bool,
}

impl Say {
    /// For `tool`.
    pub fn new(tool: &str, verbose: u8, quiet: bool) -> Say {
        Say { tool: tool.into(), verbose, quiet }
    }

    /// The tool's name.
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// Whether only errors are printed.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Why the tool fails; always printed.
    pub fn error(&self, what: &dyn Display) {
        self.line(&format!("error: {what}"));
    }

    /// Why the tool fails and what to do next, each hint and each command on a
    /// line of its own; always printed.
    pub fn failure(&self, failure: &Failure) {
        let label = if failure.exit == Exit::Refused { "refused" } else { "error" };
        let mut text = format!("{}: {label}: {}\n", self.tool, one_line(&failure.message));
        let commands = failure.commands.iter().map(|command| shell_words(command));
        for hint in failure.hint.iter().cloned().chain(commands) {
            text.push_str(&format!("  hint: {}\n", one_line(&hint)));
        }
        write(&text);
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
        write(&format!("{}: {}\n", self.tool, one_line(what)));
    }
}

/// Names in messages may come from anywhere: no control characters.
fn one_line(text: &str) -> Cow<'_, str> {
    escape_controls(text.trim_end())
}

/// In one write, so that lines of two tools in a pipeline do not mix. A closed
/// standard error is not a reason to fail.
fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Help and version text on standard output.
pub(crate) fn print_help(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
