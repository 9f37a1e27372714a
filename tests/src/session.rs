//! A shell on a machine below a directory, as a person has it on that machine:
//! the tools under their own names, on a terminal, and the machine's paths.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::bed::program;
use crate::{Bed, TOOLS};

/// Where the machine's own files are that a person names.
const PLACES: [&str; 5] = ["/etc/", "/var/", "/srv/", "/rpool/", "/usr/share/pve-gpu-tools/"];

/// Where a person types.
pub const HOME: &str = "/root";

/// A directory for PATH with the tools, each working on the machine below
/// `root`, and a systemctl that only knows that machine's units.
pub fn commands(root: &Path) -> Bed {
    let dir = Bed::empty();
    let put = |name: &str, line: String| {
        dir.write(name, format!("#!/bin/sh\n{line}\n"));
        fs::set_permissions(dir.at(name), fs::Permissions::from_mode(0o755)).expect(name);
    };
    let root = root.display();
    for tool in TOOLS {
        put(tool, format!("exec '{}' --root '{root}' \"$@\"", program(tool).display()));
    }
    // nothing runs there that could be started
    put(
        "systemctl",
        format!(
            "for word; do shift; [ \"$word\" = --now ] || set -- \"$@\" \"$word\"; done\n\
             exec /bin/systemctl --quiet --root='{root}' \"$@\""
        ),
    );
    dir
}

/// How a command on a terminal ended.
#[derive(Debug)]
pub struct Typed {
    pub code: i32,
    /// What the terminal showed, the machine's directory left out of paths.
    pub lines: Vec<String>,
}

/// Types a command on a terminal of 100 columns.
pub fn terminal(root: &Path, commands: &Bed, command: &str) -> Typed {
    let path = format!("{}:{}", commands.path().display(), std::env::var("PATH").expect("PATH"));
    let line =
        format!("stty cols 100 rows 50; cd '{}{HOME}'; {}", root.display(), inside(root, command));
    let output = Command::new("script")
        .args(["-qec", &format!("bash -c {}", quoted(&line)), "/dev/null"])
        .env("PATH", path)
        .env("TERM", "dumb")
        .env("NO_COLOR", "1")
        .env("JQ_COLORS", "")
        .env("SHELL", "/bin/bash")
        // the tests are themselves run by make, which tells its children so
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .stdin(Stdio::null())
        .output()
        .expect("script is needed: install bsdutils");
    let shown = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
    let shown = shown.replace(&root.display().to_string(), "");
    // what a progress line was overwritten with is what stays
    let last = |line: &str| line.rsplit('\r').next().unwrap_or_default().trim_end().to_string();
    Typed { code: output.status.code().unwrap_or(-1), lines: shown.lines().map(last).collect() }
}

/// The command with the machine's paths where they are.
fn inside(root: &Path, command: &str) -> String {
    let mut text = command.to_string();
    for place in PLACES {
        for before in [" ", ">", "=", "'", "\""] {
            let there = format!("{before}{}{place}", root.display());
            text = text.replace(&format!("{before}{place}"), &there);
        }
    }
    text
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
