//! nv-version-check on 300 root file systems with Debian's own libraries of the
//! driver among a thousand others, against what a person would run in each.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use testbed::Bed;

use crate::measure::{interleave, time};
use crate::packages;
use crate::report::{Goal, Report, Row};

const COUNT: usize = 300;

/// The part.
pub fn run(tools: &Path, report: &mut Report) -> Result<()> {
    let bed = Bed::empty();
    let roots = testbed::driver::many(bed.path(), COUNT);
    let ours = || {
        let mut command = Command::new(tools.join("nv-version-check"));
        for root in &roots {
            command.arg("--rootfs").arg(root);
        }
        command
    };
    let all = format!("for r in {}/*/", bed.path().display());
    let script = |each: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{all}; do {each}; done")]);
        command
    };
    let find = || {
        script(
            "find $r/usr/lib $r/usr/lib64 -name 'libcuda.so.*' -o -name 'libnvidia-ml.so.*' \
             2>/dev/null | grep -oE '[0-9]+\\.[0-9.]+$' | sort -u",
        )
    };
    let ask = || script("chroot $r /bin/which-nvml");
    let times = interleave(
        7,
        &mut [&mut || time(ours(), true), &mut || time(find(), true), &mut || time(ask(), true)],
    )?;
    let what = format!("nv-version-check, {COUNT} root file systems");
    let each = times[0].median() / COUNT as f64;
    report.note(format!("{what}: {each:.2} ms a root file system"));
    report.peak("nv-version-check", &what, crate::peak::of(&ours())?, None);
    for (at, rival, packages) in [
        (1, "sh: find and grep in each", &["findutils", "grep"]),
        (2, "sh: chroot, load NVML, ask it", &["coreutils", "dash"]),
    ] {
        report.row(Row {
            what: what.clone(),
            ours: times[0].clone(),
            rival: packages::named(rival, packages),
            theirs: Some(times[at].clone()),
            goal: Goal::Within(3000.0, "under 3 s"),
            why: "",
        });
    }
    Ok(())
}
