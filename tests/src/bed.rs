//! A machine to run a tool on, and the running.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use assert_cmd::Command;
use assert_cmd::assert::{Assert, OutputAssertExt};
use predicates::prelude::{PredicateBooleanExt, predicate};
use serde_json::Value;

use crate::{machine, schema};

/// A directory that goes away with its owner.
pub struct Bed {
    dir: PathBuf,
}

impl Bed {
    /// A recorded machine, unpacked.
    pub fn new(name: &str) -> Bed {
        let bed = Bed::empty();
        machine::tree(name).expect(name).write(bed.path()).expect(name);
        bed
    }

    /// Any tree, unpacked.
    pub fn of(tree: &crate::tree::Tree) -> Bed {
        let bed = Bed::empty();
        tree.write(bed.path()).expect("tree");
        bed
    }

    /// Nothing.
    pub fn empty() -> Bed {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = scratch().join(format!("pve-gpu-bed-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).expect("temporary directory");
        Bed { dir }
    }

    /// The directory, for `--root`.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A path below it, links resolved by the operating system.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).expect(path)
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        if let Some(parent) = self.at(path).parent() {
            fs::create_dir_all(parent).expect(path);
        }
        fs::write(self.at(path), text).expect(path);
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).expect(path);
    }

    /// Every path with what is there: equal before and after means that nothing
    /// was written.
    pub fn contents(&self) -> std::collections::BTreeMap<PathBuf, String> {
        let walk = walkdir::WalkDir::new(&self.dir).into_iter().map(|entry| entry.expect("walk"));
        walk.map(|entry| {
            let path = entry.path();
            let what = if entry.file_type().is_symlink() {
                fs::read_link(path).expect("link").to_string_lossy().into_owned()
            } else if entry.file_type().is_file() {
                String::from_utf8_lossy(&fs::read(path).expect("file")).into_owned()
            } else {
                format!("{:?}", entry.file_type())
            };
            (path.to_path_buf(), what)
        })
        .collect()
    }

    pub fn link(&self, path: &str, target: &str) {
        if let Some(parent) = self.at(path).parent() {
            fs::create_dir_all(parent).expect(path);
        }
        std::os::unix::fs::symlink(target, self.at(path)).expect(path);
    }

    /// Adds lines to the list of device nodes.
    pub fn add_nodes(&self, lines: &str) {
        let list = self.read("/dev.list");
        self.write("/dev.list", list + lines);
    }

    /// Drops device nodes from the list.
    pub fn drop_node(&self, path: &str) {
        let list = self.read("/dev.list");
        let kept = list.lines().filter(|l| l.split(' ').nth(1) != Some(path));
        self.write("/dev.list", kept.map(|l| format!("{l}\n")).collect::<String>());
    }

    /// A tool on this machine.
    pub fn tool(&self, name: &str) -> Tool {
        Tool::new(name).arg("--root").arg(self.path())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Where beds are made: in memory where there is such a place, since a machine
/// has thousands of small files.
pub fn scratch() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let writable = fs::metadata(shm).is_ok_and(|m| m.is_dir() && !m.permissions().readonly());
    if writable && std::env::var_os("TMPDIR").is_none() { shm.into() } else { std::env::temp_dir() }
}

/// Path of a built program of this workspace, beside the running test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("current_exe");
    let dir = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    // a test binary sits in deps/, a helper binary one above
    let found = [dir.join(name), test.with_file_name(name)].into_iter().find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run cargo build --workspace first"))
}

/// One run of a tool in the making.
pub struct Tool {
    command: Command,
    text: bool,
}

/// How a run ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// Its records, each valid; empty where text was asked for.
    pub records: Vec<Value>,
    /// The command line, for the message of a failed assertion.
    command: String,
}

impl Tool {
    pub fn new(name: &str) -> Tool {
        Tool { command: Command::new(program(name)), text: false }
    }

    /// A program that others start: `prefix` with its arguments, then `program`.
    pub fn through(prefix: &[&OsStr], program: impl AsRef<OsStr>) -> Tool {
        let (first, rest) = prefix.split_first().expect("a prefix");
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        Tool { command, text: false }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Tool {
        self.command.arg(arg);
        self
    }

    /// Arguments split at spaces.
    pub fn args(mut self, args: &str) -> Tool {
        self.command.args(args.split_ascii_whitespace());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Tool {
        self.command.env(name, value);
        self
    }

    pub fn input(mut self, bytes: impl AsRef<[u8]>) -> Tool {
        self.command.write_stdin(bytes.as_ref());
        self
    }

    /// Its output is a table, tree, diff or help: not held against a schema.
    pub fn text(mut self) -> Tool {
        self.text = true;
        self
    }

    /// Runs it. Panics where a line of its output is no valid record.
    pub fn run(mut self) -> Ran {
        // a tool may end before it has read its input: that is not an error here
        let output = self.command.output().expect("the tool's output");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8 on stdout");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8 on stderr");
        // the ends of a stream are for other tools: tests look at what is between them
        let is_end = |line: &str| line.starts_with("{\"type\":\"stream\"");
        let stdout: String = match self.text {
            true => stdout,
            false => {
                stdout.lines().filter(|line| is_end(line)).for_each(|line| {
                    schema::check_line(line);
                });
                stdout.split_inclusive('\n').filter(|line| !is_end(line)).collect()
            }
        };
        let records =
            if self.text { Vec::new() } else { stdout.lines().map(schema::check_line).collect() };
        let command = format!("{:?}", self.command);
        Ran { status: output.status, stdout, stderr, records, command }
    }
}

impl Ran {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// A failed assertion shows the command, its exit code and its output.
    fn assert(&self) -> Assert {
        let (stdout, stderr) = (self.stdout.clone().into_bytes(), self.stderr.clone().into_bytes());
        let output = Output { status: self.status, stdout, stderr };
        output.assert().append_context("command", self.command.clone())
    }

    /// Panics unless it exited with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        self.assert().code(code);
        self
    }

    /// Panics unless standard error is one message of one line, with what else
    /// is indented below it (hints), and contains `what`.
    #[track_caller]
    pub fn one_line(self, what: &str) -> Ran {
        let messages = |text: &str| text.lines().filter(|line| !line.starts_with("  ")).count();
        let one = predicate::function(move |text: &str| messages(text) == 1).fn_name("one message");
        self.assert().stderr(one.and(predicate::str::contains(what)));
        self
    }

    /// Values of one key of all records of a type.
    pub fn values(&self, type_name: &str, key: &str) -> Vec<Value> {
        self.of_type(type_name).map(|r| r[key].clone()).collect()
    }

    pub fn of_type(&self, type_name: &str) -> std::vec::IntoIter<&Value> {
        let found: Vec<&Value> = self.records.iter().filter(|r| r["type"] == type_name).collect();
        found.into_iter()
    }

    /// The one record of a type in which `key` is `value`.
    pub fn one(&self, type_name: &str, key: &str, value: &str) -> &Value {
        let mut found = self.of_type(type_name).filter(|r| r[key] == value);
        let record = found.next().unwrap_or_else(|| panic!("no {type_name} with {key} {value}"));
        assert!(found.next().is_none(), "two {type_name} with {key} {value}");
        record
    }
}
