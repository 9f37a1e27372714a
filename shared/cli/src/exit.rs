//! Exit codes, and the frame around every tool's main.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::iter;
use std::process::ExitCode;

use clap::Parser;
use record::{CommandLine, ErrorRecord, Hint, Record, RecordWriter};

use crate::help;
use crate::options::Common;
use crate::say::Say;
use crate::usage::usage;

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
    /// What to do next, in words, where we know.
    pub hint: Option<String>,
    /// The commands to run next, in order.
    pub commands: Vec<CommandLine>,
    /// An `error` record that came in and is passed on as it is.
    pub upstream: Option<ErrorRecord>,
}

/// A failure with this exit code and message.
pub fn fail(exit: Exit, message: impl Into<String>) -> Failure {
    Failure { exit, message: message.into(), hint: None, commands: Vec::new(), upstream: None }
}

impl Failure {
    /// The same failure with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with a command to run next.
    pub fn run(mut self, command: CommandLine) -> Failure {
        self.commands.push(command);
        self
    }

    /// The same failure with all that a hint says.
    pub fn advise(mut self, hint: Hint) -> Failure {
        self.hint = hint.words;
        self.commands = hint.commands;
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
pub fn run<P: Parser + Common>(
    tool: fn(&P, &Say, &mut RecordWriter) -> anyhow::Result<Exit>,
) -> ExitCode {
    let mut command = P::command();
    let name = command.get_name().to_string();
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(asked) = help::asked(&command, &words) {
        command = help::shaped(command, &asked);
        help::spell_out(&mut args);
    }
    let matches = command.try_get_matches_from_mut(iter::once(OsString::from(&name)).chain(args));
    let parsed = match matches.and_then(|mut matches| P::from_arg_matches_mut(&mut matches)) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&command, &words, &error, P::INSTEAD),
    };
    let common = parsed.common();
    let say = Say::new(&name, common.verbose, common.quiet);
    let mut writer = RecordWriter::stdout(common.output.into());
    let outcome = tool(&parsed, &say, &mut writer);
    let exit = finish(&name, &say, &mut writer, outcome);
    ExitCode::from(exit as u8)
}

fn finish(name: &str, say: &Say, writer: &mut RecordWriter, outcome: anyhow::Result<Exit>) -> Exit {
    let exit = match outcome {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => return Exit::Done,
        Err(error) => {
            let failure = match error.downcast::<Failure>() {
                Ok(failure) => failure,
                Err(other) => fail(Exit::System, format!("{other:#}")),
            };
            say.failure(&failure);
            let record = failure.upstream.unwrap_or_else(|| ErrorRecord {
                tool: name.to_string(),
                message: failure.message,
                exit: failure.exit as u8,
                hint: failure.hint,
                commands: failure.commands,
            });
            // on a terminal the line above has said it all
            let written =
                if writer.is_jsonl() { writer.put(Record::Error(record)) } else { Ok(()) };
            match written {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    say.error(&format!("cannot write to standard output: {error}"));
                }
                _ => {}
            }
            failure.exit
        }
    };
    match writer.finish() {
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
