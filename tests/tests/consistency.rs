//! The six tools as one: the same option is the same wherever it occurs, the
//! same things have the same names, and help fits a screen.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Arg;
use testbed::bed::program;
use testbed::pages::records_page;

mod tools;
use tools::{commands, tools};

/// Options that say something else in another tool, and why that is so.
const DIFFERENT: [(&str, &str); 13] = [
    ("all-cts", "to check: with a driver or a GPU; to install in: with a driver from nv-runfile"),
    ("all", "of what is all: functions, containers, entries, virtual functions"),
    ("check", "the lister changes nothing: its question is whether a GPU can be passed through"),
    ("ct", "into, from and in a container"),
    ("cuda", "a release to install; whether to look at CUDA"),
    ("driver", "a filter of the lister; what bind gives a function"),
    ("force", "gpu-vfio-bind has several kinds of objections, and each is overridden by its name"),
    ("libs", "remove has no sets to choose from"),
    ("mig", "add also takes a UUID, for which the instance must be there"),
    ("mode", "lxc-gpu-conf: of a node; nv-runfile: how a driver is installed"),
    ("warn-only", "what starts anyway: a container or a VM"),
    ("output", "tree and prometheus are for the tools that can draw and measure"),
    ("format", "what other programs can be told of vGPUs and of whole functions"),
];

fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

/// What of an option must be the same everywhere.
fn looks(arg: &Arg) -> String {
    let values: Vec<String> =
        arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
    let takes = arg.get_action().takes_values();
    let values = if takes { values.join(" ") } else { String::new() };
    let defaults = if takes { defaults.join(" ") } else { String::new() };
    let choices: Vec<String> =
        arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
    let choices = if takes { choices.join("|") } else { String::new() };
    format!("-{:?} <{values}> [{defaults}] ({choices}) {}", arg.get_short(), help(arg))
}

#[test]
fn the_same_option_is_the_same_everywhere() {
    let mut seen: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut shorts: BTreeMap<char, BTreeSet<String>> = BTreeMap::new();
    for (tool, verb, command) in commands() {
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else {
                assert!(arg.is_positional(), "{tool} {verb}: {} has no long form", arg.get_id());
                continue;
            };
            let place = format!("{tool} {verb}");
            seen.entry(long.into()).or_default().entry(looks(arg)).or_default().push(place);
            if let Some(short) = arg.get_short() {
                shorts.entry(short).or_default().insert(long.into());
            }
        }
    }
    for (long, looks) in &seen {
        let declared = DIFFERENT.iter().any(|(name, _)| name == long);
        assert!(declared || looks.len() == 1, "--{long} differs: {looks:#?}");
    }
    for (short, longs) in shorts.iter().filter(|(_, longs)| longs.len() > 1) {
        // all functions or all containers; IOMMU groups of the lister, GPUs of a container
        assert!(['a', 'g'].contains(short), "-{short} is {longs:?}");
    }
    for (name, _) in DIFFERENT {
        assert!(seen.get(name).is_some_and(|looks| looks.len() > 1), "--{name} differs no more");
    }
}

#[test]
fn every_tool_has_the_options_that_all_have() {
    for tool in tools() {
        let name = tool.command.get_name().to_string();
        let global: Vec<&Arg> = tool.command.get_arguments().collect();
        for (long, short) in
            [("output", Some('o')), ("root", None), ("verbose", Some('v')), ("quiet", Some('q'))]
        {
            let arg = global.iter().find(|arg| arg.get_long() == Some(long));
            let arg = arg.unwrap_or_else(|| panic!("{name} has no --{long}"));
            assert_eq!(arg.get_short(), short, "{name} --{long}");
            let everywhere = !tool.command.has_subcommands() || arg.is_global_set();
            assert!(everywhere, "{name}: --{long} stands in front of commands only");
        }
        assert!(tool.command.get_version().is_some(), "{name}");
    }
    // whoever can show a plan can be asked whether there is one
    for (tool, verb, command) in commands() {
        let has = |long| command.get_arguments().any(|arg| arg.get_long() == Some(long));
        assert!(!has("dry-run") || has("check"), "{tool} {verb}");
        assert!(has("dry-run") || !has("force"), "{tool} {verb}: --force without --dry-run");
    }
}

#[test]
fn the_same_command_does_the_same() {
    // what may stand in several tools, and what it does in all of them
    let known = [
        ("check", "exits 1 where something differs"),
        ("hook", "what a hookscript of Proxmox VE runs, with a VMID or CTID and a phase"),
        ("list", "prints what is there"),
    ];
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tool, verb, _) in commands().into_iter().filter(|(_, verb, _)| !verb.is_empty()) {
        seen.entry(verb).or_default().push(tool);
    }
    for (verb, tools) in seen.into_iter().filter(|(_, tools)| tools.len() > 1) {
        assert!(known.iter().any(|(name, _)| *name == verb), "{verb} of {tools:?} is not declared");
    }
    for tool in tools().iter().filter(|tool| tool.command.find_subcommand("check").is_some()) {
        let exits = tool.text.exit.iter().any(|(code, text)| *code == 1 && text.contains("check"));
        assert!(exits, "{}: exit 1 of check is not told", tool.command.get_name());
    }
}

#[test]
fn everything_has_a_help_of_one_style() {
    for (tool, verb, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let texts = command.get_arguments().map(|arg| (arg.get_id().to_string(), help(arg)));
        for (what, text) in texts.chain([("about".into(), about)]) {
            let place = format!("{tool} {verb} {what}: '{text}'");
            let first = text.chars().next().unwrap_or_else(|| panic!("{place}: no help"));
            assert!(first.is_uppercase() || text.starts_with("pre-start"), "{place}: lower case");
            assert!(!text.ends_with('.'), "{place}: a full stop");
            assert!(text.len() <= 75, "{place}: long");
            assert!(!text.contains("  "), "{place}: two spaces");
        }
    }
}

#[test]
fn exit_codes_are_told_the_same_six_times() {
    for tool in tools() {
        let page = tool.man();
        for (code, meaning) in cli::EXIT_STATUS {
            let item = format!(".TP\n\\fB{code}\\fR\n{}", meaning.replace('-', "\\-"));
            assert!(page.contains(&item), "{}: exit {code}", tool.command.get_name());
        }
        assert!(page.contains("Where several apply the highest wins."));
        let known = tool.text.exit.iter().all(|(code, _)| *code <= 4);
        assert!(known, "{}: an exit code of its own", tool.command.get_name());
    }
}

/// One word for one thing: what is not said, what is said instead, and phrases
/// in which it means something else.
const TERMS: [(&str, &str, &[&str]); 17] = [
    ("graphics card", "GPU", &[]),
    ("video card", "GPU", &[]),
    ("card", "GPU", &["/card", "card0", "cardN"]),
    ("cards", "GPUs", &[]),
    ("pci device", "function", &["nvidia,pci device"]),
    ("virtual machine", "VM", &[]),
    (
        "guest",
        "container or VM",
        &[
            "vGPU guest",
            "vgpu-guest",
            "the guest's driver",
            "In the guest",
            "in the guest",
            "the guest's business",
            "Guests. Profiles",
        ],
    ),
    ("guests", "containers and VMs", &["vGPU guests", "Guests. Profiles"]),
    ("container id", "CTID", &[]),
    // what hook and qm take is the number of a VM
    ("vmid", "CTID", &["VMID"]),
    ("verb", "command", &["{verb}", "systemctl"]),
    ("subcommand", "command", &["subcommand(s)"]),
    ("sub-command", "command", &[]),
    ("commandline", "command line", &[]),
    ("initrd", "initramfs", &["initrd=", "initrd.img", "lsinitrd"]),
    (
        "iommu-group",
        "IOMMU group",
        &[
            "iommu-group record",
            "\"iommu-group",
            "type iommu-group",
            "'iommu-group",
            "iommu-group\"",
            "SS iommu",
            "SH iommu",
        ],
    ),
    ("run file", ".run installer", &[".run file"]),
];

/// The word `term` stands in `text` by itself, and in none of `phrases`.
fn uses<'a>(text: &'a str, term: &str, phrases: &[&str]) -> Option<&'a str> {
    text.lines().find(|line| {
        let mut line = (*line).to_string();
        for phrase in phrases {
            line = line.replace(phrase, "");
        }
        let line = line.to_lowercase();
        line.match_indices(term).any(|(at, _)| {
            let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            let before = line[..at].chars().next_back();
            let after = line[at + term.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
    })
}

#[test]
fn one_thing_has_one_name() {
    let mut texts: Vec<(String, String)> = tools()
        .iter()
        .map(|tool| (tool.command.get_name().to_string(), tool.man().replace("\\-", "-")))
        .collect();
    let (name, page) = records_page();
    texts.push((name, page.replace("\\-", "-")));
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for dir in ["bins", "shared"] {
        for entry in walkdir::WalkDir::new(project.join(dir)) {
            let entry = entry.unwrap();
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "rs")
                && !path.to_string_lossy().contains("/tests/")
            {
                texts.push((
                    path.display().to_string(),
                    messages(&fs::read_to_string(path).unwrap()),
                ));
            }
        }
    }
    assert!(texts.len() > 100);
    for (name, text) in &texts {
        for (term, instead, phrases) in TERMS {
            if let Some(line) = uses(text, term, phrases) {
                panic!("{name}: '{term}' is called {instead} here: {line}");
            }
        }
    }
}

/// What is put in for `{name}` is no word of the message.
fn without_fields(text: &str) -> String {
    let field = |part: &str| part.split_once('}').map_or(part.to_string(), |(_, rest)| rest.into());
    let (first, rest) = text.split_once('{').unwrap_or((text, ""));
    first.to_string() + &rest.split('{').map(field).collect::<String>()
}

/// String literals with a space in them, up to the module's tests: what a
/// person may come to read.
fn messages(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let literals = code.flat_map(|line| {
        // every other part between quotes; an escaped quote is part of its text
        let line = line.split(" // ").next().unwrap_or_default().replace("\\\"", "'");
        line.split('"').skip(1).step_by(2).map(without_fields).collect::<Vec<_>>()
    });
    literals.filter(|text| text.contains(' ')).map(|text| format!("{text}\n")).collect()
}

#[test]
fn the_list_of_names_can_find_something() {
    assert!(uses("needs another card here", "card", &[]).is_some());
    assert!(uses("the DRM node /dev/dri/card0", "card", &["card0"]).is_none());
    assert!(uses("discard this", "card", &[]).is_none());
    assert_eq!(
        messages("let x = \"one word\"; // \"no comment\"\n//! \"a b\"\n").lines().count(),
        1
    );
}

/// Help that is longer than a screen, and why: lines of -h and of --help.
const LONG: [(&str, usize, usize); 4] = [
    // what a container may be given, one option each
    ("lxc-gpu-conf add", 30, 68),
    // three places, each with options of its own, among them the keys of Secure Boot
    ("nv-runfile install", 28, 76),
    // both have the network's patience in --help
    ("nv-runfile fetch", 24, 60),
    ("nv-runfile toolkit", 24, 54),
];
const SCREEN: usize = 24;
const PAGE: usize = 50;

#[test]
fn help_fits_a_screen() {
    let mut too_long = Vec::new();
    for (tool, verb, _) in commands() {
        let place = format!("{tool} {verb}").trim_end().to_string();
        let allowed = LONG.iter().find(|(name, ..)| *name == place);
        let (screen, page) = allowed.map_or((SCREEN, PAGE), |(_, screen, page)| (*screen, *page));
        for (option, most) in [("-h", screen), ("--help", page)] {
            let text = shown(&tool, &[&verb, option], 80);
            if text.lines().count() > most {
                too_long.push(format!("{place} {option}: {} lines", text.lines().count()));
            }
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{place} {option}: {line}");
            }
        }
        if !verb.is_empty() {
            let page = shown(&tool, &[&verb, "--help"], 80);
            assert_eq!(shown(&tool, &["help", &verb], 80), page, "{place}");
        }
    }
    assert!(too_long.is_empty(), "{too_long:#?}");
}

#[test]
fn help_says_all_that_the_definitions_say() {
    for (tool, verb, command) in commands() {
        let text = shown(&tool, &[&verb, "--help"], 80);
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let said = arg.get_long_help().or(arg.get_help()).unwrap().to_string();
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(&said), "{tool} {verb} --help does not say: {said}");
        }
        assert!(flat.contains("-h, --help"), "{tool} {verb}");
        let summary = shown(&tool, &[&verb, "-h"], 80);
        assert!(
            summary.contains("--root DIR") || summary.contains("--root <DIR>"),
            "{tool} {verb}"
        );
    }
}

#[test]
fn narrow_terminals_get_narrow_help() {
    for (tool, verb, _) in commands() {
        for line in shown(&tool, &[&verb, "-h"], 60).lines() {
            let usage = line.starts_with("Usage:") || line.contains('[') || line.contains('<');
            assert!(usage || line.chars().count() <= 60, "{tool} {verb}: {line}");
        }
    }
}

fn shown(tool: &str, args: &[&str], columns: u16) -> String {
    let output = Command::new(program(tool))
        .args(args.iter().filter(|arg| !arg.is_empty()))
        .env("COLUMNS", columns.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{tool} {args:?}");
    String::from_utf8(output.stdout).unwrap()
}
