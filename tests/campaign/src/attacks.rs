//! The attacks of other users, containers, files and readers. Each is a test of its own,
//! named by what the attacker does not get; here they are run together, and each is a row.

use std::path::Path;
use std::process::Command;

use crate::{Effort, Tally};

/// Test binaries of attacks, and names of attack tests among others: package, the kind of
/// target with its name, a word that the tests have in their names.
const ATTACKS: [(&str, &[&str], &str); 9] = [
    ("nv-runfile", &["--test", "attacks"], ""),
    ("nv-runfile", &["--test", "hostile"], ""),
    ("nv-runfile", &["--test", "fetch"], "hostile"),
    ("nv-runfile", &["--lib"], "openpgp"),
    ("lxcbed", &["--test", "attacks"], ""),
    ("host", &["--lib"], "rights"),
    ("host", &["--lib"], "container_open"),
    ("host", &["--lib"], "private_dir"),
    ("record", &["--lib"], "write"),
];

/// Runs all of them. They are part of every test run too, so that the short form has
/// nothing to add.
pub fn all(effort: Effort) -> Vec<Tally> {
    if effort.fuzz == 0 {
        return Vec::new();
    }
    ATTACKS.iter().map(|(package, target, word)| run(package, target, word)).collect()
}

fn run(package: &str, target: &[&str], word: &str) -> Tally {
    let what = format!("{package} {} {word}", target.join(" "));
    let mut tally = Tally::new(
        what.trim_end(),
        "attacks",
        "what was verified is what is used; nothing outside the documented paths changes; no hang",
    );
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["test", "--locked", "--quiet", "--package", package])
        .args(target)
        .args(["--", "--test-threads=2", "--format=pretty", word])
        .current_dir(workspace)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            tally.trial("cargo test", Err(error.to_string()));
            return tally;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in said.lines() {
        let Some((name, result)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        let held = match result {
            "ok" => Ok(()),
            "ignored" => continue,
            _ => Err("broke".to_string()),
        };
        tally.trial(name.replace('_', " "), held);
    }
    if tally.trials == 0 {
        let end = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = end.lines().rev().take(20).collect();
        tally.trial("the tests run", Err(end.into_iter().rev().collect::<Vec<_>>().join("\n")));
    }
    tally
}
