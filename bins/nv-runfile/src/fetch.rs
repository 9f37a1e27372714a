//! `fetch`: an installer in the cache, whole and vouched for.

mod cached;
mod download;
mod http;
mod index;
mod places;
mod stream;
mod target;
mod vouch;

use std::time::Duration;

use ::cli::{Exit, Failure, Say, catch_signals, fail, interrupted};
use host::{FileLock, LockError, PrivateDir};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};
use runfile::sha256_sums;

use crate::cache::{self, lock_name};
use crate::cli::{Fetch, Options, Patience};
use crate::fetch::cached::{Cached, State};
use crate::fetch::download::{Download, Miss};
use crate::fetch::http::{Ask, Trouble};
use crate::fetch::index::{Index, words};
use crate::fetch::places::{Place, places};
use crate::fetch::stream::{Stop, Stream, small};
use crate::fetch::target::{Target, Wanted, checked_url, file_path, name_in};
use crate::fetch::vouch::{Vouched, known, of_name, rows, table};

/// What fetch changes of its target.
pub const PROPERTY: &str = "runfile";
/// A download of this length is somebody else's.
const LONGEST_LOCK: Duration = Duration::from_secs(24 * 3600);

/// A small text from a server or a file: URL. Errors: it is not to be had.
pub fn text(url: &str, patience: Patience, most: usize) -> Result<String, Failure> {
    let url = checked_url(url)?;
    small(&url, patience, most).map_err(|stop| match stop {
        Stop::Interrupted => fail(Exit::System, "interrupted"),
        Stop::Trouble(trouble) => fail(Exit::System, format!("'{url}': {}", words(trouble))),
    })
}

/// A URL that can be asked. Errors: usage.
pub fn require_url(url: &str) -> Result<String, Failure> {
    checked_url(url)
}

/// The verb.
pub fn run(
    options: &Options,
    fetch: &Fetch,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    catch_signals();
    let job = Job::of(options, fetch, say)?;
    if fetch.change.only_look() {
        return job.look(options, writer);
    }
    let opened = cache::open(options, fetch.cache.as_deref(), true)?;
    let store = opened.ok_or_else(|| fail(Exit::System, "the cache cannot be made"))?;
    let path = store.shown(&job.wanted.name);
    let mut change = Change::planned(say.tool(), &path, PROPERTY);
    let outcome = job.ensure(&store);
    match outcome {
        Ok(done) => {
            change.to = Some(format!("sha256 {}", done.note.sha256));
            change.from = if done.changed { None } else { change.to.clone() };
            change.status =
                if done.changed { ChangeStatus::Changed } else { ChangeStatus::Unchanged };
            let record = Cached::of(&store, &job.wanted.name, say).describe(&done.note)?;
            writer.put(Record::Change(change))?;
            writer.put(Record::Runfile(Box::new(record)))?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            change.status = match failure.exit {
                Exit::Refused => ChangeStatus::Refused,
                _ => ChangeStatus::Failed,
            };
            change.reason = Some(failure.message.clone());
            change.hint = failure.hint.clone();
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

/// One installer that is to be there.
struct Job<'a> {
    fetch: &'a Fetch,
    say: &'a Say,
    wanted: Wanted,
    places: Vec<Place>,
    vouched: Option<Vouched>,
}

/// It is there.
struct Done {
    note: cache::Note,
    changed: bool,
}

impl<'a> Job<'a> {
    /// Finds out what is meant, where it may be had and who vouches for it.
    fn of(options: &Options, fetch: &'a Fetch, say: &'a Say) -> Result<Job<'a>, Failure> {
        let usage = |what: &str| fail(Exit::Usage, what.to_string());
        let machine = options.common.machine()?;
        let arch = fetch.arch.as_deref().unwrap_or(std::env::consts::ARCH);
        let target = Target::of(&fetch.what)?;
        for url in &fetch.mirrors {
            checked_url(url)?;
        }
        if matches!(target, Target::Url(_)) {
            if !fetch.mirrors.is_empty() || fetch.url.is_some() || fetch.no_compat32 {
                return Err(usage("a URL says all: no --mirror, --url or --no-compat32 beside it"));
            }
        } else if fetch.url.is_some() && !matches!(target, Target::Version(_)) {
            return Err(usage("--url is the place of one version: name that version"));
        }
        let table = table(&machine)?;
        let index = Index { fetch, arch, say };
        let version = match &target {
            Target::Version(version) => Some(version.clone()),
            Target::Branch(branch) => Some(index.branch(branch, &table)?),
            Target::Latest => Some(index.latest()?),
            Target::Url(_) => None,
        };
        let wanted = match (&version, &target) {
            (Some(version), _) => Wanted::driver(version, arch, fetch.no_compat32),
            (None, Target::Url(url)) => Wanted::named(url, arch)?,
            (None, _) => return Err(usage("no version")),
        };
        let vouched = known(fetch, &wanted, &table)?;
        let dir = rows(&table, &wanted).find_map(|row| row.dir.clone());
        let mut places = match (&target, &fetch.url) {
            (Target::Url(url), _) => vec![Place::of(url)],
            (_, Some(url)) => {
                name_in(url)?;
                vec![Place::of(&checked_url(url)?)]
            }
            _ => places(&wanted, &fetch.mirrors, dir.as_deref()),
        };
        if fetch.offline {
            places.retain(|place| file_path(&place.url).is_some());
        }
        Ok(Job { fetch, say, wanted, places, vouched })
    }

    /// `--check` and `--dry-run`.
    fn look(&self, options: &Options, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let name = &self.wanted.name;
        let opened = cache::open(options, self.fetch.cache.as_deref(), false)?;
        let (path, state) = match &opened {
            Some(store) => {
                let cached = Cached::of(store, name, self.say);
                (store.shown(name), cached.state(self.vouched.as_ref(), self.fetch.verify)?)
            }
            None => {
                let dir = self.fetch.cache.as_ref().map(|dir| dir.display().to_string());
                let dir = dir.unwrap_or_else(|| cache::CACHE.into());
                (format!("{}/{name}", dir.trim_end_matches('/')), State::Absent)
            }
        };
        let right = match &state {
            State::Right(_) => true,
            State::Unvouched(_) => self.fetch.unverified,
            _ => false,
        };
        let is = match &state {
            State::Absent => None,
            State::Wrong(why) | State::Disputed(why) => Some(why.clone()),
            State::Right(note) | State::Unvouched(note) => Some(format!("sha256 {}", note.sha256)),
        };
        let wanted = match (&self.vouched, &is) {
            (Some(vouched), _) => Some(format!("sha256 {}", vouched.sha256)),
            (None, Some(is)) if right => Some(is.clone()),
            _ => None,
        };
        if self.fetch.change.check {
            let expected = wanted.or_else(|| Some(format!("a file vouched for: {name}")));
            let (status, severity) = match right {
                true => (CheckStatus::Ok, Severity::Info),
                false => (CheckStatus::Drift, Severity::Warning),
            };
            let hint = (!right).then(|| "without --check it is fetched".to_string());
            writer.put(Record::Check(Check {
                commands: Vec::new(),
                subject: path,
                property: PROPERTY.into(),
                expected,
                actual: is,
                status,
                severity,
                cause: None,
                reason: None,
                hint,
            }))?;
            return Ok(if right { Exit::Done } else { Exit::Difference });
        }
        let mut change = Change::planned(self.say.tool(), &path, PROPERTY);
        (change.from, change.to) = (is, wanted);
        if right {
            change.status = ChangeStatus::Unchanged;
        } else {
            let first = self.places.first().map(|place| place.url.clone());
            change.reason = first.map(|url| format!("to be asked for first: {url}"));
        }
        writer.put(Record::Change(change))?;
        if let (Some(store), true, State::Right(note) | State::Unvouched(note)) =
            (&opened, right, &state)
        {
            // whoever reads it has the file to work on
            let record = Cached::of(store, name, self.say).describe(note)?;
            writer.put(Record::Runfile(Box::new(record)))?;
        }
        Ok(Exit::Done)
    }

    fn ensure(&self, store: &PrivateDir) -> Result<Done, Failure> {
        let name = &self.wanted.name;
        // whoever has another lock of it in hand is fetching it just now
        let _lock = self.lock(store)?;
        let cached = Cached::of(store, name, self.say);
        match cached.state(self.vouched.as_ref(), self.fetch.verify)? {
            State::Absent => {}
            State::Right(note) => {
                cached.write(&note)?;
                return Ok(Done { note, changed: false });
            }
            State::Disputed(why) => {
                let message = format!("'{}' {why}", store.shown(name));
                return Err(fail(Exit::Refused, message)
                    .hint("find out which of them is right; remove the file if it is not"));
            }
            State::Unvouched(note) => return self.adopt(&cached, note),
            State::Wrong(why) => {
                let path = store.shown(name);
                self.say.warn(&format!("'{path}' {why}: it is removed and fetched anew"));
                cached.remove()?;
            }
        }
        let note = self.download(store, &cached)?;
        Ok(Done { note, changed: true })
    }

    fn lock(&self, store: &PrivateDir) -> Result<FileLock, Failure> {
        let name = lock_name(&self.wanted.name);
        let busy = |error: &LockError| matches!(error, LockError::Busy { .. });
        let lock = match store.lock(&name, Duration::ZERO, &interrupted) {
            Err(error) if busy(&error) => {
                self.say.note(&format!("'{}' is being worked on; waiting", self.wanted.name));
                store.lock(&name, LONGEST_LOCK, &interrupted)
            }
            other => other,
        };
        lock.map_err(|error| match error {
            LockError::Busy { .. } if interrupted() => fail(Exit::System, "interrupted"),
            LockError::Busy { .. } => fail(Exit::Refused, error.to_string()),
            LockError::File(error) => error.into(),
        })
    }

    /// A file that is there, and nobody has vouched for.
    fn adopt(&self, cached: &Cached<'_>, note: cache::Note) -> Result<Done, Failure> {
        // its own digests were right then, and it was not touched since
        if self.fetch.unverified && !self.fetch.verify && cached.is_noted(&note) {
            return Ok(Done { note, changed: false });
        }
        for place in self.places.iter().filter(|place| place.is_safe()) {
            let Some(vouched) = self.sums(place)? else { continue };
            if vouched.sha256 != note.sha256 {
                let message = format!(
                    "'{}' has SHA-256 {} and should have {}",
                    self.wanted.name, note.sha256, vouched.sha256
                );
                return Err(
                    fail(Exit::Refused, message).hint("remove it, or say why with --sha256")
                );
            }
            let note = cache::Note { vouched_by: vouched.by, ..note };
            cached.write(&note)?;
            return Ok(Done { note, changed: false });
        }
        match self.fetch.unverified {
            true => {
                let note = cached.own_digests(note)?;
                Ok(Done { note, changed: false })
            }
            false => Err(self.nobody_vouches()),
        }
    }

    fn nobody_vouches(&self) -> Failure {
        let message =
            format!("nobody vouches for '{}': no SHA-256 of it is known", self.wanted.name);
        fail(Exit::Refused, message)
            .hint("give one with --sha256 or --sha256sums, or trust it with --unverified")
    }

    /// What a place itself says of the file: only counts where nobody on the way
    /// can change it.
    fn sums(&self, place: &Place) -> Result<Option<Vouched>, Failure> {
        if !place.is_safe() {
            return Ok(None);
        }
        let url = format!("{}.sha256sum", place.url);
        let text = match small(&url, self.fetch.patience, 64 << 10) {
            Ok(text) => text,
            Err(Stop::Interrupted) => return Err(fail(Exit::System, "interrupted")),
            Err(Stop::Trouble(trouble)) => {
                self.say.detail(&format!("{url}: {}", words(trouble)));
                return Ok(None);
            }
        };
        let name = name_in(&place.url)?;
        let found = match sha256_sums(&text) {
            Ok(sums) => of_name(&sums, &name, &url)?,
            Err(why) => {
                self.say.detail(&format!("{url}: {why}"));
                None
            }
        };
        let by = if place.vendor { "vendor" } else { "mirror" };
        Ok(found.map(|sha256| Vouched { sha256, size: None, by: by.into() }))
    }

    fn download(&self, store: &PrivateDir, cached: &Cached<'_>) -> Result<cache::Note, Failure> {
        let name = self.wanted.name.as_str();
        let mut down: Vec<&str> = Vec::new();
        let mut reasons: Vec<String> = Vec::new();
        let mut unvouched = false;
        let mut seen_elsewhere = false;
        for place in &self.places {
            if down.contains(&place.host()) {
                continue;
            }
            let mut vouched = self.vouched.clone();
            if vouched.is_none() {
                vouched = self.sums(place)?;
            }
            let missed = if vouched.is_none() && !self.fetch.unverified {
                match self.is_there(place) {
                    Ok(()) => {
                        unvouched = true;
                        continue;
                    }
                    Err(miss) => miss,
                }
            } else {
                let patience = self.fetch.patience;
                let download =
                    Download { store, name, vouched: vouched.clone(), patience, say: self.say };
                match download.from(place) {
                    Ok(got) => match cached.accept(got, &self.wanted, vouched.as_ref(), place) {
                        Ok(note) => return Ok(note),
                        Err(miss) => miss,
                    },
                    Err(miss) => miss,
                }
            };
            match missed {
                Miss::End(failure) => return Err(failure),
                Miss::Host(why) => {
                    down.push(place.host());
                    reasons.push(format!("{}: {why}", place.host()));
                    seen_elsewhere = true;
                }
                Miss::Wrong(why) => {
                    reasons.push(format!("{}: {why}", place.url));
                    seen_elsewhere = true;
                }
                Miss::NotHere(why) => reasons.push(format!("{}: {why}", place.url)),
            }
        }
        cached.drop_empty_part()?;
        if unvouched {
            return Err(self.nobody_vouches());
        }
        if self.places.is_empty() {
            let message = format!("'{name}' is not in the cache");
            return Err(fail(Exit::System, message).hint("without --offline it is fetched"));
        }
        let failure =
            fail(Exit::System, format!("'{name}' cannot be fetched: {}", reasons.join("; ")));
        Err(match seen_elsewhere {
            true => failure,
            false => failure.hint("is that a version that NVIDIA published for this architecture?"),
        })
    }

    /// Whether a place has it, without taking it.
    fn is_there(&self, place: &Place) -> Result<(), Miss> {
        let ask = Ask { url: place.url.clone(), ..Ask::default() };
        match Stream::open(ask, self.fetch.patience) {
            Ok(_) => Ok(()),
            Err(Stop::Interrupted) => Err(Miss::End(fail(Exit::System, "interrupted"))),
            Err(Stop::Trouble(Trouble::NotHere(why))) => Err(Miss::NotHere(why)),
            Err(Stop::Trouble(Trouble::Later { why, .. })) => Err(Miss::Host(why)),
            Err(Stop::Trouble(trouble)) => Err(Miss::Wrong(words(trouble))),
        }
    }
}
