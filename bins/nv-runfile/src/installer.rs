//! An installer's file, and which installers a verb is given.

pub mod content;
pub mod error_log;
pub mod gpu_support;
pub mod options;
pub mod runfile_record;
pub mod unpacker;

use std::path::{Path, PathBuf};

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::InputFile;
use record::Record;
use runfile::{Header, HeaderError, InstallerInput};

use crate::cli::Files;

/// An open installer.
pub struct Installer {
    /// As it was named.
    pub path: String,
    pub header: Header,
    file: InputFile,
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
            HeaderError::NotInstaller(_) => fail(Exit::Usage, format!("'{shown}': {error}"))
                .hint("show what kind of file it is")
                .run(advice::external::file(&shown)),
        })?;
        Ok(Installer { path: shown, header, file })
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

/// The files that are named, otherwise those of the records on standard input.
pub fn named(files: &Files, say: &Say) -> Result<Vec<PathBuf>, Failure> {
    if !files.files.is_empty() {
        return Ok(files.files.clone());
    }
    let what = "runfile records (nv-runfile fetch VERSION | ...) or name a FILE";
    // fetch prints its change before the record of the file
    let records = records_from_stdin(say, &["runfile", "change"], what)?;
    let paths = records.into_iter().filter_map(|record| match record {
        Record::Runfile(runfile) => Some(PathBuf::from(runfile.path)),
        _ => None,
    });
    let paths: Vec<PathBuf> = paths.collect();
    if paths.is_empty() {
        let message = format!("no usable record on standard input: expected {what}");
        return Err(fail(Exit::Usage, message));
    }
    Ok(paths)
}
