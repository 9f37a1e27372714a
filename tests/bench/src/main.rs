//! `make bench`: ratios against what a user would run instead, all timed in the
//! same run, interleaved. Times mean little on a shared machine; ratios of
//! medians mean more. Never a test.

#![allow(clippy::disallowed_methods)]

mod machine;
mod measure;
mod packages;
mod parts;
mod peak;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use report::Report;

/// A part, by name.
type Part = (&'static str, fn(&Path, &mut Report) -> Result<()>);

/// In the order of the table.
const PARTS: [Part; 7] = [
    ("lister", parts::lister::run),
    ("containers", parts::containers::run),
    ("roots", parts::roots::run),
    ("runfile", parts::runfile::run),
    ("bind", parts::bind::run),
    ("vgpu", parts::vgpu::run),
    ("tools", parts::tools::run),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // first of all, while this process is small
    if args.first().is_some_and(|arg| arg == peak::MODE) {
        return peak::print(&args[1..]);
    }
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let usage = format!(
        "usage: bench DIR-OF-RELEASE-BINARIES [--write FILE] [PART...]; parts: {}",
        names.join(", ")
    );
    let mut args = args.into_iter();
    let tools = PathBuf::from(args.next().context(usage.clone())?);
    let mut file = None;
    let mut wanted = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--write" {
            file = Some(PathBuf::from(args.next().context(usage.clone())?));
        } else {
            ensure!(names.contains(&arg.as_str()), "no part '{arg}': {usage}");
            wanted.push(arg);
        }
    }
    ensure!(file.is_none() || wanted.is_empty(), "a file is written of all parts only");
    let mut report = Report::new();
    for (name, run) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            eprintln!("bench: {name}");
            run(&tools, &mut report).with_context(|| format!("part {name}"))?;
        }
    }
    let text = report.text();
    print!("{text}");
    if let Some(file) = file {
        std::fs::write(&file, &text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
