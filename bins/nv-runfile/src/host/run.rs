//! `install --host`: the pre-flight check, then NVIDIA's own installer.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::Machine;
use host::command::Ending;
use nvidia::LIBRARY_DIRS;
use nvidia::userspace::{Set, loaded_version, version_of};
use record::{
    Change, ChangeStatus, Check, CheckStatus, CommandLine, Record, RecordWriter, Severity,
};
use runfile::{Flavour, Manifest, Stub};

use crate::cli::Install;
use crate::host::facts::HostFacts;
use crate::host::preflight::{
    Cause, HostOptions, NoModuleType, module_type, options, preflight, purge,
};
use crate::host::signing::SigningKey;
use crate::install::common::{because_of, limits};
use crate::install::nvidia_smi;
use crate::install::select_files::{SelectedKind, select_files};
use crate::install::verify::{VerifiedDriver, verify_driver};
use crate::installer::Installer;
use crate::installer::error_log::{first_error, not_created};

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
    let driver = verify_driver(installer, limits(install), say)?;
    let facts = HostFacts::read(machine);
    let facts = match &install.kernel {
        Some(kernel) => facts.for_kernel(machine, kernel),
        None => facts,
    };
    let host = HostInstall { machine, install, facts, version: &driver.version, say };
    let has = match &install.kernel {
        Some(kernel) => host.facts.has_for(host.version, kernel),
        None => host.facts.has(host.version),
    };
    if has {
        return host.unchanged(writer);
    }
    let (options, obstacles) = host.preflight(&driver, installer, writer)?;
    if install.change.check {
        return Ok(Exit::Difference);
    }
    host.require_ready(&obstacles, writer)?;
    host.purge_others(writer)?;
    let mut argv = vec!["/bin/sh".to_string(), installer.path_for_others()];
    argv.extend(options);
    host.run_installer(&argv, &driver, writer)
}

/// The dry run of a version that is not downloaded: all that needs no installer.
pub fn foretell(
    machine: &Machine,
    install: &Install,
    version: &str,
    flavour: Flavour,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<()> {
    let host = HostInstall { machine, install, facts: HostFacts::read(machine), version, say };
    if host.facts.has(version) {
        return Ok(());
    }
    let stub = Stub::default();
    let obstacles = host.checks(&Ok(None), flavour, &stub, writer)?;
    host.require_ready(&obstacles, writer)?;
    host.purge_others(writer)
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
        if let Some(check) = self.next_boot() {
            writer.put(Record::Check(check))?;
        }
        Ok(Exit::Done)
    }

    /// The driver is installed, and the kernel that boots next has no module of it.
    fn next_boot(&self) -> Option<Check> {
        let next = self.facts.next.as_ref().filter(|_| self.install.kernel.is_none())?;
        if self.facts.has_for(self.version, &next.release) {
            return None;
        }
        let mut check = Check::ok("host", "next_boot_module", None);
        check.expected = Some(self.version.into());
        (check.status, check.severity) = (CheckStatus::Drift, Severity::Warning);
        check.cause = Some(Cause::NoModuleAtNextBoot.name().into());
        check.reason = Some(format!("kernel {} boots next and has no module", next.release));
        check.hint = Some("build the module for this kernel".into());
        check.commands = vec![advice::nv_runfile::install_on_host_for(self.version, &next.release)];
        Some(check)
    }

    fn asked(&self) -> HostOptions {
        HostOptions {
            purge: self.install.purge,
            dkms: match (self.install.dkms, self.install.no_dkms) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            signed: self.install.signing_cert.as_ref().map(|path| {
                SigningKey::read(self.machine, &path.display().to_string()).enrolled == Some(true)
            }),
        }
    }

    /// Writes the checks; returns the installer's options and the obstacles.
    fn preflight(
        &self,
        driver: &VerifiedDriver,
        installer: &Installer,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let stub = &installer.header.stub;
        let types = module_type(&self.facts, driver.gpus.as_ref(), &driver.manifest);
        let obstacles = self.checks(&types, installer.header.flavour(), stub, writer)?;
        let kind = types.ok().flatten();
        let mut options = options(&self.facts, self.version, self.asked(), kind, stub);
        let keys = [
            ("--module-signing-secret-key", &self.install.signing_key),
            ("--module-signing-public-key", &self.install.signing_cert),
        ];
        for (option, file) in keys {
            let Some(file) = file else { continue };
            let file = std::path::absolute(file)
                .map_err(|error| fail(Exit::Usage, format!("'{}': {error}", file.display())))?;
            options.push(format!("{option}={}", file.display()));
        }
        Ok((options, obstacles))
    }

    /// Writes the checks; returns the obstacles.
    fn checks(
        &self,
        types: &Result<Option<&'static str>, NoModuleType>,
        flavour: Flavour,
        stub: &Stub,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Vec<String>> {
        let mut obstacles = Vec::new();
        for check in preflight(&self.facts, self.version, self.asked(), types, flavour, stub) {
            if check.severity == Severity::Error {
                obstacles.push(check.property.clone());
            }
            writer.put(Record::Check(check))?;
        }
        Ok(obstacles)
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
        match self.machine.run_until(&argv, PURGE, &interrupted)? {
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

    fn run_installer(
        &self,
        argv: &[String],
        driver: &VerifiedDriver,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let mut change = self.change(ChangeStatus::Planned);
        change.reason = Some(argv.join(" "));
        if self.install.change.only_look() {
            writer.put(Record::Change(change))?;
            return Ok(Exit::Done);
        }
        match self.put_step(change, self.execute(argv), writer)? {
            ChangeStatus::Skipped => Ok(Exit::Done),
            _ => self.check_result(driver, writer),
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
        match self.machine.run_until(&argv, INSTALL, &interrupted)? {
            None => Ok(ChangeStatus::Skipped),
            Some(ran) if ran.success() => Ok(ChangeStatus::Changed),
            Some(ran) if ran.ending == Ending::Interrupted => {
                Err(fail(Exit::System, format!("the installer did not complete: {}", ran.reason()))
                    .hint("run the same command again: the installer replaces what it has done"))
            }
            Some(ran) => {
                let log = log().filter(|log| Some(log) != before.as_ref());
                let why = log.and_then(|log| first_error(&log)).unwrap_or_else(|| ran.reason());
                Err(fail(Exit::System, format!("the installer failed: {why}"))
                    .hint(format!("see {LOG}")))
            }
        }
    }

    /// After the installer: its files and version, the loaded module and nvidia-smi.
    fn check_result(
        &self,
        driver: &VerifiedDriver,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
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
        let libraries = self.libraries(&driver.manifest);
        if libraries.status != CheckStatus::Ok {
            exit = Exit::System;
        }
        writer.put(Record::Check(libraries))?;
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

    /// What programs load now. With --silent the installer ends with 0 and records the
    /// version although it could place nothing: "continue anyway" is its default.
    fn libraries(&self, manifest: &Manifest) -> Check {
        let loaded = loaded_version(self.machine);
        let mut check = Check::ok("host", "libraries", loaded.clone());
        check.expected = Some(self.version.into());
        let libraries = select_files(manifest, &Set::ALL, "/")
            .into_iter()
            .filter(|file| matches!(file.what, SelectedKind::File { library: true, .. }));
        let names = libraries.filter_map(|f| f.path.rsplit('/').next().map(str::to_string));
        let missing: Vec<String> = names
            .filter(|name| version_of(name).is_some_and(|version| version == self.version))
            .filter(|name| {
                let dirs =
                    LIBRARY_DIRS.iter().flat_map(|dir| [dir.to_string(), format!("{dir}/vdpau")]);
                dirs.into_iter().all(|dir| !self.machine.exists(&format!("{dir}/{name}")))
            })
            .collect();
        if missing.is_empty() && loaded.as_deref() == Some(self.version) {
            return check;
        }
        (check.status, check.severity) = (CheckStatus::Drift, Severity::Error);
        check.cause = Some(Cause::NotPlaced.name().into());
        let log = self.machine.read_text(LOG, 64 << 20).unwrap_or_default();
        let said = not_created(&log).into_iter().next();
        check.reason = Some(match (said, missing.first()) {
            (Some(said), _) => format!("the installer went on after an error: {said}"),
            (None, Some(name)) => {
                format!("{} libraries are missing, such as {name}", missing.len())
            }
            (None, None) => "programs load the libraries of another version".into(),
        });
        check.hint = Some(format!("see {LOG}"));
        check
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
