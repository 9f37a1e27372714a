//! Exit codes, and the frame around every tool's main.

use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use record::{ErrorRecord, Output, Record, Sink};

use crate::options::Common;
use crate::say::{Say, print_help};

/// The exit codes, the same in every tool. Where several apply the highest wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, or already so.
    #[default]
    Done = 0,
    /// The answer is no: a check found a difference.
    Difference = 1,
    /// Usage or bad input; nothing was done.
    Usage = 2,
    /// The system refused; what was undone is in the records.
    System = 3,
    /// Refused for safety; nothing was done.
    Refused = 4,
}

/// Why a tool stops: its exit code, what went wrong, what to do next.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// One line, lower case.
    pub message: String,
    /// What to do next, where we know.
    pub hint: Option<String>,
    /// An `error` record that came in and is passed on as it is.
    pub upstream: Option<ErrorRecord>,
}

/// A failure with this exit code and message.
pub fn fail(exit: Exit, message: impl Into<String>) -> Failure {
    Failure { exit, message: message.into(), hint: None, upstream: None }
}

impl Failure {
    /// The same failure with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// A file access that failed while a tool was looking: the system refused.
impl From<host::FileError> for Failure {
    fn from(error: host::FileError) -> Failure {
        fail(Exit::System, error.to_string())
    }
}

/// What came in on standard input is bad input, except that an `error` record
/// is somebody else's failure.
impl From<record::ReadError> for Failure {
    fn from(error: record::ReadError) -> Failure {
        let message = error.to_string();
        match error {
            record::ReadError::Upstream(upstream) => {
                Failure { upstream: Some(upstream), ..fail(Exit::System, message) }
            }
            record::ReadError::Io(_) => fail(Exit::System, message),
            _ => fail(Exit::Usage, message),
        }
    }
}

/// Parses the command line, runs `tool` and turns its outcome into an exit
/// code. A failure is one line on standard error and, where records go out as
/// JSON lines, an `error` record that stops whoever reads them. A reader that
/// closed the pipe is no failure.
pub fn run<P: Parser + Common>(tool: fn(&P, &Say, &mut Sink) -> anyhow::Result<Exit>) -> ExitCode {
    let command = P::command();
    let name = command.get_name().to_string();
    let parsed = match P::try_parse() {
        Ok(parsed) => parsed,
        Err(error) => return usage(&name, &error),
    };
    let common = parsed.common();
    let say = Say::new(&name, common.verbose, common.quiet);
    let mut sink = Sink::stdout(common.output.into());
    let outcome = tool(&parsed, &say, &mut sink);
    let exit = finish(&name, &say, &mut sink, outcome);
    ExitCode::from(exit as u8)
}

fn finish(name: &str, say: &Say, sink: &mut Sink, outcome: anyhow::Result<Exit>) -> Exit {
    let exit = match outcome {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => return Exit::Done,
        Err(error) => {
            let failure = match error.downcast::<Failure>() {
                Ok(failure) => failure,
                Err(other) => fail(Exit::System, format!("{other:#}")),
            };
            say.error(&failure);
            let record = failure.upstream.unwrap_or_else(|| ErrorRecord {
                tool: name.to_string(),
                message: failure.message,
                exit: failure.exit as u8,
            });
            // on a terminal the line above has said it all
            let written = if sink.is_jsonl() { sink.put(Record::Error(record)) } else { Ok(()) };
            match written {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    say.error(&format!("cannot write to standard output: {error}"));
                }
                _ => {}
            }
            failure.exit
        }
    };
    match sink.finish() {
        Ok(()) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            say.error(&format!("cannot write to standard output: {error}"));
            exit.max(Exit::System)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Help and version go to standard output with exit code 0; everything else
/// that clap has to say is a usage error, in our words' shape.
fn usage(name: &str, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let code =
            if print_help(&error.render().to_string()).is_ok() { 0 } else { Exit::System as u8 };
        return ExitCode::from(code);
    }
    let text = error.render().to_string();
    let say = Say::new(name, 0, false);
    let mut message = "a subcommand is missing".to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        say.plain(&text);
    } else {
        // clap: "error: <what>\n\n  tip: ...\n\nUsage: ...": what comes first is
        // enough, --help has the rest
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let what = text.split("\n\n").next().unwrap_or(text);
        message = what.split_whitespace().collect::<Vec<_>>().join(" ");
        say.error(&format!("{message}; try '{name} --help'"));
    }
    let mut sink = Sink::stdout(Output::Auto);
    if sink.is_jsonl() {
        let record = ErrorRecord { tool: name.to_string(), message, exit: Exit::Usage as u8 };
        // nobody may be reading, and the exit code says it too
        let _ = sink.put(Record::Error(record));
        let _ = sink.finish();
    }
    ExitCode::from(Exit::Usage as u8)
}
