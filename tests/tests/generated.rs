//! The committed manual pages and completions are those that the tools' definitions give.
//! `BLESS=1` writes them.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::pages::{ToolPages, records_page};

mod tools;
use tools::tools;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn files() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = tools().iter().flat_map(ToolPages::files).collect();
    files.push(records_page());
    files
}

#[test]
fn what_is_committed_is_what_the_tools_say() {
    let bless = std::env::var_os("BLESS").is_some();
    for (path, text) in files() {
        let at = project().join(&path);
        if bless {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, &text).unwrap();
        }
        let committed = fs::read_to_string(&at).unwrap_or_default();
        assert!(committed == text, "{path} is stale: run 'make regen'");
    }
}

/// Pages that are written by hand.
const BY_HAND: [&str; 5] = [
    "man/pve-gpu-causes.7",
    "man/pve-gpu-groups.7",
    "man/pve-gpu-recipes.7",
    "man/pve-gpu-tools.7",
    "man/pve-gpu-troubleshooting.7",
];
/// The picture of the flow and its source.
const PICTURE: [&str; 2] = ["man/pve-gpu-tools.dot", "man/pve-gpu-tools.svg"];

#[test]
fn nothing_else_lies_beside_them() {
    let mut expected: BTreeSet<String> = files().into_iter().map(|(path, _)| path).collect();
    expected.extend(BY_HAND.map(str::to_string));
    expected.extend(PICTURE.map(str::to_string));
    for dir in ["man", "completions"] {
        for entry in fs::read_dir(project().join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(expected.contains(&format!("{dir}/{name}")), "{dir}/{name} belongs to no tool");
        }
    }
}

#[test]
fn mandoc_lint_is_clean() {
    let made = files().into_iter().map(|(path, _)| path);
    let pages = made.chain(BY_HAND.map(str::to_string));
    for path in pages.filter(|path| path.starts_with("man/")) {
        let output = Command::new("mandoc")
            .args(["-T", "lint", "-W", "warning"])
            .arg(project().join(&path))
            .output()
            .expect("mandoc is needed: install mandoc");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.is_empty(), "{path}:\n{said}");
    }
}
