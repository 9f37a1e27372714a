//! What must be true after a run that nothing disturbs, and after a fault,
//! whatever the tool and whatever the fault.

use crate::process::Outcome;
use crate::saved::Look;
use crate::stage::{Base, Stage, play};

/// What was done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was killed, so it could neither undo nor tell.
    Killed,
    /// It was asked to end.
    Interrupted,
    /// Something that it asked for was refused.
    Refused,
}

/// What each row of the table checked, in the words of [`after`].
pub const KILLED: &str = "each file old or new, none lost; the next run completes, a second says unchanged, no temporary file is left";
pub const RULES: &str = "all as before, or as asked, or what is left is named; exit code and records valid; then as after a kill";

/// Judges a run and those that follow it.
pub fn after(stage: &dyn Stage, base: &Base, outcome: &Outcome, done: Done) -> Result<(), String> {
    // it left out what it could not look at, and said so: what comes out of the
    // next run may stand in another order
    let told = outcome.stderr.contains("warning: cannot ");
    if done == Done::Refused && outcome.code == Some(0) && told && stage.look() != base.after {
        outcome.sane(true)?;
        return settles(stage);
    }
    this_run(stage, base, outcome, done)?;
    recovers(stage, base)
}

/// The next run completes, and one more changes nothing.
fn settles(stage: &dyn Stage) -> Result<(), String> {
    let first = play(stage, &[]);
    first.sane(false)?;
    let look = stage.look();
    let second = play(stage, &[]);
    second.sane(false)?;
    let fine = |code: Option<i32>| code == Some(0) || code == Some(stage.settled());
    match fine(first.code) && fine(second.code) && stage.look() == look {
        true if !look.keys().any(|item| stage.is_temporary(item)) => Ok(()),
        _ => Err(format!("{}\n{}", first.end(), second.end())),
    }
}

fn this_run(stage: &dyn Stage, base: &Base, outcome: &Outcome, done: Done) -> Result<(), String> {
    let now = stage.look();
    // output itself may be what was refused
    outcome.sane(true)?;
    let died = outcome.signal.is_some();
    // what it does when the deed is done and something is left
    let untidy = died || outcome.stderr.contains("the next run cleans up");
    let told = || format!("{}\n{}", outcome.end(), difference(&base.before, &now));
    match (done, outcome.code, outcome.signal) {
        (Done::Killed, None, Some(libc::SIGKILL)) => {}
        // it does not catch the signal: as good as killed
        (Done::Interrupted, None, Some(_)) => {}
        (_, Some(0 | 2 | 3 | 4), None) => {}
        // the loader failed: the tool never ran
        (Done::Refused, Some(127), None) if now == base.before => {}
        _ => return Err(told()),
    }
    for (item, what) in &now {
        let known =
            [&base.before, &base.after].into_iter().any(|look| look.get(item) == Some(what));
        let left = stage.may_stay(item) || (untidy && stage.is_temporary(item));
        let new = !base.before.contains_key(item) && !base.after.contains_key(item);
        let half = !stage.is_atomic() && (died || outcome.code != Some(0));
        let fine = known || (new && left) || (half && !new) || stage.may_lag(item);
        if !fine {
            return Err(format!("'{item}' is neither old nor new: {}", told()));
        }
    }
    let gone = |item: &String| !now.contains_key(item);
    let both = base.before.keys().filter(|item| base.after.contains_key(*item));
    if let Some(lost) = both.into_iter().find(|item| gone(item) && !stage.may_stay(item)) {
        return Err(format!("'{lost}' is lost: {}", told()));
    }
    if died {
        return Ok(());
    }
    let differs = |from: &Look| -> Vec<String> {
        let items = from.keys().chain(now.keys());
        let mut items: Vec<String> =
            items.filter(|i| from.get(*i) != now.get(*i)).cloned().collect();
        let expected = |item: &str| stage.may_stay(item) || (untidy && stage.is_temporary(item));
        items.retain(|item| !expected(item));
        items.dedup();
        items
    };
    let (undone, missing) = (differs(&base.before), differs(&base.after));
    if outcome.code == Some(0) {
        let told_of = !outcome.stderr.is_empty();
        return match missing.iter().find(|item| !(stage.may_lag(item) && told_of)) {
            Some(item) => Err(format!("success, and '{item}' is not as asked: {}", told())),
            None => Ok(()),
        };
    }
    // the deed is done, telling of it failed
    let silent = outcome.stderr.is_empty() || outcome.stderr.contains("standard output");
    if missing.is_empty() && silent {
        return Ok(());
    }
    let said = outcome.said();
    match undone.iter().find(|item| !stage.is_named(item, &said)) {
        Some(item) => Err(format!("'{item}' is not as it was, and nothing says so: {}", told())),
        None => Ok(()),
    }
}

/// The next run completes, one more finds nothing to do.
pub fn recovers(stage: &dyn Stage, base: &Base) -> Result<(), String> {
    for round in ["the next run", "a second run"] {
        let outcome = play(stage, &[]);
        outcome.sane(false).map_err(|why| format!("{round}: {why}"))?;
        let settled = round == "a second run" || outcome.code != Some(0);
        let expected = if settled { stage.settled() } else { 0 };
        if outcome.code != Some(expected) {
            return Err(format!("{round}: {}", outcome.end()));
        }
        let now = stage.look();
        if now != base.after {
            return Err(format!("{round} leaves {}", difference(&base.after, &now)));
        }
        if round == "a second run" && stage.settled() == 0 {
            let quiet = ["unchanged", "skipped"];
            let changed = outcome.records().into_iter().find(|record| {
                record["type"] == "change"
                    && !quiet.contains(&record["status"].as_str().unwrap_or_default())
            });
            if let Some(record) = changed {
                return Err(format!("a second run changes something: {record}"));
            }
        }
    }
    Ok(())
}

/// Runs it undisturbed, twice. Panics where that alone is not right: nothing
/// could be judged by it.
pub fn base(stage: &mut dyn Stage) -> Base {
    stage.reset();
    let before = stage.look();
    let outcome = play(stage, &[]);
    assert_eq!(outcome.code, Some(0), "{}: {}", stage.name(), outcome.end());
    let after = stage.look();
    assert_ne!(before, after, "{} changes nothing", stage.name());
    let base = Base { before, after };
    if let Err(why) = recovers(stage, &base) {
        panic!("{}, undisturbed: {why}", stage.name());
    }
    base
}

/// What is in one and not in the other.
pub fn difference(from: &Look, to: &Look) -> String {
    let minus = from.iter().filter(|(item, what)| to.get(*item) != Some(*what));
    let plus = to.iter().filter(|(item, what)| from.get(*item) != Some(*what));
    let short = |what: &String| what.chars().take(300).collect::<String>();
    let minus = minus.map(|(item, what)| format!("- {item}: {}\n", short(what)));
    minus.chain(plus.map(|(item, what)| format!("+ {item}: {}\n", short(what)))).collect()
}
