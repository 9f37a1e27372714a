//! What -h and --help show: the first fits a screen, the second says all that
//! the definitions say, without a blank line between any two options.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// Columns of help: what every terminal has.
const COLUMNS: usize = 80;

/// What of a command line matters for help.
pub(crate) struct HelpRequest {
    /// `--help`, or `help` in front.
    long: bool,
    /// A command of the tool is named.
    verb: bool,
}

/// What kind of help a command line asks for; `None` where it asks for none.
pub(crate) fn requested(command: &Command, args: &[String]) -> Option<HelpRequest> {
    let args = args.iter().take_while(|arg| *arg != "--");
    let mut request = HelpRequest { long: false, verb: false };
    let mut any = false;
    for (at, arg) in args.enumerate() {
        let first = at == 0 && arg == "help" && command.has_subcommands();
        request.long |= first || arg == "--help";
        any |= first || matches!(arg.as_str(), "--help" | "-h");
        request.verb |= command.find_subcommand(arg).is_some();
    }
    any.then_some(request)
}

/// `TOOL help VERB` is `TOOL VERB --help`.
pub(crate) fn spell_out(args: &mut Vec<OsString>) {
    if args.first().is_some_and(|first| first == "help") {
        args.remove(0);
        args.push("--help".into());
    }
}

/// The definitions with the texts that are to be shown.
pub(crate) fn shaped(command: Command, request: &HelpRequest) -> Command {
    let command = command.term_width(terminal_width());
    if request.long { full(command, request.verb) } else { short(command, request.verb) }
}

fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
    columns.unwrap_or(COLUMNS).clamp(40, COLUMNS)
}

/// Options that every command has are named in one line below its own.
fn short(command: Command, verb: bool) -> Command {
    let command = command.disable_help_subcommand(true).mut_args(|arg| {
        // without it the line is too long
        let arg = match arg.get_id() == "output" {
            true => arg.hide_default_value(true),
            false => arg,
        };
        if verb && arg.is_global_set() { arg.hide_short_help(true) } else { arg }
    });
    command.mut_subcommands(|verb| {
        verb.after_help("Every command accepts -o FORMAT, --root DIR, -v and -q (see --help)")
    })
}

/// Everything, in the compact form that clap has for -h only. What all
/// commands take is explained where no command is named.
fn full(command: Command, verb: bool) -> Command {
    let explained = |command: Command| {
        let about = command.get_long_about().or(command.get_about()).cloned();
        match about {
            Some(about) => command.about(about).long_about(None),
            None => command,
        }
    };
    let command = command.disable_help_subcommand(true);
    if verb {
        let command = command.mut_args(|arg| arg.long_help(None));
        command.mut_subcommands(|verb| compact(explained(verb)))
    } else {
        compact(explained(command))
    }
}

fn compact(command: Command) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort);
    let help = help.help("Print help; -h for a summary");
    command.mut_args(with_full_text).disable_help_flag(true).arg(help)
}

/// An argument whose one help text holds its long help and its values.
fn with_full_text(arg: Arg) -> Arg {
    let text = arg.get_long_help().or(arg.get_help()).map(ToString::to_string);
    let mut text = text.unwrap_or_default().replace("\n\n", "\n");
    let values = arg.get_possible_values();
    let explained = values.iter().any(|value| value.get_help().is_some());
    // a switch has the values true and false
    let explained = explained && arg.get_action().takes_values();
    for value in values.iter().filter(|value| explained && !value.is_hide_set()) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        text += &format!("\n{}: {}", value.get_name(), lower(&help));
    }
    arg.help(text).long_help(None).hide_possible_values(explained).hide_short_help(false)
}

/// The first letter small, unless it begins a name: CUDA, OpenGL.
fn lower(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !word.chars().skip(1).any(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_string(),
    }
}
