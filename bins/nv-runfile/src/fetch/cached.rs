//! One file of the cache: what state it is in, how it comes in, what its record
//! says.

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::PrivateDir;
use record::{DigestStatus, Runfile, RunfileDigest, Verified};
use runfile::{DigestSpec, digest};

use crate::cache::{
    Note, PartNote, complete, note_name, part_name, part_note_name, read_note, write_note,
};
use crate::describe::{describe, mismatches, verdict};
use crate::fetch::download::{Got, Miss};
use crate::fetch::places::Place;
use crate::fetch::target::Wanted;
use crate::fetch::vouch::Vouched;
use crate::installer::Installer;

/// The word for a file for which only its own digests speak.
const ITSELF: &str = "installer";

/// What is there.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Absent,
    /// The right file.
    Right(Note),
    /// A file for which nobody speaks but itself, or not even that.
    Unvouched(Note),
    /// Not the right file, in words.
    Wrong(String),
    /// Just as it was left, and now somebody says that it should be another.
    Disputed(String),
}

/// One file of the cache.
pub struct Cached<'a> {
    store: &'a PrivateDir,
    name: &'a str,
    say: &'a Say,
}

impl<'a> Cached<'a> {
    /// The one of a name.
    pub fn of(store: &'a PrivateDir, name: &'a str, say: &'a Say) -> Cached<'a> {
        Cached { store, name, say }
    }

    /// Looks at it. Its bytes are only read where `verify` says so, or where it
    /// is not as it was left.
    pub fn state(&self, vouched: Option<&Vouched>, verify: bool) -> Result<State, Failure> {
        let Some(stored) = complete(self.store, self.name)? else { return Ok(State::Absent) };
        let note: Option<Note> = read_note(self.store, &note_name(self.name));
        let untouched = note.clone().filter(|note| note.fits(&stored) && !verify);
        let sha256 = match &untouched {
            Some(note) => note.sha256.clone(),
            None => self.hash(self.name)?,
        };
        let now = |vouched_by: &str, url: Option<String>| Note {
            size: stored.size,
            mtime: stored.mtime,
            sha256: sha256.clone(),
            vouched_by: vouched_by.into(),
            url,
        };
        let url = note.as_ref().and_then(|note| note.url.clone());
        let differs =
            |should: &str| State::Wrong(format!("has SHA-256 {sha256} and should have {should}"));
        Ok(match (vouched, note) {
            (Some(vouched), Some(note))
                if vouched.sha256 != sha256
                    && note.sha256 == sha256
                    && note.vouched_by != ITSELF =>
            {
                State::Disputed(format!(
                    "has SHA-256 {sha256} ({}) and should have {} ({})",
                    note.vouched_by, vouched.sha256, vouched.by
                ))
            }
            (Some(vouched), _) if vouched.sha256 != sha256 => differs(&vouched.sha256),
            (Some(vouched), _) => State::Right(now(&vouched.by, url)),
            (None, Some(note)) if note.sha256 != sha256 => differs(&note.sha256),
            (None, Some(note)) if note.vouched_by != ITSELF => {
                State::Right(now(&note.vouched_by, url))
            }
            (None, _) => State::Unvouched(now(ITSELF, url)),
        })
    }

    /// Whether just this is written beside it.
    pub fn is_noted(&self, note: &Note) -> bool {
        read_note::<Note>(self.store, &note_name(self.name)).as_ref() == Some(note)
    }

    /// Writes down who vouches for it, where that is not written there.
    pub fn write(&self, note: &Note) -> Result<(), Failure> {
        if self.is_noted(note) {
            return Ok(());
        }
        write_note(self.store, &note_name(self.name), note)
    }

    /// Removes it with what is known of it.
    pub fn remove(&self) -> Result<(), Failure> {
        self.store.remove(self.name)?;
        Ok(self.store.remove(&note_name(self.name))?)
    }

    /// A download that brought nothing leaves nothing.
    pub fn drop_empty_part(&self) -> Result<(), Failure> {
        let part = part_name(self.name);
        if self.store.stat(&part)?.is_some_and(|stored| stored.size == 0) {
            self.store.remove(&part)?;
            self.store.remove(&part_note_name(self.name))?;
        }
        Ok(())
    }

    fn open(&self, name: &str) -> Result<Installer, Failure> {
        Installer::of(self.store.input(name)?, self.store.shown(name), self.name)
    }

    fn hash(&self, name: &str) -> Result<String, Failure> {
        let mut input = self.store.input(name)?;
        let wanted = [DigestSpec::whole_file(input.size(), None)];
        let progress = Progress::new(self.say, "verifying", Some(input.size()));
        let at = |at| progress.at(at);
        let source =
            runfile::InstallerInput { input: &mut input, interrupted: &interrupted, progress: &at };
        let digests = digest(source, &wanted).map_err(|error| match error {
            runfile::ReadError::Interrupted => fail(Exit::System, "interrupted"),
            runfile::ReadError::Io(error) => {
                fail(Exit::System, format!("cannot read '{}': {error}", self.store.shown(name)))
            }
        })?;
        Ok(digests.into_iter().map(|digested| digested.actual).next().unwrap_or_default())
    }

    /// Holds a file against the digests that it carries. Errors: one is wrong,
    /// or there is none.
    fn intact(&self, installer: &mut Installer) -> Result<(), String> {
        let wanted = installer.header.digests.clone();
        let progress = Progress::new(self.say, "verifying", Some(installer.header.size));
        let at = |at| progress.at(at);
        let (source, _) = installer.source(&interrupted, &at).map_err(|f| f.to_string())?;
        let digests = digest(source, &wanted).map_err(|error| error.to_string())?;
        match verdict(&digests) {
            Verified::Intact | Verified::Pinned => Ok(()),
            Verified::Mismatch => Err(format!("is damaged: {}", mismatches(&digests).join(", "))),
            Verified::Undigested | Verified::Unchecked => {
                Err("carries no digest that could be checked".into())
            }
        }
    }

    /// A file that is there already, for which only its own digests speak.
    pub fn own_digests(&self, note: Note) -> Result<Note, Failure> {
        let mut installer = self.open(self.name)?;
        let shown = self.store.shown(self.name);
        self.intact(&mut installer)
            .map_err(|why| fail(Exit::System, format!("'{shown}' {why}")).hint("remove it"))?;
        self.write(&note)?;
        Ok(note)
    }

    /// Takes a complete download in: it must be an installer, of the version
    /// that was asked for, and its own digests must be right where nobody else
    /// speaks for it. Only then it gets its name.
    pub fn accept(
        &self,
        got: Got,
        wanted: &Wanted,
        vouched: Option<&Vouched>,
        place: &Place,
    ) -> Result<Note, Miss> {
        let part = part_name(self.name);
        let fits = self.open(&part).map_err(|failure| failure.message).and_then(|mut installer| {
            same_version(&installer, wanted)?;
            match vouched {
                Some(_) => Ok(()),
                None => self.intact(&mut installer),
            }
        });
        if interrupted() {
            return Err(fail(Exit::System, "interrupted; what was fetched is kept").into());
        }
        if let Err(why) = fits {
            self.store.remove(&part)?;
            self.store.remove(&part_note_name(self.name))?;
            return Err(Miss::Wrong(why));
        }
        got.file.finish()?;
        let stored = self.store.stat(&part)?;
        let stored = stored.ok_or_else(|| fail(Exit::System, format!("'{part}' is gone")))?;
        let begun: Option<PartNote> = read_note(self.store, &part_note_name(self.name));
        let note = Note {
            size: stored.size,
            mtime: stored.mtime,
            sha256: got.sha256,
            vouched_by: vouched.map_or(ITSELF, |vouched| vouched.by.as_str()).into(),
            url: Some(begun.map_or_else(|| place.url.clone(), |begun| begun.url)),
        };
        // first what is said of it, then its name: a name alone would be taken
        // for a file that somebody put there
        self.write(&note)?;
        self.store.rename(&part, self.name)?;
        // it is there and whole: what is left of its part is no failure, and prune takes it
        if let Err(error) = self.store.remove(&part_note_name(self.name)) {
            self.say.warn(&error.to_string());
        }
        Ok(note)
    }

    /// Its record.
    pub fn describe(&self, note: &Note) -> Result<Runfile, Failure> {
        let installer = self.open(self.name)?;
        let mut record = describe(&self.store.shown(self.name), &installer.header);
        record.sha256 = Some(note.sha256.clone());
        record.vouched_by = Some(note.vouched_by.clone());
        record.url = note.url.clone();
        record.verified = Verified::Intact;
        if note.vouched_by != ITSELF {
            record.verified = Verified::Pinned;
            record.digests.push(RunfileDigest {
                algorithm: "sha256".into(),
                covers: "file".into(),
                offset: 0,
                size: note.size,
                stated_by: Some(note.vouched_by.clone()),
                expected: Some(note.sha256.clone()),
                actual: Some(note.sha256.clone()),
                status: DigestStatus::Ok,
            });
        }
        Ok(record)
    }
}

/// A server may have another version under the name of the one asked for.
fn same_version(installer: &Installer, wanted: &Wanted) -> Result<(), String> {
    if !wanted.common {
        return Ok(());
    }
    let (is, should) = (installer.header.version(), wanted.version.as_deref());
    if is != should {
        return Err(format!(
            "holds version {} instead of {}",
            is.unwrap_or("unknown"),
            should.unwrap_or("unknown")
        ));
    }
    match installer.header.name.arch.map(|arch| arch.as_str()) {
        Some(arch) if arch != wanted.arch => {
            Err(format!("is for {arch} instead of {}", wanted.arch))
        }
        _ => Ok(()),
    }
}
