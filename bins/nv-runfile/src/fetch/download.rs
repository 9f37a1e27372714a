//! From places to a complete file: attempts, going on where one broke off, and
//! the digest on the way.

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::{PartialFile, PrivateDir};
use sha2::{Digest, Sha256};

use crate::cache::{PartNote, part_name, part_note_name, read_note, store_failure, write_note};
use crate::cli::Patience;
use crate::fetch::http::{Ask, Head, LONGEST_WAIT, Trouble};
use crate::fetch::places::Place;
use crate::fetch::stream::{Stop, Stream, pause, rest};
use crate::fetch::vouch::Vouched;

/// No installer is larger; CUDA's have 5 GB.
const MOST_BYTES: u64 = 32 << 30;
/// An attempt that brought this much counts as none that failed.
const PROGRESS: u64 = 64 << 10;
/// Left free on the cache's file system.
const SPARE: u64 = 16 << 20;

/// Downloads one installer.
pub struct Download<'a> {
    /// The cache.
    pub store: &'a PrivateDir,
    /// Name in it.
    pub name: &'a str,
    /// The digest that it must have.
    pub vouched: Option<Vouched>,
    /// How long and how often.
    pub patience: Patience,
    /// Who speaks.
    pub say: &'a Say,
}

/// A whole file, still under its temporary name.
pub struct Got {
    /// Lower case hex.
    pub sha256: String,
    /// The file.
    pub file: PartialFile,
}

/// Why a place did not give it.
#[derive(Debug)]
pub enum Miss {
    /// It is not there.
    NotHere(String),
    /// It cannot be had from there, and from nothing else on that host.
    Host(String),
    /// What is there is not it.
    Wrong(String),
    /// Nowhere else either: the machine, or a signal.
    End(Failure),
}

impl From<Failure> for Miss {
    fn from(failure: Failure) -> Miss {
        Miss::End(failure)
    }
}

impl From<host::FileError> for Miss {
    fn from(error: host::FileError) -> Miss {
        let full = [libc::ENOSPC, libc::EDQUOT].contains(&error.errno());
        let failure = Failure::from(error);
        Miss::End(if full { failure.hint("free space; what is there is kept") } else { failure })
    }
}

/// How one attempt ended.
enum Ended {
    Complete,
    /// From the beginning once more.
    Again(String),
    Trouble(Trouble),
}

impl Download<'_> {
    /// Gets it from one place, with as many attempts as it takes.
    pub fn from(&self, place: &Place) -> Result<Got, Miss> {
        let mut part = Part::open(self, place)?;
        let mut failed = 0;
        let mut restarts = 0;
        loop {
            let before = part.size;
            let ended = self.attempt(place, &mut part)?;
            // a server that breaks off again and again gets on all the same
            if part.size >= before.saturating_add(PROGRESS) {
                failed = 0;
            }
            let (why, after) = match ended {
                Ended::Complete => return Ok(part.done()),
                Ended::Again(why) if restarts < 2 => {
                    self.say.detail(&format!("{}: {why}; once more from the beginning", place.url));
                    restarts += 1;
                    part.clear()?;
                    continue;
                }
                Ended::Again(why) => return Err(self.drop_part(part, Miss::Wrong(why))),
                Ended::Trouble(Trouble::Later { why, after }) => (why, after),
                Ended::Trouble(Trouble::NotHere(why)) => return Err(Miss::NotHere(why)),
                Ended::Trouble(Trouble::Wrong(why)) => {
                    return Err(self.drop_part(part, Miss::Wrong(why)));
                }
                Ended::Trouble(Trouble::NoRange { why, .. }) => {
                    return Err(self.drop_part(part, Miss::Wrong(why)));
                }
            };
            if failed >= self.patience.retries {
                return Err(Miss::Host(why));
            }
            let pause = match after {
                Some(after) if after > LONGEST_WAIT => {
                    let after = after.as_secs();
                    return Err(Miss::Host(format!("{why} and wants {after} s of patience")));
                }
                Some(after) => after,
                None => pause(self.patience.retry_delay, failed),
            };
            failed += 1;
            let secs = pause.as_secs_f32();
            self.say.note(&format!("{}: {why}; once more in {secs:.1} s", place.url));
            rest(pause).map_err(|_| self.interrupted(&part))?;
        }
    }

    fn attempt(&self, place: &Place, part: &mut Part) -> Result<Ended, Miss> {
        if part.is_whole(self.vouched.as_ref()) {
            return self.weigh(part);
        }
        let ask = Ask { url: place.url.clone(), from: part.size, if_range: part.if_range(place) };
        let (mut stream, head) = match Stream::open(ask, self.patience) {
            Ok(opened) => opened,
            Err(Stop::Interrupted) => return Err(self.interrupted(part)),
            Err(Stop::Trouble(Trouble::NoRange { why, total })) if part.size > 0 => {
                // 416, and it has just as much: what is here is all there is
                return match total == Some(part.size) && self.vouched.is_some() {
                    true => self.weigh(part),
                    false => Ok(Ended::Again(why)),
                };
            }
            Err(Stop::Trouble(trouble)) => return Ok(Ended::Trouble(trouble)),
        };
        if let Some(wrong) = self.unlike(&head, part) {
            return Ok(wrong);
        }
        if head.from == 0 && part.size > 0 {
            self.say.detail(&format!("{}: sends all of it; begun anew", place.url));
            part.clear()?;
        }
        part.resumed |= head.from > 0;
        let total = head.total.or(self.vouched.as_ref().and_then(|vouched| vouched.size));
        self.room(total, part.size)?;
        if head.from == 0 {
            part.remember(self, place, &head)?;
        }
        let progress = Progress::resumed(self.say, "fetching", total, part.size);
        loop {
            match stream.next() {
                Ok(Some(bytes)) => {
                    let size = part.size + bytes.len() as u64;
                    if size > total.unwrap_or(MOST_BYTES) {
                        return Ok(wrong("sends more than it announces"));
                    }
                    part.take(&bytes)?;
                    if !part.may_be_installer() {
                        return Ok(wrong("what it sends is no installer"));
                    }
                    progress.at(part.size);
                }
                Ok(None) => break,
                Err(Stop::Interrupted) => return Err(self.interrupted(part)),
                Err(Stop::Trouble(trouble)) => return Ok(Ended::Trouble(trouble)),
            }
        }
        drop(progress);
        if total.is_some_and(|total| part.size < total) {
            let why = format!("broke off at {} of {} bytes", part.size, total.unwrap_or(0));
            return Ok(Ended::Trouble(Trouble::Later { why, after: None }));
        }
        self.weigh(part)
    }

    /// What of an answer's head does not fit.
    fn unlike(&self, head: &Head, part: &Part) -> Option<Ended> {
        let total = head.total?;
        if total > MOST_BYTES {
            return Some(wrong("is larger than any installer"));
        }
        if let Some(size) = self.vouched.as_ref().and_then(|vouched| vouched.size) {
            if size != total {
                return Some(wrong(&format!("has {total} bytes and should have {size}")));
            }
        }
        let changed = head.from > 0 && part.note.total.is_some_and(|known| known != total);
        changed.then(|| Ended::Again("has another size than before".into()))
    }

    /// Whether a complete file is the right one.
    fn weigh(&self, part: &Part) -> Result<Ended, Miss> {
        let Some(vouched) = &self.vouched else { return Ok(Ended::Complete) };
        let sha256 = part.sha256();
        if sha256 == vouched.sha256 {
            return Ok(Ended::Complete);
        }
        let why = format!("has SHA-256 {sha256} and should have {}", vouched.sha256);
        // of two pieces that do not belong together neither need be wrong
        Ok(match part.resumed {
            true => Ended::Again(why),
            false => wrong(&why),
        })
    }

    fn room(&self, total: Option<u64>, have: u64) -> Result<(), Miss> {
        let Some(total) = total else { return Ok(()) };
        let needs = total.saturating_sub(have).saturating_add(SPARE);
        let free = self.store.free()?;
        if free >= needs {
            return Ok(());
        }
        let (needs, free) = (needs.div_ceil(1_000_000), free / 1_000_000);
        let message =
            format!("'{}' has {free} MB of free space and needs {needs} MB", self.store.dir());
        Err(fail(Exit::System, message).hint("prune it, or name another with --cache").into())
    }

    fn interrupted(&self, part: &Part) -> Miss {
        let kept = match part.size {
            0 => String::new(),
            size => format!("; {size} bytes are kept, and the next fetch goes on there"),
        };
        fail(Exit::System, format!("interrupted{kept}")).into()
    }

    /// What cannot become the file is not kept.
    fn drop_part(&self, part: Part, miss: Miss) -> Miss {
        drop(part);
        let names = [part_name(self.name), part_note_name(self.name)];
        match names.iter().try_for_each(|name| self.store.remove(name)) {
            Ok(()) => miss,
            Err(error) => error.into(),
        }
    }
}

fn wrong(why: &str) -> Ended {
    Ended::Trouble(Trouble::Wrong(why.into()))
}

/// What of a file is here.
struct Part {
    file: PartialFile,
    size: u64,
    hash: Sha256,
    head: Vec<u8>,
    note: PartNote,
    /// It was put together from more than one answer.
    resumed: bool,
}

impl Part {
    /// Opens what an earlier run left, where it may be gone on with: it comes
    /// from the same URL, or a digest will tell whether it belongs together.
    fn open(download: &Download<'_>, place: &Place) -> Result<Part, Miss> {
        let (store, name) = (download.store, download.name);
        let file = store.growing(&part_name(name)).map_err(store_failure)?;
        let note: Option<PartNote> = read_note(store, &part_note_name(name));
        let mut part = Part {
            file,
            size: 0,
            hash: Sha256::new(),
            head: Vec::new(),
            note: note.clone().unwrap_or_default(),
            resumed: false,
        };
        let vouched = download.vouched.as_ref();
        let usable = note.is_some_and(|note| {
            let same = note.url == place.url && note.validator.is_some();
            let fits = vouched.and_then(|vouched| vouched.size).zip(note.total);
            (same || vouched.is_some()) && fits.is_none_or(|(size, total)| size == total)
        });
        if !usable {
            part.clear()?;
            return Ok(part);
        }
        part.reread()?;
        let most = part.note.total.or(vouched.and_then(|vouched| vouched.size));
        if most.is_some_and(|most| part.size > most) || !part.may_be_installer() || interrupted() {
            part.clear()?;
        }
        part.resumed = part.size > 0;
        Ok(part)
    }

    fn reread(&mut self) -> Result<(), Miss> {
        let (size, hash, head) = (&mut self.size, &mut self.hash, &mut self.head);
        self.file.replay(&mut |bytes| {
            *size += bytes.len() as u64;
            hash.update(bytes);
            note_head(head, bytes);
            !interrupted()
        })?;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Miss> {
        self.file.clear()?;
        (self.size, self.hash, self.resumed) = (0, Sha256::new(), false);
        self.head.clear();
        self.note = PartNote::default();
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Miss> {
        self.file.write(bytes)?;
        self.hash.update(bytes);
        note_head(&mut self.head, bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Every installer begins as a script.
    fn may_be_installer(&self) -> bool {
        b"#!".starts_with(&self.head)
    }

    fn if_range(&self, place: &Place) -> Option<String> {
        self.note.validator.clone().filter(|_| self.note.url == place.url)
    }

    fn is_whole(&self, vouched: Option<&Vouched>) -> bool {
        let size = vouched.and_then(|vouched| vouched.size).or(self.note.total);
        self.size > 0 && vouched.is_some() && size == Some(self.size)
    }

    fn remember(
        &mut self,
        download: &Download<'_>,
        place: &Place,
        head: &Head,
    ) -> Result<(), Miss> {
        let url = place.url.clone();
        self.note = PartNote { url, validator: head.validator.clone(), total: head.total };
        let name = part_note_name(download.name);
        write_note(download.store, &name, &self.note)?;
        Ok(())
    }

    fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    fn done(self) -> Got {
        Got { sha256: self.sha256(), file: self.file }
    }
}

fn note_head(head: &mut Vec<u8>, bytes: &[u8]) {
    let missing = 2usize.saturating_sub(head.len());
    head.extend(bytes.iter().take(missing));
}
