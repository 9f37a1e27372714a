//! The frame around every tool's main.

use std::ffi::OsString;
use std::io;
use std::iter;
use std::process::ExitCode;

use clap::Parser;
use record::{ErrorRecord, Exit, Failure, Record, RecordWriter, fail};

use crate::help;
use crate::options::Common;
use crate::say::Say;
use crate::signals::report_file_limits;
use crate::usage::usage;

/// Parses the command line, runs `tool` and turns its outcome into an exit
/// code. A failure is one line on standard error and, where records go out as
/// JSON lines, an `error` record that stops the tool that reads them. A reader that
/// closed the pipe is not a failure.
pub fn run<P: Parser + Common>(
    tool: fn(&P, &Say, &mut RecordWriter) -> anyhow::Result<Exit>,
) -> ExitCode {
    report_file_limits();
    let mut command = P::command();
    let name = command.get_name().to_string();
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let Some(request) = help::requested(&command, &words) {
        command = help::shaped(command, &request);
        help::spell_out(&mut args);
    }
    let matches = command.try_get_matches_from_mut(iter::once(OsString::from(&name)).chain(args));
    let parsed = match matches.and_then(|mut matches| P::from_arg_matches_mut(&mut matches)) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&command, &words, &error, P::CORRECTIONS),
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
        // a tool that changes something goes on without its reader
        Err(error) if is_broken_pipe(&error) && !record::outlives_reader() => return Exit::Done,
        Err(error) => {
            let failure = match error.downcast::<Failure>() {
                Ok(failure) => failure,
                Err(other) => fail(Exit::System, format!("{other:#}")),
            };
            say.failure(&failure);
            let record =
                failure.upstream.map(|upstream| *upstream).unwrap_or_else(|| ErrorRecord {
                    tool: name.to_string(),
                    message: failure.message,
                    exit: failure.exit as u8,
                    hint: failure.hint,
                    commands: failure.commands,
                });
            // on a terminal the line above is enough
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
