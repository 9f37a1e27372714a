//! Changing one configuration: lock, read, plan, replace, read back, report;
//! and undoing it where it does not hold.

use ::cli::{ChangeOptions, Exit, Failure, OutputChoice, Say, fail, interrupted};
use anyhow::Context;
use host::{FileLock, GUEST_LOCK_WAIT, Journal, LockError, Machine, ReplaceError};
use pve::{Conf, Guest};
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::diff;
use crate::hotplug;
use crate::plan::{Plan, Refusal, Step};
use crate::resolve::Cannot;

/// Why a verb stops.
pub enum Stopped {
    /// For safety.
    Refused(Refusal),
    /// With an exit code of its own.
    Failed(Failure),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Stopped {
        Stopped::Refused(refusal)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Failed(failure)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Stopped {
        Stopped::Other(error.into())
    }
}

impl From<Cannot> for Stopped {
    fn from(cannot: Cannot) -> Stopped {
        match cannot {
            Cannot::Refused(refusal) => Stopped::Refused(refusal),
            Cannot::Failed(failure) => Stopped::Failed(failure),
        }
    }
}

/// What a plan is made of, and what is to be remembered once it is done.
pub trait Planner {
    /// Makes it. Called again with what the file holds under the lock.
    fn plan(&self, conf: &Conf) -> Result<Plan, Stopped>;

    /// Called with the lock still held, after the file is as planned.
    fn done(&self, plan: &Plan);
}

/// One configuration being changed.
pub struct Editor<'a> {
    /// The host.
    pub machine: &'a Machine,
    /// Whose configuration.
    pub guest: &'a Guest,
    /// For words.
    pub say: &'a Say,
    /// `--dry-run`, `--check`.
    pub change: &'a ChangeOptions,
    /// `--output`.
    pub output: OutputChoice,
    /// The command that makes it so, for hints.
    pub command: String,
    /// A running container may get new nodes at once.
    pub hotplug: bool,
}

/// What came of it.
pub struct Edited {
    /// The exit code.
    pub exit: Exit,
    /// Something was changed, or would be.
    pub changed: bool,
    /// It reached the running container.
    pub hot: bool,
}

impl Edited {
    fn nothing(exit: Exit) -> Edited {
        Edited { exit, changed: false, hot: false }
    }
}

impl Editor<'_> {
    /// Does it, or only looks where that was asked for.
    pub fn run(&self, planner: &dyn Planner, writer: &mut RecordWriter) -> Result<Edited, Stopped> {
        if self.change.only_look() {
            self.look(planner, writer)
        } else {
            self.apply(planner, writer)
        }
    }

    /// Dry run and check: neither lock nor write.
    fn look(&self, planner: &dyn Planner, writer: &mut RecordWriter) -> Result<Edited, Stopped> {
        let bytes = self.guest.read(self.machine)?;
        let conf = Conf::parse(&bytes);
        if !self.change.check {
            pve::require_unlocked(self.guest, &conf)?;
        }
        let plan = planner.plan(&conf)?;
        if self.change.check {
            for step in &plan.steps {
                writer.put(Record::Check(self.check_of(step)))?;
            }
            let exit = if plan.changes() { Exit::Difference } else { Exit::Done };
            return Ok(Edited { exit, changed: plan.changes(), hot: false });
        }
        let hot = self.hotplug && plan.changes() && plan.only_adds_dev();
        let hot = hot && hotplug::possible(self.machine, self.guest.ctid);
        let done = Edited { exit: Exit::Done, changed: plan.changes(), hot };
        let people = self.output == OutputChoice::Auto && !writer.is_jsonl();
        if people && plan.changes() {
            let path = self.machine.shown(&self.guest.path);
            let text = diff::unified(&path, &bytes, &plan.conf.bytes());
            record::print_text(&text).context("standard output").map_err(Stopped::Other)?;
            return Ok(done);
        }
        self.report(&plan, ChangeStatus::Planned, None, writer)?;
        Ok(done)
    }

    fn lock(&self) -> Result<FileLock, Stopped> {
        let lock = self.machine.lock_guest_config(self.guest.ctid, GUEST_LOCK_WAIT, &interrupted);
        Ok(lock.map_err(|error| self.no_lock(&error))?)
    }

    fn apply(&self, planner: &dyn Planner, writer: &mut RecordWriter) -> Result<Edited, Stopped> {
        let lock = self.lock()?;
        let bytes = self.guest.read(self.machine)?;
        let conf = Conf::parse(&bytes);
        pve::require_unlocked(self.guest, &conf)?;
        let plan = planner.plan(&conf)?;
        let new = plan.conf.bytes();
        if new == bytes {
            planner.done(&plan);
            self.report(&plan, ChangeStatus::Unchanged, None, writer)?;
            return Ok(Edited::nothing(Exit::Done));
        }
        // who has nothing to change needs none: a host boots before its cluster has it
        pve::require_quorum(self.machine)?;
        if new.len() > pve::MOST {
            let message = format!("{}: the configuration would exceed 1 MiB", self.guest.target());
            return Err(fail(Exit::Refused, message).into());
        }
        if self.hotplug && plan.only_adds_dev() && hotplug::possible(self.machine, self.guest.ctid)
        {
            // pct takes the lock itself; the digest sees to it that nothing
            // comes between
            drop(lock);
            return self.hot_add(planner, &plan, &bytes, writer);
        }
        match self.write(&bytes, &new) {
            Ok(()) => {
                planner.done(&plan);
                drop(lock);
                self.report(&plan, ChangeStatus::Changed, None, writer)?;
                Ok(Edited { exit: Exit::Done, changed: true, hot: false })
            }
            Err((status, failure)) => {
                drop(lock);
                self.report(&plan, status, Some(&failure.message), writer)?;
                Err(failure.into())
            }
        }
    }

    /// Lets pct give new nodes to the running container. It writes the file
    /// before it does the rest, so that what it leaves behind on failure is
    /// taken away again.
    fn hot_add(
        &self,
        planner: &dyn Planner,
        plan: &Plan,
        old: &[u8],
        writer: &mut RecordWriter,
    ) -> Result<Edited, Stopped> {
        let added: Vec<&Step> = plan.steps.iter().filter(|step| !step.there()).collect();
        let outcome = hotplug::pct_set(self.machine, self.guest.ctid, &added, old);
        let lock = self.lock()?;
        let now = self.guest.read(self.machine)?;
        let Err(why) = outcome else {
            let again = planner.plan(&Conf::parse(&now))?;
            if !again.changes() {
                planner.done(&again);
                drop(lock);
                self.report(plan, ChangeStatus::Changed, None, writer)?;
                return Ok(Edited { exit: Exit::Done, changed: true, hot: true });
            }
            let message = format!("{}: pct did not write what it was given", self.guest.target());
            return Err(fail(Exit::System, message).hint("run it again").into());
        };
        let mut undone = Conf::parse(&now);
        for step in &added {
            let keys = undone.keys(&pve::Section::Main);
            let ours = keys.get(step.key.as_str()).is_some_and(|value| {
                let path = |text: &str| text.split(',').next().map(str::to_string);
                path(value) == step.to.as_deref().and_then(path)
            });
            if ours {
                undone.remove_key(&step.key);
            }
        }
        let written = undone.bytes() != now;
        let back = if written { self.write(&now, &undone.bytes()) } else { Ok(()) };
        drop(lock);
        let status = match (&back, written) {
            (Ok(()), true) => ChangeStatus::RolledBack,
            _ => ChangeStatus::Failed,
        };
        self.report(plan, status, Some(&why), writer)?;
        let message = format!("{}: pct set: {why}", self.guest.target());
        let hint = format!(
            "stop the container, or run it with --no-hotplug and 'pct reboot {}'",
            self.guest.ctid
        );
        Err(fail(Exit::System, message).hint(hint).into())
    }

    /// Replaces the file and reads it back.
    fn write(&self, old: &[u8], new: &[u8]) -> Result<(), (ChangeStatus, Failure)> {
        let (machine, path) = (self.machine, self.guest.path.as_str());
        match machine.remove_leftovers(path) {
            Ok(names) => {
                for name in names {
                    self.say
                        .detail(&format!("removed '{name}', left by a process that was killed"));
                }
            }
            Err(error) => self.say.detail(&error.to_string()),
        }
        let mut journal = Journal::new();
        let replaced = machine.replace(path, old, new, &|| !interrupted());
        journal.record(format!("replace {path}"), |machine: &Machine| {
            Ok(machine.replace(path, new, old, &|| true)?)
        });
        let failure = match replaced {
            Ok(()) => match machine.read(path, pve::MOST) {
                Ok(now) if now == new => {
                    journal.keep();
                    return Ok(());
                }
                Ok(_) => {
                    // what somebody else wrote is not ours to take back
                    journal.keep();
                    let message =
                        format!("'{}' was overwritten by someone else", machine.shown(path));
                    return Err((
                        ChangeStatus::Failed,
                        fail(Exit::System, message).hint("run it again"),
                    ));
                }
                Err(error) => fail(Exit::System, error.to_string()),
            },
            Err(error @ ReplaceError::Unsure(_)) => fail(Exit::System, error.to_string()),
            // the old file stands
            Err(error) => {
                journal.keep();
                return Err((ChangeStatus::Failed, self.not_replaced(&error)));
            }
        };
        let undone = journal.roll_back(machine);
        match undone.iter().find_map(|u| u.error.as_deref()) {
            None => Err((ChangeStatus::RolledBack, failure)),
            Some(why) => {
                let hint = format!("it could not be undone: {why}");
                Err((ChangeStatus::Failed, failure.hint(hint)))
            }
        }
    }

    fn not_replaced(&self, error: &ReplaceError) -> Failure {
        let failure = fail(Exit::System, format!("{}: {error}", self.guest.target()));
        match error.errno() {
            libc::EACCES | libc::EROFS => {
                failure.hint("no quorum, or a read-only file system: see 'pvecm status'")
            }
            libc::EINTR => failure.hint("interrupted; nothing was changed"),
            libc::ENOSPC | libc::EDQUOT => failure.hint("free space and run it again"),
            0 => failure.hint("run it again"),
            _ => failure,
        }
    }

    fn no_lock(&self, error: &LockError) -> Failure {
        let failure = fail(Exit::System, format!("{}: {error}", self.guest.target()));
        match error {
            LockError::Busy { .. } if interrupted() => {
                failure.hint("interrupted; nothing was changed")
            }
            LockError::Busy { .. } => failure.hint("wait for the running task and run it again"),
            LockError::File(_) => failure,
        }
    }

    fn report(
        &self,
        plan: &Plan,
        status: ChangeStatus,
        why: Option<&str>,
        writer: &mut RecordWriter,
    ) -> std::io::Result<()> {
        for step in &plan.steps {
            let mut change = self.change_of(&step.key);
            change.from = step.from.clone();
            change.to = step.to.clone();
            change.reason = step.reason.clone();
            if step.there() {
                change.status = ChangeStatus::Unchanged;
            } else {
                change.status = status;
                change.reason = why.map(str::to_string).or(change.reason);
            }
            writer.put(Record::Change(change))?;
        }
        Ok(())
    }

    /// The record of a refusal.
    pub fn refused(&self, refusal: &Refusal) -> Change {
        let mut change = self.change_of(&refusal.property);
        change.status = ChangeStatus::Refused;
        change.reason = Some(refusal.reason.clone());
        change.hint = Some(refusal.hint.clone());
        change
    }

    /// A record about the container.
    pub fn change_of(&self, property: &str) -> Change {
        Change::planned(self.say.tool(), &self.guest.target(), property)
    }

    /// Ends a verb that stopped: the record of a refusal, and the failure.
    pub fn stopped(&self, stopped: Stopped, writer: &mut RecordWriter) -> anyhow::Error {
        match stopped {
            Stopped::Refused(refusal) => {
                let message = match refusal.property.as_str() {
                    path if path.starts_with("/dev/") => {
                        format!("{}: {path} {}", self.guest.target(), refusal.reason)
                    }
                    _ => format!("{}: {}", self.guest.target(), refusal.reason),
                };
                let failure = fail(Exit::Refused, message).hint(refusal.hint.clone());
                // on a terminal the failure's own line says the same
                if writer.is_jsonl() {
                    if let Err(error) = writer.put(Record::Change(self.refused(&refusal))) {
                        return error.into();
                    }
                }
                failure.into()
            }
            Stopped::Failed(failure) => failure.into(),
            Stopped::Other(error) => error,
        }
    }

    fn check_of(&self, step: &Step) -> Check {
        let there = step.there();
        Check {
            commands: Vec::new(),
            subject: self.guest.target(),
            property: step.key.clone(),
            expected: step.to.clone(),
            actual: step.from.clone(),
            status: if there { CheckStatus::Ok } else { CheckStatus::Drift },
            severity: if there { Severity::Info } else { Severity::Error },
            cause: None,
            reason: step.reason.clone(),
            hint: (!there).then(|| self.command.clone()),
        }
    }
}
