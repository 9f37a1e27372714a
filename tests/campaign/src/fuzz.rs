//! Every parser under libFuzzer, which coverage guides: `tests/fuzz`, built here
//! with the flags that count coverage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Effort, Tally};

/// What cargo-fuzz sets, as far as a stable compiler takes it.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds it. Errors: cargo's last words.
pub fn build(workspace: &Path) -> Result<PathBuf, String> {
    let dir = workspace.join("target/fuzz");
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["build", "--locked", "--release", "--quiet", "--target", TARGET, "--manifest-path"])
        .arg(workspace.join("tests/fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&dir)
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    match output.status.success() {
        true => Ok(dir.join(TARGET).join("release/fuzz")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Feeds a parser for [`Effort::fuzz`] seconds.
pub fn guided(program: &Path, parser: &parsers::Parser, effort: Effort) -> Tally {
    let mut tally = Tally::new(
        format!("parser: {}", parser.name),
        "guided by coverage (libFuzzer)",
        "no panic, no overflow, no input that takes 10 s or 1 GiB; what comes out is whole",
    );
    let name = format!("campaign-fuzz-{}-{}", parser.name, std::process::id());
    let scratch = testbed::bed::scratch().join(name);
    let corpus = scratch.join("corpus");
    fs::create_dir_all(&corpus).unwrap();
    for (n, seed) in (parser.seeds)().into_iter().enumerate() {
        fs::write(corpus.join(format!("seed{n}")), seed).unwrap();
    }
    let output = Command::new(program)
        .env("FUZZ_PARSER", parser.name)
        .arg(format!("-max_total_time={}", effort.fuzz))
        .arg(format!("-seed={}", effort.seed))
        .args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=8192", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", scratch.display()))
        .arg(&corpus)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let stat = "stat::number_of_executed_units:";
    let executed = said.lines().find_map(|line| line.strip_prefix(stat));
    tally.trials = executed.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    let edges = said.rsplit("cov: ").next().and_then(|rest| rest.split(' ').next());
    tally.fault = format!("{}, {} s, {} edges", tally.fault, effort.fuzz, edges.unwrap_or("?"));
    if !output.status.success() || tally.trials == 0 {
        let end: Vec<&str> = said.lines().rev().take(30).collect();
        tally.failures.push(end.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    let _ = fs::remove_dir_all(scratch);
    tally
}
