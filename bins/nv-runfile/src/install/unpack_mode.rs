//! `install --ct --mode unpack`: the files of one driver, placed from outside.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use nvidia::userspace::{Set, loaded_version};
use nvidia::{LibraryArch, LibraryDirError};
use pve::Guest;
use record::{
    Change, ChangeStatus, Check, CheckStatus, CommandLine, Record, RecordWriter, Severity,
};
use runfile::Arch;

use crate::cli::Install;
use crate::install::apply::{FIND_OWNER, apply};
use crate::install::common::{PROPERTY, because_of, failed, limits, put_changes, sets};
use crate::install::container::{Container, unreachable_files};
use crate::install::nvidia_smi;
use crate::install::other_installation::{
    is_loose, other_installations, refusal, removal, words as words_of,
};
use crate::install::plan::{Conflict, InstallPlan, plan};
use crate::install::receipt::{Receipt, ReceiptEntry, bytes};
use crate::install::select_files::{SelectedFile, SelectedKind, select_files};
use crate::install::verify::VerifiedDriver;
use crate::installer::Installer;

/// One installation.
pub struct UnpackInstall<'a> {
    pub machine: &'a Machine,
    pub guest: &'a Guest,
    pub install: &'a Install,
    /// What is installed.
    pub version: &'a str,
    pub say: &'a Say,
}

enum Outcome {
    /// Nothing is to be changed, or only a plan was asked for.
    Planned(InstallPlan),
    /// The right version was installed by other means.
    ByOthers(String),
    /// A dry run: the plan is known only when the driver in the container is removed.
    AfterPurge,
    /// The files that were placed.
    Done(InstallPlan, Vec<ReceiptEntry>),
}

impl UnpackInstall<'_> {
    pub fn run(
        &self,
        installer: &mut Installer,
        driver: &VerifiedDriver,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let install = self.install;
        let only_look = install.change.only_look();
        if install.change.dry_run {
            if let Some(why) = unreachable_files(self.machine, self.guest)? {
                return self.foretell(&driver.version, &why, writer);
            }
        }
        let container = Container::open(self.machine, self.guest, only_look, self.say)?;
        let purged = self.purge(&container, &driver.version, writer);
        let outcome = purged.and_then(|purged| match purged {
            Some(ChangeStatus::Planned) => Ok(Outcome::AfterPurge),
            _ => self.unpack(&container, installer, driver),
        });
        let checks = match &outcome {
            Ok(Outcome::Planned(_) | Outcome::AfterPurge) if only_look => None,
            Ok(_) => Some(self.checks(&container, &driver.version)),
            Err(_) => None,
        };
        let closed = container.close();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                let target = self.guest.target();
                let change = failed(self.say.tool(), &target, ChangeStatus::RolledBack, &failure);
                writer.put(Record::Change(change))?;
                return Err(failure.into());
            }
        };
        let mut exit = self.report(&outcome, writer)?;
        for check in checks.transpose()?.unwrap_or_default() {
            if check.status == CheckStatus::Drift {
                exit = exit.max(Exit::System);
            }
            writer.put(Record::Check(check))?;
        }
        closed?;
        Ok(exit)
    }

    /// Removes drivers that were installed by other means, each by its own program, in the
    /// container. Writes a record of each; returns the status of the last one.
    fn purge(
        &self,
        container: &Container<'_>,
        version: &str,
        writer: &mut RecordWriter,
    ) -> Result<Option<ChangeStatus>, Failure> {
        let name = self.guest.target();
        if !self.install.purge {
            return Ok(None);
        }
        let mut last = None;
        for other in other_installations(&container.root, &name)? {
            let right = other.is_complete() && other.version.as_deref() == Some(version);
            let Some(command) = removal(&other).filter(|_| !right) else { continue };
            let mut change = Change::planned(self.say.tool(), &name, "purge");
            (change.from, change.to) = (other.version.clone(), Some(command.join(" ")));
            let done = match self.install.change.only_look() {
                true => Ok(ChangeStatus::Planned),
                false => remove_other(container, &name, &command),
            };
            match done {
                Ok(status) => change.status = status,
                Err(ref failure) => {
                    change.status = ChangeStatus::Failed;
                    because_of(&mut change, failure);
                }
            }
            let written = writer.put(Record::Change(change));
            last = Some(done?);
            written.map_err(|error| fail(Exit::System, format!("standard output: {error}")))?;
        }
        Ok(last)
    }

    /// The dry run of a container whose files cannot be read.
    fn foretell(
        &self,
        version: &str,
        why: &str,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let mut change = Change::planned(self.say.tool(), &self.guest.target(), PROPERTY);
        change.to = Some(version.into());
        change.reason = Some(format!("it is unknown which files are already installed: {why}"));
        writer.put(Record::Change(change))?;
        Ok(Exit::Done)
    }

    fn unpack(
        &self,
        container: &Container<'_>,
        installer: &mut Installer,
        driver: &VerifiedDriver,
    ) -> Result<Outcome, Failure> {
        let only_look = self.install.change.only_look();
        let tree = container.tree();
        container.recover(only_look, self.say)?;
        if let Some(words) = self.refuse_others(container, &driver.version)? {
            return Ok(Outcome::ByOthers(words));
        }
        let arch = installer.header.arch().unwrap_or(Arch::X86_64);
        let libraries = library_dir(&container.root, tree.name, arch)?;
        let sets = sets(self.install);
        let selected = select_files(&driver.manifest, &sets, libraries);
        if !selected.iter().any(|file| matches!(file.what, SelectedKind::File { .. })) {
            let message = format!("the manifest of {} has no file of these sets", driver.version);
            return Err(fail(Exit::Usage, message));
        }
        let found = tree.find(&selected)?;
        let plan = plan(found, selected, driver, &sets, self.install.force);
        if !plan.conflicts.is_empty() {
            return Err(conflict(tree.name, &plan.conflicts));
        }
        if only_look || !plan.changes() {
            return Ok(Outcome::Planned(plan));
        }
        let mut check = || {
            if let Some(why) = container.ldconfig()? {
                self.say.note(&format!("{}: ld.so.cache was not updated: {why}", tree.name));
            }
            self.require_found_by_loader(container, &driver.version)
        };
        match apply(&tree, &plan, installer, limits(self.install), self.say, &mut check) {
            Ok(made) => {
                if let Ok(Some(receipt)) = tree.receipt() {
                    self.copy_to_host(container, &receipt);
                }
                Ok(Outcome::Done(plan, made))
            }
            Err(failure) => Err(container.roll_back(failure)),
        }
    }

    /// Refuses a driver that is installed by other means, and libraries that are
    /// mounted from the host. A driver of the right version needs nothing: what it is, in
    /// words.
    fn refuse_others(
        &self,
        container: &Container<'_>,
        version: &str,
    ) -> Result<Option<String>, Failure> {
        let name = self.guest.target();
        let own = container.tree().receipt()?.is_some();
        let loaded = loaded_version(&container.root);
        for other in other_installations(&container.root, &name)? {
            let right = other.is_complete() && loaded.as_deref() == Some(version);
            if right && !own {
                return Ok(Some(format!("installed by other means: {}", words_of(&other))));
            }
            if !is_loose(&other) {
                return Err(refusal(&other, &name, self.guest.ctid));
            }
        }
        let mounted = container.conf.lxc().any(|(key, value)| {
            key == "lxc.mount.entry"
                && ["libcuda.so", "libnvidia-ml.so", "nvidia-smi"].iter().any(|n| value.contains(n))
        });
        if mounted {
            let message = format!("{name}: the host's driver files are mounted into it");
            let options = advice::lxc_gpu_conf::RemoveOptions { libs: true, ..Default::default() };
            return Err(fail(Exit::Refused, message)
                .run(advice::lxc_gpu_conf::remove(self.guest.ctid, &options)));
        }
        Ok(None)
    }

    /// Checks that programs in the container would load the new version.
    fn require_found_by_loader(
        &self,
        container: &Container<'_>,
        version: &str,
    ) -> Result<(), Failure> {
        if !sets(self.install).iter().any(|set| matches!(set, Set::Utility | Set::Compute)) {
            return Ok(());
        }
        match loaded_version(&container.root) {
            Some(loaded) if loaded == version => Ok(()),
            other => {
                let name = self.guest.target();
                let other = other.unwrap_or_else(|| "none".into());
                let message =
                    format!("{name}: its programs would load version {other}, not {version}");
                Err(fail(Exit::Refused, message)
                    .hint("look for other driver libraries in the container"))
            }
        }
    }

    /// The host keeps a copy of the receipt in case the one in the container is lost.
    fn copy_to_host(&self, container: &Container<'_>, receipt: &Receipt) {
        if let Err(error) = self.machine.put(&container.copy(), &bytes(receipt)) {
            self.say.warn(&error.to_string());
        }
    }

    /// After an install: the version that programs in the container load, and
    /// whether nvidia-smi runs.
    fn checks(&self, container: &Container<'_>, version: &str) -> Result<Vec<Check>, Failure> {
        let mut checks = Vec::new();
        if let Some(loaded) = loaded_version(&container.root) {
            let mut check = Check::ok(&container.guest.target(), "libraries", loaded.clone());
            let module = nvidia::module_version(self.machine);
            check.expected = module.clone().or(Some(version.to_string()));
            if module.is_some_and(|module| module != loaded) {
                (check.status, check.severity) = (CheckStatus::Unknown, Severity::Error);
                check.reason = Some("the loaded kernel module has another version".into());
            }
            checks.push(check);
        }
        if sets(self.install).contains(&Set::Utility) {
            checks.extend(nvidia_smi::check_in_container(container)?);
        }
        Ok(checks)
    }

    fn report(&self, outcome: &Outcome, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let check = self.install.change.check;
        let (plan, made) = match outcome {
            Outcome::ByOthers(words) => return self.report_whole(false, words, writer),
            Outcome::AfterPurge => {
                let words = "the files are placed when the driver in it is removed";
                return self.report_whole(true, words, writer);
            }
            Outcome::Planned(plan) => (plan, None),
            Outcome::Done(plan, made) => (plan, Some(made.as_slice())),
        };
        put_changes(self.changes(plan, made), check, writer)?;
        Ok(if check && plan.changes() { Exit::Difference } else { Exit::Done })
    }

    /// The record about the driver as a whole, where there is none about its files.
    fn report_whole(
        &self,
        planned: bool,
        words: &str,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let mut change = Change::planned(self.say.tool(), &self.guest.target(), PROPERTY);
        change.to = Some(self.version.into());
        change.reason = Some(words.into());
        if !planned {
            (change.from, change.status) = (change.to.clone(), ChangeStatus::Unchanged);
        }
        let check = self.install.change.check;
        put_changes(vec![change], check, writer)?;
        Ok(if check && planned { Exit::Difference } else { Exit::Done })
    }

    fn changes(&self, plan: &InstallPlan, made: Option<&[ReceiptEntry]>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut put = |property: &str, from: Option<String>, to: Option<String>, status| {
            let mut change = Change::planned(self.say.tool(), &self.guest.target(), property);
            (change.from, change.to, change.status) = (from, to, status);
            changes.push(change);
        };
        for entry in &plan.keep {
            put(&entry.path, Some(entry.words()), Some(entry.words()), ChangeStatus::Unchanged);
        }
        let was =
            |path: &str| plan.gone.iter().find(|entry| entry.path == path).map(ReceiptEntry::words);
        match made {
            Some(made) => {
                for entry in made {
                    put(&entry.path, was(&entry.path), Some(entry.words()), ChangeStatus::Changed);
                }
            }
            None => {
                for file in &plan.make {
                    put(&file.path, was(&file.path), Some(words(file)), ChangeStatus::Planned);
                }
            }
        }
        let status = match (made, plan.changes()) {
            (Some(_), _) => ChangeStatus::Changed,
            (None, true) => ChangeStatus::Planned,
            (None, false) => ChangeStatus::Unchanged,
        };
        let is_new = |path: &str| {
            plan.make.iter().any(|file| file.path == path)
                || made.is_some_and(|made| made.iter().any(|entry| entry.path == path))
        };
        for entry in plan.gone.iter().filter(|entry| !is_new(&entry.path)) {
            put(&entry.path, Some(entry.words()), None, status);
        }
        let before = plan.from.as_ref().map(|from| from.version.clone());
        put(PROPERTY, before, Some(plan.to.version.clone()), status);
        changes
    }
}

/// A package manager may have to run hooks; nvidia-uninstall removes a thousand files.
const PURGE: Duration = Duration::from_secs(20 * 60);

fn remove_other(
    container: &Container<'_>,
    name: &str,
    command: &CommandLine,
) -> Result<ChangeStatus, Failure> {
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive"].into_iter();
    let argv: Vec<&str> = quiet.chain(command.iter().map(String::as_str)).collect();
    match container.exec(&argv, PURGE)? {
        Some(ran) if ran.success() => Ok(ChangeStatus::Changed),
        Some(ran) => {
            let message = format!("{name}: '{}' failed: {}", command.join(" "), ran.reason());
            Err(fail(Exit::System, message))
        }
        None => Err(fail(Exit::Refused, format!("{name} is not running, so nothing is removed"))
            .hint("start the container first")
            .run(advice::external::pct_start(container.guest.ctid))),
    }
}

/// The directory of 64-bit libraries. Errors: NVIDIA's libraries cannot work in
/// this root file system.
fn library_dir(root: &Machine, name: &str, arch: Arch) -> Result<&'static str, Failure> {
    let refuse = |what: String| fail(Exit::Refused, format!("{name}: {what}"));
    let arch = match arch {
        Arch::X86_64 => LibraryArch::X86_64,
        Arch::Aarch64 => LibraryArch::Aarch64,
        other => {
            return Err(refuse(format!("containers for {} are not supported", other.as_str())));
        }
    };
    nvidia::library_dir(root, arch).map_err(|error| match error {
        LibraryDirError::File(error) => error.into(),
        LibraryDirError::Musl | LibraryDirError::NoGlibc(_) => refuse(error.to_string())
            .hint("use a container of a distribution with glibc, such as Debian or Fedora"),
        LibraryDirError::NoDirectory => refuse(error.to_string()),
    })
}

fn words(file: &SelectedFile) -> String {
    match &file.what {
        SelectedKind::File { .. } => "file".into(),
        SelectedKind::Link { target } => format!("link to {target}"),
    }
}

fn conflict(name: &str, conflicts: &[Conflict]) -> Failure {
    const SHOWN: usize = 5;
    let shown: Vec<String> = conflicts
        .iter()
        .take(SHOWN)
        .map(|conflict| match conflict.modified {
            true => format!("'{}' was modified: {}", conflict.path, conflict.what),
            false => format!("'{}' is {}", conflict.path, conflict.what),
        })
        .collect();
    let mut what = shown.join(", ");
    if conflicts.len() > SHOWN {
        what += &format!(" (and {} more files)", conflicts.len() - SHOWN);
    }
    let hint = match conflicts.iter().all(|conflict| conflict.modified) {
        true => "use --force to replace modified files",
        false => FIND_OWNER,
    };
    fail(Exit::Refused, format!("{name}: files are in the way: {what}")).hint(hint)
}
