//! The real driver's files in an installer, and a real terminal.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::process::Command;

use serde_json::json;
use testbed::bed::program;
use testbed::runfile::{NvidiaRun, Pack, small_tree, tree_of};
use testbed::{Bed, Tool, debian};

const TOOL: &str = "nv-runfile";

#[test]
fn the_real_driver_comes_out_as_it_went_in() {
    let bed = Bed::empty();
    debian::driver_tree(&bed.at("tree"));
    let tree = tree_of(&bed.at("tree"));
    assert!(tree.len() >= 7, "{tree:?}");
    for pack in [Pack::Zstd, Pack::XzNoCheck] {
        let path = NvidiaRun::new(debian::DRIVER, pack).write(&bed.at("tree"), bed.path());
        let ran = Tool::new(TOOL).args("extract").arg(&path).arg(bed.at("out")).run().expect(0);
        assert_eq!(ran.records[0]["status"], "changed");
        assert_eq!(tree_of(&bed.at("out")), tree, "{pack:?}");
        let list = Tool::new(TOOL).args("list").arg(&path).run().expect(0);
        let link = list.one("runfile-entry", "path", "libcuda.so.1");
        assert_eq!(link["target"], json!(format!("libcuda.so.{}", debian::DRIVER)));
        // no driver's module here, or another version's: what counts is that it starts
        let smi = Command::new(bed.at("out/nvidia-smi"))
            .arg("--help")
            .env("LD_LIBRARY_PATH", bed.at("out"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&smi.stdout);
        assert!(said.contains("NVIDIA System Management Interface"), "{said}");
        std::fs::remove_dir_all(bed.at("out")).unwrap();
    }
}

#[test]
fn a_terminal_sees_progress_and_a_pipe_does_not() {
    let bed = Bed::empty();
    small_tree(&bed.at("tree"));
    bed.write("tree/data", (0..4_000_000u32).map(|n| ((n * 7) >> 5) as u8).collect::<Vec<_>>());
    bed.write("x.run", NvidiaRun::new("550.163.01", Pack::None).of_dir(&bed.at("tree")));
    // each read takes so long that there is something to tell
    let slow = format!(
        "strace -qq -f -o /dev/null -e inject=read:delay_exit=60000 {} verify {}",
        program(TOOL).display(),
        bed.at("x.run").display()
    );
    let script = |command: &str| {
        let output = Command::new("script").args(["-qec", command, "/dev/null"]).output();
        let output = output.expect("script is needed: install bsdutils");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let seen = script(&slow);
    assert!(seen.contains("nv-runfile: verifying") && seen.contains(" % of 4"), "{seen}");
    // gone when it is done
    assert!(seen.contains("\r\x1b[K"), "{seen}");
    for quiet in [format!("{slow} 2>&1 | cat"), format!("{slow} -q")] {
        assert!(!script(&quiet).contains("verifying"), "{quiet}");
    }
}
