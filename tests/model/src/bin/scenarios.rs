//! `scenarios [NAME...]`: the kernel lab's scenarios on the model of the kernel,
//! all or those named. MODEL_BIN: where the tools are; by default beside this
//! program, or in target/release.
//!
//! A scenario finds the same program under the names `raw` and `ctl`.

#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::prelude::*;
use modelkernel::{mount, scenario};

fn main() -> ExitCode {
    answer().unwrap_or_else(|error| {
        eprintln!("scenarios: {error}");
        ExitCode::from(2)
    })
}

fn answer() -> Result<ExitCode, lexopt::Error> {
    let mut args = lexopt::Parser::from_env();
    let name = args.bin_name().and_then(|name| name.rsplit('/').next()).map(str::to_string);
    let answer: fn(&[String]) -> (String, bool) = match name.as_deref() {
        Some("raw") => scenario::raw,
        Some("ctl") => scenario::ask,
        _ => {
            let mut names = Vec::new();
            while let Some(arg) = args.next()? {
                match arg {
                    Value(name) => names.push(name.string()?),
                    other => return Err(other.unexpected()),
                }
            }
            return Ok(run(&names));
        }
    };
    // a scenario writes any bytes, also such as look like an option
    let words = args.raw_args()?.map(|word| word.string()).collect::<Result<Vec<_>, _>>()?;
    let (said, well) = answer(&words);
    println!("{said}");
    Ok(ExitCode::from(u8::from(!well)))
}

/// Where the tools are.
fn tools(this: &Path) -> PathBuf {
    if let Some(dir) = std::env::var_os("MODEL_BIN") {
        return PathBuf::from(dir);
    }
    match this.parent() {
        Some(dir) if dir.join("gpu-vfio-bind").exists() => dir.to_path_buf(),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release"),
    }
}

fn run(names: &[String]) -> ExitCode {
    if !mount::possible() {
        eprintln!("scenarios: needs root and /dev/fuse");
        return ExitCode::from(2);
    }
    let all = scenario::all();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|one| one.name == **name)) {
        eprintln!("scenarios: no scenario '{name}' for the model in tests/lab/scenarios");
        return ExitCode::from(2);
    }
    let this = std::env::current_exe().expect("the path of this program");
    let tools = tools(&this);
    let (mut passed, mut failed) = (0, 0);
    for one in all {
        if !names.is_empty() && !names.contains(&one.name) {
            continue;
        }
        let (title, machine) = (one.title(), &one.machine);
        let (problem, took) = match one.run(&tools, &this) {
            Ok(report) => (report.problem, report.took.as_secs_f64()),
            Err(error) => (Some(error.to_string()), 0.0),
        };
        let verdict = if problem.is_none() { "ok    " } else { "FAILED" };
        println!("{title:22} {machine:9} {verdict}  {took:5.1} s");
        match problem {
            None => passed += 1,
            Some(problem) => {
                failed += 1;
                problem.lines().take(25).for_each(|line| println!("    {line}"));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0 || passed == 0))
}
