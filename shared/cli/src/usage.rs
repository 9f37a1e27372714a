//! Usage errors: what is wrong with a command line, and what to type instead.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use record::{ErrorRecord, Exit, Output, Record, RecordWriter, fail};

use crate::options::{ADDRESS, Correction, NUMBER};
use crate::say::{Say, print_help};

/// Help and version go to standard output with exit code 0; everything else
/// that clap has to say is a usage error, in our words.
pub(crate) fn usage(
    command: &Command,
    args: &[String],
    error: &Error,
    corrections: &[Correction],
) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let code =
            if print_help(&error.render().to_string()).is_ok() { 0 } else { Exit::System as u8 };
        return ExitCode::from(code);
    }
    let name = command.get_name();
    let say = Say::new(name, 0, false);
    let (message, next) = explain(command, args, error, corrections);
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        && std::io::stderr().is_terminal()
    {
        say.plain(&error.render().to_string());
    }
    say.failure(&fail(Exit::Usage, message.clone()).hint(next.clone()));
    let mut writer = RecordWriter::stdout(Output::Auto);
    if writer.is_jsonl() {
        let record = ErrorRecord {
            tool: name.to_string(),
            message,
            exit: Exit::Usage as u8,
            hint: Some(next),
            commands: Vec::new(),
        };
        // the reader may be gone, and the exit code is enough
        let _ = writer.put(Record::Error(record));
        let _ = writer.finish();
    }
    ExitCode::from(Exit::Usage as u8)
}

/// What is wrong, and what to do next.
fn explain(
    command: &Command,
    args: &[String],
    error: &Error,
    corrections: &[Correction],
) -> (String, String) {
    let name = command.get_name();
    let verb = args.iter().find_map(|arg| command.find_subcommand(arg)).map(Command::get_name);
    let whole = verb.map_or(name.to_string(), |verb| format!("{name} {verb}"));
    let help = format!("try '{whole} --help' for more information");
    let verbs = || {
        let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
        format!("one of {}", verbs.map(Command::get_name).collect::<Vec<_>>().join(", "))
    };
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let similar = |kind| text(kind).map(|word| format!("did you mean '{word}'?"));
    let instead = |word: &str| {
        let found = corrections.iter().find(|(typed, _)| match typed.split_once(' ') {
            Some((of, typed)) => verb == Some(of) && fits(typed, word),
            None => fits(typed, word),
        });
        found.map(|(_, here)| format!("did you mean '{}'?", here.replace("{}", word)))
    };
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            ("a command is missing".into(), verbs())
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let next = instead(&word).or_else(|| similar(ContextKind::SuggestedSubcommand));
            (format!("unknown command '{word}'"), next.unwrap_or_else(verbs))
        }
        ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidArg).unwrap_or_default();
            let what = if word.starts_with('-') { "option" } else { "operand" };
            let next = instead(&word).or_else(|| similar(ContextKind::SuggestedArg));
            let of = verb.map_or(String::new(), |verb| format!(" for '{verb}'"));
            (format!("unknown {what} '{word}'{of}"), next.unwrap_or(help))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(missing)) => missing.join(" "),
                _ => "something".into(),
            };
            (format!("missing: {missing}"), help)
        }
        _ => {
            // clap: "error: <what>\n\n  tip: ...\n\nUsage: ...": what comes first
            // is enough, --help has the rest
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let what = text.split("\n\n").next().unwrap_or(text);
            let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
            (what, similar(ContextKind::SuggestedValue).unwrap_or(help))
        }
    }
}

fn fits(typed: &str, word: &str) -> bool {
    match typed {
        NUMBER => !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()),
        ADDRESS => word.parse::<record::Address>().is_ok() || word.parse::<record::Slot>().is_ok(),
        typed => typed == word,
    }
}
