//! `install --ct --mode unpack`: the files of one driver, placed from outside.

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use nvidia::userspace::{Set, loaded_version};
use pve::Guest;
use record::{Change, ChangeStatus, CheckStatus, Record, RecordWriter};
use runfile::Arch;

use crate::afterwards::checks;
use crate::ahead::out_of_sight;
use crate::cli::Install;
use crate::container::Container;
use crate::distribution::{Layout, other_packaging};
use crate::install::{PROPERTY, check_of, failed, limits, sets};
use crate::installer::Installer;
use crate::ledger::{Entry, Ledger, bytes};
use crate::pick::{Pick, What};
use crate::study::{Study, require_loaded, study};
use crate::unpack_into::{Plan, apply, plan};

/// One installation.
pub struct Run<'a> {
    /// The host.
    pub machine: &'a Machine,
    /// Into which container.
    pub guest: &'a Guest,
    /// What is asked for.
    pub install: &'a Install,
    /// For words.
    pub say: &'a Say,
}

/// What came of a change.
enum Outcome {
    /// Nothing was to be done, or only looked for.
    Looked(Plan),
    /// Done: what was placed.
    Done(Plan, Vec<Entry>),
}

impl Run<'_> {
    /// Plans and applies.
    pub fn unpack(
        &self,
        installer: &mut Installer,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let install = self.install;
        let limits = limits(install);
        let study = study(installer, install.sha256.as_deref(), limits, self.say)?;
        require_loaded(self.machine, &study.version, install.force, self.say)?;
        let arch = installer.header.arch().unwrap_or(Arch::X86_64);
        let only_look = install.change.only_look();
        if install.change.dry_run {
            if let Some(why) = out_of_sight(self.machine, self.guest)? {
                return self.foretell(&study.version, &why, writer);
            }
        }
        let container = Container::open(self.machine, self.guest, only_look, self.say)?;
        let outcome = self.unpack_into(&container, installer, &study, arch);
        let checks = match &outcome {
            Ok(Outcome::Done(plan, _)) => {
                Some(checks(self.machine, &container, self.install, &plan.to.version))
            }
            Ok(Outcome::Looked(plan)) if !only_look => {
                Some(checks(self.machine, &container, self.install, &plan.to.version))
            }
            _ => None,
        };
        let closed = container.close();
        let target = self.guest.target();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                let change = failed(self.say.tool(), &target, ChangeStatus::RolledBack, &failure);
                writer.put(Record::Change(change))?;
                return Err(failure.into());
            }
        };
        let mut exit = self.report(&outcome, writer)?;
        if let Some(checks) = checks {
            for check in checks? {
                if check.status == CheckStatus::Drift {
                    exit = exit.max(Exit::System);
                }
                writer.put(Record::Check(check))?;
            }
        }
        closed?;
        Ok(exit)
    }

    /// A dry run of a container that cannot be looked into.
    fn foretell(
        &self,
        version: &str,
        why: &str,
        writer: &mut RecordWriter,
    ) -> anyhow::Result<Exit> {
        let mut change = Change::planned(self.say.tool(), &self.guest.target(), PROPERTY);
        change.to = Some(version.into());
        change.reason = Some(format!("which of the files are there already is not known: {why}"));
        writer.put(Record::Change(change))?;
        Ok(Exit::Done)
    }

    fn unpack_into(
        &self,
        container: &Container<'_>,
        installer: &mut Installer,
        study: &Study,
        arch: Arch,
    ) -> Result<Outcome, Failure> {
        let only_look = self.install.change.only_look();
        let tree = container.tree();
        container.recover(only_look, self.say)?;
        self.refuse_others(container)?;
        let layout = Layout::of(&container.root, tree.name, arch)?;
        let sets = sets(self.install);
        let plan = plan(&tree, study, &sets, &layout.libraries, self.install.force)?;
        if !plan.conflicts.is_empty() {
            return Err(conflict(tree.name, &plan));
        }
        if only_look || !plan.changes() {
            return Ok(Outcome::Looked(plan));
        }
        let mut check = || {
            if let Some(why) = container.ldconfig()? {
                self.say.note(&format!("{}: the loader's cache is as it was: {why}", tree.name));
            }
            self.loads(container, &study.version)
        };
        let made = apply(&tree, &plan, installer, limits(self.install), self.say, &mut check);
        match made {
            Ok(made) => {
                if let Ok(Some(ledger)) = tree.ledger() {
                    self.remember(container, &ledger);
                }
                Ok(Outcome::Done(plan, made))
            }
            Err(failure) => Err(container.undo(failure)),
        }
    }

    /// Other packagings of the driver, and libraries that are mounted.
    fn refuse_others(&self, container: &Container<'_>) -> Result<(), Failure> {
        let name = self.guest.target();
        if let Some((what, hint)) = other_packaging(&container.root) {
            return Err(fail(Exit::Refused, format!("{name}: {what}")).hint(hint));
        }
        let mounted = container.conf.lxc().any(|(key, value)| {
            key == "lxc.mount.entry"
                && ["libcuda.so", "libnvidia-ml.so", "nvidia-smi"].iter().any(|n| value.contains(n))
        });
        if mounted {
            let message = format!("{name}: the host's driver files are mounted into it");
            let hint = format!("'lxc-gpu-conf remove {} --libs' takes them away", self.guest.ctid);
            return Err(fail(Exit::Refused, message).hint(hint));
        }
        Ok(())
    }

    /// Whether programs inside would get the version that was placed.
    fn loads(&self, container: &Container<'_>, version: &str) -> Result<(), Failure> {
        if !sets(self.install).iter().any(|set| matches!(set, Set::Utility | Set::Compute)) {
            return Ok(());
        }
        match loaded_version(&container.root) {
            Some(loaded) if loaded == version => Ok(()),
            other => {
                let name = self.guest.target();
                let other = other.unwrap_or_else(|| "none".into());
                let message = format!("{name}: programs in it would load {other}, not {version}");
                Err(fail(Exit::Refused, message)
                    .hint("look for other libraries of the driver inside"))
            }
        }
    }

    /// A copy on the host, for when the one inside is lost.
    fn remember(&self, container: &Container<'_>, ledger: &Ledger) {
        if let Err(error) = self.machine.put(&container.copy(), &bytes(ledger)) {
            self.say.warn(&error.to_string());
        }
    }

    fn report(&self, outcome: &Outcome, writer: &mut RecordWriter) -> anyhow::Result<Exit> {
        let check = self.install.change.check;
        let (plan, made) = match outcome {
            Outcome::Looked(plan) => (plan, None),
            Outcome::Done(plan, made) => (plan, Some(made)),
        };
        let version = Some(plan.to.version.clone());
        let before = plan.from.as_ref().map(|from| from.version.clone());
        let mut changes = Vec::new();
        let mut put = |property: &str, from: Option<String>, to: Option<String>, status| {
            let mut change = Change::planned(self.say.tool(), &self.guest.target(), property);
            (change.from, change.to, change.status) = (from, to, status);
            changes.push(change);
        };
        for entry in &plan.keep {
            put(&entry.path, Some(entry.words()), Some(entry.words()), ChangeStatus::Unchanged);
        }
        let was = |path: &str| plan.gone.iter().find(|entry| entry.path == path).map(Entry::words);
        match made {
            Some(made) => {
                for entry in made {
                    put(&entry.path, was(&entry.path), Some(entry.words()), ChangeStatus::Changed);
                }
            }
            None => {
                for pick in &plan.make {
                    put(&pick.path, was(&pick.path), Some(words(pick)), ChangeStatus::Planned);
                }
            }
        }
        let status = match (made, plan.changes()) {
            (Some(_), _) => ChangeStatus::Changed,
            (None, true) => ChangeStatus::Planned,
            (None, false) => ChangeStatus::Unchanged,
        };
        let comes = |path: &str| {
            plan.make.iter().any(|pick| pick.path == path)
                || made.is_some_and(|made| made.iter().any(|entry| entry.path == path))
        };
        for entry in plan.gone.iter().filter(|entry| !comes(&entry.path)) {
            put(&entry.path, Some(entry.words()), None, status);
        }
        put(PROPERTY, before, version, status);
        for change in changes {
            writer.put(match check {
                true => Record::Check(check_of(change)),
                false => Record::Change(change),
            })?;
        }
        Ok(if check && plan.changes() { Exit::Difference } else { Exit::Done })
    }
}

fn words(pick: &Pick) -> String {
    match &pick.what {
        What::File { .. } => "file".into(),
        What::Link { target } => format!("link to {target}"),
    }
}

fn conflict(name: &str, plan: &Plan) -> Failure {
    const SHOWN: usize = 5;
    let more = plan.conflicts.len().saturating_sub(SHOWN);
    let mut what = plan.conflicts[..plan.conflicts.len() - more].join(", ");
    if more > 0 {
        what += &format!(" and {more} more");
    }
    let changed = plan.conflicts.iter().all(|conflict| conflict.contains("was changed: "));
    let hint = match changed {
        true => "--force replaces what was changed",
        false => "find out inside what they belong to, and remove that first",
    };
    fail(Exit::Refused, format!("{name}: files are in the way: {what}")).hint(hint)
}
