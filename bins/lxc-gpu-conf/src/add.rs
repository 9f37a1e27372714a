//! `add`: parse, plan, apply.

use ::cli::{Exit, Failure, Say, catch_signals, fail, interrupted, records_from_stdin};
use anyhow::Context;
use host::{GUEST_LOCK_WAIT, Journal, LockError, Machine, ReplaceError};
use record::{Change, ChangeStatus, Check, CheckStatus, PciDevice, Record, Severity, Sink};

use crate::access::Access;
use crate::cli::{Add, Options, StyleChoice};
use crate::diff;
use crate::guest::{self, Guest};
use crate::host_gpus::{HostGpus, PassedOver, Wanted};
use crate::plan::{self, Container, HostNode, Plan, Refusal, Style};
use pve::Conf;

/// The verb.
pub fn run(options: &Options, add: &Add, say: &Say, sink: &mut Sink) -> anyhow::Result<Exit> {
    // all input is read and checked before anything else
    let records = if add.gpu.is_empty() { from_stdin(say)? } else { Vec::new() };
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, add.ctid)?;
    let gpus = HostGpus::read(&machine, say)?;
    let (wanted, over) = if add.gpu.is_empty() {
        gpus.of_records(&records)?
    } else {
        (gpus.named(&add.gpu)?, Vec::new())
    };
    let run = Run { machine: &machine, guest: &guest, add, say, gpus: &gpus };
    let outcome = if add.change.only_look() {
        run.look(options, &wanted, &over, sink)
    } else {
        catch_signals();
        run.change(&wanted, &over, sink)
    };
    match outcome {
        Err(Stopped::Refused(refusal)) => {
            let failure = fail(Exit::Refused, format!("{}: {}", guest.target(), refusal.reason))
                .hint(refusal.hint.clone());
            // on a terminal the failure's own line says the same
            if sink.is_jsonl() {
                sink.put(Record::Change(run.refused(refusal)))?;
            }
            Err(failure.into())
        }
        Err(Stopped::Failed(failure)) => Err(failure.into()),
        Err(Stopped::Other(error)) => Err(error),
        Ok(exit) => Ok(exit),
    }
}

fn from_stdin(say: &Say) -> Result<Vec<PciDevice>, Failure> {
    let what = "pci-device records (gpu-iommu-groups --vendor 10de | ...) or use --gpu";
    let records = records_from_stdin(say, &["pci-device"], what)?;
    Ok(records
        .into_iter()
        .filter_map(|record| match record {
            Record::PciDevice(device) => Some(*device),
            _ => None,
        })
        .collect())
}

enum Stopped {
    Refused(Refusal),
    Failed(Failure),
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

struct Run<'a> {
    machine: &'a Machine,
    guest: &'a Guest,
    add: &'a Add,
    say: &'a Say,
    gpus: &'a HostGpus,
}

impl Run<'_> {
    /// Dry run and check: neither lock nor write.
    fn look(
        &self,
        options: &Options,
        wanted: &[Wanted],
        over: &[PassedOver],
        sink: &mut Sink,
    ) -> Result<Exit, Stopped> {
        let bytes = self.guest.read(self.machine)?;
        let plan = self.plan(&bytes, wanted)?;
        let changes = plan.steps.iter().any(|step| !step.there);
        if self.add.change.check {
            for step in &plan.steps {
                sink.put(Record::Check(self.check(step)))?;
            }
            return Ok(if changes { Exit::Difference } else { Exit::Done });
        }
        let people = options.output == ::cli::OutputChoice::Auto && !sink.is_jsonl();
        if people && changes {
            let path = self.machine.shown(&self.guest.path);
            let text = diff::unified(&path, &bytes, &plan.conf.bytes());
            record::print_text(&text).context("standard output").map_err(Stopped::Other)?;
            self.report_over(over, sink)?;
            return Ok(Exit::Done);
        }
        self.report_over(over, sink)?;
        self.report(&plan, ChangeStatus::Planned, None, sink)?;
        Ok(Exit::Done)
    }

    /// Lock, read, plan, replace, read back.
    fn change(
        &self,
        wanted: &[Wanted],
        over: &[PassedOver],
        sink: &mut Sink,
    ) -> Result<Exit, Stopped> {
        self.guest.require_quorum(self.machine)?;
        let lock = self.machine.lock_guest_config(self.guest.ctid, GUEST_LOCK_WAIT, &interrupted);
        let _lock = lock.map_err(|error| self.no_lock(&error))?;
        let bytes = self.guest.read(self.machine)?;
        let plan = self.plan(&bytes, wanted)?;
        self.report_over(over, sink)?;
        let new = plan.conf.bytes();
        if new == bytes {
            self.report(&plan, ChangeStatus::Unchanged, None, sink)?;
            return Ok(Exit::Done);
        }
        if new.len() > guest::MOST {
            let message = format!("{}: the configuration would exceed 1 MiB", self.guest.target());
            return Err(fail(Exit::Refused, message).into());
        }
        match self.apply(&bytes, &new) {
            Ok(()) => {
                self.report(&plan, ChangeStatus::Changed, None, sink)?;
                self.say.note(&format!(
                    "{} has it from its next start on ('pct reboot {}' if it is running)",
                    self.guest.target(),
                    self.guest.ctid
                ));
                Ok(Exit::Done)
            }
            Err((status, failure)) => {
                self.report(&plan, status, Some(&failure.message), sink)?;
                Err(failure.into())
            }
        }
    }

    fn apply(&self, old: &[u8], new: &[u8]) -> Result<(), (ChangeStatus, Failure)> {
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
            Ok(()) => match machine.read(path, guest::MOST) {
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
            libc_errno::EACCES | libc_errno::EROFS => {
                failure.hint("no quorum, or a read-only file system: see 'pvecm status'")
            }
            libc_errno::EINTR => failure.hint("interrupted; nothing was changed"),
            libc_errno::ENOSPC | libc_errno::EDQUOT => failure.hint("free space and run it again"),
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

    fn plan(&self, bytes: &[u8], wanted: &[Wanted]) -> Result<Plan, Stopped> {
        let conf = Conf::parse(bytes);
        if !self.add.change.check {
            guest::require_unlocked(self.guest, &conf)?;
        }
        let style = self.style(&conf);
        let nodes = self.nodes(wanted, style)?;
        let container =
            Container { ctid: self.guest.ctid, unprivileged: guest::is_unprivileged(&conf) };
        Ok(plan::plan(&conf, container, &nodes, style)?)
    }

    fn style(&self, conf: &Conf) -> Style {
        match self.add.style {
            StyleChoice::Dev => Style::Dev,
            StyleChoice::Mount => Style::Mount,
            StyleChoice::Auto => {
                let version = guest::pve_container_version(self.machine);
                let has_dev = version.as_deref().is_some_and(guest::has_dev);
                let style = plan::auto_style(&Access::of(conf), has_dev);
                self.say.detail(&format!("style {style:?}, pve-container {version:?}"));
                style
            }
        }
    }

    /// The nodes that the GPUs need, as the host has them. One that is missing
    /// or not what the driver made keeps a container with dev[n] from starting:
    /// refused, with the command that makes it right.
    fn nodes(&self, wanted: &[Wanted], style: Style) -> Result<Vec<HostNode>, Stopped> {
        let mut nodes: Vec<HostNode> = Vec::new();
        let mut specs: Vec<nvidia::NodeSpec> =
            wanted.iter().flat_map(|gpu| nvidia::gpu_nodes(gpu.minor)).collect();
        // the GPUs' own nodes first, then those that all share, each once
        specs.sort_by_key(|spec| spec.class.is_shared());
        for spec in specs {
            if nodes.iter().any(|node| node.spec.path == spec.path) {
                continue;
            }
            let minors: String = wanted.iter().map(|gpu| format!(" -c {}", gpu.minor)).collect();
            let refuse = |why: String| Refusal {
                property: spec.path.clone(),
                reason: format!("{} {why}", spec.path),
                hint: format!(
                    "'nvidia-modprobe -c 255{minors} -m' and 'nvidia-modprobe -u -c 0' make the \
                     host's nodes"
                ),
            };
            let driver_major = spec.class.driver().and_then(|name| self.gpus.majors.major(name));
            match self.machine.node(&spec.path).map_err(Failure::from)? {
                None if spec.required => {
                    let tail = match style {
                        Style::Dev => ": with dev[n] the container would not start",
                        Style::Mount => ": the container would find an empty file in its place",
                    };
                    return Err(refuse(format!("does not exist on the host{tail}")).into());
                }
                None => self.say.detail(&format!("{} does not exist here: left out", spec.path)),
                Some(node) if !node.is_char() => {
                    return Err(refuse("is no character device on the host".into()).into());
                }
                Some(node) => {
                    plan::check_numbers(&spec, node.major, node.minor, driver_major)
                        .map_err(refuse)?;
                    nodes.push(HostNode { spec, major: node.major, minor: node.minor });
                }
            }
        }
        Ok(nodes)
    }

    fn report(
        &self,
        plan: &Plan,
        status: ChangeStatus,
        why: Option<&str>,
        sink: &mut Sink,
    ) -> std::io::Result<()> {
        for step in &plan.steps {
            let mut change = self.change_of(&step.key);
            change.to = Some(step.value.clone());
            change.reason = step.reason.clone();
            if step.there {
                change.from = change.to.clone();
                change.status = ChangeStatus::Unchanged;
            } else {
                change.status = status;
                change.reason = why.map(str::to_string).or(change.reason);
            }
            sink.put(Record::Change(change))?;
        }
        Ok(())
    }

    fn report_over(&self, over: &[PassedOver], sink: &mut Sink) -> std::io::Result<()> {
        for gpu in over {
            let mut change = self.change_of("gpu");
            change.to = Some(gpu.address.to_string());
            change.status = ChangeStatus::Skipped;
            change.reason = Some(gpu.why.clone());
            sink.put(Record::Change(change))?;
        }
        Ok(())
    }

    fn refused(&self, refusal: Refusal) -> Change {
        let mut change = self.change_of(&refusal.property);
        change.status = ChangeStatus::Refused;
        change.reason = Some(refusal.reason);
        change.hint = Some(refusal.hint);
        change
    }

    fn change_of(&self, property: &str) -> Change {
        Change::planned(self.say.tool(), &self.guest.target(), property)
    }

    fn check(&self, step: &plan::Step) -> Check {
        let hint = format!("lxc-gpu-conf add {}", self.guest.ctid);
        Check {
            subject: self.guest.target(),
            property: step.key.clone(),
            expected: Some(step.value.clone()),
            actual: step.there.then(|| step.value.clone()),
            status: if step.there { CheckStatus::Ok } else { CheckStatus::Drift },
            severity: if step.there { Severity::Info } else { Severity::Error },
            hint: (!step.there).then_some(hint),
        }
    }
}

/// The few error numbers that get a hint.
mod libc_errno {
    pub const EINTR: i32 = 4;
    pub const EACCES: i32 = 13;
    pub const ENOSPC: i32 = 28;
    pub const EROFS: i32 = 30;
    pub const EDQUOT: i32 = 122;
}
