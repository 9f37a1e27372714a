//! `install --host`: NVIDIA's own installer on the host. [`facts`] looks,
//! [`plan`] decides, here it is done.

pub mod cause;
mod facts;
mod plan;

use std::time::Duration;

use ::cli::{Exit, Failure, Say, catch_signals, fail, interrupted};
use host::Machine;
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::cli::Install;
use crate::install::limits;
use crate::installer::Installer;
use crate::log::cause;
use crate::on_host::cause::Cause;
use crate::on_host::facts::HostFacts;
use crate::on_host::plan::{Wish, module_type, options, preflight, purge};
use crate::study::study;

/// It compiles two dozen thousand lines, on DKMS for each kernel.
const INSTALL: Duration = Duration::from_secs(60 * 60);
const PURGE: Duration = Duration::from_secs(20 * 60);
const SMI: Duration = Duration::from_secs(60);
const LOG: &str = "/var/log/nvidia-installer.log";

/// What an install changes of the host.
pub const PROPERTY: &str = "driver";

/// What the host has, and whether an install of a version would change it.
pub fn before(machine: &Machine, version: &str) -> (Option<String>, ChangeStatus) {
    let facts = HostFacts::read(machine);
    let status = match facts.has(version) {
        true => ChangeStatus::Unchanged,
        false => ChangeStatus::Planned,
    };
    (facts.installed.or(facts.loaded), status)
}

/// The verb.
pub fn run(
    machine: &Machine,
    install: &Install,
    installer: &mut Installer,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let only_look = install.change.only_look();
    if !only_look {
        catch_signals();
    }
    let study = study(installer, install.sha256.as_deref(), limits(install), say)?;
    let version = study.version.as_str();
    let facts = HostFacts::read(machine);
    let host = OnHost { machine, install, version, say };
    if facts.has(version) {
        return host.unchanged(&facts, writer);
    }
    let wish = Wish {
        purge: install.purge,
        dkms: match (install.dkms, install.no_dkms) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
    };
    let stub = installer.header.stub.clone();
    let types = module_type(&facts, study.gpus.as_ref(), &study.manifest);
    let mut obstacles = Vec::new();
    for check in preflight(&facts, version, wish, &types, &stub) {
        if check.severity == Severity::Error {
            obstacles.push(check.property.clone());
        }
        writer.put(Record::Check(check))?;
    }
    let kind = types.ok().flatten();
    let options = options(&facts, version, wish, kind, &stub);
    let commands = if wish.purge { purge(&facts) } else { Vec::new() };
    if !obstacles.is_empty() && !install.change.check {
        let message = format!("the host is not ready: {}", obstacles.join(", "));
        if !install.force {
            let mut change = host.change(&facts, ChangeStatus::Refused);
            change.reason = Some(message.clone());
            writer.put(Record::Change(change))?;
            return Err(fail(Exit::Refused, message)
                .hint("the checks say what to do; --force runs the installer all the same")
                .into());
        }
        say.warn(&message);
    }
    if install.change.check {
        return Ok(Exit::Difference);
    }
    for command in &commands {
        let done = if only_look { Ok(ChangeStatus::Planned) } else { host.purge(command) };
        host.told("purge", command, done, writer)?;
    }
    let file = std::path::absolute(&installer.path);
    let file = file.map_or_else(|_| installer.path.clone(), |path| path.display().to_string());
    let mut argv = vec!["/bin/sh".to_string(), file];
    argv.extend(options);
    let mut change = host.change(&facts, ChangeStatus::Planned);
    change.reason = Some(argv.join(" "));
    if only_look {
        writer.put(Record::Change(change))?;
        return Ok(Exit::Done);
    }
    match host.execute(&argv) {
        Ok(status) => {
            change.status = status;
            if status == ChangeStatus::Skipped {
                change.reason = Some("no command is run below --root".into());
            }
            writer.put(Record::Change(change))?;
            if status == ChangeStatus::Skipped { Ok(Exit::Done) } else { host.after(writer) }
        }
        Err(failure) => {
            change.status = ChangeStatus::Failed;
            change.reason = Some(failure.message.clone());
            change.hint = failure.hint.clone();
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

struct OnHost<'a> {
    machine: &'a Machine,
    install: &'a Install,
    version: &'a str,
    say: &'a Say,
}

impl OnHost<'_> {
    fn change(&self, facts: &HostFacts, status: ChangeStatus) -> Change {
        let mut change = Change::planned(self.say.tool(), "host", PROPERTY);
        change.from = facts.installed.clone().or_else(|| facts.loaded.clone());
        change.to = Some(self.version.into());
        change.status = status;
        change
    }

    fn unchanged(&self, facts: &HostFacts, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let record = match self.install.change.check {
            true => Record::Check(Check::ok("host", "driver", self.version.to_string())),
            false => Record::Change(self.change(facts, ChangeStatus::Unchanged)),
        };
        writer.put(record)?;
        Ok(Exit::Done)
    }

    fn purge(&self, command: &[String]) -> Result<ChangeStatus, Failure> {
        if interrupted() {
            return Err(fail(Exit::System, "interrupted"));
        }
        // what a package took along is gone already
        if let [_, remove, module, ..] = command {
            let gone =
                remove == "remove" && !self.machine.exists(&format!("/var/lib/dkms/{module}"));
            if gone {
                return Ok(ChangeStatus::Unchanged);
            }
        }
        let argv: Vec<&str> = command.iter().map(String::as_str).collect();
        match self.machine.run(&argv, PURGE)? {
            None => Ok(ChangeStatus::Skipped),
            Some(ran) if ran.success() => Ok(ChangeStatus::Changed),
            Some(ran) => {
                let message = format!("'{}' failed: {}", command.join(" "), ran.reason());
                Err(fail(Exit::System, message))
            }
        }
    }

    /// A step's record, and its failure.
    fn told(
        &self,
        property: &str,
        command: &[String],
        done: Result<ChangeStatus, Failure>,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<()> {
        let mut change = Change::planned(self.say.tool(), "host", property);
        change.to = Some(command.join(" "));
        match done {
            Ok(status) => {
                change.status = status;
                if status == ChangeStatus::Skipped {
                    change.reason = Some("no command is run below --root".into());
                }
                writer.put(Record::Change(change))?;
                Ok(())
            }
            Err(failure) => {
                change.status = ChangeStatus::Failed;
                change.reason = Some(failure.message.clone());
                writer.put(Record::Change(change))?;
                Err(failure.into())
            }
        }
    }

    fn execute(&self, argv: &[String]) -> Result<ChangeStatus, Failure> {
        if interrupted() {
            return Err(fail(Exit::System, "interrupted"));
        }
        let log = || self.machine.read_text(LOG, 64 << 20).ok();
        // one of before says nothing of this run
        let before = log();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        match self.machine.run(&argv, INSTALL)? {
            None => Ok(ChangeStatus::Skipped),
            Some(ran) if ran.success() => Ok(ChangeStatus::Changed),
            Some(ran) => {
                let log = log().filter(|log| Some(log) != before.as_ref());
                let why = log.and_then(|log| cause(&log)).unwrap_or_else(|| ran.reason());
                Err(fail(Exit::System, format!("the installer failed: {why}"))
                    .hint(format!("see {LOG}")))
            }
        }
    }

    /// Whether something keeps idle GPUs initialised.
    fn persistence(&self) -> Check {
        let runs = self.machine.exists("/run/nvidia-persistenced/socket");
        let words = if runs { "runs" } else { "does not run" };
        let mut check = Check::ok("host", "persistence_daemon", words.to_string());
        check.expected = Some("runs".into());
        if !runs {
            check.status = CheckStatus::Unknown;
            check.reason = Some("an idle GPU is initialised anew for each program".into());
            check.hint = Some(match self.machine.exists("/usr/bin/nvidia-persistenced") {
                true => "start nvidia-persistenced, or 'nvidia-smi -pm 1'".into(),
                false => "'nvidia-smi -pm 1'".into(),
            });
        }
        check
    }

    /// What is loaded now, and whether nvidia-smi runs.
    fn after(&self, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let facts = HostFacts::read(self.machine);
        let mut exit = Exit::Done;
        let mut installed = Check::ok("host", "installed", facts.installed.clone());
        installed.expected = Some(self.version.into());
        if facts.installed.as_deref() != Some(self.version) {
            (installed.status, installed.severity) = (CheckStatus::Drift, Severity::Error);
            installed.reason = Some("the installer's own record does not say so".into());
            exit = Exit::System;
        }
        writer.put(Record::Check(installed))?;
        let reboot = facts.loaded.as_deref() != Some(self.version);
        let mut check = Check::ok("host", "reboot_required", None);
        check.expected = Some(self.version.into());
        check.actual = facts.loaded.clone();
        if reboot {
            (check.status, check.severity) = (CheckStatus::Drift, Severity::Warning);
            check.cause = Some(Cause::RebootRequired.name().into());
            check.reason = Some("the new kernel module is not loaded".into());
            check.hint = Some(match facts.loaded {
                Some(_) => "reboot, then install the same version in the containers".into(),
                None => "modprobe nvidia, or reboot".into(),
            });
        }
        writer.put(Record::Check(check))?;
        writer.put(Record::Check(self.persistence()))?;
        if !reboot {
            let ran = self.machine.run(&["/usr/bin/nvidia-smi", "-L"], SMI);
            let mut check = Check::ok("host", "nvidia-smi", "runs".to_string());
            let why = match ran {
                Ok(Some(ran)) if ran.success() => None,
                Ok(Some(ran)) => Some(ran.reason()),
                Ok(None) => Some("no command is run below --root".into()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = why {
                (check.status, check.severity) = (CheckStatus::Drift, Severity::Error);
                check.actual = Some(why);
                exit = Exit::System;
            }
            writer.put(Record::Check(check))?;
        }
        Ok(exit)
    }
}
