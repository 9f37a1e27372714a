//! What starting a tool costs: nothing else that they do can be faster.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use testbed::TOOLS;

use crate::measure::{Timed, Took, interleave, time};
use crate::packages;
use crate::report::{Report, Start};

/// The part.
pub fn run(tools: &Path, report: &mut Report) -> Result<()> {
    let lspci = packages::have("pciutils");
    let mut timed: Vec<Box<dyn FnMut() -> Result<Took>>> = Vec::new();
    for tool in TOOLS {
        for option in ["--version", "--help"] {
            let program = tools.join(tool);
            timed.push(Box::new(move || {
                let mut command = Command::new(&program);
                command.arg(option);
                time(command, true)
            }));
        }
    }
    timed.push(Box::new(|| time(Command::new("true"), false)));
    if lspci {
        timed.push(Box::new(|| {
            let mut command = Command::new("lspci");
            command.arg("--version");
            time(command, true)
        }));
    }
    let mut each: Vec<Timed<'_>> = timed.iter_mut().map(|one| one.as_mut() as Timed<'_>).collect();
    let mut times = interleave(41, &mut each)?.into_iter();
    for tool in TOOLS {
        let (Some(version), help) = (times.next(), times.next()) else { break };
        let size = Some(std::fs::metadata(tools.join(tool))?.len());
        report.start(Start { name: tool.into(), size, version, help });
    }
    for (name, packages) in [("true", ["coreutils"]), ("lspci --version", ["pciutils"])] {
        if let Some(version) = times.next() {
            let name = packages::named(name, &packages);
            report.start(Start { name, size: None, version, help: None });
        }
    }
    report.peak(
        "true",
        "the least that is measured",
        crate::peak::of(&Command::new("true"))?,
        None,
    );
    Ok(())
}
