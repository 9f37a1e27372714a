//! `install` into a container by unpacking, and `uninstall`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ::cli::{Exit, Failure, Say, catch_signals, fail};
use host::Machine;
use nvidia::userspace::{Set, loaded_version};
use pve::Guest;
use record::{Change, ChangeStatus, Check, CheckStatus, Record, Severity, Sink};
use runfile::{Arch, Limits};

use crate::cli::{Install, Mode, Options, Uninstall};
use crate::container::Container;
use crate::distribution::{Layout, other_packaging};
use crate::inside;
use crate::installer::{Installer, named};
use crate::ledger::{Entry, Ledger, Now, bytes, compare};
use crate::on_host;
use crate::pick::{Pick, What};
use crate::share;
use crate::study::{Study, require_loaded, study};
use crate::transition::{Goal, Recovered};
use crate::unpack_into::{Plan, apply, plan};

/// What the summary is about.
const PROPERTY: &str = "userspace";
/// nvidia-smi wakes every GPU it is shown.
const SMI: Duration = Duration::from_secs(60);

/// The verb.
pub fn run(
    options: &Options,
    install: &Install,
    say: &Say,
    sink: &mut Sink,
) -> anyhow::Result<Exit> {
    let path = one(install, say)?;
    let machine = options.common.machine()?;
    let mut installer = Installer::open(&path)?;
    if let Some(ctid) = install.target.ct {
        let guest = Guest::find(&machine, ctid)?;
        if !install.change.only_look() {
            catch_signals();
        }
        return match install.mode {
            Mode::Unpack => {
                let run = Run { machine: &machine, guest: &guest, install, say };
                run.unpack(&mut installer, sink)
            }
            Mode::Installer => inside::run(&machine, &guest, install, &mut installer, say, sink),
        };
    }
    match &install.target.share {
        Some(dir) => share::run(&machine, install, dir, &mut installer, say, sink),
        None => on_host::run(&machine, install, &mut installer, say, sink),
    }
}

/// The installer that is meant.
fn one(install: &Install, say: &Say) -> Result<PathBuf, Failure> {
    let mut paths = named(&install.named, say)?;
    match (paths.pop(), paths.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(fail(Exit::Usage, "one installer is installed at a time")),
    }
}

/// A change that undid itself, or did not begin: its record and the failure.
pub fn failed(tool: &str, target: &str, status: ChangeStatus, failure: &Failure) -> Change {
    let mut change = Change::planned(tool, target, PROPERTY);
    change.status = match failure.exit {
        Exit::Refused => ChangeStatus::Refused,
        _ => status,
    };
    change.reason = Some(failure.message.clone());
    change.hint = failure.hint.clone();
    change
}

/// How much an installer may hold.
pub fn limits(install: &Install) -> Limits {
    let caps = &install.caps;
    Limits { entries: caps.max_entries, bytes: caps.max_size }
}

/// The sets that are asked for.
pub fn sets(install: &Install) -> Vec<Set> {
    let mut sets: Vec<Set> = install.set.iter().map(|set| set.set()).collect();
    sets.sort();
    sets.dedup();
    sets
}

struct Run<'a> {
    machine: &'a Machine,
    guest: &'a Guest,
    install: &'a Install,
    say: &'a Say,
}

/// What came of a change.
enum Outcome {
    /// Nothing was to be done, or only looked for.
    Looked(Plan),
    /// Done: what was placed.
    Done(Plan, Vec<Entry>),
}

impl Run<'_> {
    fn unpack(&self, installer: &mut Installer, sink: &mut Sink) -> anyhow::Result<Exit> {
        let install = self.install;
        let limits = limits(install);
        let study = study(installer, install.sha256.as_deref(), limits, self.say)?;
        require_loaded(self.machine, &study.version, install.force, self.say)?;
        let arch = installer.header.arch().unwrap_or(Arch::X86_64);
        let only_look = install.change.only_look();
        let container = Container::open(self.machine, self.guest, only_look, self.say)?;
        let outcome = self.unpack_into(&container, installer, &study, arch);
        let checks = match &outcome {
            Ok(Outcome::Done(plan, _)) => Some(self.checks(&container, plan)),
            Ok(Outcome::Looked(plan)) if !only_look => Some(self.checks(&container, plan)),
            _ => None,
        };
        let closed = container.close();
        let target = self.guest.target();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => {
                let change = failed(self.say.tool(), &target, ChangeStatus::RolledBack, &failure);
                sink.put(Record::Change(change))?;
                return Err(failure.into());
            }
        };
        let mut exit = self.report(&outcome, sink)?;
        if let Some(checks) = checks {
            for check in checks? {
                if check.status == CheckStatus::Drift {
                    exit = exit.max(Exit::System);
                }
                sink.put(Record::Check(check))?;
            }
        }
        closed?;
        Ok(exit)
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
        recover(container, only_look, self.say)?;
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
                    self.remember(&ledger);
                }
                Ok(Outcome::Done(plan, made))
            }
            Err(failure) => Err(undo(container, failure)),
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
    fn remember(&self, ledger: &Ledger) {
        if let Err(error) = self.machine.put(&copy_of(self.guest), &bytes(ledger)) {
            self.say.warn(&error.to_string());
        }
    }

    fn report(&self, outcome: &Outcome, sink: &mut Sink) -> anyhow::Result<Exit> {
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
            sink.put(match check {
                true => Record::Check(check_of(change)),
                false => Record::Change(change),
            })?;
        }
        Ok(if check && plan.changes() { Exit::Difference } else { Exit::Done })
    }

    /// Afterwards: which version is loaded, and whether nvidia-smi runs.
    fn checks(&self, container: &Container<'_>, plan: &Plan) -> Result<Vec<Check>, Failure> {
        let target = self.guest.target();
        let mut checks = Vec::new();
        if let Some(loaded) = loaded_version(&container.root) {
            let mut check = Check::ok(&target, "libraries", loaded.clone());
            let module = nvidia::module_version(self.machine);
            check.expected = module.clone().or(Some(plan.to.version.clone()));
            if module.is_some_and(|module| module != loaded) {
                (check.status, check.severity) = (CheckStatus::Unknown, Severity::Error);
                check.reason = Some("they are not of the loaded kernel module's version".into());
            }
            checks.push(check);
        }
        checks.extend(self.nvidia_smi(container)?);
        Ok(checks)
    }

    fn nvidia_smi(&self, container: &Container<'_>) -> Result<Option<Check>, Failure> {
        if !sets(self.install).contains(&Set::Utility)
            || !container.root.exists("/usr/bin/nvidia-smi")
        {
            return Ok(None);
        }
        let mut check = Check::ok(&self.guest.target(), "nvidia-smi", None);
        check.expected = Some("runs".into());
        // asked first: where it may, nvidia-smi makes nodes itself
        let given = container.exec(&["test", "-c", "/dev/nvidiactl"], SMI)?;
        let Some(ran) = container.exec(&["/usr/bin/nvidia-smi", "-L"], SMI)? else {
            (check.status, check.severity) = (CheckStatus::Unknown, Severity::Info);
            check.reason = Some("the container does not run".into());
            return Ok(Some(check));
        };
        if ran.success() {
            check.actual = Some("runs".into());
            return Ok(Some(check));
        }
        // it says on standard output why not
        let said = String::from_utf8_lossy(&ran.stdout).trim().replace('\n', " ");
        check.actual = Some(match said.is_empty() {
            true => ran.reason(),
            false => said.chars().take(400).collect(),
        });
        check.severity = Severity::Warning;
        // without nodes it cannot work, whatever its libraries
        let ctid = self.guest.ctid;
        if given.is_some_and(|ran| ran.success()) {
            check.status = CheckStatus::Drift;
            check.severity = Severity::Error;
            check.hint = Some(format!("see 'lxc-gpu-conf check {ctid}'"));
        } else {
            check.status = CheckStatus::Unknown;
            check.reason = Some("the container is given no GPU".into());
            check.hint = Some(format!("give it one: lxc-gpu-conf add {ctid} --gpu ..."));
        }
        Ok(Some(check))
    }
}

/// The copy on the host of what is written down in a container.
fn copy_of(guest: &Guest) -> String {
    format!("/var/lib/pve-gpu-tools/nv-runfile/ct-{}.json", guest.ctid)
}

fn words(pick: &Pick) -> String {
    match &pick.what {
        What::File { .. } => "file".into(),
        What::Link { target } => format!("link to {target}"),
    }
}

/// The same as a comparison, for --check.
pub fn check_of(change: Change) -> Check {
    let same = change.status == ChangeStatus::Unchanged;
    Check {
        subject: change.target,
        property: change.property,
        expected: change.to,
        actual: change.from,
        status: if same { CheckStatus::Ok } else { CheckStatus::Drift },
        severity: if same { Severity::Info } else { Severity::Warning },
        cause: None,
        reason: None,
        hint: None,
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

/// Puts right what a run of before left; where nothing may be changed it only
/// says so.
fn recover(container: &Container<'_>, only_look: bool, say: &Say) -> Result<(), Failure> {
    let tree = container.tree();
    if only_look {
        if tree.is_interrupted()? {
            return Err(fail(
                Exit::System,
                format!("{}: a run did not come to its end", tree.name),
            )
            .hint("the next run puts that right: do without --dry-run and --check"));
        }
        return Ok(());
    }
    let recovered = tree.recover()?;
    let what = match recovered {
        Recovered::Clean => return Ok(()),
        Recovered::Undone(_) => "undone",
        Recovered::Finished => "finished",
    };
    say.note(&format!("{}: what a run that did not end left was {what}", tree.name));
    if recovered != Recovered::Undone(false) {
        container.ldconfig()?;
    }
    Ok(())
}

/// Undoes a change that failed.
fn undo(container: &Container<'_>, failure: Failure) -> Failure {
    let undone = container.tree().recover().and_then(|recovered| match recovered {
        Recovered::Undone(true) => container.ldconfig().map(drop),
        _ => Ok(()),
    });
    match undone {
        Ok(()) => failure,
        Err(error) => {
            let message = format!("{}; and it could not be undone: {error}", failure.message);
            fail(failure.exit.max(Exit::System), message).hint("the next run tries again")
        }
    }
}

/// Takes away what was placed.
pub fn uninstall(
    options: &Options,
    uninstall: &Uninstall,
    say: &Say,
    sink: &mut Sink,
) -> anyhow::Result<Exit> {
    let machine = options.common.machine()?;
    let guest = Guest::find(&machine, uninstall.ct)?;
    let only_look = uninstall.change.only_look();
    if !only_look {
        catch_signals();
    }
    let container = Container::open(&machine, &guest, only_look, say)?;
    let outcome = take_away(&machine, &container, uninstall, say);
    let closed = container.close();
    let (tool, target) = (say.tool(), guest.target());
    let gone = match outcome {
        Ok(gone) => gone,
        Err(failure) => {
            let change = failed(tool, &target, ChangeStatus::RolledBack, &failure);
            sink.put(Record::Change(change))?;
            return Err(failure.into());
        }
    };
    let mut exit = Exit::Done;
    let status = if only_look { ChangeStatus::Planned } else { ChangeStatus::Changed };
    let mut changes = Vec::new();
    for (entry, now) in gone.iter().flat_map(|gone| &gone.entries) {
        let mut change = Change::planned(tool, &target, &entry.path);
        change.from = Some(entry.words());
        change.status = match now {
            Now::Same => status,
            Now::Absent => ChangeStatus::Unchanged,
            Now::Other(_) if uninstall.force => status,
            Now::Other(_) => ChangeStatus::Skipped,
        };
        if let Now::Other(what) = now {
            change.reason = Some(format!("it was changed since: {what}"));
            change.hint = (!uninstall.force).then(|| "--force removes it".into());
        }
        changes.push(change);
    }
    let mut summary = Change::planned(tool, &target, PROPERTY);
    summary.from = gone.as_ref().map(|gone| gone.version.clone());
    summary.status = if gone.is_some() { status } else { ChangeStatus::Unchanged };
    changes.push(summary);
    for change in changes {
        sink.put(match uninstall.change.check {
            true => Record::Check(check_of(change)),
            false => Record::Change(change),
        })?;
    }
    if uninstall.change.check && gone.is_some() {
        exit = Exit::Difference;
    }
    closed?;
    Ok(exit)
}

/// What is taken away.
struct Gone {
    version: String,
    entries: Vec<(Entry, Now)>,
}

fn take_away(
    machine: &Machine,
    container: &Container<'_>,
    uninstall: &Uninstall,
    say: &Say,
) -> Result<Option<Gone>, Failure> {
    let only_look = uninstall.change.only_look();
    recover(container, only_look, say)?;
    let tree = container.tree();
    let copy = copy_of(container.guest);
    let ledger = match tree.ledger()? {
        Some(ledger) => Some(ledger),
        // lost inside: the host remembers
        None => machine.read(&copy, 4 << 20).ok().and_then(|b| serde_json::from_slice(&b).ok()),
    };
    let Some(ledger) = ledger else { return Ok(None) };
    let mut entries = Vec::new();
    let mut keep = BTreeSet::new();
    for entry in &ledger.entries {
        let now = compare(&container.root, entry, container.owner)?;
        if matches!(now, Now::Other(_)) && !uninstall.force {
            keep.insert(entry.path.clone());
        }
        entries.push((entry.clone(), now));
    }
    let gone = Gone { version: ledger.version.clone(), entries };
    if only_look {
        return Ok(Some(gone));
    }
    let goal = Goal { from: Some(&ledger), keep, paths: Vec::new() };
    let mut check = || container.ldconfig().map(drop);
    let done = tree
        .begin(&goal)
        .and_then(|intent| tree.place(intent, Vec::new(), None, Some(&ledger), &mut check));
    match done {
        Ok(()) => {
            machine.remove(&copy)?;
            Ok(Some(gone))
        }
        Err(failure) => Err(undo(container, failure)),
    }
}
