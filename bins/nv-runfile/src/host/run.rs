//! `install --host`: the pre-flight check, then NVIDIA's own installer.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::Machine;
use record::{
    Change, ChangeStatus, Check, CheckStatus, CommandLine, Record, RecordWriter, Severity,
};

use crate::cli::Install;
use crate::host::facts::HostFacts;
use crate::host::preflight::{Cause, HostOptions, module_type, options, preflight, purge};
use crate::install::common::{because_of, limits};
use crate::install::nvidia_smi;
use crate::install::verify::{VerifiedDriver, verify_driver};
use crate::installer::Installer;
use crate::installer::error_log::first_error;

/// It compiles two dozen thousand lines, with DKMS for each kernel.
const INSTALL: Duration = Duration::from_secs(60 * 60);
const PURGE: Duration = Duration::from_secs(20 * 60);
const LOG: &str = "/var/log/nvidia-installer.log";
const NO_COMMAND: &str = "no command is run with --root";

/// The property of the record about the host's driver.
pub const PROPERTY: &str = "driver";

/// The host's driver, and whether an install of a version would change it.
pub fn before(machine: &Machine, version: &str) -> (Option<String>, ChangeStatus) {
    let facts = HostFacts::read(machine);
    let status = match facts.has(version) {
        true => ChangeStatus::Unchanged,
        false => ChangeStatus::Planned,
    };
    (facts.installed.or(facts.loaded), status)
}

pub fn run(
    machine: &Machine,
    install: &Install,
    installer: &mut Installer,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let driver = verify_driver(installer, install.sha256.as_deref(), limits(install), say)?;
    let facts = HostFacts::read(machine);
    let host = HostInstall { machine, install, facts, version: &driver.version, say };
    if host.facts.has(host.version) {
        return host.unchanged(writer);
    }
    let (options, obstacles) = host.preflight(&driver, installer, writer)?;
    if install.change.check {
        return Ok(Exit::Difference);
    }
    host.require_ready(&obstacles, writer)?;
    host.purge_others(writer)?;
    let file = std::path::absolute(&installer.path);
    let file = file.map_or_else(|_| installer.path.clone(), |path| path.display().to_string());
    let mut argv = vec!["/bin/sh".to_string(), file];
    argv.extend(options);
    host.run_installer(&argv, writer)
}

struct HostInstall<'a> {
    machine: &'a Machine,
    install: &'a Install,
    facts: HostFacts,
    version: &'a str,
    say: &'a Say,
}

impl HostInstall<'_> {
    fn change(&self, status: ChangeStatus) -> Change {
        let mut change = Change::planned(self.say.tool(), "host", PROPERTY);
        change.from = self.facts.installed.clone().or_else(|| self.facts.loaded.clone());
        change.to = Some(self.version.into());
        change.status = status;
        change
    }

    fn unchanged(&self, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let record = match self.install.change.check {
            true => Record::Check(Check::ok("host", PROPERTY, self.version.to_string())),
            false => Record::Change(self.change(ChangeStatus::Unchanged)),
        };
        writer.put(record)?;
        Ok(Exit::Done)
    }

    fn asked(&self) -> HostOptions {
        HostOptions {
            purge: self.install.purge,
            dkms: match (self.install.dkms, self.install.no_dkms) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
        }
    }

    /// Writes the checks; returns the installer's options and the obstacles.
    fn preflight(
        &self,
        driver: &VerifiedDriver,
        installer: &Installer,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let (stub, asked) = (&installer.header.stub, self.asked());
        let types = module_type(&self.facts, driver.gpus.as_ref(), &driver.manifest);
        let mut obstacles = Vec::new();
        for check in preflight(&self.facts, self.version, asked, &types, stub) {
            if check.severity == Severity::Error {
                obstacles.push(check.property.clone());
            }
            writer.put(Record::Check(check))?;
        }
        let kind = types.ok().flatten();
        Ok((options(&self.facts, self.version, asked, kind, stub), obstacles))
    }

    fn require_ready(&self, obstacles: &[String], writer: &mut RecordWriter) -> anyhow::Result<()> {
        if obstacles.is_empty() {
            return Ok(());
        }
        let message = format!("the host is not ready: {}", obstacles.join(", "));
        if self.install.force {
            self.say.warn(&message);
            return Ok(());
        }
        let mut change = self.change(ChangeStatus::Refused);
        change.reason = Some(message.clone());
        writer.put(Record::Change(change))?;
        Err(fail(Exit::Refused, message)
            .hint("follow the hints of the checks, or use --force to run the installer anyway")
            .into())
    }

    fn purge_others(&self, writer: &mut RecordWriter) -> anyhow::Result<()> {
        let commands = if self.install.purge { purge(&self.facts) } else { Vec::new() };
        for command in &commands {
            let mut change = Change::planned(self.say.tool(), "host", "purge");
            change.to = Some(command.join(" "));
            let done = match self.install.change.only_look() {
                true => Ok(ChangeStatus::Planned),
                false => self.purge(command),
            };
            self.put_step(change, done, writer)?;
        }
        Ok(())
    }

    fn purge(&self, command: &CommandLine) -> Result<ChangeStatus, Failure> {
        if interrupted() {
            return Err(fail(Exit::System, "interrupted"));
        }
        // a package that was removed before may have removed its module too
        if let [_, remove, module, ..] = command.as_slice() {
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

    /// Writes the record of a step; returns its failure.
    fn put_step(
        &self,
        mut change: Change,
        done: Result<ChangeStatus, Failure>,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<ChangeStatus> {
        match done {
            Ok(status) => {
                change.status = status;
                if status == ChangeStatus::Skipped {
                    change.reason = Some(NO_COMMAND.into());
                }
                writer.put(Record::Change(change))?;
                Ok(status)
            }
            Err(failure) => {
                change.status = ChangeStatus::Failed;
                because_of(&mut change, &failure);
                writer.put(Record::Change(change))?;
                Err(failure.into())
            }
        }
    }

    fn run_installer(&self, argv: &[String], writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let mut change = self.change(ChangeStatus::Planned);
        change.reason = Some(argv.join(" "));
        if self.install.change.only_look() {
            writer.put(Record::Change(change))?;
            return Ok(Exit::Done);
        }
        match self.put_step(change, self.execute(argv), writer)? {
            ChangeStatus::Skipped => Ok(Exit::Done),
            _ => self.check_result(writer),
        }
    }

    fn execute(&self, argv: &[String]) -> Result<ChangeStatus, Failure> {
        if interrupted() {
            return Err(fail(Exit::System, "interrupted"));
        }
        let log = || self.machine.read_text(LOG, 64 << 20).ok();
        // a log of an earlier run does not explain this failure
        let before = log();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        match self.machine.run(&argv, INSTALL)? {
            None => Ok(ChangeStatus::Skipped),
            Some(ran) if ran.success() => Ok(ChangeStatus::Changed),
            Some(ran) => {
                let log = log().filter(|log| Some(log) != before.as_ref());
                let why = log.and_then(|log| first_error(&log)).unwrap_or_else(|| ran.reason());
                Err(fail(Exit::System, format!("the installer failed: {why}"))
                    .hint(format!("see {LOG}")))
            }
        }
    }

    /// After the installer: its version, the loaded module and nvidia-smi.
    fn check_result(&self, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let facts = HostFacts::read(self.machine);
        let mut exit = Exit::Done;
        let mut installed = Check::ok("host", "installed", facts.installed.clone());
        installed.expected = Some(self.version.into());
        if facts.installed.as_deref() != Some(self.version) {
            (installed.status, installed.severity) = (CheckStatus::Drift, Severity::Error);
            installed.reason = Some("the installer's own record has another version".into());
            exit = Exit::System;
        }
        writer.put(Record::Check(installed))?;
        let loaded = facts.loaded.as_deref() == Some(self.version);
        writer.put(Record::Check(self.reboot_required(&facts)))?;
        writer.put(Record::Check(self.persistence_daemon()))?;
        if loaded {
            let check = nvidia_smi::check_on_host(self.machine);
            if check.status != CheckStatus::Ok {
                exit = Exit::System;
            }
            writer.put(Record::Check(check))?;
        }
        Ok(exit)
    }

    fn reboot_required(&self, facts: &HostFacts) -> Check {
        let mut check = Check::ok("host", "reboot_required", None);
        check.expected = Some(self.version.into());
        check.actual = facts.loaded.clone();
        if facts.loaded.as_deref() == Some(self.version) {
            return check;
        }
        (check.status, check.severity) = (CheckStatus::Drift, Severity::Warning);
        check.cause = Some(Cause::RebootRequired.name().into());
        check.reason = Some("the new kernel module is not loaded".into());
        match facts.loaded {
            Some(_) => {
                check.hint = Some("reboot, then install the same version in the containers".into());
            }
            None => {
                check.hint = Some("load the kernel module, or reboot".into());
                check.commands = vec![advice::external::modprobe("nvidia")];
            }
        }
        check
    }

    /// Whether the daemon that keeps idle GPUs initialised is running.
    fn persistence_daemon(&self) -> Check {
        let running = self.machine.exists("/run/nvidia-persistenced/socket");
        let words = if running { "running" } else { "not running" };
        let mut check = Check::ok("host", "persistence_daemon", words.to_string());
        check.expected = Some("running".into());
        if !running {
            check.status = CheckStatus::Unknown;
            check.reason = Some("an idle GPU is initialised again for each program".into());
            check.hint =
                Some("start the daemon nvidia-persistenced, or turn persistence mode on".into());
            check.commands = vec![advice::external::persistence_mode()];
        }
        check
    }
}
