//! One file of the cache: its state, how a download becomes one, its record.

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::PrivateDir;
use record::{DigestStatus, Runfile, RunfileDigest, Verified};
use runfile::{DigestSpec, digest};

use crate::fetch::cache::{
    CacheNote, PartNote, complete, note_name, part_name, part_note_name, read_note, write_note,
};
use crate::fetch::locations::DownloadLocation;
use crate::fetch::partial_download::{DownloadFailure, Downloaded};
use crate::fetch::request::RequestedInstaller;
use crate::fetch::trusted_digest::TrustedDigest;
use crate::installer::Installer;
use crate::installer::runfile_record::{describe, mismatches, verdict};

/// `vouched_by` of a file that only has its embedded checksums.
const ITSELF: &str = "installer";

#[derive(Debug, PartialEq, Eq)]
pub enum CachedState {
    Absent,
    Valid(CacheNote),
    /// No trusted SHA-256 is known for it.
    Untrusted(CacheNote),
    /// It has another SHA-256, in words.
    Wrong(String),
    /// It is as it was downloaded, but another source now states another SHA-256.
    Disputed(String),
}

pub struct CachedFile<'a> {
    store: &'a PrivateDir,
    name: &'a str,
    say: &'a Say,
}

impl<'a> CachedFile<'a> {
    pub fn of(store: &'a PrivateDir, name: &'a str, say: &'a Say) -> CachedFile<'a> {
        CachedFile { store, name, say }
    }

    /// Its state. The file is read only with `verify`, or if it was modified.
    pub fn state(
        &self,
        trusted: Option<&TrustedDigest>,
        verify: bool,
    ) -> Result<CachedState, Failure> {
        let Some(stored) = complete(self.store, self.name)? else { return Ok(CachedState::Absent) };
        let note: Option<CacheNote> = read_note(self.store, &note_name(self.name));
        let unmodified = note.clone().filter(|note| note.fits(&stored) && !verify);
        let sha256 = match &unmodified {
            Some(note) => note.sha256.clone(),
            None => self.hash(self.name)?,
        };
        let now = |vouched_by: &str, url: Option<String>| CacheNote {
            size: stored.size,
            mtime: stored.mtime,
            sha256: sha256.clone(),
            vouched_by: vouched_by.into(),
            url,
        };
        let url = note.as_ref().and_then(|note| note.url.clone());
        let differs =
            |should: &str| CachedState::Wrong(format!("has SHA-256 {sha256}, expected {should}"));
        Ok(match (trusted, note) {
            (Some(trusted), Some(note))
                if trusted.sha256 != sha256
                    && note.sha256 == sha256
                    && note.vouched_by != ITSELF =>
            {
                CachedState::Disputed(format!(
                    "has SHA-256 {sha256} ({}), expected {} ({})",
                    note.vouched_by, trusted.sha256, trusted.by
                ))
            }
            (Some(trusted), _) if trusted.sha256 != sha256 => differs(&trusted.sha256),
            (Some(trusted), _) => CachedState::Valid(now(&trusted.by, url)),
            (None, Some(note)) if note.sha256 != sha256 => differs(&note.sha256),
            (None, Some(note)) if note.vouched_by != ITSELF => {
                CachedState::Valid(now(&note.vouched_by, url))
            }
            (None, _) => CachedState::Untrusted(now(ITSELF, url)),
        })
    }

    /// Whether its note is this one.
    pub fn is_noted(&self, note: &CacheNote) -> bool {
        read_note::<CacheNote>(self.store, &note_name(self.name)).as_ref() == Some(note)
    }

    /// Writes its note, unless it is there.
    pub fn write(&self, note: &CacheNote) -> Result<(), Failure> {
        if self.is_noted(note) {
            return Ok(());
        }
        write_note(self.store, &note_name(self.name), note)
    }

    /// Removes it and its note.
    pub fn remove(&self) -> Result<(), Failure> {
        self.store.remove(self.name)?;
        Ok(self.store.remove(&note_name(self.name))?)
    }

    /// Removes a part without a single byte.
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
        let stated = [DigestSpec::whole_file(input.size(), None)];
        let progress = Progress::new(self.say, "verifying", Some(input.size()));
        let at = |at| progress.at(at);
        let source =
            runfile::InstallerInput { input: &mut input, interrupted: &interrupted, progress: &at };
        let digests = digest(source, &stated).map_err(|error| match error {
            runfile::ReadError::Interrupted => fail(Exit::System, "interrupted"),
            runfile::ReadError::Io(error) => {
                fail(Exit::System, format!("cannot read '{}': {error}", self.store.shown(name)))
            }
        })?;
        Ok(digests.into_iter().map(|digested| digested.actual).next().unwrap_or_default())
    }

    /// Compares a file with its embedded checksums. Errors: one is wrong, or there
    /// is none.
    fn intact(&self, installer: &mut Installer) -> Result<(), String> {
        let stated = installer.header.digests.clone();
        let progress = Progress::new(self.say, "verifying", Some(installer.header.size));
        let at = |at| progress.at(at);
        let (source, _) = installer.source(&interrupted, &at).map_err(|f| f.to_string())?;
        let digests = digest(source, &stated).map_err(|error| error.to_string())?;
        match verdict(&digests) {
            Verified::Intact | Verified::Pinned => Ok(()),
            Verified::Mismatch => Err(format!("is damaged: {}", mismatches(&digests).join(", "))),
            Verified::Undigested | Verified::Unchecked => {
                Err("carries no digest to compare".into())
            }
        }
    }

    /// Accepts a file in the cache that only has its embedded checksums.
    pub fn require_embedded_checksums(&self, note: CacheNote) -> Result<CacheNote, Failure> {
        let mut installer = self.open(self.name)?;
        let shown = self.store.shown(self.name);
        self.intact(&mut installer).map_err(|why| {
            fail(Exit::System, format!("'{shown}' {why}")).hint("remove the file")
        })?;
        self.write(&note)?;
        Ok(note)
    }

    /// Accepts a complete download: it must be an installer of the requested version,
    /// and without a trusted SHA-256 its embedded checksums must be right. Only then
    /// it gets its final name.
    pub fn accept(
        &self,
        got: Downloaded,
        requested: &RequestedInstaller,
        trusted: Option<&TrustedDigest>,
        location: &DownloadLocation,
    ) -> Result<CacheNote, DownloadFailure> {
        let part = part_name(self.name);
        let fits = self.open(&part).map_err(|failure| failure.message).and_then(|mut installer| {
            same_version(&installer, requested)?;
            match trusted {
                Some(_) => Ok(()),
                None => self.intact(&mut installer),
            }
        });
        if interrupted() {
            return Err(fail(Exit::System, "interrupted; the download is kept").into());
        }
        if let Err(why) = fits {
            self.store.remove(&part)?;
            self.store.remove(&part_note_name(self.name))?;
            return Err(DownloadFailure::Wrong(why));
        }
        got.file.finish()?;
        let stored = self.store.stat(&part)?;
        let stored = stored.ok_or_else(|| {
            fail(Exit::System, format!("'{part}' was removed by another process"))
        })?;
        let begun: Option<PartNote> = read_note(self.store, &part_note_name(self.name));
        let note = CacheNote {
            size: stored.size,
            mtime: stored.mtime,
            sha256: got.sha256,
            vouched_by: trusted.map_or(ITSELF, |trusted| trusted.by.as_str()).into(),
            url: Some(begun.map_or_else(|| location.url.clone(), |begun| begun.url)),
        };
        // the note comes before the name: a file without a note would count as one
        // that was copied into the cache
        self.write(&note)?;
        self.store.rename(&part, self.name)?;
        // the file is complete: a leftover note is not a failure, and prune removes it
        if let Err(error) = self.store.remove(&part_note_name(self.name)) {
            self.say.warn(&error.to_string());
        }
        Ok(note)
    }

    pub fn describe(&self, note: &CacheNote) -> Result<Runfile, Failure> {
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

/// Checks the version: a server may have another one under the requested name.
fn same_version(installer: &Installer, requested: &RequestedInstaller) -> Result<(), String> {
    if !requested.common {
        return Ok(());
    }
    let (is, should) = (installer.header.version(), requested.version.as_deref());
    if is != should {
        return Err(format!(
            "has version {}, expected {}",
            is.unwrap_or("unknown"),
            should.unwrap_or("unknown")
        ));
    }
    match installer.header.name.arch.map(|arch| arch.as_str()) {
        Some(arch) if arch != requested.arch => {
            Err(format!("is for {arch}, expected {}", requested.arch))
        }
        _ => Ok(()),
    }
}
