//! What it ran on, and how busy that was with other things.

use std::fs;
use std::process::Command;
use std::time::Instant;

/// Lines for the report's head.
pub fn described() -> Vec<String> {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        found.unwrap_or("unknown").trim_matches(['\t', ' ', ':', '=', '"']).to_string()
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: u64 =
        line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        format!(
            "{processors} x {}, {} GiB of memory",
            line("/proc/cpuinfo", "model name"),
            memory >> 20
        ),
        format!("Linux {}, {}", release.trim(), line("/etc/os-release", "PRETTY_NAME")),
        format!("trees and archives on {}", file_system()),
        format!(
            "{}, commit {}, {}",
            said("date", &["-u", "+%Y-%m-%d"]),
            commit(),
            said("rustc", &["--version"])
        ),
    ]
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| format!("no {program}"))
}

/// The commit, and whether what ran differs from it.
fn commit() -> String {
    let changed =
        Command::new("git").args(["status", "--porcelain", "--untracked-files=no"]).output();
    let changed = changed.is_ok_and(|output| !output.stdout.is_empty());
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    if changed { format!("{commit} with changes") } else { commit }
}

/// Type of the file system where the trees lie.
fn file_system() -> String {
    let at = testbed::bed::scratch();
    said("stat", &["-f", "-c", "%T", &at.display().to_string()])
}

/// Processor time, in seconds.
struct Spent {
    /// By everything, idling not counted.
    all: f64,
    /// By this process and what it started.
    own: f64,
}

fn spent() -> Spent {
    // SAFETY: sysconf(3) takes a number and gives one.
    let tick = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> =
        first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = fields.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    let own = used(libc::RUSAGE_SELF) + used_by_children();
    Spent { all: busy.map(|(_, ticks)| ticks / tick).sum(), own }
}

/// Processor time in seconds of what was started and waited for.
pub fn used_by_children() -> f64 {
    used(libc::RUSAGE_CHILDREN)
}

fn used(whose: libc::c_int) -> f64 {
    let usage = usage(whose);
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// getrusage(2).
pub fn usage(whose: libc::c_int) -> libc::rusage {
    // SAFETY: all of rusage may be zero, and getrusage(2) writes no more of it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &mut usage);
        usage
    }
}

/// Looks how busy the machine is beside us.
pub struct Watch {
    start: Instant,
    before: Spent,
}

impl Watch {
    /// Begins.
    pub fn new() -> Watch {
        Watch { start: Instant::now(), before: spent() }
    }

    /// In words.
    pub fn told(&self) -> String {
        let now = spent();
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let seconds = self.start.elapsed().as_secs_f64();
        let others = (now.all - self.before.all) - (now.own - self.before.own);
        let share = (others / (seconds * processors) * 100.0).clamp(0.0, 100.0);
        let busy = if share >= 10.0 {
            "the machine was busy with other work: look at the spread"
        } else {
            "the machine was quiet"
        };
        format!("{seconds:.0} s; other work took {share:.0} % of the processors meanwhile: {busy}")
    }
}
