//! `fetch`: downloads an installer into the cache, complete and with a trusted
//! SHA-256.

use ::cli::{Exit, Say, catch_signals, fail};
use host::PrivateDir;
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::cli::{Fetch, Options};
use crate::fetch::cache::{self, PROPERTY};
use crate::fetch::cached_file::{CachedFile, CachedState};
use crate::fetch::job::FetchJob;
use crate::install::common::because_of;

pub fn run(
    options: &Options,
    fetch: &Fetch,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    catch_signals();
    let job = FetchJob::of(options, fetch, say)?;
    if fetch.change.only_look() {
        return look(&job, options, writer);
    }
    let opened = cache::open(options, fetch.cache.as_deref(), true)?;
    let store = opened.ok_or_else(|| fail(Exit::System, "the cache cannot be created"))?;
    let mut change = Change::planned(say.tool(), &store.shown(&job.requested.name), PROPERTY);
    match job.ensure(&store) {
        Ok(done) => {
            change.to = Some(format!("sha256 {}", done.note.sha256));
            change.from = if done.changed { None } else { change.to.clone() };
            change.status =
                if done.changed { ChangeStatus::Changed } else { ChangeStatus::Unchanged };
            let record = CachedFile::of(&store, &job.requested.name, say).describe(&done.note)?;
            writer.put(Record::Change(change))?;
            writer.put(Record::Runfile(Box::new(record)))?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            change.status = match failure.exit {
                Exit::Refused => ChangeStatus::Refused,
                _ => ChangeStatus::Failed,
            };
            because_of(&mut change, &failure);
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

/// What `--check` and `--dry-run` find in the cache.
struct Found {
    path: String,
    /// The file is the right one.
    valid: bool,
    actual: Option<String>,
    expected: Option<String>,
}

impl Found {
    fn of(job: &FetchJob<'_>, path: String, state: &CachedState) -> Found {
        let valid = match state {
            CachedState::Valid(_) => true,
            CachedState::Untrusted(_) => job.fetch.unverified,
            _ => false,
        };
        let actual = match state {
            CachedState::Absent => None,
            CachedState::Wrong(why) | CachedState::Disputed(why) => Some(why.clone()),
            CachedState::Valid(note) | CachedState::Untrusted(note) => {
                Some(format!("sha256 {}", note.sha256))
            }
        };
        let expected = match (&job.trusted, &actual) {
            (Some(trusted), _) => Some(format!("sha256 {}", trusted.sha256)),
            (None, Some(actual)) if valid => Some(actual.clone()),
            _ => None,
        };
        Found { path, valid, actual, expected }
    }

    fn check(self, name: &str) -> Check {
        let (status, severity) = match self.valid {
            true => (CheckStatus::Ok, Severity::Info),
            false => (CheckStatus::Drift, Severity::Warning),
        };
        Check {
            subject: self.path,
            property: PROPERTY.into(),
            expected: self.expected.or_else(|| Some(format!("{name} with a trusted SHA-256"))),
            actual: self.actual,
            status,
            severity,
            cause: None,
            reason: None,
            hint: (!self.valid).then(|| "run without --check to download it".to_string()),
            commands: Vec::new(),
        }
    }
}

fn look(job: &FetchJob<'_>, options: &Options, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let (fetch, name) = (job.fetch, &job.requested.name);
    let opened = cache::open(options, fetch.cache.as_deref(), false)?;
    let (path, state) = match &opened {
        Some(store) => {
            let cached = CachedFile::of(store, name, job.say);
            (store.shown(name), cached.state(job.trusted.as_ref(), fetch.verify)?)
        }
        None => {
            let dir = fetch.cache.as_ref().map(|dir| dir.display().to_string());
            let dir = dir.unwrap_or_else(|| cache::CACHE.into());
            (format!("{}/{name}", dir.trim_end_matches('/')), CachedState::Absent)
        }
    };
    let found = Found::of(job, path, &state);
    let valid = found.valid;
    if fetch.change.check {
        writer.put(Record::Check(found.check(name)))?;
        return Ok(if valid { Exit::Done } else { Exit::Difference });
    }
    let mut change = Change::planned(job.say.tool(), &found.path, PROPERTY);
    (change.from, change.to) = (found.actual, found.expected);
    if valid {
        change.status = ChangeStatus::Unchanged;
    } else {
        let first = job.locations.first().map(|location| &location.url);
        change.reason = first.map(|url| format!("the first server asked is {url}"));
    }
    writer.put(Record::Change(change))?;
    if valid {
        put_runfile(job, opened.as_ref(), &state, writer)?;
    }
    Ok(Exit::Done)
}

/// The record of a file that is in the cache, for the next tool in the pipeline.
fn put_runfile(
    job: &FetchJob<'_>,
    store: Option<&PrivateDir>,
    state: &CachedState,
    writer: &mut RecordWriter,
) -> anyhow::Result<()> {
    if let (Some(store), CachedState::Valid(note) | CachedState::Untrusted(note)) = (store, state) {
        let record = CachedFile::of(store, &job.requested.name, job.say).describe(note)?;
        writer.put(Record::Runfile(Box::new(record)))?;
    }
    Ok(())
}
