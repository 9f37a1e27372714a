//! `extract`: unpacks an installer's tree, complete and verified, or nothing.

use ::cli::{Exit, Failure, Progress, Say, catch_signals, fail, interrupted};
use host::{AtomicDir, FileError};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity, Verified};
use runfile::{
    ArchiveLimits, Compression, DigestResult, DigestSpec, ReadError, TarError, Unpacked, unpack,
};

use crate::cli::Extract;
use crate::install::common::because_of;
use crate::install::verify::damaged;
use crate::installer::Installer;
use crate::installer::content::archive_error;
use crate::installer::runfile_record::{mismatches, verdict};
use crate::installer::unpacker::{TreeCounts, TreeOptions, UnpackError, Unpacker};

const PROPERTY: &str = "tree";

pub fn run(extract: &Extract, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let installer = Installer::open(&extract.file)?;
    if installer.header.compression == Compression::Unknown {
        let message = format!("'{}' has an unknown compression", installer.path);
        return Err(fail(Exit::Usage, message)
            .hint("it may be encrypted, or compressed by a rarely used program")
            .into());
    }
    let mut run = Extraction { extract, say, installer };
    let outcome = match extract.change.only_look() {
        true => run.look(),
        false => run.change(),
    };
    run.report(outcome, writer)
}

/// Why nothing was unpacked, and the status of its record.
struct ExtractFailure {
    status: ChangeStatus,
    failure: Failure,
}

impl ExtractFailure {
    fn new(status: ChangeStatus, failure: Failure) -> ExtractFailure {
        ExtractFailure { status, failure }
    }
}

struct Extraction<'a> {
    extract: &'a Extract,
    say: &'a Say,
    installer: Installer,
}

impl Extraction<'_> {
    /// Everything except the writing.
    fn look(&mut self) -> Result<TreeCounts, ExtractFailure> {
        AtomicDir::could_begin(&self.extract.dir).map_err(|error| self.no_place(&error))?;
        let mut unpacker = Unpacker::new(None, self.tree_options());
        self.pass(&mut unpacker)
    }

    fn change(&mut self) -> Result<TreeCounts, ExtractFailure> {
        catch_signals();
        let staging = AtomicDir::begin(&self.extract.dir).map_err(|error| self.no_place(&error))?;
        let mut unpacker = Unpacker::new(Some(&staging), self.tree_options());
        let outcome = self.pass(&mut unpacker).and_then(|counts| {
            let finished = unpacker.finish().and_then(|()| match interrupted() {
                true => Ok(false),
                false => staging.commit().map(|()| true),
            });
            match finished {
                Ok(true) => Ok(counts),
                Ok(false) => Err(self.stopped(&UnpackError::Interrupted)),
                Err(error) => Err(self.stopped(&UnpackError::File(error))),
            }
        });
        outcome.map_err(|failed| match staging.discard() {
            Ok(()) => failed,
            // it is renamed already: only the last sync failed
            Err(error) if error.is_not_found() => ExtractFailure::new(
                ChangeStatus::Failed,
                failed
                    .failure
                    .hint("the directory is complete, but may not survive a power failure"),
            ),
            Err(error) => ExtractFailure::new(
                ChangeStatus::Failed,
                failed.failure.hint(format!("the unpacked files could not be removed: {error}")),
            ),
        })
    }

    fn tree_options(&self) -> TreeOptions {
        let caps = &self.extract.caps;
        TreeOptions {
            owner: self.extract.owner,
            umask: self.extract.umask,
            limits: ArchiveLimits { entries: caps.max_entries, bytes: caps.max_size },
        }
    }

    /// Unpacks and computes the digests in one pass.
    fn pass(&mut self, unpacker: &mut Unpacker<'_>) -> Result<TreeCounts, ExtractFailure> {
        let mut digests = self.installer.header.digests.clone();
        if let Some(sha256) = &self.extract.sha256 {
            digests.push(DigestSpec::whole_file(self.installer.header.size, Some(sha256)));
        }
        let progress = Progress::new(self.say, "unpacking", Some(self.installer.header.size));
        let at = |at| progress.at(at);
        let source = self.installer.source(&interrupted, &at);
        let (source, header) =
            source.map_err(|failure| ExtractFailure::new(ChangeStatus::Failed, failure))?;
        let passed = unpack(
            source,
            header,
            &digests,
            |plain| unpacker.unpack(plain),
            // a wrong digest may be why an archive cannot be read
            |stop| !matches!(stop, UnpackError::Archive(TarError::Io(_) | TarError::Malformed(_))),
        );
        drop(progress);
        match passed {
            Err(ReadError::Interrupted) => Err(self.stopped(&UnpackError::Interrupted)),
            Err(error) => {
                Err(ExtractFailure::new(ChangeStatus::RolledBack, self.installer.pass_error(error)))
            }
            Ok(passed) => self.conclude(passed),
        }
    }

    fn conclude(
        &self,
        passed: Unpacked<Result<TreeCounts, UnpackError>>,
    ) -> Result<TreeCounts, ExtractFailure> {
        let path = &self.installer.path;
        let wrong = mismatches(&passed.digests);
        let forced = self.extract.force && passed.outcome.is_ok();
        if !wrong.is_empty() && !forced {
            return Err(ExtractFailure::new(ChangeStatus::Refused, self.damaged(&passed.digests)));
        }
        let counts = passed.outcome.map_err(|stop| self.stopped(&stop))?;
        for what in wrong {
            self.say.warn(&format!("'{path}': {what}; it was unpacked anyway"));
        }
        if verdict(&passed.digests) == Verified::Undigested {
            self.say.warn(&format!("'{path}' carries no digest, so nothing was verified"));
        }
        if passed.trailing > 0 {
            let bytes = passed.trailing;
            self.say.warn(&format!("'{path}': {bytes} bytes after its archive were ignored"));
        }
        Ok(counts)
    }

    fn damaged(&self, digests: &[DigestResult]) -> Failure {
        damaged(&self.installer.path, digests)
            .hint("download it again, or use --force to unpack it anyway")
    }

    fn no_place(&self, error: &FileError) -> ExtractFailure {
        if error.errno() == libc::EEXIST {
            let message = format!("'{}' already exists", self.extract.dir.display());
            let failure =
                fail(Exit::Refused, message).hint("choose a directory that does not exist");
            return ExtractFailure::new(ChangeStatus::Refused, failure);
        }
        let exit = if error.is_not_found() { Exit::Usage } else { Exit::System };
        let mut failure = fail(exit, error.to_string());
        if error.is_not_found() {
            failure = failure.hint("create its parent directory first");
        }
        ExtractFailure::new(ChangeStatus::Failed, failure)
    }

    fn stopped(&self, stop: &UnpackError) -> ExtractFailure {
        let path = &self.installer.path;
        match stop {
            UnpackError::Archive(error) => {
                let failure = archive_error(path, error);
                let status = match failure.exit {
                    Exit::Refused => ChangeStatus::Refused,
                    _ => ChangeStatus::Failed,
                };
                ExtractFailure::new(status, failure)
            }
            UnpackError::Hostile(what) => {
                let failure = fail(Exit::Refused, format!("'{path}' is not unpacked: {what}"))
                    .hint("NVIDIA's installers have no such member; download it again");
                ExtractFailure::new(ChangeStatus::Refused, failure)
            }
            UnpackError::File(error) => {
                let mut failure = fail(Exit::System, error.to_string());
                if [libc::ENOSPC, libc::EDQUOT].contains(&error.errno()) {
                    let bytes = self.installer.header.stub.unpacked;
                    let needs = bytes.map(|bytes| format!("; it needs {} MB", bytes / 1_000_000));
                    failure = failure.hint(format!("free space{}", needs.unwrap_or_default()));
                }
                ExtractFailure::new(ChangeStatus::RolledBack, failure)
            }
            UnpackError::Interrupted => {
                let failure = fail(Exit::System, "interrupted; nothing was unpacked");
                ExtractFailure::new(ChangeStatus::RolledBack, failure)
            }
        }
    }

    fn report(
        &self,
        outcome: Result<TreeCounts, ExtractFailure>,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let target = self.extract.dir.display().to_string();
        let mut change = Change::planned(self.say.tool(), &target, PROPERTY);
        match outcome {
            Ok(counts) if self.extract.change.check => {
                writer.put(Record::Check(self.check(target, counts)))?;
                Ok(Exit::Difference)
            }
            Ok(counts) => {
                change.to = Some(Self::words(counts));
                if !self.extract.change.dry_run {
                    change.status = ChangeStatus::Changed;
                }
                writer.put(Record::Change(change))?;
                Ok(Exit::Done)
            }
            Err(failed) => {
                change.status = failed.status;
                because_of(&mut change, &failed.failure);
                writer.put(Record::Change(change))?;
                Err(failed.failure.into())
            }
        }
    }

    fn words(counts: TreeCounts) -> String {
        format!("{} entries, {} bytes", counts.entries, counts.bytes)
    }

    fn check(&self, subject: String, counts: TreeCounts) -> Check {
        Check {
            commands: Vec::new(),
            subject,
            property: PROPERTY.into(),
            expected: Some(Self::words(counts)),
            actual: None,
            status: CheckStatus::Drift,
            severity: Severity::Info,
            cause: None,
            reason: None,
            hint: Some("run without --check to unpack it".into()),
        }
    }
}
