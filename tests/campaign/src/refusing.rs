//! What the kernel and the cluster file system refuse: the n-th write to sysfs
//! fails, blocks or is the last thing that its writer does, the n-th request to
//! pmxcfs fails or quorum is lost at it.

use modelkernel::{Effect, Fault};
use pmxcfs::Op;

use crate::judge::{Done, RULES, after, base, recovers};
use crate::stage::{Base, Stage, play};
use crate::stages::cluster::OnCluster;
use crate::stages::model::OnModel;
use crate::{Effort, Tally};

const ERRNOS: [(i32, &str); 7] = [
    (libc::EIO, "EIO"),
    (libc::EINVAL, "EINVAL"),
    (libc::EBUSY, "EBUSY"),
    (libc::ENODEV, "ENODEV"),
    (libc::EPERM, "EPERM"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::ENOMEM, "ENOMEM"),
];

/// Writes to sysfs in an undisturbed run.
fn writes(stage: &mut OnModel) -> u64 {
    stage.reset();
    assert_eq!(play(stage, &[]).code, Some(0));
    stage.model.counters().writes
}

fn with(stage: &mut OnModel, base: &Base, fault: Fault, done: Done) -> Result<(), String> {
    stage.reset();
    stage.model.inject(fault);
    let outcome = play(stage, &[]);
    stage.model.clear_faults();
    if stage.model.dead() {
        stage.model.revive();
    }
    let result = after(stage, base, &outcome, done);
    stage.model.release_blocked();
    result
}

/// The n-th write to sysfs fails.
pub fn failing_writes(stage: &mut OnModel, effort: Effort) -> Tally {
    let base = base(stage);
    let all: Vec<_> = (1..=writes(stage)).flat_map(|n| ERRNOS.map(|errno| (n, errno))).collect();
    let mut tally = Tally::new(stage.name(), "the n-th write to sysfs fails", RULES);
    for (n, (errno, name)) in effort.choose(all) {
        tally.trial(
            format!("{name} at write {n}"),
            with(stage, &base, Fault::Errno(n, errno), Done::Refused),
        );
    }
    tally
}

/// The n-th write to sysfs does not come back. What it was writing may still
/// happen later, so what is judged is that the tool comes back, says so, and
/// that the next run completes once the kernel has let go.
pub fn blocking_writes(stage: &mut OnModel, effort: Effort) -> Tally {
    let base = base(stage);
    let all: Vec<u64> = (1..=writes(stage)).collect();
    let mut tally = Tally::new(
        stage.name(),
        "the n-th write to sysfs blocks",
        "the tool comes back and says so; once the kernel lets go, the next run completes, a second says unchanged",
    );
    for n in effort.choose(all) {
        stage.reset();
        stage.model.inject(Fault::Block(n));
        let outcome = play(stage, &[]);
        stage.model.clear_faults();
        stage.model.release_blocked();
        let judged = || {
            outcome.sane(false)?;
            let words = ["did not finish within", "did not answer"];
            let told = outcome.code == Some(3) && words.iter().any(|w| outcome.stderr.contains(w));
            if !told && outcome.code != Some(0) {
                return Err(outcome.end());
            }
            recovers(stage, &base)
        };
        tally.trial(format!("write {n}"), judged());
    }
    tally
}

/// The writer dies at the n-th write to sysfs, with the write done or not.
pub fn dying_writers(stage: &mut OnModel, effort: Effort) -> Tally {
    let base = base(stage);
    let both = [Effect::Happened, Effect::None];
    let all: Vec<_> = (1..=writes(stage)).flat_map(|n| both.map(|effect| (n, effect))).collect();
    let mut tally = Tally::new(
        stage.name(),
        "its writer dies in the n-th write to sysfs",
        "as before, as asked, or named; the next run completes, a second says unchanged",
    );
    for (n, effect) in effort.choose(all) {
        tally.trial(
            format!("write {n}, {effect:?}"),
            with(stage, &base, Fault::Die(n, effect), Done::Refused),
        );
    }
    tally
}

/// Requests of a run that succeeds, by kind.
fn requests(stage: &mut OnCluster) -> Vec<(Op, usize)> {
    stage.reset();
    stage.pve().clear_log();
    assert_eq!(play(stage, &[]).code, Some(0));
    let mut counts = std::collections::BTreeMap::new();
    for logged in stage.pve().log() {
        *counts.entry(logged.op).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// The n-th request of each kind fails, once or from then on, or quorum goes.
pub fn cluster(stage: &mut OnCluster, effort: Effort) -> Tally {
    let base = base(stage);
    let mut all: Vec<(Op, usize, Option<i32>, bool)> = Vec::new();
    for (op, count) in requests(stage) {
        for nth in 1..=count {
            all.push((op, nth, None, false));
            for errno in [libc::EIO, libc::EACCES, libc::EBUSY, libc::ENOSPC] {
                all.extend([(op, nth, Some(errno), false), (op, nth, Some(errno), true)]);
            }
        }
    }
    let mut tally = Tally::new(
        stage.name(),
        "the n-th request to the cluster file system fails, or quorum goes at it",
        RULES,
    );
    for (op, nth, errno, lasting) in effort.choose(all) {
        stage.reset();
        match errno {
            None => stage.pve().lose_quorum_at(op, nth),
            Some(errno) if lasting => stage.pve().fail_from(op, errno, nth),
            Some(errno) => stage.pve().fail(op, errno, nth),
        }
        let outcome = play(stage, &[]);
        stage.pve().clear_faults();
        stage.pve().quorum(true);
        let kind = errno.map_or("no quorum".to_string(), |errno| format!("errno {errno}"));
        let at = format!("{op:?} {nth} {kind}{}", if lasting { " from then on" } else { "" });
        tally.trial(at, after(stage, &base, &outcome, Done::Refused));
    }
    tally
}
