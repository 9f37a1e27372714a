//! A tool on a directory: below `--root`, or on files that it is told of.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use testbed::Bed;
use testbed::bed::{program, scratch};
use testbed::tree::Tree;

use crate::full::Small;
use crate::saved::{Look, Saved};
use crate::stage::Stage;

/// Where strace may write.
pub fn log() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    scratch().join(format!("campaign-{}-{count}.strace", std::process::id()))
}

/// A place for a stage's files.
pub struct Place {
    // unmounted before the directory goes
    pub small: Option<Small>,
    pub bed: Bed,
}

impl Place {
    pub fn empty() -> Place {
        Place { small: None, bed: Bed::empty() }
    }

    /// On a disk of its own that can be filled.
    pub fn small() -> Place {
        let bed = Bed::empty();
        Place { small: Some(Small::over(bed.path())), bed }
    }

    pub fn with(self, tree: &Tree) -> Place {
        tree.write(self.bed.path()).unwrap();
        self
    }
}

/// The stage.
pub struct OnBed {
    pub place: Place,
    pub name: String,
    pub command: Vec<OsString>,
    pub saved: Saved,
    /// Changes a look before it is compared: what has the time in it.
    pub tidy: fn(Look) -> Look,
    pub settled: i32,
    pub may_stay: fn(&str) -> bool,
    pub may_lag: fn(&str) -> bool,
    pub is_named: fn(&str, &str) -> bool,
}

impl OnBed {
    /// A tool below `--root`; the directories are those that it may change.
    pub fn rooted(place: Place, tool: &str, args: &str, dirs: &[&str]) -> OnBed {
        let mut command: Vec<OsString> = vec![program(tool).into(), "--root".into()];
        command.push(place.bed.path().into());
        command.extend(args.split_ascii_whitespace().map(OsString::from));
        OnBed::of(place, format!("{tool} {args}"), command, dirs)
    }

    pub fn of(place: Place, name: String, command: Vec<OsString>, dirs: &[&str]) -> OnBed {
        let saved = Saved::of(place.bed.path(), dirs);
        let by_name =
            |item: &str, said: &str| said.contains(item.rsplit('/').next().unwrap_or(item));
        OnBed {
            place,
            name,
            command,
            saved,
            tidy: |look| look,
            settled: 0,
            may_stay: |_| false,
            may_lag: |_| false,
            is_named: by_name,
        }
    }
}

impl Stage for OnBed {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn reset(&mut self) {
        self.saved.restore();
    }

    fn command(&self) -> Vec<OsString> {
        self.command.clone()
    }

    fn look(&self) -> Look {
        let mut look = self.saved.look();
        look.retain(|item, _| !item.ends_with(".lock"));
        (self.tidy)(look)
    }

    fn log(&self) -> (PathBuf, PathBuf) {
        let path = log();
        (path.clone(), path)
    }

    fn settled(&self) -> i32 {
        self.settled
    }

    fn may_stay(&self, item: &str) -> bool {
        (self.may_stay)(item)
    }

    fn may_lag(&self, item: &str) -> bool {
        (self.may_lag)(item)
    }

    fn is_named(&self, item: &str, said: &str) -> bool {
        (self.is_named)(item, said)
    }
}
