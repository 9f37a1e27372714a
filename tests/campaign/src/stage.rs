//! A command line in surroundings that can be put back and looked at.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::process::{Outcome, run};
use crate::saved::Look;

/// What a campaign works on.
pub trait Stage {
    /// The command line, for people.
    fn name(&self) -> String;

    /// Everything as it was before the tool's first run.
    fn reset(&mut self);

    /// The tool with its arguments.
    fn command(&self) -> Vec<OsString>;

    /// What stands before it: whatever enters another machine.
    fn prefix(&self) -> Vec<OsString> {
        Vec::new()
    }

    fn input(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Everything that the tool may change, and what lies beside it. Locks and
    /// the like are left out, times too.
    fn look(&self) -> Look;

    /// Where strace may write: as the tool's machine has it, and as we do.
    fn log(&self) -> (PathBuf, PathBuf);

    /// How a run ends that finds nothing to do.
    fn settled(&self) -> i32 {
        0
    }

    /// A kill leaves each item old or new. Otherwise it may also leave what only
    /// the next run puts right, such as a function without a driver.
    fn is_atomic(&self) -> bool {
        true
    }

    /// A name that only a broken-off run leaves.
    fn is_temporary(&self, item: &str) -> bool {
        item.contains(".tmp.") || item.contains(".nv-runfile-")
    }

    /// What a failed run may leave for the next one, such as a part of a download.
    fn may_stay(&self, _item: &str) -> bool {
        false
    }

    /// Whether what was said tells of an item that is not as it was.
    fn is_named(&self, item: &str, said: &str) -> bool {
        said.contains(item.rsplit('/').next().unwrap_or(item))
    }

    /// An item that is written after the deed: a failure to do so is told, does
    /// not undo the deed, and is made good by the next run.
    fn may_lag(&self, _item: &str) -> bool {
        false
    }
}

/// Runs it, below strace where there are options for that.
pub fn play(stage: &dyn Stage, strace: &[String]) -> Outcome {
    let mut words = stage.prefix();
    if !strace.is_empty() {
        words.extend(["strace".into(), "-qq".into(), "-f".into()]);
        words.extend(strace.iter().map(OsString::from));
    }
    words.extend(stage.command());
    run(&words, &stage.input())
}

/// Before and after a run that nothing disturbs.
#[derive(Clone, Debug)]
pub struct Base {
    pub before: Look,
    pub after: Look,
}
