//! What README and the hand-written manual pages show is what happens; what
//! they name is there.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod messages;
#[path = "../tools/mod.rs"]
mod tools;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use modelkernel::stage::Stage;
use testbed::TOOLS;
use testbed::doc::{Document, words};
use testbed::pages::ToolPages;

use crate::messages::MESSAGES;

/// Pages that no definition can say.
const PAGES: [&str; 5] = [
    "man/pve-gpu-causes.7",
    "man/pve-gpu-groups.7",
    "man/pve-gpu-recipes.7",
    "man/pve-gpu-tools.7",
    "man/pve-gpu-troubleshooting.7",
];
/// Pages that are not installed as manual pages.
const FOR_READERS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md"];
const CAUSES: &str = "man/pve-gpu-causes.7";
const TROUBLE: &str = "man/pve-gpu-troubleshooting.7";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tool(name: &str) -> Option<ToolPages> {
    tools::tools().into_iter().find(|tool| tool.command.get_name() == name)
}

/// Runs all that a document shows, in its order, on the machines that it names.
fn tried(path: &str) {
    let mut document = Document::read(path);
    let mut stage: Option<((usize, String), Stage)> = None;
    let mut printed = Vec::new();
    for shown in document.commands() {
        let machine = shown.machine.clone();
        assert!(!machine.1.is_empty(), "{path}:{}: on which machine?", shown.line);
        if stage.as_ref().is_none_or(|(at, _)| *at != machine) {
            drop(stage.take());
            stage = Some((machine.clone(), Stage::new(&machine.1)));
        }
        let (_, there) = stage.as_ref().unwrap();
        let typed = there.run(&shown.command);
        let said = typed.lines.join("\n");
        assert_eq!(typed.code, 0, "{path}:{}: {}\n{said}", shown.line, shown.command);
        printed.push((shown, typed.lines));
    }
    assert!(printed.len() >= 10, "{path} shows hardly anything");
    let differs = document.hold(&printed);
    assert!(differs.is_empty(), "{path} is stale: run 'make regen'\n{}", differs.join("\n"));
}

#[test]
fn the_readme_shows_what_happens() {
    tried("README.md");
}

#[test]
fn the_recipes_show_what_happens() {
    tried("man/pve-gpu-recipes.7");
}

#[test]
fn every_command_of_ours_that_a_page_names_is_one() {
    for path in PAGES.into_iter().chain(["README.md"]) {
        let mut named = 0;
        for text in Document::read(path).set_off() {
            for words in words(&text) {
                let Some(tool) = words.first().and_then(|name| tool(name)) else {
                    continue;
                };
                if words.len() == 1 {
                    continue;
                }
                named += 1;
                // a verb alone is spoken of, not shown
                let verb = words.len() == 2 && tool.command.find_subcommand(&words[1]).is_some();
                if let Err(error) = tool.command.try_get_matches_from(&words) {
                    assert!(verb || !error.use_stderr(), "{path}: {text}\n{error}");
                }
            }
        }
        assert!(named > 2, "{path} names hardly any command: {named}");
    }
}

#[test]
fn every_cause_is_explained_with_where_to_read_on() {
    let page = Document::read(CAUSES).items();
    let mut known = 0;
    for name in TOOLS {
        let text = tool(name).unwrap().text;
        for (cause, _) in
            text.lists.iter().filter(|(heading, _)| *heading == "CAUSES").flat_map(|l| l.1)
        {
            known += 1;
            let item = page.iter().find(|item| item.tag == *cause);
            let item = item.unwrap_or_else(|| panic!("{CAUSES} does not explain {cause}"));
            assert_eq!(item.section, format!("CAUSES OF {}", name.to_uppercase()), "{cause}");
            assert!(item.text.contains("Fix: "), "{cause}: what fixes it? {}", item.text);
        }
    }
    assert!(known > 60);
}

#[test]
fn every_message_that_people_ask_about_is_found() {
    // keyed by it: the message is the tag of an item
    let items = Document::read(TROUBLE).items();
    let tags: Vec<String> = items.into_iter().map(|item| item.tag).collect();
    let buried: Vec<&&str> =
        MESSAGES.iter().filter(|m| !tags.iter().any(|tag| tag.contains(**m))).collect();
    assert!(buried.is_empty(), "no item of {TROUBLE} bears {buried:#?}");
}

#[test]
fn what_pages_refer_to_is_there() {
    let mut links = 0;
    for page in FOR_READERS {
        let at = project().join(page);
        let text = std::fs::read_to_string(&at).unwrap();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.starts_with("https://") {
                links += 1;
                assert!(at.parent().unwrap().join(target).exists(), "{page}: {target}");
            }
        }
    }
    assert!(links > 8);
    let pages = PAGES.map(|page| page.trim_start_matches("man/").replace(".7", "(7)"));
    for path in PAGES {
        for word in Document::read(path).text().split_whitespace() {
            let Some((name, _)) = word.split_once("(7)") else { continue };
            let page = format!("{}(7)", name.trim_start_matches('('));
            assert!(!page.starts_with("pve-gpu") || pages.contains(&page), "{path}: {page}");
        }
    }
}

#[test]
fn every_file_that_a_page_for_developers_names_exists() {
    let mut named = 0;
    for page in FOR_READERS {
        let text = std::fs::read_to_string(project().join(page)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let ours =
                ["bins/", "shared/", "tests/", "man/"].iter().any(|dir| word.starts_with(dir));
            // an upper case word or an asterisk stands for any name
            let any = |c: char| c.is_ascii_uppercase() || "*< ".contains(c);
            if ours && word.contains('.') && !word.contains(any) {
                named += 1;
                assert!(project().join(word).exists(), "{page}: {word}");
            }
        }
    }
    assert!(named > 50, "{named}");
}

#[test]
fn every_dependency_is_explained() {
    let manifest = std::fs::read_to_string(project().join("Cargo.toml")).unwrap();
    let page = std::fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    let table = page.split("## Dependencies").nth(1).unwrap().split("## ").next().unwrap();
    let explained: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|cell| cell.split(", "))
        .collect();
    let others = manifest.split("# others'").nth(1).unwrap().split("\n[").next().unwrap();
    let mut used = 0;
    for line in others.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, _)) = line.split_once(" = ") else { continue };
        used += 1;
        assert!(explained.contains(name), "ARCHITECTURE.md does not say why there is {name}");
    }
    assert!(used > 20, "{used}");
}

#[test]
fn the_picture_is_what_its_source_says() {
    let man = project().join("man");
    let source = std::fs::read_to_string(man.join("pve-gpu-tools.dot")).unwrap();
    let picture = std::fs::read_to_string(man.join("pve-gpu-tools.svg")).unwrap();
    let plain = |text: &str| {
        text.replace("&#45;", "-")
            .replace("&#39;", "'")
            .replace("&gt;", ">")
            .replace("&lt;", "<")
            .replace("&amp;", "&")
            .replace("&#160;", " ")
    };
    let between = |open: &str, close: &str| -> BTreeSet<String> {
        let parts = picture.split(open).skip(1);
        parts.map(|part| plain(part.split(close).next().unwrap())).collect()
    };
    let mut wanted = BTreeSet::new();
    let mut labels = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        let name = line.split(" [").next().unwrap().trim_end_matches(" {");
        if name.contains(" -> ") {
            wanted.insert(name.replace(" -> ", "->"));
        } else if let Some((_, name)) = name.split_once("graph ") {
            // the whole, and its clusters
            wanted.insert(name.to_string());
        } else if line.contains(" [") && !["graph", "node", "edge"].contains(&name) {
            wanted.insert(name.to_string());
        }
        if let Some((_, label)) = line.split_once("label=\"") {
            labels.extend(label.split('"').next().unwrap().split("\\n").map(str::to_string));
        }
    }
    assert!(wanted.len() > 20, "{wanted:?}");
    assert_eq!(between("<title>", "</title>"), wanted, "run 'make picture'");
    let words: BTreeSet<String> = picture
        .split("<text ")
        .skip(1)
        .map(|part| plain(part.split_once('>').unwrap().1.split("</text>").next().unwrap()))
        .map(|text| text.trim().to_string())
        .collect();
    let missing: Vec<&String> =
        labels.iter().filter(|label| !words.contains(label.trim())).collect();
    assert!(missing.is_empty(), "run 'make picture': {missing:?}");
}
