//! Faults that strace injects: a signal or an error at the n-th of each system
//! call.

use std::fs;

use testbed::strace::calls;

use crate::judge::{Done, KILLED, RULES, after, base};
use crate::stage::{Base, Stage, play};
use crate::{Effort, Tally};

/// What the kernel may answer to calls that look at or change files, processes
/// and locks.
const ERRORS: [(&str, &[&str]); 36] = [
    ("access", &["EIO"]),
    ("chdir", &["EACCES"]),
    ("clone3", &["EAGAIN"]),
    ("copy_file_range", &["ENOSPC", "EIO"]),
    ("fchmod", &["EPERM", "EIO"]),
    ("fchmodat", &["EPERM", "EIO"]),
    ("fchown", &["EPERM", "EIO"]),
    ("fchownat", &["EPERM", "EIO"]),
    ("fdatasync", &["EIO"]),
    ("flock", &["ENOLCK", "EINTR"]),
    ("fstat", &["EIO"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("ftruncate", &["EIO", "ENOSPC"]),
    ("getdents64", &["EIO"]),
    ("linkat", &["EMLINK", "ENOSPC"]),
    ("lseek", &["EIO"]),
    ("mkdir", &["EROFS", "ENOSPC"]),
    ("mkdirat", &["EROFS", "ENOSPC", "EACCES"]),
    ("mknodat", &["EPERM", "ENOSPC"]),
    ("newfstatat", &["EIO", "EACCES"]),
    ("openat", &["EACCES", "EMFILE", "ENOSPC", "EROFS", "EINTR"]),
    ("openat2", &["EACCES", "EMFILE", "ENOSPC", "EROFS", "EAGAIN", "EINTR"]),
    ("pipe2", &["EMFILE"]),
    ("pread64", &["EIO", "EINTR"]),
    ("pwrite64", &["ENOSPC", "EIO"]),
    ("read", &["EIO", "EINTR"]),
    ("readlinkat", &["EIO", "EACCES"]),
    ("renameat", &["EACCES", "EIO", "EBUSY", "EROFS"]),
    ("renameat2", &["EACCES", "EIO", "EEXIST", "EROFS"]),
    ("statfs", &["EIO"]),
    ("statx", &["EIO", "EACCES"]),
    ("symlinkat", &["ENOSPC", "EROFS"]),
    ("syncfs", &["EIO", "ENOSPC"]),
    ("unlinkat", &["EIO", "EROFS", "EBUSY"]),
    ("utimensat", &["EPERM", "EIO"]),
    ("write", &["ENOSPC", "EIO", "EDQUOT", "EINTR"]),
];

/// A run of its own, written down. Gives the log.
pub fn logged(stage: &mut dyn Stage, options: &[&str]) -> String {
    let (inside, outside) = stage.log();
    let mut strace: Vec<String> = options.iter().map(|option| (*option).to_string()).collect();
    strace.extend(["-o".to_string(), inside.display().to_string()]);
    stage.reset();
    let outcome = play(stage, &strace);
    assert_eq!(outcome.code, Some(0), "{}: {}", stage.name(), outcome.end());
    let log = fs::read_to_string(&outside).unwrap();
    fs::remove_file(outside).unwrap();
    log
}

fn inject(what: &str) -> Vec<String> {
    ["-o", "/dev/null", "-e"]
        .map(str::to_string)
        .into_iter()
        .chain([format!("inject={what}")])
        .collect()
}

/// `SIGKILL` at the n-th of every system call that it makes.
pub fn killed(stage: &mut dyn Stage, effort: Effort) -> Tally {
    let base = base(stage);
    let all = points(stage).into_iter().map(|at| format!("{}:signal=KILL:when={}", at.0, at.1));
    let mut tally = Tally::new(stage.name(), "killed at the n-th system call", KILLED);
    for what in effort.choose(all.collect()) {
        tally.trial(&what, once(stage, &base, &what, Done::Killed));
    }
    tally
}

/// `SIGTERM`, `SIGINT`, `SIGHUP` at the n-th of every system call.
pub fn interrupted(stage: &mut dyn Stage, effort: Effort) -> Tally {
    let base = base(stage);
    let signals = ["TERM", "INT", "HUP"];
    let all = points(stage).into_iter().enumerate();
    let all = all.map(|(n, at)| format!("{}:signal={}:when={}", at.0, signals[n % 3], at.1));
    let mut tally = Tally::new(stage.name(), "interrupted at the n-th system call", RULES);
    for what in effort.choose(all.collect()) {
        tally.trial(&what, once(stage, &base, &what, Done::Interrupted));
    }
    tally
}

/// Each error that the n-th of each call could meet.
pub fn refused(stage: &mut dyn Stage, effort: Effort) -> Tally {
    let base = base(stage);
    let calls = calls(&logged(stage, &[]));
    let mut all = Vec::new();
    for (name, errors) in ERRORS {
        for when in 1..=calls.get(name).copied().unwrap_or(0) {
            all.extend(errors.iter().map(|error| format!("{name}:error={error}:when={when}")));
        }
    }
    let mut tally = Tally::new(stage.name(), "the n-th system call fails", RULES);
    for what in effort.choose(all) {
        tally.trial(&what, once(stage, &base, &what, Done::Refused));
    }
    tally
}

/// Two faults at once: the n-th change of files fails, and so does everything
/// of that kind from then on, which is what a disk does that has gone.
pub fn gone(stage: &mut dyn Stage, effort: Effort) -> Tally {
    let base = base(stage);
    let calls = calls(&logged(stage, &[]));
    let mut all = Vec::new();
    for (name, error) in [
        ("write", "EIO"),
        ("fsync", "EIO"),
        ("renameat", "EROFS"),
        ("renameat2", "EROFS"),
        ("unlinkat", "EROFS"),
        ("mkdirat", "EROFS"),
        ("openat2", "EIO"),
    ] {
        let times = calls.get(name).copied().unwrap_or(0);
        all.extend((1..=times).map(|when| format!("{name}:error={error}:when={when}+")));
    }
    let mut tally = Tally::new(
        stage.name(),
        "every such call from the n-th on fails",
        "files old, new or named in what was said, none lost; then as after a kill",
    );
    for what in effort.choose(all) {
        stage.reset();
        let outcome = play(stage, &inject(&what));
        tally.trial(&what, gone_after(stage, &base, &outcome));
    }
    tally
}

/// Nothing can be undone on a disk that is gone, and perhaps nothing said.
fn gone_after(
    stage: &dyn Stage,
    base: &Base,
    outcome: &crate::process::Outcome,
) -> Result<(), String> {
    outcome.sane(true)?;
    if !matches!(outcome.code, Some(0 | 2 | 3 | 4 | 127)) {
        return Err(outcome.end());
    }
    let now = stage.look();
    for (item, what) in &now {
        let known =
            [&base.before, &base.after].into_iter().any(|look| look.get(item) == Some(what));
        let fine = known || stage.is_temporary(item) || stage.may_stay(item) || stage.may_lag(item);
        if !fine && stage.is_atomic() {
            return Err(format!("'{item}' is neither old nor new: {}", outcome.end()));
        }
    }
    let both = base.before.keys().filter(|item| base.after.contains_key(*item));
    if let Some(lost) = both.into_iter().find(|item| !now.contains_key(*item)) {
        return Err(format!("'{lost}' is lost: {}", outcome.end()));
    }
    crate::judge::recovers(stage, base)
}

/// Every call that is made, with its number.
fn points(stage: &mut dyn Stage) -> Vec<(String, usize)> {
    let calls = calls(&logged(stage, &[]));
    let one = |(name, count): (String, usize)| (1..=count).map(move |n| (name.clone(), n));
    calls.into_iter().flat_map(one).collect()
}

fn once(stage: &mut dyn Stage, base: &Base, what: &str, done: Done) -> Result<(), String> {
    stage.reset();
    let outcome = play(stage, &inject(what));
    // what was never reached is a run like any other
    let done = if done == Done::Killed && outcome.code.is_some() { Done::Refused } else { done };
    after(stage, base, &outcome, done)
}
