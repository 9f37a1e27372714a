//! `fetch` and `prune` against a server on loopback that can misbehave.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod cache;
mod digests;
mod hostile;
mod installer;
mod places;
mod prune;
mod resume;
mod server;

use std::path::{Path, PathBuf};

use testbed::{Bed, Ran, Tool};

use installer::{NAME, VERSION};

/// A cache for one test.
pub struct Cache {
    pub bed: Bed,
}

impl Cache {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Cache {
        let bed = Bed::empty();
        std::fs::create_dir(bed.at("cache")).unwrap();
        Cache { bed }
    }

    pub fn dir(&self) -> PathBuf {
        self.bed.at("cache")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// fetch with short waits.
    pub fn fetch(&self, args: &str) -> Tool {
        fetch(&self.dir(), args)
    }

    pub fn prune(&self, args: &str) -> Tool {
        Tool::new("nv-runfile").args("prune --cache").arg(self.dir()).args(args)
    }

    /// Names in it without locks.
    pub fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<String> =
            names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    /// Panics where anything bears the final name.
    pub fn has_nothing_final(&self) {
        assert!(!self.at(NAME).exists(), "{:?}", self.names());
        assert!(!self.at(&format!("{NAME}.json")).exists(), "{:?}", self.names());
    }

    /// Panics unless exactly these bytes bear the final name.
    pub fn has(&self, bytes: &[u8]) {
        assert!(std::fs::read(self.at(NAME)).unwrap() == bytes, "{:?}", self.names());
        assert_eq!(self.names(), [NAME.to_string(), format!("{NAME}.json")]);
    }
}

pub fn fetch(cache: &Path, args: &str) -> Tool {
    let quick = "--retry-delay 0.01 --connect-timeout 5 --arch x86_64";
    let stall = if args.contains("--stall-timeout") { "" } else { "--stall-timeout 1" };
    let quick = format!("{quick} {stall}");
    let tool = Tool::new("nv-runfile").args("fetch --cache").arg(cache).args(&quick).args(args);
    // what the machine that runs the tests has set is no matter of theirs
    tool.env("no_proxy", "127.0.0.1,localhost")
}

/// The path that is asked for first.
pub fn first_path() -> String {
    format!("/XFree86/Linux-x86_64/{VERSION}/{NAME}")
}

/// The record of an installer that came out.
pub fn record(ran: &Ran) -> serde_json::Value {
    let mut found = ran.of_type("runfile");
    let record = found.next().expect("a runfile record").clone();
    assert!(found.next().is_none());
    record
}
