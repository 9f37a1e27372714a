//! Downloads one installer from one location: attempts, resuming and the digest.

use ::cli::{Exit, Progress, Say, fail};
use host::PrivateDir;

use crate::cli::Patience;
use crate::fetch::cache::{part_name, part_note_name};
use crate::fetch::http::{Ask, Head, LONGEST_WAIT, Trouble};
use crate::fetch::locations::DownloadLocation;
use crate::fetch::partial_download::{DownloadFailure, Downloaded, PartialDownload};
use crate::fetch::stream::{Stream, StreamError, pause, rest};
use crate::fetch::trusted_digest::TrustedDigest;

/// No installer is larger; CUDA's have 5 GB.
const MOST_BYTES: u64 = 32 << 30;
/// An attempt that got this many bytes does not count as failed.
const PROGRESS: u64 = 64 << 10;
/// Bytes left free on the cache's file system.
const SPARE: u64 = 16 << 20;

/// How often the free space is looked at where no length was announced.
const LOOK: u64 = 8 << 20;

/// Downloads one installer.
pub struct Download<'a> {
    pub store: &'a PrivateDir,
    /// Name in the cache.
    pub name: &'a str,
    /// The digest that the file must have.
    pub trusted: Option<TrustedDigest>,
    pub patience: Patience,
    pub say: &'a Say,
}

/// How one attempt ended.
enum AttemptEnd {
    Complete,
    /// The file must be downloaded again from its beginning.
    Again(String),
    Trouble(Trouble),
}

impl Download<'_> {
    /// Downloads the file, with several attempts.
    pub fn from(&self, location: &DownloadLocation) -> Result<Downloaded, DownloadFailure> {
        let mut part =
            PartialDownload::open(self.store, self.name, location, self.trusted.as_ref())?;
        let mut failed = 0;
        let mut restarts = 0;
        loop {
            let before = part.size;
            let ended = self.attempt(location, &mut part)?;
            // a server that breaks off again and again makes progress nevertheless
            if part.size >= before.saturating_add(PROGRESS) {
                failed = 0;
            }
            let (why, after) = match ended {
                AttemptEnd::Complete => return Ok(part.done()),
                AttemptEnd::Again(why) if restarts < 2 => {
                    let url = &location.url;
                    self.say.detail(&format!("{url}: {why}; download again from the beginning"));
                    restarts += 1;
                    part.clear()?;
                    continue;
                }
                AttemptEnd::Trouble(Trouble::Later { why, after }) => (why, after),
                AttemptEnd::Trouble(Trouble::NotHere(why)) => {
                    return Err(DownloadFailure::NotHere(why));
                }
                AttemptEnd::Again(why)
                | AttemptEnd::Trouble(Trouble::Wrong(why) | Trouble::NoRange { why, .. }) => {
                    return Err(self.drop_part(part, DownloadFailure::Wrong(why)));
                }
            };
            if failed >= self.patience.retries {
                return Err(DownloadFailure::Host(why));
            }
            let pause = match after {
                Some(after) if after > LONGEST_WAIT => {
                    let after = after.as_secs();
                    let why = format!("{why} and asks to wait {after} s");
                    return Err(DownloadFailure::Host(why));
                }
                Some(after) => after,
                None => pause(self.patience.retry_delay, failed),
            };
            failed += 1;
            let secs = pause.as_secs_f32();
            self.say.note(&format!("{}: {why}; next attempt in {secs:.1} s", location.url));
            rest(pause).map_err(|_| self.interrupted(&part))?;
        }
    }

    fn attempt(
        &self,
        location: &DownloadLocation,
        part: &mut PartialDownload,
    ) -> Result<AttemptEnd, DownloadFailure> {
        if part.is_whole(self.trusted.as_ref()) {
            return self.compare(part);
        }
        let ask =
            Ask { url: location.url.clone(), from: part.size, if_range: part.if_range(location) };
        let (mut stream, head) = match Stream::open(ask, self.patience) {
            Ok(opened) => opened,
            Err(StreamError::Interrupted) => return Err(self.interrupted(part)),
            Err(StreamError::Trouble(Trouble::NoRange { why, total })) if part.size > 0 => {
                // 416 with this size: the download is complete
                return match total == Some(part.size) && self.trusted.is_some() {
                    true => self.compare(part),
                    false => Ok(AttemptEnd::Again(why)),
                };
            }
            Err(StreamError::Trouble(trouble)) => return Ok(AttemptEnd::Trouble(trouble)),
        };
        if let Some(wrong) = self.unlike(&head, part) {
            return Ok(wrong);
        }
        if head.from == 0 && part.size > 0 {
            let url = &location.url;
            self.say.detail(&format!("{url}: sends the whole file, so the download starts again"));
            part.clear()?;
        }
        part.resumed |= head.from > 0;
        let total = head.total.or(self.trusted.as_ref().and_then(|trusted| trusted.size));
        self.require_space(total, part.size)?;
        if head.from == 0 {
            part.write_note(self.store, self.name, location, &head)?;
        }
        self.receive(&mut stream, part, total)
    }

    /// Appends the bytes of an answer to the part.
    fn receive(
        &self,
        stream: &mut Stream,
        part: &mut PartialDownload,
        total: Option<u64>,
    ) -> Result<AttemptEnd, DownloadFailure> {
        let progress = Progress::resumed(self.say, "fetching", total, part.size);
        let mut look = part.size + LOOK;
        loop {
            match stream.next() {
                Ok(Some(bytes)) => {
                    let size = part.size + bytes.len() as u64;
                    if size > total.unwrap_or(MOST_BYTES) {
                        return Ok(wrong("sends more bytes than it announced"));
                    }
                    // the announced bytes have room; others may have no end
                    if total.is_none() && part.size >= look {
                        look = part.size + LOOK;
                        if self.store.free()? < SPARE + LOOK {
                            part.clear()?;
                            return Err(self.no_room());
                        }
                    }
                    part.take(&bytes)?;
                    if !part.may_be_installer() {
                        return Ok(wrong("sends a file that is not an installer"));
                    }
                    progress.at(part.size);
                }
                Ok(None) => break,
                Err(StreamError::Interrupted) => return Err(self.interrupted(part)),
                Err(StreamError::Trouble(trouble)) => return Ok(AttemptEnd::Trouble(trouble)),
            }
        }
        drop(progress);
        if total.is_some_and(|total| part.size < total) {
            let why = format!("broke off at {} of {} bytes", part.size, total.unwrap_or(0));
            return Ok(AttemptEnd::Trouble(Trouble::Later { why, after: None }));
        }
        self.compare(part)
    }

    /// What in the head of an answer does not fit.
    fn unlike(&self, head: &Head, part: &PartialDownload) -> Option<AttemptEnd> {
        let total = head.total?;
        if total > MOST_BYTES {
            return Some(wrong("has a file that is larger than any installer"));
        }
        if let Some(size) = self.trusted.as_ref().and_then(|trusted| trusted.size) {
            if size != total {
                return Some(wrong(&format!("has {total} bytes, expected {size}")));
            }
        }
        let changed = head.from > 0 && part.note.total.is_some_and(|known| known != total);
        changed.then(|| AttemptEnd::Again("now has another size".into()))
    }

    /// Compares the digest of a complete file.
    fn compare(&self, part: &PartialDownload) -> Result<AttemptEnd, DownloadFailure> {
        let Some(trusted) = &self.trusted else { return Ok(AttemptEnd::Complete) };
        let sha256 = part.sha256();
        if sha256 == trusted.sha256 {
            return Ok(AttemptEnd::Complete);
        }
        let why = format!("has SHA-256 {sha256}, expected {}", trusted.sha256);
        // two parts of different files may both be right
        Ok(match part.resumed {
            true => AttemptEnd::Again(why),
            false => wrong(&why),
        })
    }

    fn require_space(&self, total: Option<u64>, have: u64) -> Result<(), DownloadFailure> {
        let Some(total) = total else { return Ok(()) };
        let needs = total.saturating_sub(have).saturating_add(SPARE);
        let free = self.store.free()?;
        if free >= needs {
            return Ok(());
        }
        let (needs, free) = (needs.div_ceil(1_000_000), free / 1_000_000);
        let message =
            format!("'{}' has {free} MB of free space and needs {needs} MB", self.store.dir());
        Err(fail(Exit::System, message)
            .hint("remove cached installers, or name another directory with --cache")
            .run(advice::nv_runfile::prune(&self.store.dir().to_string(), 1))
            .into())
    }

    /// A server sends more than there is room for, and has not said how much it is.
    fn no_room(&self) -> DownloadFailure {
        let message = format!(
            "'{}' has no more free space, and the server does not announce how much it sends",
            self.store.dir()
        );
        fail(Exit::System, message)
            .hint("remove cached installers, or name another directory with --cache")
            .into()
    }

    fn interrupted(&self, part: &PartialDownload) -> DownloadFailure {
        let kept = match part.size {
            0 => String::new(),
            size => format!("; {size} bytes are kept, and the next fetch resumes the download"),
        };
        fail(Exit::System, format!("interrupted{kept}")).into()
    }

    /// Removes a part that cannot become the file.
    fn drop_part(&self, part: PartialDownload, miss: DownloadFailure) -> DownloadFailure {
        drop(part);
        let names = [part_name(self.name), part_note_name(self.name)];
        match names.iter().try_for_each(|name| self.store.remove(name)) {
            Ok(()) => miss,
            Err(error) => error.into(),
        }
    }
}

fn wrong(why: &str) -> AttemptEnd {
    AttemptEnd::Trouble(Trouble::Wrong(why.into()))
}
