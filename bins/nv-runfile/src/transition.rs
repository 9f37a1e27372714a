//! From what is placed in a root file system to what shall be: everything or
//! nothing, whatever happens in between.
//!
//! 1. What is intended is written down inside ([`crate::ledger::INTENT`]).
//! 2. New files are written beside their places, under names of their own.
//! 3. All of it is on disk: what is intended is written down again, with digests.
//! 4. What goes away gets another name, what is new gets its own.
//! 5. What is placed now is written down ([`crate::ledger::LEDGER`]): from here
//!    on a killed run is finished by the next, before here it is undone.
//! 6. What has gone away is removed, and the intention.

use std::collections::{BTreeMap, BTreeSet};

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::{FileError, FileKind, Machine, NewFile, Owner};

use crate::ledger::{
    DIR, Entry, FORMAT, INTENT, Intent, LEDGER, Ledger, Now, Placed, Unusable, bytes, compare,
    read_intent, read_ledger,
};
use crate::pick::directories;

/// A root file system that is being changed.
pub struct Tree<'a> {
    /// Resolved inside itself.
    pub root: &'a Machine,
    /// Who its root is.
    pub owner: Owner,
    /// How messages call it.
    pub name: &'a str,
    /// Where what cannot be tidied up is told.
    pub say: &'a Say,
}

/// What a run of before left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing.
    Clean,
    /// It was undone; whether names had been changed.
    Undone(bool),
    /// It was finished.
    Finished,
}

/// What is to be done.
pub struct Goal<'a> {
    /// What is written down now.
    pub from: Option<&'a Ledger>,
    /// Paths of `from` that stay as they are.
    pub keep: BTreeSet<String>,
    /// Paths that get something new.
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

impl Unusable {
    /// As a failure.
    pub fn failure(self, name: &str) -> Failure {
        match self {
            Unusable::File(error) => error.into(),
            Unusable::Strange(what) => fail(Exit::Refused, format!("{name}: {what}")).hint(
                format!("this tool did not write that; look at it and move {DIR} away inside"),
            ),
        }
    }
}

/// Whether what is written down is what a run was to end with.
fn committed(intent: &Intent, ledger: Option<&Ledger>) -> bool {
    match (&intent.to, ledger) {
        (Some(_), Some(ledger)) => ledger.run == intent.run,
        (Some(_), None) => false,
        (None, ledger) => intent.placing && ledger.is_none(),
    }
}

impl Tree<'_> {
    /// What is placed, as it is written down.
    pub fn ledger(&self) -> Result<Option<Ledger>, Failure> {
        read_ledger(self.root).map_err(|error| error.failure(self.name))
    }

    /// Whether a run of before did not come to its end.
    pub fn is_interrupted(&self) -> Result<bool, Failure> {
        Ok(read_intent(self.root).map_err(|error| error.failure(self.name))?.is_some())
    }

    /// Puts right what a killed run left: finishes it where it had written down
    /// what is placed, else undoes it.
    pub fn recover(&self) -> Result<Recovered, Failure> {
        let intent = read_intent(self.root).map_err(|error| error.failure(self.name))?;
        let ledger = self.ledger()?;
        let Some(intent) = intent else {
            // perhaps killed before it could say what it wants
            self.tidy()?;
            return Ok(Recovered::Clean);
        };
        match committed(&intent, ledger.as_ref()) {
            true => self.finish(&intent).map(|()| Recovered::Finished),
            false => {
                self.undo(&intent, ledger.as_ref()).map(|()| Recovered::Undone(intent.placing))
            }
        }
    }

    /// Begins: writes down what is intended and makes directories.
    pub fn begin(&self, goal: &Goal<'_>) -> Result<Intent, Failure> {
        let from: &[Entry] = goal.from.map_or(&[], |ledger| &ledger.entries);
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

    /// A new file under another name; a leftover of that name is removed.
    pub fn stage(&self, path: &str) -> Result<NewFile, FileError> {
        let temporary = temporary(path);
        self.root.remove(&temporary)?;
        self.root.new_file(&temporary)
    }

    /// Everything new is written: changes the names. `check` is asked when all
    /// names are changed and before it counts.
    pub fn place(
        &self,
        mut intent: Intent,
        make: Vec<Entry>,
        to: Option<Ledger>,
        from: Option<&Ledger>,
        check: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let paths: BTreeSet<String> = make.iter().map(|entry| entry.path.clone()).collect();
        intent.paths = paths.iter().cloned().collect();
        // links are new names too, and some became known only now
        self.write_intent(&intent)?;
        intent.placing = true;
        intent.make = make;
        let mut known: BTreeSet<String> =
            from.map_or_else(BTreeSet::new, |ledger| ledger.dirs.iter().cloned().collect());
        known.extend(intent.dirs.iter().cloned());
        intent.to = to.map(|ledger| Ledger {
            run: intent.run.clone(),
            dirs: known.iter().cloned().collect(),
            ..ledger
        });
        if let Some(ledger) = &mut intent.to {
            // a directory of an older version that nothing is in any more
            let used = directories(ledger.entries.iter().map(|entry| entry.path.as_str()));
            ledger.dirs.retain(|dir| used.contains(dir));
        }
        let kept = intent.to.as_ref().map(|ledger| &ledger.dirs);
        intent.drop_dirs = known
            .iter()
            .filter(|dir| kept.is_none_or(|kept| !kept.contains(dir)))
            .cloned()
            .collect();
        for entry in &intent.make {
            if let Placed::Link { target } = &entry.what {
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
            Some(ledger) => self.root.put_as(LEDGER, &bytes(ledger), 0o644, self.owner),
            None => self.root.remove(LEDGER),
        };
        // it may have its place although its directory could not be synced
        if let Err(error) = written {
            if !committed(&intent, self.ledger()?.as_ref()) {
                return Err(error.into());
            }
        }
        // from here on it counts, for the next run too: what fails now undoes nothing
        let synced = self.root.sync_file_system(DIR).map_err(Failure::from);
        if let Err(failure) = synced.and_then(|()| self.finish(&intent)) {
            self.say.warn(&format!("{}: done, but {failure}; the next run tidies up", self.name));
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
            // it must not hide what is to come back
            self.root.remove(&old)?;
            match self.root.rename_beside(path, &name) {
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        for entry in &intent.make {
            stop_where_interrupted()?;
            if self.root.lstat(&entry.path).is_ok() {
                let message = format!("{}: '{}' appeared meanwhile", self.name, entry.path);
                return Err(fail(Exit::System, message));
            }
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            self.root.rename_beside(&temporary(&entry.path), name)?;
        }
        Ok(())
    }

    /// It counts: away with what is left.
    fn finish(&self, intent: &Intent) -> Result<(), Failure> {
        for path in &intent.displace {
            self.root.remove(&beside(path, "old").0)?;
        }
        self.drop_dirs(&intent.drop_dirs)?;
        self.forget_intent()
    }

    /// It does not count: everything as it was.
    fn undo(&self, intent: &Intent, ledger: Option<&Ledger>) -> Result<(), Failure> {
        let known: BTreeMap<&str, &Entry> = ledger
            .iter()
            .flat_map(|ledger| &ledger.entries)
            .map(|entry| (entry.path.as_str(), entry))
            .collect();
        for path in &intent.paths {
            self.root.remove(&temporary(path))?;
        }
        if intent.placing {
            for entry in &intent.make {
                self.root.remove(&temporary(&entry.path))?;
                // what somebody else put there since is not ours
                let ours = compare(self.root, entry, self.owner)? == Now::Same;
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

    /// The deepest first; what holds something stays.
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

    /// Removes what a write that was killed left (under the names that put_as
    /// gives), and the directory where nothing is written down in it.
    fn tidy(&self) -> Result<(), Failure> {
        for file in [LEDGER, INTENT] {
            let name = file.rsplit('/').next().unwrap_or_default();
            self.root.remove(&format!("{DIR}/.{name}.tmp"))?;
        }
        if self.root.lstat(LEDGER).is_err() {
            self.root.remove_empty_dir(DIR)?;
        }
        Ok(())
    }

    /// What stands at a path that is to be new, in words; `None` for nothing.
    pub fn in_the_way(&self, path: &str) -> Result<Option<String>, FileError> {
        match self.root.lstat(path) {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(stat) => Ok(Some(match stat.kind {
                FileKind::Link => {
                    format!("a link to {}", self.root.read_link(path).unwrap_or_default())
                }
                FileKind::File => "a file".into(),
                FileKind::Dir => "a directory".into(),
                _ => "something that is no file".into(),
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

/// Tells one run from all others.
fn run_id() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{}-{}", since.map_or(0, |since| since.as_nanos()), std::process::id())
}
