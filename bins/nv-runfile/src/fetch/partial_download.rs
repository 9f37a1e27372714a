//! The part of an installer that is downloaded so far, with its digest.

use ::cli::{Failure, interrupted};
use host::{FileError, PartialFile, PrivateDir};
use sha2::{Digest, Sha256};

use crate::fetch::cache::{
    PartNote, part_name, part_note_name, read_note, store_failure, write_note,
};
use crate::fetch::http::Head;
use crate::fetch::locations::DownloadLocation;
use crate::fetch::trusted_digest::TrustedDigest;

/// A complete file, still under its temporary name.
pub struct Downloaded {
    /// In lower-case hexadecimal digits.
    pub sha256: String,
    pub file: PartialFile,
}

/// Why a location did not give the file.
#[derive(Debug)]
pub enum DownloadFailure {
    /// It does not have the file.
    NotHere(String),
    /// Its host cannot be used, also for other locations.
    Host(String),
    /// It has another file.
    Wrong(String),
    /// No other location can help: a failure of this host, or a signal.
    End(Failure),
}

impl From<Failure> for DownloadFailure {
    fn from(failure: Failure) -> DownloadFailure {
        DownloadFailure::End(failure)
    }
}

impl From<FileError> for DownloadFailure {
    fn from(error: FileError) -> DownloadFailure {
        let full = [libc::ENOSPC, libc::EDQUOT].contains(&error.errno());
        let failure = Failure::from(error);
        DownloadFailure::End(match full {
            true => failure.hint("free space; the part that was downloaded is kept"),
            false => failure,
        })
    }
}

pub struct PartialDownload {
    file: PartialFile,
    pub size: u64,
    hash: Sha256,
    head: Vec<u8>,
    pub note: PartNote,
    /// It has bytes of more than one answer.
    pub resumed: bool,
}

impl PartialDownload {
    /// Opens the part that an earlier run left. It is kept if it comes from the same
    /// URL, or if a trusted digest will show whether the parts belong together.
    pub fn open(
        store: &PrivateDir,
        name: &str,
        location: &DownloadLocation,
        trusted: Option<&TrustedDigest>,
    ) -> Result<PartialDownload, DownloadFailure> {
        let file = store.growing(&part_name(name)).map_err(store_failure)?;
        let note: Option<PartNote> = read_note(store, &part_note_name(name));
        let mut part = PartialDownload {
            file,
            size: 0,
            hash: Sha256::new(),
            head: Vec::new(),
            note: note.clone().unwrap_or_default(),
            resumed: false,
        };
        let usable = note.is_some_and(|note| {
            let same = note.url == location.url && note.validator.is_some();
            let fits = trusted.and_then(|trusted| trusted.size).zip(note.total);
            (same || trusted.is_some()) && fits.is_none_or(|(size, total)| size == total)
        });
        if !usable {
            part.clear()?;
            return Ok(part);
        }
        part.reread()?;
        let most = part.note.total.or(trusted.and_then(|trusted| trusted.size));
        if most.is_some_and(|most| part.size > most) || !part.may_be_installer() || interrupted() {
            part.clear()?;
        }
        part.resumed = part.size > 0;
        Ok(part)
    }

    fn reread(&mut self) -> Result<(), DownloadFailure> {
        let (size, hash, head) = (&mut self.size, &mut self.hash, &mut self.head);
        self.file.replay(&mut |bytes| {
            *size += bytes.len() as u64;
            hash.update(bytes);
            note_head(head, bytes);
            !interrupted()
        })?;
        Ok(())
    }

    pub fn clear(&mut self) -> Result<(), DownloadFailure> {
        self.file.clear()?;
        (self.size, self.hash, self.resumed) = (0, Sha256::new(), false);
        self.head.clear();
        self.note = PartNote::default();
        Ok(())
    }

    pub fn take(&mut self, bytes: &[u8]) -> Result<(), DownloadFailure> {
        self.file.write(bytes)?;
        self.hash.update(bytes);
        note_head(&mut self.head, bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Every installer begins as a script.
    pub fn may_be_installer(&self) -> bool {
        b"#!".starts_with(&self.head)
    }

    pub fn if_range(&self, location: &DownloadLocation) -> Option<String> {
        self.note.validator.clone().filter(|_| self.note.url == location.url)
    }

    pub fn is_whole(&self, trusted: Option<&TrustedDigest>) -> bool {
        let size = trusted.and_then(|trusted| trusted.size).or(self.note.total);
        self.size > 0 && trusted.is_some() && size == Some(self.size)
    }

    /// Writes down where the part comes from.
    pub fn write_note(
        &mut self,
        store: &PrivateDir,
        name: &str,
        location: &DownloadLocation,
        head: &Head,
    ) -> Result<(), DownloadFailure> {
        let url = location.url.clone();
        self.note = PartNote { url, validator: head.validator.clone(), total: head.total };
        write_note(store, &part_note_name(name), &self.note)?;
        Ok(())
    }

    pub fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    pub fn done(self) -> Downloaded {
        Downloaded { sha256: self.sha256(), file: self.file }
    }
}

fn note_head(head: &mut Vec<u8>, bytes: &[u8]) {
    let missing = 2usize.saturating_sub(head.len());
    head.extend(bytes.iter().take(missing));
}
