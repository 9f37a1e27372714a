//! A change of a root file system that takes effect as a whole or not at all,
//! also if the run is killed.
//!
//! 1. The intent is written inside ([`crate::install::receipt::INTENT`]).
//! 2. New files are written beside their final paths, under temporary names.
//! 3. All of it is synced to disk: the intent is written again, with digests.
//! 4. Old files are renamed away, new files get their final names.
//! 5. The receipt is written ([`crate::install::receipt::RECEIPT`]). This commits
//!    the change: the next run finishes a run that was killed after this point
//!    and rolls back a run that was killed before it.
//! 6. Old files and the intent are removed.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::{FileError, FileKind, Machine, NewFile, Owner};

use crate::install::plan::FoundFiles;
use crate::install::receipt::{
    DIR, FORMAT, INTENT, Intent, PathState, PlacedKind, RECEIPT, Receipt, ReceiptEntry,
    ReceiptError, bytes, compare, compare_until, read_intent, read_receipt,
};
use crate::install::select_files::{SelectedFile, directories, is_placeable, is_placeable_dir};

/// A root file system that is being changed.
pub struct RootTree<'a> {
    /// Paths are resolved inside it.
    pub root: &'a Machine,
    pub owner: Owner,
    /// How messages call it.
    pub name: &'a str,
    pub say: &'a Say,
    /// The receipt that the host keeps.
    pub copy: Option<Receipt>,
}

/// What was done about a run that did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// There was no such run.
    Clean,
    /// It was rolled back; whether files had been renamed.
    RolledBack(bool),
    Finished,
}

/// What a transaction is to reach.
pub struct TransactionGoal<'a> {
    /// The current receipt.
    pub from: Option<&'a Receipt>,
    /// Paths of `from` that stay as they are.
    pub keep: BTreeSet<String>,
    /// Paths that get a new file or link.
    pub paths: Vec<String>,
}

fn beside(path: &str, what: &str) -> (String, String) {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = format!(".{name}.nv-runfile-{what}");
    (format!("{dir}/{name}"), name)
}

/// Where a new file is written before it gets its name.
pub fn temporary(path: &str) -> String {
    beside(path, "new").0
}

fn receipt_failure(name: &str, error: ReceiptError) -> Failure {
    match error {
        ReceiptError::File(error) => error.into(),
        ReceiptError::Invalid(what) => fail(Exit::Refused, format!("{name}: {what}"))
            .hint(format!("this file is not from nv-runfile; check it and move {DIR} away inside")),
    }
}

/// Whether the receipt is the one that the run was to end with.
fn committed(intent: &Intent, receipt: Option<&Receipt>) -> bool {
    match (&intent.to, receipt) {
        (Some(_), Some(receipt)) => receipt.run == intent.run,
        (Some(_), None) => false,
        (None, receipt) => intent.placing && receipt.is_none(),
    }
}

impl RootTree<'_> {
    /// What is placed. The file in the container is a hint: where the host has a copy of
    /// it the copy counts, and otherwise only what `install` could have placed.
    pub fn receipt(&self) -> Result<Option<Receipt>, Failure> {
        let read = read_receipt(self.root).map_err(|error| receipt_failure(self.name, error))?;
        let Some(mut receipt) = read else { return Ok(None) };
        if let Some(copy) = self.copy.as_ref().filter(|copy| copy.run == receipt.run) {
            return Ok(Some(copy.clone()));
        }
        let named = receipt.entries.len();
        receipt.entries.retain(|entry| is_placeable(&entry.path));
        receipt.dirs.retain(|dir| is_placeable_dir(dir));
        let others = named - receipt.entries.len();
        if others > 0 {
            self.say.warn(&format!(
                "{}: its receipt names {others} paths that nv-runfile never places; they are \
                 left alone",
                self.name
            ));
        }
        Ok(Some(receipt))
    }

    /// What a run that did not end was about to do, as far as this tool could have been.
    fn intent(&self) -> Result<Option<Intent>, Failure> {
        let read = read_intent(self.root).map_err(|error| receipt_failure(self.name, error))?;
        Ok(read.map(|mut intent| {
            intent.paths.retain(|path| is_placeable(path));
            intent.make.retain(|entry| is_placeable(&entry.path));
            intent.displace.retain(|path| is_placeable(path));
            intent.dirs.retain(|dir| is_placeable_dir(dir));
            intent.drop_dirs.retain(|dir| is_placeable_dir(dir));
            intent
        }))
    }

    /// Whether an earlier run did not end.
    pub fn is_interrupted(&self) -> Result<bool, Failure> {
        Ok(self.intent()?.is_some())
    }

    /// What a plan is made from: the receipt, how its files are now, and what
    /// exists at the other selected paths.
    pub fn find(&self, selected: &[SelectedFile]) -> Result<FoundFiles, Failure> {
        let receipt = self.receipt()?;
        let mut placed = BTreeMap::new();
        for entry in receipt.iter().flat_map(|receipt| &receipt.entries) {
            let state = compare_until(self.root, entry, self.owner, &interrupted)?;
            placed.insert(entry.path.clone(), state);
        }
        let mut obstacles = BTreeMap::new();
        for file in selected.iter().filter(|file| !placed.contains_key(&file.path)) {
            if let Some(what) = self.in_the_way(&file.path)? {
                obstacles.insert(file.path.clone(), what);
            }
        }
        Ok(FoundFiles { receipt, placed, obstacles })
    }

    /// Completes an earlier run that did not end: finishes it if its receipt is
    /// written, otherwise rolls it back.
    pub fn recover(&self) -> Result<Recovered, Failure> {
        let (intent, receipt) = (self.intent()?, self.receipt()?);
        let Some(intent) = intent else {
            // a run may have been killed before it wrote its intent
            self.tidy()?;
            return Ok(Recovered::Clean);
        };
        match committed(&intent, receipt.as_ref()) {
            true => self.finish(&intent).map(|()| Recovered::Finished),
            false => self
                .roll_back(&intent, receipt.as_ref())
                .map(|()| Recovered::RolledBack(intent.placing)),
        }
    }

    /// Writes the intent and makes directories.
    pub fn begin(&self, goal: &TransactionGoal<'_>) -> Result<Intent, Failure> {
        let from: &[ReceiptEntry] = goal.from.map_or(&[], |receipt| &receipt.entries);
        let gone = from.iter().map(|entry| &entry.path).filter(|path| !goal.keep.contains(*path));
        let displace: Vec<String> =
            gone.filter(|path| self.root.lstat(path).is_ok()).cloned().collect();
        let wanted = goal.paths.iter().map(String::as_str);
        let dirs = directories(wanted).into_iter().filter(|dir| !self.root.exists(dir)).collect();
        let intent = Intent {
            format: FORMAT,
            run: run_id(),
            placing: false,
            paths: goal.paths.clone(),
            make: Vec::new(),
            displace,
            dirs,
            drop_dirs: Vec::new(),
            to: None,
        };
        self.root.make_dir_as(DIR, 0o755, self.owner)?;
        self.write_intent(&intent)?;
        for dir in &intent.dirs {
            self.root.make_dir_as(dir, 0o755, self.owner)?;
        }
        Ok(intent)
    }

    /// A new file under its temporary name; a leftover of that name is removed.
    pub fn stage(&self, path: &str) -> Result<NewFile, FileError> {
        let temporary = temporary(path);
        self.root.remove(&temporary)?;
        self.root.new_file(&temporary)
    }

    /// Gives the new files, which are all written, their final names. `check` runs
    /// after all renames and before the receipt is written.
    pub fn place(
        &self,
        mut intent: Intent,
        make: Vec<ReceiptEntry>,
        to: Option<Receipt>,
        from: Option<&Receipt>,
        check: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let paths: BTreeSet<String> = make.iter().map(|entry| entry.path.clone()).collect();
        intent.paths = paths.iter().cloned().collect();
        // links are new names too, and some of them are known only now
        self.write_intent(&intent)?;
        intent.placing = true;
        intent.make = make;
        complete_intent(&mut intent, to, from);
        for entry in &intent.make {
            if let PlacedKind::Link { target } = &entry.what {
                let temporary = temporary(&entry.path);
                self.root.remove(&temporary)?;
                self.root.new_link(&temporary, target, self.owner)?;
            }
        }
        self.root.sync_file_system(DIR)?;
        self.write_intent(&intent)?;
        self.change_names(&intent)?;
        check()?;
        self.root.sync_file_system(DIR)?;
        let written = match &intent.to {
            Some(receipt) => self.root.put_as(RECEIPT, &bytes(receipt), 0o644, self.owner),
            None => self.root.remove(RECEIPT),
        };
        // the receipt may be in place although its directory could not be synced
        if let Err(error) = written {
            if !committed(&intent, self.receipt()?.as_ref()) {
                return Err(error.into());
            }
        }
        // the change is committed, for the next run too: later failures roll nothing back
        let synced = self.root.sync_file_system(DIR).map_err(Failure::from);
        if let Err(failure) = synced.and_then(|()| self.finish(&intent)) {
            let name = self.name;
            self.say.warn(&format!(
                "{name}: the change is complete, but {failure}; the next run cleans up"
            ));
        }
        Ok(())
    }

    fn write_intent(&self, intent: &Intent) -> Result<(), Failure> {
        Ok(self.root.put_as(INTENT, &bytes(intent), 0o644, self.owner)?)
    }

    fn change_names(&self, intent: &Intent) -> Result<(), Failure> {
        for path in &intent.displace {
            stop_where_interrupted()?;
            let (old, name) = beside(path, "old");
            // a leftover must not take the name that the roll-back needs
            self.root.remove(&old)?;
            match self.root.rename_beside(path, &name) {
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        for entry in &intent.make {
            stop_where_interrupted()?;
            if self.root.lstat(&entry.path).is_ok() {
                let message = format!("{}: another process created '{}'", self.name, entry.path);
                return Err(fail(Exit::System, message));
            }
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            self.root.rename_beside(&temporary(&entry.path), name)?;
        }
        Ok(())
    }

    /// Removes what a committed change no longer needs.
    fn finish(&self, intent: &Intent) -> Result<(), Failure> {
        for path in &intent.displace {
            self.root.remove(&beside(path, "old").0)?;
        }
        self.drop_dirs(&intent.drop_dirs)?;
        self.forget_intent()
    }

    /// Restores what was there before a change that is not committed.
    fn roll_back(&self, intent: &Intent, receipt: Option<&Receipt>) -> Result<(), Failure> {
        let known: BTreeMap<&str, &ReceiptEntry> = receipt
            .iter()
            .flat_map(|receipt| &receipt.entries)
            .map(|entry| (entry.path.as_str(), entry))
            .collect();
        for path in &intent.paths {
            self.root.remove(&temporary(path))?;
        }
        if intent.placing {
            for entry in &intent.make {
                self.root.remove(&temporary(&entry.path))?;
                // a file that another program has put there since is kept
                let ours = compare(self.root, entry, self.owner)? == PathState::Same;
                let stays =
                    known.get(entry.path.as_str()).is_some_and(|was| was.what == entry.what)
                        && self.root.lstat(&beside(&entry.path, "old").0).is_err();
                if ours && !stays {
                    self.root.remove(&entry.path)?;
                }
            }
            for path in &intent.displace {
                let (old, _) = beside(path, "old");
                let name = path.rsplit('/').next().unwrap_or_default();
                if self.root.lstat(&old).is_ok() && self.root.lstat(path).is_err() {
                    self.root.rename_beside(&old, name)?;
                }
            }
        }
        self.drop_dirs(&intent.dirs)?;
        self.forget_intent()
    }

    /// Removes directories, the deepest first; those that are not empty stay.
    fn drop_dirs(&self, dirs: &[String]) -> Result<(), Failure> {
        let mut dirs: Vec<&String> = dirs.iter().collect();
        dirs.sort_by_key(|dir| std::cmp::Reverse(dir.len()));
        for dir in dirs {
            self.root.remove_empty_dir(dir)?;
        }
        Ok(())
    }

    fn forget_intent(&self) -> Result<(), Failure> {
        self.root.sync_file_system(DIR)?;
        self.root.remove(INTENT)?;
        self.tidy()
    }

    /// Removes what a killed write left (under the names that put_as gives), and
    /// the directory if it has no receipt.
    fn tidy(&self) -> Result<(), Failure> {
        for file in [RECEIPT, INTENT] {
            let name = file.rsplit('/').next().unwrap_or_default();
            self.root.remove(&format!("{DIR}/.{name}.tmp"))?;
        }
        if self.root.lstat(RECEIPT).is_err() {
            self.root.remove_empty_dir(DIR)?;
        }
        Ok(())
    }

    /// What exists at a path where a new file is to be placed, in words.
    pub fn in_the_way(&self, path: &str) -> Result<Option<String>, FileError> {
        match self.root.lstat(path) {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.errno() == libc::EXDEV => {
                Ok(Some("on another file system, which is mounted there".into()))
            }
            Err(error) => Err(error),
            Ok(stat) => Ok(Some(match stat.kind {
                FileKind::Link => {
                    format!("a link to {}", self.root.read_link(path).unwrap_or_default())
                }
                FileKind::File => "a file".into(),
                FileKind::Dir => "a directory".into(),
                _ => "not a regular file".into(),
            })),
        }
    }
}

fn stop_where_interrupted() -> Result<(), Failure> {
    match interrupted() {
        true => Err(fail(Exit::System, "interrupted")),
        false => Ok(()),
    }
}

/// The directories of the new receipt, and those that are to be removed.
fn complete_intent(intent: &mut Intent, to: Option<Receipt>, from: Option<&Receipt>) {
    let mut known: BTreeSet<String> =
        from.map_or_else(BTreeSet::new, |receipt| receipt.dirs.iter().cloned().collect());
    known.extend(intent.dirs.iter().cloned());
    intent.to = to.map(|receipt| {
        // directories of an older version that are empty now are not kept
        let used = directories(receipt.entries.iter().map(|entry| entry.path.as_str()));
        let dirs = known.iter().filter(|dir| used.contains(dir)).cloned().collect();
        Receipt { run: intent.run.clone(), dirs, ..receipt }
    });
    let kept = intent.to.as_ref().map(|receipt| &receipt.dirs);
    intent.drop_dirs =
        known.into_iter().filter(|dir| kept.is_none_or(|kept| !kept.contains(dir))).collect();
}

/// A value that no other run has.
fn run_id() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{}-{}", since.map_or(0, |since| since.as_nanos()), std::process::id())
}
