//! The operator's Makefile, and what it printed.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bed::program;
use crate::{Ran, Tool, schema};

/// The file as it is installed.
pub fn makefile() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/pipelines/pipelines.mk")
}

/// A pipeline that ran.
#[derive(Debug)]
pub struct Made {
    pub ran: Ran,
    pub records: Vec<Value>,
}

/// Runs a target with the tools of this build on a machine below `root`.
/// `words` are shell words.
pub fn make(root: &Path, words: &str) -> Made {
    let tools = program("nv-runfile");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", tools.parent().expect("target").display());
    let file = makefile();
    let line = format!("cd / && make -f {} {words} ROOT={}", file.display(), root.display());
    Made::of(
        Tool::through(&["env".as_ref(), format!("PATH={path}").as_ref()], "sh")
            .arg("-c")
            .arg(line)
            .text()
            .run(),
    )
}

impl Made {
    /// Takes the records out of what was printed; each is held against its schema.
    pub fn of(ran: Ran) -> Made {
        let lines = ran.stdout.lines().filter(|line| line.starts_with('{'));
        let records = lines
            .map(|line| {
                schema::check_line(line);
                serde_json::from_str(line).expect("a record")
            })
            .collect();
        Made { ran, records }
    }

    /// Panics where a step failed.
    pub fn done(self) -> Made {
        assert_eq!(self.ran.code(), 0, "{:?}", self.ran);
        self
    }

    /// Statuses of the changes, each once.
    pub fn statuses(&self) -> Vec<&str> {
        let changes = self.records.iter().filter(|record| record["type"] == "change");
        let mut all: Vec<&str> = changes.filter_map(|r| r["status"].as_str()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The first record about a property.
    pub fn about(&self, property: &str) -> &Value {
        let mut found = self.records.iter().filter(|record| record["property"] == property);
        found.next().unwrap_or_else(|| panic!("no {property}: {:?}", self.ran))
    }

    /// Panics where it did not end at this step, saying so with these words.
    pub fn stopped_at(&self, step: &str, words: &str) {
        assert_eq!(self.ran.code(), 2, "{:?}", self.ran);
        let says = &self.ran.stderr;
        let line = says.lines().find(|line| line.contains(": this step failed (exit "));
        assert!(line.is_some_and(|line| line.contains(step)), "{step}: {says}");
        assert!(says.contains(words), "{words}: {says}");
    }
}
