//! Reasons against a plan, and the refusal that they lead to.

use cli::{Exit, Say, fail};
use record::{Change, ChangeStatus, Hint, Record, RecordWriter};

/// One reason against a plan. `K` is the tool's own enum of reasons: code that
/// treats some of them differently compares kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection<K> {
    /// What it is about, as in `change` records: an address, a path.
    pub target: String,
    /// Which reason it is.
    pub kind: K,
    /// The reason in words, without the target.
    pub why: String,
    /// What to do about it.
    pub hint: Hint,
    /// Whether `--force` overrides it: it costs something, but cannot hang the
    /// kernel or destroy data.
    pub overridable: bool,
}

/// Refuses a plan before anything is changed. Objections that `force` overrides
/// become warnings. Each of the others is a `change` record of `property` with
/// status `refused`; for people, a single one is a message and not a table.
///
/// # Errors
/// A `cli::Failure` with exit status 4 for the first objection that is left, or
/// standard output cannot be written.
pub fn refuse<K>(
    objections: Vec<Objection<K>>,
    force: bool,
    property: &str,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<()> {
    let (overridden, refused): (Vec<_>, Vec<_>) =
        objections.into_iter().partition(|objection| objection.overridable && force);
    for objection in overridden {
        say.warn(&format!("{}: {} (overridden by --force)", objection.target, objection.why));
    }
    let Some(first) = refused.first() else { return Ok(()) };
    let more = match refused.len() {
        1 => String::new(),
        2 => " (and 1 more reason)".into(),
        n => format!(" (and {} more reasons)", n - 1),
    };
    let failure = fail(Exit::Refused, format!("{}: {}{more}", first.target, first.why))
        .advise(first.hint.clone());
    if writer.is_jsonl() || refused.len() > 1 {
        for objection in refused {
            let mut change = Change::planned(say.tool(), &objection.target, property);
            change.status = ChangeStatus::Refused;
            change.reason = Some(objection.why);
            change.hint = objection.hint.words;
            change.commands = objection.hint.commands;
            writer.put(Record::Change(change))?;
        }
    }
    Err(failure.into())
}
