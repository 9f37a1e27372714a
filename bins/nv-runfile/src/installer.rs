//! An installer's file, and which installers a verb is given.

pub mod content;
pub mod error_log;
pub mod gpu_support;
pub mod options;
mod private_copy;
pub mod runfile_record;
pub mod unpacker;

use std::io::Read;
use std::path::{Path, PathBuf};

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::{Exclusive, InputFile, Machine};
use record::{Record, Runfile, Verified};
use runfile::{DigestSpec, Header, HeaderError, InstallerInput};

use crate::cli::Files;
use crate::installer::private_copy::PrivateCopy;

/// An open installer.
pub struct Installer {
    /// As it was named.
    pub path: String,
    pub header: Header,
    /// The SHA-256 that it must have.
    pub sha256: Option<String>,
    file: InputFile,
    /// Where it can be read by its name and is certainly this one.
    own: Option<OwnFile>,
}

impl Installer {
    /// Opens a file. Errors: it cannot be read, or is not an installer.
    pub fn open(path: &Path) -> Result<Installer, Failure> {
        let shown = path.display().to_string();
        if path.is_dir() {
            let message = format!("'{shown}' is a directory, not a .run installer");
            return Err(fail(Exit::Usage, message));
        }
        let file = InputFile::open(path).map_err(|error| {
            let exit = if error.is_not_found() { Exit::Usage } else { Exit::System };
            let failure = fail(exit, error.to_string());
            match error.is_not_found() && runfile::is_version(&shown) {
                true => failure
                    .hint("download that version and pipe its record, without a FILE")
                    .run(advice::nv_runfile::fetch(&shown)),
                false => failure,
            }
        })?;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        Installer::of(file, shown, &name)
    }

    /// Reads an open file. `name` is the name that tells the version, which may differ
    /// from the path in messages.
    pub fn of(mut file: InputFile, shown: String, name: &str) -> Result<Installer, Failure> {
        let size = file.size();
        let header = Header::read(&mut file, size, name).map_err(|error| match error {
            HeaderError::Io(error) => file.error(error).into(),
            HeaderError::NotInstaller(_) if size == 0 => {
                fail(Exit::Usage, format!("'{shown}': not a .run installer: it is empty"))
                    .hint("download it again")
            }
            HeaderError::NotInstaller(_) if is_page(&mut file) => {
                fail(Exit::Usage, format!("'{shown}': {error}: it is a web page"))
                    .hint("download the installer itself, not the page about it")
            }
            HeaderError::NotInstaller(_) => fail(Exit::Usage, format!("'{shown}': {error}"))
                .hint("show what kind of file it is")
                .run(advice::external::file(&shown)),
        })?;
        Ok(Installer { path: shown, header, sha256: None, file, own: None })
    }

    /// The installer that is named, with the SHA-256 that it must have.
    pub fn of_named(named: &NamedInstaller) -> Result<Installer, Failure> {
        let installer = Installer::open(&named.path)?;
        Ok(Installer { sha256: named.sha256.clone(), ..installer })
    }

    /// Opens an installer that another program is to read by its name. What was verified
    /// through a descriptor may have another file at its name by then, and other content
    /// if its owner writes to it: unless only root can change it, it is copied into a
    /// directory of root's first, and all that follows reads the copy. Without `copy`,
    /// for a run that changes nothing, it is only said.
    pub fn for_other_program(
        named: &NamedInstaller,
        copy: Option<&Machine>,
        say: &Say,
    ) -> Result<Installer, Failure> {
        let mut installer = Installer::of_named(named)?;
        let place = Exclusive::of(&named.path)?;
        let Some((path, why)) = place.open_to_others else {
            let found = InputFile::open(&place.path)?;
            if found.same_file(&installer.file) {
                installer.own = Some(OwnFile::Named(place.path));
                return Ok(installer);
            }
            let message = format!("'{}' was replaced while it was opened", installer.path);
            return Err(fail(Exit::System, message).hint("run the command again"));
        };
        let shown = &installer.path;
        say.warn(&format!("'{}' {why}: a copy of '{shown}' is verified and used", path.display()));
        let Some(machine) = copy else { return Ok(installer) };
        let name = named.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let own = PrivateCopy::of(&mut installer.file, machine, &installer.path, say)?;
        let of_copy = own.open().and_then(|file| Installer::of(file, installer.path, &name));
        match of_copy {
            Ok(of_copy) => {
                Ok(Installer { sha256: installer.sha256, own: Some(OwnFile::Copy(own)), ..of_copy })
            }
            Err(failure) => {
                own.remove(say);
                Err(failure)
            }
        }
    }

    /// The path by which another program reads this file.
    pub fn path_for_others(&self) -> String {
        match &self.own {
            Some(OwnFile::Named(path)) => path.display().to_string(),
            Some(OwnFile::Copy(copy)) => copy.path(),
            None => std::path::absolute(&self.path)
                .map_or_else(|_| self.path.clone(), |path| path.display().to_string()),
        }
    }

    /// Removes the copy that [`Installer::for_other_program`] made.
    pub fn close(self, say: &Say) {
        if let Some(OwnFile::Copy(copy)) = self.own {
            copy.remove(say);
        }
    }

    /// The digests that its file must have: those that it carries, and its SHA-256.
    pub fn stated_digests(&self) -> Vec<DigestSpec> {
        let mut stated = self.header.digests.clone();
        stated.push(DigestSpec::whole_file(self.header.size, self.sha256.as_deref()));
        stated
    }

    /// The file from its beginning, for one pass.
    pub fn source<'a>(
        &'a mut self,
        interrupted: &'a (dyn Fn() -> bool + Sync),
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Result<(InstallerInput<'a>, &'a Header), Failure> {
        self.file.rewind()?;
        Ok((InstallerInput { input: &mut self.file, interrupted, progress }, &self.header))
    }

    /// Why a pass failed.
    pub fn pass_error(&self, error: runfile::ReadError) -> Failure {
        match error {
            runfile::ReadError::Io(error) => self.file.error(error).into(),
            runfile::ReadError::Interrupted => fail(Exit::System, "interrupted"),
        }
    }
}

/// Whether a file begins as an HTML document does: what a browser saved, or a login page
/// of the network that came instead.
fn is_page(file: &mut InputFile) -> bool {
    let mut start = [0u8; 512];
    let got = file.rewind().ok().and_then(|()| file.read(&mut start).ok()).unwrap_or(0);
    let text = String::from_utf8_lossy(&start[..got]).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    ["<!doctype html", "<html", "<head"].iter().any(|tag| text.starts_with(tag))
}

/// A file that only root can put another in place of.
enum OwnFile {
    Named(PathBuf),
    Copy(PrivateCopy),
}

/// An installer as it was named, with the SHA-256 that it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedInstaller {
    pub path: PathBuf,
    pub sha256: Option<String>,
}

impl NamedInstaller {
    pub fn of_file(path: PathBuf, sha256: Option<&str>) -> NamedInstaller {
        NamedInstaller { path, sha256: sha256.map(str::to_string) }
    }

    /// That of a record: its SHA-256 counts as if it was given as an option. Errors: the
    /// record says that the file is damaged; its digest is none, or another than the
    /// option's.
    pub fn of_record(record: Runfile, sha256: Option<&str>) -> Result<NamedInstaller, Failure> {
        let path = &record.path;
        if record.verified == Verified::Mismatch {
            let message = format!("'{path}' is damaged, according to its record");
            return Err(fail(Exit::Refused, message).hint("download it again"));
        }
        let usage = |what: String| fail(Exit::Usage, format!("the record of '{path}' {what}"));
        let stated = record.sha256.as_deref().map(crate::cli::sha256).transpose();
        let stated = stated.map_err(|why| usage(format!("has no usable SHA-256: {why}")))?;
        match (stated, sha256) {
            (Some(stated), Some(given)) if stated != given => {
                Err(usage(format!("has the SHA-256 {stated}, but --sha256 is {given}")))
            }
            (stated, given) => {
                let sha256 = stated.or_else(|| given.map(str::to_string));
                Ok(NamedInstaller { path: PathBuf::from(record.path), sha256 })
            }
        }
    }
}

/// The files that are named, otherwise those of the records on standard input; `sha256` is
/// what an option requires of them.
pub fn named(
    files: &Files,
    sha256: Option<&str>,
    say: &Say,
) -> Result<Vec<NamedInstaller>, Failure> {
    if !files.files.is_empty() {
        let files = files.files.iter().cloned();
        return Ok(files.map(|path| NamedInstaller::of_file(path, sha256)).collect());
    }
    let what = "runfile records (nv-runfile fetch VERSION | ...) or name a FILE";
    // fetch prints its change before the record of the file
    let records = records_from_stdin(say, &["runfile", "change"], what)?;
    let found = records.into_iter().filter_map(|record| match record {
        Record::Runfile(runfile) => Some(NamedInstaller::of_record(*runfile, sha256)),
        _ => None,
    });
    let found: Vec<NamedInstaller> = found.collect::<Result<_, _>>()?;
    if found.is_empty() {
        let message = format!("no usable record on standard input: expected {what}");
        return Err(fail(Exit::Usage, message));
    }
    Ok(found)
}
