//! `extract`: an installer's tree, complete and verified, or nothing.

use ::cli::{Exit, Failure, Progress, Say, catch_signals, fail, interrupted};
use host::{AtomicDir, FileError};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity, Verified};
use runfile::{
    ArchiveLimits, Compression, DigestResult, DigestSpec, ReadError, TarError, Unpacked, unpack,
};

use crate::cli::Extract;
use crate::content::archive_error;
use crate::describe::{mismatches, verdict};
use crate::installer::Installer;
use crate::unpacker::{Counts, Stop, Unpacker, Wanted};

/// What extract changes of its target.
const PROPERTY: &str = "tree";

/// The verb.
pub fn run(extract: &Extract, say: &Say, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
    let installer = Installer::open(&extract.file)?;
    if installer.header.compression == Compression::Unknown {
        let message = format!("'{}': its compression is not known", installer.path);
        return Err(fail(Exit::Usage, message)
            .hint("it may be encrypted, or packed with a program that is rarely used")
            .into());
    }
    let mut run = Run { extract, say, installer };
    let outcome = match extract.change.only_look() {
        true => run.look(),
        false => run.change(),
    };
    run.report(outcome, writer)
}

/// Why nothing was unpacked: how far it came, and the failure.
struct Undone {
    status: ChangeStatus,
    failure: Failure,
}

impl Undone {
    fn new(status: ChangeStatus, failure: Failure) -> Undone {
        Undone { status, failure }
    }
}

struct Run<'a> {
    extract: &'a Extract,
    say: &'a Say,
    installer: Installer,
}

impl Run<'_> {
    /// Everything but the writing.
    fn look(&mut self) -> Result<Counts, Undone> {
        AtomicDir::could_begin(&self.extract.dir).map_err(|error| self.no_place(&error))?;
        let mut unpacker = Unpacker::new(None, self.wanted());
        self.pass(&mut unpacker)
    }

    fn change(&mut self) -> Result<Counts, Undone> {
        catch_signals();
        let staging = AtomicDir::begin(&self.extract.dir).map_err(|error| self.no_place(&error))?;
        let mut unpacker = Unpacker::new(Some(&staging), self.wanted());
        let outcome = self.pass(&mut unpacker).and_then(|counts| {
            let finished = unpacker.finish().and_then(|()| match interrupted() {
                true => Ok(false),
                false => staging.commit().map(|()| true),
            });
            match finished {
                Ok(true) => Ok(counts),
                Ok(false) => Err(self.stopped(&Stop::Interrupted)),
                Err(error) => Err(self.stopped(&Stop::File(error))),
            }
        });
        outcome.map_err(|undone| match staging.discard() {
            Ok(()) => undone,
            // it has its name already: only the last sync failed
            Err(error) if error.is_not_found() => Undone::new(
                ChangeStatus::Failed,
                undone.failure.hint("it is complete, but may not survive a power failure"),
            ),
            Err(error) => Undone::new(
                ChangeStatus::Failed,
                undone.failure.hint(format!("what was unpacked is left over: {error}")),
            ),
        })
    }

    fn wanted(&self) -> Wanted {
        let caps = &self.extract.caps;
        Wanted {
            owner: self.extract.owner,
            umask: self.extract.umask,
            limits: ArchiveLimits { entries: caps.max_entries, bytes: caps.max_size },
        }
    }

    /// Unpacks and digests, and weighs both.
    fn pass(&mut self, unpacker: &mut Unpacker<'_>) -> Result<Counts, Undone> {
        let mut digests = self.installer.header.digests.clone();
        if let Some(sha256) = &self.extract.sha256 {
            digests.push(DigestSpec::whole_file(self.installer.header.size, Some(sha256)));
        }
        let progress = Progress::new(self.say, "unpacking", Some(self.installer.header.size));
        let at = |at| progress.at(at);
        let source = self.installer.source(&interrupted, &at);
        let (source, header) =
            source.map_err(|failure| Undone::new(ChangeStatus::Failed, failure))?;
        let passed = unpack(
            source,
            header,
            &digests,
            |plain| unpacker.unpack(plain),
            // a wrong digest may be why an archive cannot be read
            |stop| !matches!(stop, Stop::Archive(TarError::Io(_) | TarError::Malformed(_))),
        );
        drop(progress);
        match passed {
            Err(ReadError::Interrupted) => Err(self.stopped(&Stop::Interrupted)),
            Err(error) => {
                Err(Undone::new(ChangeStatus::RolledBack, self.installer.pass_error(error)))
            }
            Ok(passed) => self.weigh(passed),
        }
    }

    fn weigh(&self, passed: Unpacked<Result<Counts, Stop>>) -> Result<Counts, Undone> {
        let path = &self.installer.path;
        let wrong = mismatches(&passed.digests);
        let forced = self.extract.force && passed.outcome.is_ok();
        if !wrong.is_empty() && !forced {
            return Err(Undone::new(ChangeStatus::Refused, self.damaged(&passed.digests)));
        }
        let counts = passed.outcome.map_err(|stop| self.stopped(&stop))?;
        for what in wrong {
            self.say.warn(&format!("'{path}': {what}; unpacked all the same"));
        }
        if verdict(&passed.digests) == Verified::Undigested {
            self.say.warn(&format!("'{path}' carries no digest: nothing was verified"));
        }
        if passed.trailing > 0 {
            let bytes = passed.trailing;
            self.say.warn(&format!("'{path}': {bytes} bytes behind its archive were ignored"));
        }
        Ok(counts)
    }

    fn damaged(&self, digests: &[DigestResult]) -> Failure {
        let what = mismatches(digests).join(", ");
        let message = format!("'{}' is damaged: {what}", self.installer.path);
        fail(Exit::Refused, message).hint("get it again; --force unpacks what can be unpacked")
    }

    fn no_place(&self, error: &FileError) -> Undone {
        if error.errno() == libc::EEXIST {
            let message = format!("'{}' is there already", self.extract.dir.display());
            let failure = fail(Exit::Refused, message).hint("name a directory that is not there");
            return Undone::new(ChangeStatus::Refused, failure);
        }
        let exit = if error.is_not_found() { Exit::Usage } else { Exit::System };
        let mut failure = fail(exit, error.to_string());
        if error.is_not_found() {
            failure = failure.hint("make the directory above it first");
        }
        Undone::new(ChangeStatus::Failed, failure)
    }

    fn stopped(&self, stop: &Stop) -> Undone {
        let path = &self.installer.path;
        match stop {
            Stop::Archive(error) => {
                let failure = archive_error(path, error);
                let status = match failure.exit {
                    Exit::Refused => ChangeStatus::Refused,
                    _ => ChangeStatus::Failed,
                };
                Undone::new(status, failure)
            }
            Stop::Hostile(what) => {
                let failure = fail(Exit::Refused, format!("'{path}' is not unpacked: {what}"))
                    .hint("no installer of NVIDIA's has that");
                Undone::new(ChangeStatus::Refused, failure)
            }
            Stop::File(error) => {
                let mut failure = fail(Exit::System, error.to_string());
                if [libc::ENOSPC, libc::EDQUOT].contains(&error.errno()) {
                    let bytes = self.installer.header.stub.unpacked;
                    let needs = bytes.map(|bytes| format!(": it takes {} MB", bytes / 1_000_000));
                    failure = failure.hint(format!("free space{}", needs.unwrap_or_default()));
                }
                Undone::new(ChangeStatus::RolledBack, failure)
            }
            Stop::Interrupted => {
                let failure = fail(Exit::System, "interrupted; nothing was unpacked");
                Undone::new(ChangeStatus::RolledBack, failure)
            }
        }
    }

    fn report(
        &self,
        outcome: Result<Counts, Undone>,
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
                change.to = Some(self.said(counts));
                if !self.extract.change.dry_run {
                    change.status = ChangeStatus::Changed;
                }
                writer.put(Record::Change(change))?;
                Ok(Exit::Done)
            }
            Err(undone) => {
                change.status = undone.status;
                change.reason = Some(undone.failure.message.clone());
                change.hint = undone.failure.hint.clone();
                writer.put(Record::Change(change))?;
                Err(undone.failure.into())
            }
        }
    }

    fn said(&self, counts: Counts) -> String {
        let Counts { entries, bytes } = counts;
        format!("{entries} entries, {bytes} bytes")
    }

    fn check(&self, subject: String, counts: Counts) -> Check {
        Check {
            commands: Vec::new(),
            subject,
            property: PROPERTY.into(),
            expected: Some(self.said(counts)),
            actual: None,
            status: CheckStatus::Drift,
            severity: Severity::Info,
            cause: None,
            reason: None,
            hint: Some("without --check it is unpacked".into()),
        }
    }
}
