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

use anyhow::{Context, Result, bail, ensure};
use lexopt::prelude::*;

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
    // first of all, while this process is small
    let mut args = lexopt::Parser::from_env();
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let usage = format!(
        "usage: bench DIR-OF-RELEASE-BINARIES [--write FILE] [PART...]; parts: {}",
        names.join(", ")
    );
    let (mut tools, mut file, mut wanted) = (None, None, Vec::new());
    while let Some(arg) = args.next()? {
        match arg {
            Long(peak::MODE) => {
                let command: Vec<String> =
                    args.raw_args()?.map(ValueExt::string).collect::<Result<_, _>>()?;
                return peak::print(&command);
            }
            Long("write") => file = Some(PathBuf::from(args.value()?)),
            Value(dir) if tools.is_none() => tools = Some(PathBuf::from(dir)),
            Value(part) => {
                let part = part.string()?;
                ensure!(names.contains(&part.as_str()), "no part '{part}': {usage}");
                wanted.push(part);
            }
            other => bail!("{}: {usage}", other.unexpected()),
        }
    }
    let tools = tools.context(usage)?;
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
