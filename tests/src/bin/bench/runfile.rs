//! nv-runfile on archives of this system's own libraries, against the stub's
//! own commands and against what verifies or unpacks the same bytes.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::Bed;
use testbed::runfile::{NvidiaRun, Pack};

/// Bytes of libraries that are packed: about 300 MB when compressed.
const MOST: u64 = 1_000_000_000;
/// For xz, which takes ten times as long.
const MOST_XZ: u64 = 250_000_000;

/// The benches.
pub fn run(tools: &Path) -> Result<()> {
    let tool = tools.join("nv-runfile");
    for (pack, most, runs) in [(Pack::Zstd, MOST, 6), (Pack::XzNoCheck, MOST_XZ, 3)] {
        let bed = Bed::empty();
        let bytes = collect(&bed.at("tree"), most)?;
        let path = NvidiaRun::new("550.163.01", pack).write(&bed.at("tree"), bed.path());
        let packed = std::fs::metadata(&path)?.len();
        let place =
            format!("{} MB in {} MB of {}", bytes / 1_000_000, packed / 1_000_000, pack.name());
        std::fs::remove_dir_all(bed.at("tree"))?;
        let payload = payload(&tool, &path)?;
        if pack == Pack::Zstd {
            let verify = || with(&tool, &["verify"], &path);
            super::report(&place, "verify: sha256sum X", runs, &verify, &|| {
                with(Path::new("sha256sum"), &[], &path)
            })?;
            super::report(&place, "verify: sh X --check", runs, &verify, &|| {
                let mut command = Command::new("sh");
                command.arg(&path).arg("--check");
                command
            })?;
        }
        let out = bed.at("out");
        let mut peak = 0;
        let mut ours = || {
            let mut command = with(&tool, &["extract"], &path);
            command.arg(&out);
            let (took, memory) = fresh(command, &out)?;
            peak = peak.max(memory);
            Ok(took)
        };
        let pipe = format!(
            "mkdir '{}' && tail -c +{} '{}' | {} -dc | tar xf - -C '{}'",
            out.display(),
            payload + 1,
            path.display(),
            pack.name(),
            out.display()
        );
        super::report_each(
            &place,
            &format!("extract: {} -d | tar x", pack.name()),
            runs,
            &mut ours,
            &mut || {
                let mut command = Command::new("sh");
                command.args(["-c", &pipe]);
                Ok(fresh(command, &out)?.0)
            },
        )?;
        super::report_each(&place, "extract: sh X -x --target", runs, &mut ours, &mut || {
            let mut command = Command::new("sh");
            command.arg(&path).args(["-x", "--target"]).arg(&out);
            Ok(fresh(command, &out)?.0)
        })?;
        println!("{place}: extract's peak memory {} MB", peak / 1000);
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

/// Time and peak memory in kB of a command that makes `out`, which is removed.
fn fresh(mut command: Command, out: &Path) -> Result<(Duration, u64)> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("{command:?}"))?;
    let (status, memory) = wait(child.id())?;
    let took = start.elapsed();
    ensure!(status.success() && out.is_dir(), "{command:?} failed");
    std::fs::remove_dir_all(out)?;
    Ok((took, memory))
}

/// wait4(2): the only one that tells the memory of one child.
fn wait(pid: u32) -> Result<(ExitStatus, u64)> {
    // SAFETY: all zeros are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: our own child, and two places to write to.
    let waited = unsafe { libc::wait4(pid as i32, &mut status, 0, &mut usage) };
    ensure!(waited == pid as i32, "wait4: {}", std::io::Error::last_os_error());
    Ok((ExitStatus::from_raw(status), usage.ru_maxrss as u64))
}
