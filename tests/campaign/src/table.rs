//! The table of what was tried and survived.

use std::fs;
use std::process::Command;

use crate::{Effort, Tally};

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_string())
}

/// Processor, memory, kernel and distribution; no names.
pub fn machine() -> String {
    let value = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("").to_string();
        line.trim_start_matches(key).trim_matches([' ', '\t', ':', '"', '=']).to_string()
    };
    let kib: u64 = value("/proc/meminfo", "MemTotal:").trim_end_matches(" kB").parse().unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let release = said("uname", &["-r"]);
    // the name of the flavour may identify the host
    let kernel = release.split('-').next().unwrap_or("");
    format!(
        "{}, {cores} cores, {} GiB, Linux {kernel}, {}",
        value("/proc/cpuinfo", "model name"),
        kib.div_ceil(1 << 20),
        value("/etc/os-release", "PRETTY_NAME"),
    )
}

/// The page.
pub fn markdown(rows: &[Tally], effort: Effort, minutes: u64, command: &str) -> String {
    let mut checks: Vec<&str> = Vec::new();
    let mut lines = String::new();
    let (mut trials, mut survived) = (0, 0);
    for row in rows {
        let at = checks.iter().position(|check| *check == row.checked).unwrap_or_else(|| {
            checks.push(&row.checked);
            checks.len() - 1
        });
        trials += row.trials;
        survived += row.survived();
        lines += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            row.what,
            row.fault,
            row.trials,
            row.survived(),
            at + 1
        );
    }
    let checks: String =
        checks.iter().enumerate().map(|(n, check)| format!("{}. {check}.\n", n + 1)).collect();
    let failures: String = match rows.iter().flat_map(|row| &row.failures).next() {
        None => "None failed.\n".into(),
        Some(_) => rows
            .iter()
            .flat_map(|row| &row.failures)
            .map(|why| format!("    {}\n\n", why.replace('\n', "\n    ")))
            .collect(),
    };
    format!(
        "# Fault campaigns\n\n\
         Written by `{command}`; do not edit. Of {trials} trials {survived} survived.\n\n\
         - Date: {}\n- Version: pve-gpu-tools {} ({})\n- Machine: {}\n- Took: {minutes} min, at most {} \
         trials a row of faults (chosen from all by seed {}), {} s a parser under libFuzzer\n\n\
         A trial is one run of the tool with one fault, and the runs after it that must repair \
         the result. A call that fails or kills is injected by strace(1); the kernel is the model kernel \
         over FUSE, the cluster file system a stand-in over FUSE, containers are real ones of LXC.\n\n\
         | command | fault | trials | survived | checked |\n|---|---|--:|--:|--:|\n{lines}\n\
         ## What was checked\n\n\
         Always: the exit code is one of the documented ones, every line of output is a valid \
         record, there is no panic, no end later than 90 s and no process above 256 MiB.\n\n{checks}\n\
         ## What failed\n\n{failures}",
        said("date", &["-u", "+%F"]),
        env!("CARGO_PKG_VERSION"),
        said("git", &["rev-parse", "--short", "HEAD"]),
        machine(),
        effort.most,
        effort.seed,
        effort.fuzz,
    )
}
