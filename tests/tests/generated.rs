//! Manual pages and completions are committed; they say what the tools say now.
//! `BLESS=1` writes them anew.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use testbed::pages::{ToolPages, records_page};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn tools() -> Vec<ToolPages> {
    vec![
        ToolPages {
            command: gpu_iommu_groups::cli::Options::command(),
            text: gpu_iommu_groups::cli::MAN,
        },
        ToolPages {
            command: gpu_vfio_bind::cli::Options::command(),
            text: gpu_vfio_bind::cli::MAN,
        },
        ToolPages { command: lxc_gpu_conf::cli::Options::command(), text: lxc_gpu_conf::cli::MAN },
        ToolPages { command: nv_runfile::cli::Options::command(), text: nv_runfile::cli::MAN },
        ToolPages {
            command: nv_version_check::cli::Options::command(),
            text: nv_version_check::cli::MAN,
        },
        ToolPages {
            command: vgpu_profile_set::cli::Options::command(),
            text: vgpu_profile_set::cli::MAN,
        },
    ]
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

/// Pages that no definition can say.
const BY_HAND: [&str; 5] = [
    "man/pve-gpu-causes.7",
    "man/pve-gpu-groups.7",
    "man/pve-gpu-recipes.7",
    "man/pve-gpu-tools.7",
    "man/pve-gpu-troubleshooting.7",
];
/// The picture of the flow, and what it is drawn from.
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
fn mandoc_has_nothing_to_say() {
    let made = files().into_iter().map(|(path, _)| path);
    let pages = made.chain(BY_HAND.map(str::to_string));
    for path in pages.filter(|path| path.starts_with("man/")) {
        let output = Command::new("mandoc")
            // a page made from definitions has no date of its own
            .args(["-T", "lint", "-W", "warning"])
            .arg(project().join(&path))
            .output()
            .expect("mandoc is needed: install mandoc");
        let said = String::from_utf8_lossy(&output.stdout);
        let said: Vec<&str> = said.lines().filter(|l| !l.contains("missing date")).collect();
        assert!(said.is_empty(), "{path}:\n{}", said.join("\n"));
    }
}

#[test]
fn shells_load_the_completions_and_complete_options() {
    let dir = project().join("completions");
    for tool in [
        "gpu-iommu-groups",
        "gpu-vfio-bind",
        "lxc-gpu-conf",
        "nv-runfile",
        "nv-version-check",
        "vgpu-profile-set",
    ] {
        let bash = format!(
            "source {}/{tool}.bash && COMP_WORDS=({tool} --ro) COMP_CWORD=1 && \
             f=$(complete -p {tool} | sed 's/.*-F //; s/ .*//') && \
             $f {tool} --ro {tool} && echo \"${{COMPREPLY[@]}}\"",
            dir.display()
        );
        let reply = shell("bash", &bash);
        assert!(reply.split_whitespace().any(|word| word == "--root"), "{tool}: {reply}");
        let fish = format!("source {}/{tool}.fish; complete -C '{tool} --ro'", dir.display());
        assert!(shell("fish", &fish).contains("--root"), "{tool}");
        let zsh = format!(
            "fpath=({} $fpath); autoload -U compinit && compinit -u -D && whence -w _{tool} && \
             autoload +X _{tool} && echo loaded",
            dir.display()
        );
        assert!(shell("zsh", &zsh).contains("loaded"), "{tool}");
    }
}

fn shell(name: &str, script: &str) -> String {
    let output = Command::new(name)
        .args(["-c", script])
        .env("HOME", "/nonexistent")
        .output()
        .unwrap_or_else(|_| panic!("{name} is needed: install {name}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
