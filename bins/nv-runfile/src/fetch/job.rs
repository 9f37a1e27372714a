//! One run of `fetch`: what is requested, where it may be and which SHA-256 it
//! must have, then how it gets into the cache.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::{FileLock, LockError, PrivateDir};
use runfile::{lone_sha256, sha256_sums};

use crate::cli::{Fetch, Options};
use crate::fetch::cache::{CacheNote, lock_name};
use crate::fetch::cached_file::{CachedFile, CachedState};
use crate::fetch::download::Download;
use crate::fetch::http::{Ask, Trouble};
use crate::fetch::locations::{DownloadLocation, locations};
use crate::fetch::partial_download::DownloadFailure;
use crate::fetch::request::{FetchOperand, RequestedInstaller, checked_url, file_path, name_in};
use crate::fetch::stream::{Stream, StreamError, small, words};
use crate::fetch::trusted_digest::{TrustedDigest, known, of_name, rows, table};
use crate::fetch::version_index::VersionIndex;

/// A download that holds its lock longer is not waited for.
const LONGEST_LOCK: Duration = Duration::from_secs(24 * 3600);

/// One installer that is to be in the cache.
pub struct FetchJob<'a> {
    pub fetch: &'a Fetch,
    pub say: &'a Say,
    pub requested: RequestedInstaller,
    pub locations: Vec<DownloadLocation>,
    pub trusted: Option<TrustedDigest>,
}

/// The file is in the cache.
pub struct FetchedFile {
    pub note: CacheNote,
    /// This run changed the cache.
    pub changed: bool,
}

impl<'a> FetchJob<'a> {
    /// Resolves the operand: which installer, from where, with which SHA-256.
    pub fn of(options: &Options, fetch: &'a Fetch, say: &'a Say) -> Result<FetchJob<'a>, Failure> {
        let machine = options.common.machine()?;
        let arch = fetch.arch.as_deref().unwrap_or(std::env::consts::ARCH);
        let operand = FetchOperand::of(&fetch.what)?;
        require_sense(fetch, &operand)?;
        let table = table(&machine)?;
        let index = VersionIndex { fetch, arch, say };
        let driver = |version: &str| RequestedInstaller::driver(version, arch, fetch.no_compat32);
        let requested = match &operand {
            FetchOperand::Version(version) => driver(version),
            FetchOperand::Branch(branch) => driver(&index.branch(branch, &table)?),
            FetchOperand::Latest => driver(&index.latest()?),
            FetchOperand::Url(url) => RequestedInstaller::named(url, arch)?,
        };
        let trusted = known(fetch, &requested, &table)?;
        let dir = rows(&table, &requested).find_map(|row| row.dir.clone());
        let mut locations = match (&operand, &fetch.url) {
            (FetchOperand::Url(url), _) => vec![DownloadLocation::of(url)],
            (_, Some(url)) => {
                name_in(url)?;
                vec![DownloadLocation::of(&checked_url(url)?)]
            }
            _ => locations(&requested, &fetch.mirrors, dir.as_deref()),
        };
        if fetch.offline {
            locations.retain(|location| file_path(&location.url).is_some());
        }
        Ok(FetchJob { fetch, say, requested, locations, trusted })
    }

    /// Gets the file into the cache, unless the right one is there.
    pub fn ensure(&self, store: &PrivateDir) -> Result<FetchedFile, Failure> {
        let name = &self.requested.name;
        // another process that has the lock is downloading the same file
        let _lock = self.lock(store)?;
        let cached = CachedFile::of(store, name, self.say);
        match cached.state(self.trusted.as_ref(), self.fetch.verify)? {
            CachedState::Absent => {}
            CachedState::Valid(note) => {
                cached.write(&note)?;
                return Ok(FetchedFile { note, changed: false });
            }
            CachedState::Disputed(why) => {
                let message = format!("'{}' {why}", store.shown(name));
                return Err(fail(Exit::Refused, message)
                    .hint("find out which SHA-256 is right; remove the file if its own is wrong"));
            }
            CachedState::Untrusted(note) => return self.adopt(&cached, note),
            // without another file at hand, a deleted one could not be had again
            CachedState::Wrong(why) if self.fetch.offline => {
                let path = store.shown(name);
                return Err(fail(Exit::Refused, format!("'{path}' {why}; it was not removed"))
                    .hint("run without --offline to replace it, or remove it yourself"));
            }
            CachedState::Wrong(why) => {
                let path = store.shown(name);
                self.say.warn(&format!("'{path}' {why}; it is removed and downloaded again"));
                cached.remove()?;
            }
        }
        let note = self.download(store, &cached)?;
        Ok(FetchedFile { note, changed: true })
    }

    fn lock(&self, store: &PrivateDir) -> Result<FileLock, Failure> {
        let name = lock_name(&self.requested.name);
        let busy = |error: &LockError| matches!(error, LockError::Busy { .. });
        let lock = match store.lock(&name, Duration::ZERO, &interrupted) {
            Err(error) if busy(&error) => {
                let name = &self.requested.name;
                self.say.note(&format!("waiting for another process that downloads '{name}'"));
                store.lock(&lock_name(name), LONGEST_LOCK, &interrupted)
            }
            other => other,
        };
        lock.map_err(|error| match error {
            LockError::Busy { .. } if interrupted() => fail(Exit::System, "interrupted"),
            LockError::Busy { .. } => fail(Exit::Refused, error.to_string()),
            LockError::File(error) => error.into(),
        })
    }

    /// A file in the cache that has no trusted SHA-256 so far.
    fn adopt(&self, cached: &CachedFile<'_>, note: CacheNote) -> Result<FetchedFile, Failure> {
        // an earlier run compared its embedded checksums, and it was not modified since
        if self.fetch.unverified && !self.fetch.verify && cached.is_noted(&note) {
            return Ok(FetchedFile { note, changed: false });
        }
        for location in self.locations.iter().filter(|location| location.is_safe()) {
            let Some(trusted) = self.sums(location)? else { continue };
            if trusted.sha256 != note.sha256 {
                let message = format!(
                    "'{}' has SHA-256 {}, expected {}",
                    self.requested.name, note.sha256, trusted.sha256
                );
                return Err(fail(Exit::Refused, message)
                    .hint("remove the file, or confirm its SHA-256 with --sha256"));
            }
            let note = CacheNote { vouched_by: trusted.by, ..note };
            cached.write(&note)?;
            return Ok(FetchedFile { note, changed: false });
        }
        match self.fetch.unverified {
            true => {
                let note = cached.require_embedded_checksums(note)?;
                Ok(FetchedFile { note, changed: false })
            }
            false => Err(self.no_trusted_digest()),
        }
    }

    fn no_trusted_digest(&self) -> Failure {
        let message = format!("no trusted SHA-256 is known for '{}'", self.requested.name);
        fail(Exit::Refused, message)
            .hint("give it with --sha256 or --sha256sums, or use --unverified to accept the file")
    }

    /// The SHA-256 that a server has beside the file, if nobody on the way to the
    /// server can change it.
    fn sums(&self, location: &DownloadLocation) -> Result<Option<TrustedDigest>, Failure> {
        if !location.is_safe() {
            return Ok(None);
        }
        let url = format!("{}.sha256sum", location.url);
        let text = match small(&url, self.fetch.patience, 64 << 10) {
            Ok(text) => text,
            Err(StreamError::Interrupted) => return Err(fail(Exit::System, "interrupted")),
            Err(StreamError::Trouble(trouble)) => {
                self.say.detail(&format!("{url}: {}", words(trouble)));
                return Ok(None);
            }
        };
        let name = name_in(&location.url)?;
        let found = match sha256_sums(&text) {
            // beside the file, and so of the file
            _ if lone_sha256(&text).is_some() => lone_sha256(&text),
            Ok(sums) => of_name(&sums, &name, &url)?,
            Err(why) => {
                self.say.detail(&format!("{url}: {why}"));
                None
            }
        };
        let by = if location.vendor { "vendor" } else { "mirror" };
        Ok(found.map(|sha256| TrustedDigest { sha256, size: None, by: by.into() }))
    }

    fn download(&self, store: &PrivateDir, cached: &CachedFile<'_>) -> Result<CacheNote, Failure> {
        let mut misses = Misses::default();
        for location in &self.locations {
            if misses.down.iter().any(|host| host == location.host()) {
                continue;
            }
            let trusted = match &self.trusted {
                Some(trusted) => Some(trusted.clone()),
                None => self.sums(location)?,
            };
            let missed = if trusted.is_none() && !self.fetch.unverified {
                match self.is_there(location) {
                    Ok(()) => {
                        misses.untrusted = true;
                        continue;
                    }
                    Err(miss) => miss,
                }
            } else {
                match self.download_from(location, trusted, store, cached) {
                    Ok(note) => return Ok(note),
                    Err(miss) => miss,
                }
            };
            misses.add(location, missed)?;
        }
        cached.drop_empty_part()?;
        Err(self.not_found(&misses))
    }

    fn download_from(
        &self,
        location: &DownloadLocation,
        trusted: Option<TrustedDigest>,
        store: &PrivateDir,
        cached: &CachedFile<'_>,
    ) -> Result<CacheNote, DownloadFailure> {
        let (name, patience) = (self.requested.name.as_str(), self.fetch.patience);
        let download = Download { store, name, trusted: trusted.clone(), patience, say: self.say };
        let got = download.from(location)?;
        cached.accept(got, &self.requested, trusted.as_ref(), location)
    }

    fn not_found(&self, misses: &Misses) -> Failure {
        let name = &self.requested.name;
        if misses.untrusted {
            return self.no_trusted_digest();
        }
        if self.locations.is_empty() {
            let message = format!("'{name}' is not in the cache");
            return fail(Exit::System, message).hint("run without --offline to download it");
        }
        let reasons = misses.reasons.join("; ");
        let failure = fail(Exit::System, format!("'{name}' cannot be downloaded: {reasons}"));
        match misses.seen {
            true if !misses.down.is_empty() => failure.hint(
                "try again later, name another server with --mirror, or use only cached files with \
                 --offline; behind a proxy set https_proxy",
            ),
            true => failure.hint("try again later, or name another server with --mirror"),
            false => failure.hint("check that NVIDIA published this version for this architecture"),
        }
    }

    /// Whether a server has the file, without downloading it.
    fn is_there(&self, location: &DownloadLocation) -> Result<(), DownloadFailure> {
        let ask = Ask { url: location.url.clone(), ..Ask::default() };
        match Stream::open(ask, self.fetch.patience) {
            Ok(_) => Ok(()),
            Err(StreamError::Interrupted) => {
                Err(DownloadFailure::End(fail(Exit::System, "interrupted")))
            }
            Err(StreamError::Trouble(Trouble::NotHere(why))) => Err(DownloadFailure::NotHere(why)),
            Err(StreamError::Trouble(Trouble::Later { why, .. })) => {
                Err(DownloadFailure::Host(why))
            }
            Err(StreamError::Trouble(trouble)) => Err(DownloadFailure::Wrong(words(trouble))),
        }
    }
}

/// Why the locations that were tried did not have the file.
#[derive(Default)]
struct Misses {
    /// Hosts that are not asked again.
    down: Vec<String>,
    reasons: Vec<String>,
    /// A location has the file, but no trusted SHA-256 is known.
    untrusted: bool,
    /// The version may exist: a host failed, or has another file.
    seen: bool,
}

impl Misses {
    fn add(&mut self, location: &DownloadLocation, miss: DownloadFailure) -> Result<(), Failure> {
        let (at, why) = match miss {
            DownloadFailure::End(failure) => return Err(failure),
            DownloadFailure::Host(why) => {
                self.down.push(location.host().into());
                self.seen = true;
                (location.host(), why)
            }
            DownloadFailure::Wrong(why) => {
                self.seen = true;
                (location.url.as_str(), why)
            }
            DownloadFailure::NotHere(why) => (location.url.as_str(), why),
        };
        self.reasons.push(format!("{at}: {why}"));
        Ok(())
    }
}

/// Refuses options that do not go together with the operand. Errors: usage.
fn require_sense(fetch: &Fetch, operand: &FetchOperand) -> Result<(), Failure> {
    for url in &fetch.mirrors {
        checked_url(url)?;
    }
    let usage = |what: &str| Err(fail(Exit::Usage, what.to_string()));
    match operand {
        FetchOperand::Url(_)
            if !fetch.mirrors.is_empty() || fetch.url.is_some() || fetch.no_compat32 =>
        {
            usage("a URL cannot be combined with --mirror, --url or --no-compat32")
        }
        FetchOperand::Branch(_) | FetchOperand::Latest if fetch.url.is_some() => {
            usage("--url needs a version, not a branch or 'latest'")
        }
        _ => Ok(()),
    }
}
