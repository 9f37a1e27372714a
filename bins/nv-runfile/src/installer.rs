//! The installers that a verb works on.

use std::path::{Path, PathBuf};

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::InputFile;
use record::Record;
use runfile::{Header, HeaderError, InstallerInput};

use crate::cli::Files;

/// An installer that is open, its head read.
pub struct Installer {
    /// As it was named.
    pub path: String,
    /// What its head says.
    pub header: Header,
    file: InputFile,
}

impl Installer {
    /// Opens a file. Errors: it cannot be read, or is no installer.
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
                true => failure.hint(format!(
                    "for a version: 'nv-runfile fetch {shown} | nv-runfile ...' without a FILE"
                )),
                false => failure,
            }
        })?;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        Installer::of(file, shown, &name)
    }

    /// The same of a file that is open; `name` says what its name is to tell.
    pub fn of(mut file: InputFile, shown: String, name: &str) -> Result<Installer, Failure> {
        let size = file.size();
        let header = Header::read(&mut file, size, name).map_err(|error| match error {
            HeaderError::Io(error) => file.error(error).into(),
            HeaderError::NotInstaller(_) if size == 0 => {
                fail(Exit::Usage, format!("'{shown}': not a .run installer: it is empty"))
                    .hint("fetch it again ('nv-runfile fetch VERSION')")
            }
            HeaderError::NotInstaller(_) => fail(Exit::Usage, format!("'{shown}': {error}"))
                .hint("'file' tells what it is; 'nv-runfile fetch VERSION' gets an installer"),
        })?;
        Ok(Installer { path: shown, header, file })
    }

    /// The file from its beginning, as one pass takes it.
    pub fn source<'a>(
        &'a mut self,
        stop: &'a (dyn Fn() -> bool + Sync),
        at: &'a (dyn Fn(u64) + Sync),
    ) -> Result<(InstallerInput<'a>, &'a Header), Failure> {
        self.file.rewind()?;
        Ok((
            InstallerInput { input: &mut self.file, interrupted: stop, progress: at },
            &self.header,
        ))
    }

    /// A failed pass in words.
    pub fn pass_error(&self, error: runfile::ReadError) -> Failure {
        match error {
            runfile::ReadError::Io(error) => self.file.error(error).into(),
            runfile::ReadError::Interrupted => fail(Exit::System, "interrupted"),
        }
    }
}

/// The files that are named, or those of the records on standard input.
pub fn named(files: &Files, say: &Say) -> Result<Vec<PathBuf>, Failure> {
    if !files.files.is_empty() {
        return Ok(files.files.clone());
    }
    let what = "runfile records (nv-runfile fetch VERSION | ...) or name a FILE";
    // fetch prints what it changed before what it has: that is no odd record here
    let records = records_from_stdin(say, &["runfile", "change"], what)?;
    let paths = records.into_iter().filter_map(|record| match record {
        Record::Runfile(runfile) => Some(PathBuf::from(runfile.path)),
        _ => None,
    });
    let paths: Vec<PathBuf> = paths.collect();
    if paths.is_empty() {
        let message = format!("standard input holds nothing of use: expected {what}");
        return Err(fail(Exit::Usage, message));
    }
    Ok(paths)
}
