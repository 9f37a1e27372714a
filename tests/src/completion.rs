//! Completions: what clap_complete writes, and words that only the machine
//! knows. Those come from one shell script, which all three carry.

use std::fmt::Write as _;

use clap::{Arg, Command, ValueHint};
use clap_complete::{Generator, Shell, generate};

/// Prints candidates; it has no single quote and no backslash, so that every
/// shell takes it between single quotes.
const CANDIDATES: &str = include_str!("completions/candidates.sh");
const BASH: &str = include_str!("completions/wrap.bash");
const ZSH: &str = include_str!("completions/words.zsh");
const FISH: &str = include_str!("completions/words.fish");

/// What an argument's value is, as `candidates.sh` calls it; `runfile` is a file
/// by its name. `None`: what clap knows is all.
fn kind(command: &Command, arg: &Arg) -> Option<&'static str> {
    let tool = command.get_name();
    let value = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name);
    match (arg.get_long(), value) {
        (_, "CTID") => Some("ctid"),
        (_, "GPU") => Some("gpu"),
        (Some("driver"), _) if tool == "gpu-vfio-bind" => Some("vfio"),
        (_, "DRIVER") => Some("driver"),
        (_, name) if name.starts_with("FUNCTION") && tool == "vgpu-profile-set" => Some("vf"),
        (_, name) if name.starts_with("FUNCTION") => Some("function"),
        (Some(_), "VERSION") => Some("cached"),
        (None, name) if name.starts_with("VERSION") => Some("version"),
        (Some("runfile"), _) => Some("runfile"),
        (None, "FILE") if tool == "nv-runfile" => Some("runfile"),
        _ => None,
    }
}

/// Tells shells what is a file and what is none.
fn hinted(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let value = arg.get_value_names().and_then(|names| names.first());
            let hint = match value.map_or("", |name| name) {
                "DIR" => ValueHint::DirPath,
                "FILE" | "PATH" => ValueHint::FilePath,
                "" => ValueHint::Unknown,
                _ => ValueHint::Other,
            };
            match arg.get_action().takes_values() {
                true => arg.value_hint(hint),
                false => arg,
            }
        })
        .mut_subcommands(hinted)
}

/// The completion of one tool for one shell.
pub fn completion(command: &Command, shell: Shell) -> String {
    assert!(!CANDIDATES.contains(['\'', '\\']), "candidates.sh stands between single quotes");
    let name = command.get_name().to_string();
    let made = generated(shell, hinted(command.clone()), &name);
    match shell {
        Shell::Bash => bash(command, &name, &made),
        Shell::Zsh => zsh(command, &made),
        _ => fish(command, &name, made),
    }
}

fn generated(shell: impl Generator, mut command: Command, name: &str) -> String {
    let mut out = Vec::new();
    generate(shell, &mut command, name, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

/// The tool's verbs, and itself as one without a name.
fn verbs(command: &Command) -> Vec<(&str, &Command)> {
    let verbs = command.get_subcommands().map(|verb| (verb.get_name(), verb));
    std::iter::once(("", command)).chain(verbs).collect()
}

/// How an argument is typed.
fn spellings(arg: &Arg) -> Vec<String> {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    let aliases = aliases.into_iter().map(|alias| format!("--{alias}"));
    long.into_iter()
        .chain(aliases)
        .chain(arg.get_short().map(|short| format!("-{short}")))
        .collect()
}

fn bash(command: &Command, name: &str, made: &str) -> String {
    let function = name.replace('-', "__");
    let mut options = String::new();
    let mut operands = String::new();
    let mut valued: Vec<String> = Vec::new();
    for (verb, of) in verbs(command) {
        for arg in of.get_arguments() {
            let spelled = spellings(arg);
            if arg.get_action().takes_values() && !arg.is_require_equals_set() {
                valued.extend(spelled.iter().cloned());
            }
            let Some(kind) = kind(command, arg) else { continue };
            if arg.is_positional() {
                let _ = writeln!(operands, "            \"{verb}\") kind={kind} ;;");
            } else {
                let cases: Vec<String> =
                    spelled.iter().map(|option| format!("\"{verb},{option}\"")).collect();
                let _ = writeln!(options, "            {}) kind={kind} ;;", cases.join("|"));
            }
        }
    }
    valued.sort();
    valued.dedup();
    let names: Vec<&str> = verbs(command).into_iter().skip(1).map(|(name, _)| name).collect();
    let names = if names.is_empty() { "''".into() } else { names.join("|,,") };
    let wrap = BASH
        .replace("@FUNCTION@", &function)
        .replace("@VERBS@", &names)
        .replace("@VALUED@", &valued.join("|"))
        .replace("@OPTIONS@", options.trim_end())
        .replace("@OPERANDS@", operands.trim_end());
    let register = made.rfind("\nif [[").expect("clap_complete's last lines");
    let (functions, registers) = made.split_at(register);
    let registers =
        registers.replace(&format!("-F _{function}"), &format!("-F _pve_gpu_{function}"));
    format!("{functions}\n_pve_gpu_candidates='{CANDIDATES}'\n{wrap}{registers}")
}

fn zsh(command: &Command, made: &str) -> String {
    let mut text = String::new();
    for line in made.lines() {
        let args = verbs(command).into_iter().flat_map(|(_, of)| of.get_arguments());
        let mut found = args.filter_map(|arg| {
            let kind = kind(command, arg)?;
            let value = arg.get_value_names()?.first()?;
            let here = match arg.is_positional() {
                true => line.contains(&format!(":{} -- ", arg.get_id())),
                false => spellings(arg).iter().any(|option| {
                    (line.contains(&format!("{option}=[")) || line.contains(&format!("{option}+[")))
                        && line.contains(&format!("]:{value}:"))
                }),
            };
            here.then_some(kind)
        });
        match (found.next(), line.rsplit_once(':')) {
            (Some("runfile"), Some((before, _))) => {
                let _ = writeln!(text, "{before}: _files -g \"*.run\"' \\");
            }
            (Some(kind), Some((before, _))) => {
                let _ = writeln!(text, "{before}: _pve_gpu_complete {kind}' \\");
            }
            _ => {
                let _ = writeln!(text, "{line}");
            }
        }
        if line == "autoload -U is-at-least" {
            let _ = write!(text, "\ntypeset -g _pve_gpu_candidates='{CANDIDATES}'\n{ZSH}");
        }
    }
    text
}

fn fish(command: &Command, name: &str, made: String) -> String {
    let under = name.replace('-', "_");
    let mut text = made;
    let _ = write!(text, "\nset -g __pve_gpu_candidates '{CANDIDATES}'\n{FISH}\n");
    for (verb, of) in verbs(command) {
        let when = match (verb, command.has_subcommands()) {
            ("", true) => continue,
            ("", false) => String::new(),
            (verb, _) => format!(" -n \"__fish_{under}_using_subcommand {verb}\""),
        };
        for arg in of.get_arguments() {
            let Some(kind) = kind(command, arg) else { continue };
            let words = match kind {
                "runfile" => "-k -x -a '(__pve_gpu_runfiles)'".to_string(),
                kind => format!("-k -x -a '(__pve_gpu_complete {kind})'"),
            };
            let short = arg.get_short().map(|short| format!(" -s {short}")).unwrap_or_default();
            let long = arg.get_long().map(|long| format!(" -l {long}")).unwrap_or_default();
            let _ = writeln!(text, "complete -c {name}{when}{short}{long} {words}");
        }
    }
    text
}
