//! nv-runfile on archives of this system's own libraries, against the stub's
//! own commands and against what verifies or unpacks the same bytes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testbed::Bed;
use testbed::runfile::{NvidiaRun, Pack};

use crate::measure::{Took, clock, interleave, time};
use crate::packages;
use crate::report::{Goal, Report, Row};

/// Bytes of libraries that are packed: about 300 MB when compressed.
const MOST: u64 = 1_000_000_000;
/// For xz, which takes ten times as long.
const MOST_XZ: u64 = 150_000_000;

const WHY: &str = "what is compressed is decompressed on one thread by the same library as the \
     pipe's program, and ours also hashes it and makes the directory appear whole";

const WHY_VERIFY: &str = "MD5 and SHA-256 together take as much processor time as sha256sum takes \
     for the one (it makes no use of the SHA extensions); they run side by side, so that with two \
     processors free the time is MD5's, which cannot be split, about two thirds of sha256sum's. With \
     other work on the machine there is no second processor";

/// The part.
pub fn run(tools: &Path, report: &mut Report) -> Result<()> {
    let tool = tools.join("nv-runfile");
    for (pack, most, package) in
        [(Pack::Zstd, MOST, "zstd"), (Pack::XzNoCheck, MOST_XZ, "xz-utils")]
    {
        if !packages::have(package) {
            report.note(format!("runfile: {} not measured, no {package}", pack.name()));
            continue;
        }
        let bed = Bed::empty();
        let bytes = collect(&bed.at("tree"), most)?;
        let path = NvidiaRun::new("550.163.01", pack).write(&bed.at("tree"), bed.path());
        let packed = std::fs::metadata(&path)?.len();
        let place =
            format!("{} MB in {} MB of {}", bytes / 1_000_000, packed / 1_000_000, pack.name());
        std::fs::remove_dir_all(bed.at("tree"))?;
        if pack == Pack::Zstd {
            verify(&tool, &path, &place, report)?;
        }
        extract(&tool, &path, &bed.at("out"), (&place, pack.name(), package), report)?;
    }
    Ok(())
}

fn verify(tool: &Path, path: &Path, place: &str, report: &mut Report) -> Result<()> {
    let ours = || with(tool, &["verify"], path);
    let check = || {
        let mut command = Command::new("sh");
        command.arg(path).arg("--check");
        command
    };
    let times = interleave(
        5,
        &mut [
            &mut || time(ours(), true),
            &mut || time(with(Path::new("sha256sum"), &[], path), true),
            &mut || time(check(), true),
        ],
    )?;
    let what = format!("nv-runfile verify, {place}");
    report.peak("nv-runfile", &what, crate::peak::of(&ours())?, Some(64 << 10));
    for (at, rival, packages, goal) in [
        (
            1,
            "sha256sum",
            &["coreutils"][..],
            Goal::Ratio(1.0 / 0.7, "at most 0.7 of sha256sum's time"),
        ),
        (2, "sh X.run --check", &[][..], Goal::Ratio(1.0, "faster")),
    ] {
        report.row(Row {
            what: what.clone(),
            ours: times[0].clone(),
            rival: packages::named(rival, packages),
            theirs: Some(times[at].clone()),
            goal,
            why: WHY_VERIFY,
        });
    }
    Ok(())
}

fn extract(
    tool: &Path,
    path: &Path,
    out: &Path,
    (place, program, package): (&str, &str, &str),
    report: &mut Report,
) -> Result<()> {
    let ours = || {
        let mut command = with(tool, &["extract"], path);
        command.arg(out);
        command
    };
    let pipe = format!(
        "mkdir '{0}' && tail -c +{1} '{2}' | {program} -dc | tar xf - -C '{0}'",
        out.display(),
        payload(tool, path)? + 1,
        path.display(),
    );
    let shell = || {
        let mut command = Command::new("sh");
        command.args(["-c", &pipe]);
        command
    };
    let own = || {
        let mut command = Command::new("sh");
        command.arg(path).args(["-x", "--target"]).arg(out);
        command
    };
    let times = interleave(
        5,
        &mut [&mut || fresh(ours(), out), &mut || fresh(shell(), out), &mut || fresh(own(), out)],
    )?;
    let what = format!("nv-runfile extract, {place}");
    report.peak("nv-runfile", &what, crate::peak::of(&ours())?, Some(64 << 10));
    std::fs::remove_dir_all(out)?;
    let pipe = format!("sh: tail, {program} -d, tar x");
    for (at, rival, packages) in
        [(1, pipe.as_str(), &[package, "tar"][..]), (2, "sh X.run -x --target", &[package][..])]
    {
        report.row(Row {
            what: what.clone(),
            ours: times[0].clone(),
            rival: packages::named(rival, packages),
            theirs: Some(times[at].clone()),
            goal: if at == 1 { Goal::Ratio(1.0, "as fast, verified") } else { Goal::Shown },
            why: WHY,
        });
    }
    Ok(())
}

fn with(program: &Path, args: &[&str], path: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg(path);
    command
}

/// Where the payload begins.
fn payload(tool: &Path, path: &Path) -> Result<u64> {
    let output = with(tool, &["info"], path).output()?;
    let record: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    record["payload_offset"].as_u64().context("no payload_offset")
}

/// Copies shared libraries of this system until there are enough.
fn collect(to: &Path, most: u64) -> Result<u64> {
    std::fs::create_dir_all(to)?;
    let mut found: Vec<(u64, PathBuf)> = walkdir::WalkDir::new("/usr/lib")
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .filter(|entry| entry.file_name().to_string_lossy().contains(".so"))
        .filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.into_path())))
        .collect();
    found.sort();
    let mut bytes = 0;
    for (at, (size, path)) in found.iter().rev().enumerate() {
        if bytes + size <= most {
            std::fs::copy(path, to.join(format!("{at}.so")))?;
            bytes += size;
        }
    }
    Ok(bytes)
}

/// What a command took that makes `out`, which is removed.
fn fresh(mut command: Command, out: &Path) -> Result<Took> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let took = clock(|| {
        let status = command.status().with_context(|| format!("{command:?}"))?;
        ensure!(status.success() && out.is_dir(), "{command:?} failed");
        Ok(())
    })?;
    std::fs::remove_dir_all(out)?;
    Ok(took)
}
