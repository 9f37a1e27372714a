//! Changes one configuration: lock, read, plan, replace, read back, report, and
//! roll back on failure.

use ::cli::{ChangeOptions, Exit, Failure, OutputChoice, Say, fail, interrupted};
use advice::external::{pct_reboot, pvecm_status};
use anyhow::Context;
use host::{FileLock, GUEST_LOCK_WAIT, Journal, LockError, Machine, ReplaceError};
use pve::{Conf, Guest};
use record::{
    Change, ChangeStatus, Check, CheckStatus, CommandLine, Record, RecordWriter, Severity,
};

use crate::apply::{diff, hotplug};
use crate::config::node_requests::ResolveError;
use crate::plan::model::{ConfigPlan, ConfigStep, Refusal};

/// Why a change stops.
pub enum EditStop {
    /// Refused for safety.
    Refused(Refusal),
    /// Failed with an exit code of its own.
    Failed(Failure),
    /// Any other error.
    Other(anyhow::Error),
}

impl From<Refusal> for EditStop {
    fn from(refusal: Refusal) -> EditStop {
        EditStop::Refused(refusal)
    }
}

impl From<Failure> for EditStop {
    fn from(failure: Failure) -> EditStop {
        EditStop::Failed(failure)
    }
}

impl From<std::io::Error> for EditStop {
    fn from(error: std::io::Error) -> EditStop {
        EditStop::Other(error.into())
    }
}

impl From<ResolveError> for EditStop {
    fn from(cannot: ResolveError) -> EditStop {
        match cannot {
            ResolveError::Refused(refusal) => EditStop::Refused(refusal),
            ResolveError::Failed(failure) => EditStop::Failed(failure),
        }
    }
}

/// Plans a change, and stores what is to be remembered of it.
pub trait ConfigPlanner {
    /// Plans the change of a configuration, which may be called several times.
    fn plan(&self, conf: &Conf) -> Result<ConfigPlan, EditStop>;

    /// Called under the lock, after the file is as planned.
    fn done(&self, plan: &ConfigPlan);
}

/// Changes the configuration of one container.
pub struct ConfigEditor<'a> {
    /// The host.
    pub machine: &'a Machine,
    /// The container.
    pub guest: &'a Guest,
    /// For messages.
    pub say: &'a Say,
    /// `--dry-run`, `--check`.
    pub change: &'a ChangeOptions,
    /// `--output`.
    pub output: OutputChoice,
    /// The command that makes the change, for hints.
    pub command: CommandLine,
    /// Whether new nodes are hot-plugged into a running container.
    pub hotplug: bool,
}

/// The outcome of a change.
pub struct EditOutcome {
    /// The exit code.
    pub exit: Exit,
    /// Whether something was changed, or would be.
    pub changed: bool,
    /// Whether it was hot-plugged.
    pub hot_plugged: bool,
}

impl ConfigEditor<'_> {
    /// Makes the change, or shows it with --dry-run and --check.
    pub fn run(
        &self,
        planner: &dyn ConfigPlanner,
        writer: &mut RecordWriter,
    ) -> Result<EditOutcome, EditStop> {
        if self.change.only_look() {
            self.look(planner, writer)
        } else {
            self.apply(planner, writer)
        }
    }

    /// Dry run and check: neither locks nor writes.
    fn look(
        &self,
        planner: &dyn ConfigPlanner,
        writer: &mut RecordWriter,
    ) -> Result<EditOutcome, EditStop> {
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
            return Ok(EditOutcome { exit, changed: plan.changes(), hot_plugged: false });
        }
        let hot_plugged = self.can_hot_plug(&plan);
        let done = EditOutcome { exit: Exit::Done, changed: plan.changes(), hot_plugged };
        let people = self.output == OutputChoice::Auto && !writer.is_jsonl();
        if people && plan.changes() {
            let path = self.machine.shown(&self.guest.path);
            let text = diff::unified(&path, &bytes, &plan.conf.bytes());
            record::print_text(&text).context("standard output").map_err(EditStop::Other)?;
            return Ok(done);
        }
        self.report(&plan, ChangeStatus::Planned, None, writer)?;
        Ok(done)
    }

    fn can_hot_plug(&self, plan: &ConfigPlan) -> bool {
        let wanted = self.hotplug && plan.only_adds_dev();
        wanted && hotplug::possible(self.machine, self.guest.ctid)
    }

    fn lock(&self) -> Result<FileLock, EditStop> {
        let lock = self.machine.lock_guest_config(self.guest.ctid, GUEST_LOCK_WAIT, &interrupted);
        Ok(lock.map_err(|error| self.no_lock(&error))?)
    }

    fn apply(
        &self,
        planner: &dyn ConfigPlanner,
        writer: &mut RecordWriter,
    ) -> Result<EditOutcome, EditStop> {
        let lock = self.lock()?;
        let bytes = self.guest.read(self.machine)?;
        let conf = Conf::parse(&bytes);
        pve::require_unlocked(self.guest, &conf)?;
        let plan = planner.plan(&conf)?;
        let new = plan.conf.bytes();
        if new == bytes {
            planner.done(&plan);
            self.report(&plan, ChangeStatus::Unchanged, None, writer)?;
            return Ok(EditOutcome { exit: Exit::Done, changed: false, hot_plugged: false });
        }
        // without a change there is no need for one: a host boots before its cluster
        // has a quorum
        pve::require_quorum(self.machine)?;
        if new.len() > pve::MOST {
            let message =
                format!("{}: the configuration would be larger than 1 MiB", self.guest.target());
            return Err(fail(Exit::Refused, message).into());
        }
        if self.can_hot_plug(&plan) {
            // pct takes the lock itself, and compares the digest under it
            drop(lock);
            return self.hot_plug(planner, &plan, &bytes, writer);
        }
        match self.write(&bytes, &new) {
            Ok(()) => {
                planner.done(&plan);
                drop(lock);
                self.report(&plan, ChangeStatus::Changed, None, writer)?;
                Ok(EditOutcome { exit: Exit::Done, changed: true, hot_plugged: false })
            }
            Err((status, failure)) => {
                drop(lock);
                self.report(&plan, status, Some(&failure.message), writer)?;
                Err(failure.into())
            }
        }
    }

    /// Has pct hot-plug new nodes. It writes the file first, so what it leaves
    /// behind on failure is removed again.
    fn hot_plug(
        &self,
        planner: &dyn ConfigPlanner,
        plan: &ConfigPlan,
        old: &[u8],
        writer: &mut RecordWriter,
    ) -> Result<EditOutcome, EditStop> {
        let added: Vec<&ConfigStep> =
            plan.steps.iter().filter(|step| !step.is_unchanged()).collect();
        let outcome = hotplug::pct_set(self.machine, self.guest.ctid, &added, old);
        let lock = self.lock()?;
        let now = self.guest.read(self.machine)?;
        let Err(why) = outcome else {
            let again = planner.plan(&Conf::parse(&now))?;
            if !again.changes() {
                planner.done(&again);
                drop(lock);
                self.report(plan, ChangeStatus::Changed, None, writer)?;
                return Ok(EditOutcome { exit: Exit::Done, changed: true, hot_plugged: true });
            }
            let message = format!("{}: pct set did not write the new entries", self.guest.target());
            return Err(fail(Exit::System, message).run(self.command.clone()).into());
        };
        let mut restored = Conf::parse(&now);
        for step in &added {
            let keys = restored.keys(&pve::Section::Main);
            let ours = keys.get(step.key.as_str()).is_some_and(|value| {
                let path = |text: &str| text.split(',').next().map(str::to_string);
                path(value) == step.to.as_deref().and_then(path)
            });
            if ours {
                restored.remove_key(&step.key);
            }
        }
        let written = restored.bytes() != now;
        let back = if written { self.write(&now, &restored.bytes()) } else { Ok(()) };
        drop(lock);
        let status = match (&back, written) {
            (Ok(()), true) => ChangeStatus::RolledBack,
            _ => ChangeStatus::Failed,
        };
        self.report(plan, status, Some(&why), writer)?;
        let message = format!("{}: pct set: {why}", self.guest.target());
        let without_hotplug = self.command.iter().cloned().chain(["--no-hotplug".to_string()]);
        Err(fail(Exit::System, message)
            .hint("add the nodes without hot-plug and restart the container")
            .run(without_hotplug.collect())
            .run(pct_reboot(self.guest.ctid))
            .into())
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
                    // a file that another process wrote is not rolled back
                    journal.keep();
                    let message =
                        format!("'{}' was modified by another process", machine.shown(path));
                    return Err((
                        ChangeStatus::Failed,
                        fail(Exit::System, message).run(self.command.clone()),
                    ));
                }
                Err(error) => fail(Exit::System, error.to_string()),
            },
            Err(error @ ReplaceError::Unsure(_)) => fail(Exit::System, error.to_string()),
            // the old file is unchanged
            Err(error) => {
                journal.keep();
                return Err((ChangeStatus::Failed, self.not_replaced(&error)));
            }
        };
        let undone = journal.roll_back(machine);
        match undone.iter().find_map(|u| u.error.as_deref()) {
            None => Err((ChangeStatus::RolledBack, failure)),
            Some(why) => {
                let hint = format!("the change could not be rolled back: {why}");
                Err((ChangeStatus::Failed, failure.hint(hint)))
            }
        }
    }

    fn not_replaced(&self, error: &ReplaceError) -> Failure {
        let failure = fail(Exit::System, format!("{}: {error}", self.guest.target()));
        match error.errno() {
            libc::EACCES | libc::EROFS => failure
                .hint("the cluster has no quorum, or the file system is read-only")
                .run(pvecm_status()),
            libc::EINTR => failure.hint("interrupted; nothing was changed"),
            libc::ENOSPC | libc::EDQUOT => {
                failure.hint("free space, then run the command again").run(self.command.clone())
            }
            _ => failure.hint("nothing was changed").run(self.command.clone()),
        }
    }

    fn no_lock(&self, error: &LockError) -> Failure {
        let failure = fail(Exit::System, format!("{}: {error}", self.guest.target()));
        match error {
            LockError::Busy { .. } if interrupted() => {
                failure.hint("interrupted; nothing was changed")
            }
            LockError::Busy { .. } => failure
                .hint("another task holds the lock: wait for its end, then run the command again")
                .run(self.command.clone()),
            LockError::File(_) => failure,
        }
    }

    fn report(
        &self,
        plan: &ConfigPlan,
        status: ChangeStatus,
        why: Option<&str>,
        writer: &mut RecordWriter,
    ) -> std::io::Result<()> {
        for step in &plan.steps {
            let mut change = self.change_of(&step.key);
            change.from = step.from.clone();
            change.to = step.to.clone();
            change.reason = step.reason.clone();
            if step.is_unchanged() {
                change.status = ChangeStatus::Unchanged;
            } else {
                change.status = status;
                change.reason = why.map(str::to_string).or(change.reason);
            }
            writer.put(Record::Change(change))?;
        }
        Ok(())
    }

    fn refused(&self, refusal: &Refusal) -> Change {
        let mut change = self.change_of(&refusal.property);
        change.status = ChangeStatus::Refused;
        change.reason = Some(refusal.reason.clone());
        change.hint = refusal.hint.words.clone();
        change.commands = refusal.hint.commands.clone();
        change
    }

    /// A record about the container.
    pub fn change_of(&self, property: &str) -> Change {
        Change::planned(self.say.tool(), &self.guest.target(), property)
    }

    /// The failure of a change that stopped; a refusal is also written as a record.
    pub fn stopped(&self, stopped: EditStop, writer: &mut RecordWriter) -> anyhow::Error {
        match stopped {
            EditStop::Refused(refusal) => {
                let message = match refusal.property.as_str() {
                    path if path.starts_with("/dev/") => {
                        format!("{}: {path} {}", self.guest.target(), refusal.reason)
                    }
                    _ => format!("{}: {}", self.guest.target(), refusal.reason),
                };
                let failure = fail(Exit::Refused, message).advise(refusal.hint.clone());
                // on a terminal the message of the failure says the same
                if writer.is_jsonl() {
                    if let Err(error) = writer.put(Record::Change(self.refused(&refusal))) {
                        return error.into();
                    }
                }
                failure.into()
            }
            EditStop::Failed(failure) => failure.into(),
            EditStop::Other(error) => error,
        }
    }

    fn check_of(&self, step: &ConfigStep) -> Check {
        let unchanged = step.is_unchanged();
        Check {
            subject: self.guest.target(),
            property: step.key.clone(),
            expected: step.to.clone(),
            actual: step.from.clone(),
            status: if unchanged { CheckStatus::Ok } else { CheckStatus::Drift },
            severity: if unchanged { Severity::Info } else { Severity::Error },
            cause: None,
            reason: step.reason.clone(),
            hint: None,
            commands: if unchanged { Vec::new() } else { vec![self.command.clone()] },
        }
    }
}
