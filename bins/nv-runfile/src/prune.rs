//! `prune`: takes out of the cache what nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use ::cli::{Exit, Failure, Say, catch_signals, interrupted};
use host::{FileKind, LockError, PrivateDir, PrivateFile};
use nvidia::compare_versions;
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};
use runfile::InstallerName;

use crate::cache::{self, lock_name, note_name, part_name, part_note_name};
use crate::cli::{Options, Prune};

/// One day in nanoseconds.
const DAY: i64 = 86_400 * 1_000_000_000;

/// One thing in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the installer that it belongs to.
    of: String,
    /// What it is.
    what: What,
    /// Its files, the one that counts first.
    files: Vec<String>,
    size: u64,
    mtime: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Runfile,
    Part,
    Leftover,
}

impl What {
    /// The property in records.
    fn as_str(self) -> &'static str {
        match self {
            What::Runfile => "runfile",
            What::Part => "part",
            What::Leftover => "leftover",
        }
    }
}

/// What happens to an entry, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Keep(String),
    Remove,
}

/// The verb.
pub fn run(
    options: &Options,
    prune: &Prune,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    catch_signals();
    let Some(store) = cache::open(options, prune.cache.as_deref(), false)? else {
        say.note("there is no cache");
        return Ok(Exit::Done);
    };
    let loaded = options.common.machine()?.attr("/sys/module/nvidia/version").ok();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    let entries = entries(&store)?;
    let fates = plan(&entries, prune, loaded.as_deref(), now);
    let mut exit = Exit::Done;
    for (entry, fate) in entries.iter().zip(fates) {
        let target = store.shown(&entry.files[0]);
        let mut change = Change::planned(say.tool(), &target, entry.what.as_str());
        change.from = Some(format!("{} bytes", entry.size));
        match fate {
            Fate::Keep(why) => {
                change.to = change.from.clone();
                (change.status, change.reason) = (ChangeStatus::Unchanged, Some(why));
            }
            Fate::Remove if prune.change.only_look() => {
                if let Some(why) = held(&store, entry) {
                    (change.status, change.reason) = (ChangeStatus::Skipped, Some(why));
                } else if prune.change.check {
                    exit = exit.max(Exit::Difference);
                    writer.put(Record::Check(check(target, entry)))?;
                    continue;
                }
            }
            Fate::Remove if interrupted() => {
                (change.status, change.reason) =
                    (ChangeStatus::Skipped, Some("interrupted".to_string()));
                exit = exit.max(Exit::System);
            }
            Fate::Remove => {
                let (status, reason) = remove(&store, entry);
                if status == ChangeStatus::Failed {
                    exit = exit.max(Exit::System);
                }
                (change.status, change.reason) = (status, reason);
            }
        }
        if prune.change.check && change.status == ChangeStatus::Unchanged {
            continue;
        }
        writer.put(Record::Change(change))?;
    }
    Ok(exit)
}

fn check(subject: String, entry: &Entry) -> Check {
    Check {
        commands: Vec::new(),
        subject,
        property: entry.what.as_str().into(),
        expected: None,
        actual: Some(format!("{} bytes", entry.size)),
        status: CheckStatus::Drift,
        severity: Severity::Info,
        cause: None,
        reason: None,
        hint: Some("without --check it is removed".into()),
    }
}

/// Who works with it just now.
fn held(store: &PrivateDir, entry: &Entry) -> Option<String> {
    let lock = lock_name(&entry.of);
    // where nobody ever took the lock none is made for looking
    if store.stat(&lock).ok().flatten().is_some() {
        match store.lock(&lock, Duration::ZERO, &|| false) {
            Err(LockError::Busy { .. }) => return Some(FETCHED.into()),
            Err(error) => return Some(error.to_string()),
            Ok(_) => {}
        }
    }
    open(store, entry)
}

const FETCHED: &str = "in use: it is being fetched";

fn open(store: &PrivateDir, entry: &Entry) -> Option<String> {
    let open = entry.what != What::Leftover && store.in_use(&entry.files[0]);
    open.then(|| "in use: a process has it open".into())
}

fn remove(store: &PrivateDir, entry: &Entry) -> (ChangeStatus, Option<String>) {
    let _lock = match store.lock(&lock_name(&entry.of), Duration::ZERO, &|| false) {
        Ok(lock) => lock,
        Err(LockError::Busy { .. }) => return (ChangeStatus::Skipped, Some(FETCHED.into())),
        Err(error) => return (ChangeStatus::Failed, Some(error.to_string())),
    };
    if let Some(why) = open(store, entry) {
        return (ChangeStatus::Skipped, Some(why));
    }
    // a download may have ended between the look and the lock
    match store.stat(&entry.files[0]) {
        Ok(Some(now)) if now.mtime == entry.mtime => {}
        Ok(_) => return (ChangeStatus::Skipped, Some("it has changed meanwhile".into())),
        Err(error) => return (ChangeStatus::Failed, Some(error.to_string())),
    }
    match entry.files.iter().try_for_each(|file| store.remove(file)) {
        Ok(()) => (ChangeStatus::Changed, None),
        Err(error) => (ChangeStatus::Failed, Some(error.to_string())),
    }
}

/// What is in the cache. What has no name of ours is none of our business.
fn entries(store: &PrivateDir) -> Result<Vec<Entry>, Failure> {
    let mut found: BTreeMap<String, PrivateFile> = BTreeMap::new();
    for name in store.list()? {
        if let Some(stored) = store.stat(&name)?.filter(|stored| stored.kind == FileKind::File) {
            found.insert(name, stored);
        }
    }
    let mut entries = Vec::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let names: Vec<&String> = found.keys().collect();
    for name in names.iter().filter(|name| is_installer(name)) {
        entries.push(entry(&found, What::Runfile, name, [name.to_string(), note_name(name)]));
    }
    for name in &names {
        let Some(of) = name.strip_suffix(".part").filter(|of| is_installer(of)) else { continue };
        entries.push(entry(&found, What::Part, of, [part_name(of), part_note_name(of)]));
    }
    taken.extend(entries.iter().flat_map(|entry| entry.files.clone()));
    for name in names.iter().filter(|name| !taken.contains(**name)) {
        let Some(of) = leftover_of(name) else { continue };
        entries.push(entry(&found, What::Leftover, of, [name.to_string(), String::new()]));
    }
    Ok(entries)
}

fn entry(found: &BTreeMap<String, PrivateFile>, what: What, of: &str, files: [String; 2]) -> Entry {
    let files: Vec<String> = files.into_iter().filter(|file| found.contains_key(file)).collect();
    let size = files.iter().filter_map(|file| found.get(file)).map(|stored| stored.size).sum();
    let mtime = files.first().and_then(|file| found.get(file)).map_or(0, |stored| stored.mtime);
    Entry { of: of.into(), what, files, size, mtime }
}

fn is_installer(name: &str) -> bool {
    name.ends_with(".run") && !name.starts_with('.')
}

/// Notes without a file, and what a killed writer of a note left.
fn leftover_of(name: &str) -> Option<&str> {
    let name = match name.rsplit_once(".tmp.") {
        Some((name, pid)) if pid.parse::<u32>().is_ok() => name,
        _ => name,
    };
    let of = name.strip_suffix(".json")?;
    let of = of.strip_suffix(".part").unwrap_or(of);
    is_installer(of).then_some(of)
}

/// Decides. Without --keep and --older-than no complete file goes.
fn plan(entries: &[Entry], prune: &Prune, loaded: Option<&str>, now: i64) -> Vec<Fate> {
    let beyond = beyond(entries, prune.keep);
    let old = |entry: &Entry| {
        prune.older_than.is_some_and(|days| {
            now.saturating_sub(entry.mtime) > i64::from(days).saturating_mul(DAY)
        })
    };
    let fate = |entry: &Entry| {
        let keep = |why: &str| Fate::Keep(why.into());
        match entry.what {
            What::Leftover => return Fate::Remove,
            What::Part if prune.keep_partial => {
                return keep("a broken-off download: --keep-partial");
            }
            What::Part => return Fate::Remove,
            What::Runfile => {}
        }
        let version = named(&entry.of).version;
        if version.as_ref().is_some_and(|version| prune.keep_versions.contains(version)) {
            return keep("--keep-version");
        }
        if version.is_some() && version.as_deref() == loaded {
            return keep("in use: its kernel module is loaded");
        }
        match (prune.keep, prune.older_than) {
            (None, None) => keep("complete; --keep and --older-than say what may go"),
            (Some(_), _) if !beyond.contains(&entry.of) => keep("among the newest"),
            (_, Some(_)) if !old(entry) => keep("not old enough"),
            _ => Fate::Remove,
        }
    };
    entries.iter().map(fate).collect()
}

/// Installers that are not among the newest of their kind.
fn beyond(entries: &[Entry], keep: Option<usize>) -> BTreeSet<String> {
    let mut kinds: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.what == What::Runfile) {
        let name = named(&entry.of);
        let arch = name.arch.map_or("", |arch| arch.as_str());
        let kind = format!("{} {arch} {}", name.flavour.as_str(), name.variants.join(" "));
        let version = name.version.unwrap_or_default();
        kinds.entry(kind).or_default().push((version, entry.of.clone()));
    }
    let mut beyond = BTreeSet::new();
    for mut of_kind in kinds.into_values() {
        of_kind.sort_by(|a, b| compare_versions(&b.0, &a.0).then_with(|| b.cmp(a)));
        let rest = of_kind.into_iter().skip(keep.unwrap_or(usize::MAX));
        beyond.extend(rest.map(|(_, name)| name));
    }
    beyond
}

fn named(name: &str) -> InstallerName {
    InstallerName::of(name, None, None, None, None, &mut Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Verb;
    use clap::Parser;

    fn prune(args: &str) -> Prune {
        let words = ["nv-runfile", "prune"].into_iter().chain(args.split_ascii_whitespace());
        match Options::parse_from(words).verb {
            Verb::Prune(prune) => prune,
            _ => panic!(),
        }
    }

    fn run(versions: &[(&str, i64)], args: &str, loaded: Option<&str>) -> Vec<String> {
        let entries: Vec<Entry> = versions
            .iter()
            .map(|(version, days)| {
                let of = format!("NVIDIA-Linux-x86_64-{version}.run");
                let (files, mtime) = (vec![of.clone()], 1000 * DAY - days * DAY);
                Entry { of, what: What::Runfile, files, size: 1, mtime }
            })
            .collect();
        let fates = plan(&entries, &prune(args), loaded, 1000 * DAY);
        let removed = versions.iter().zip(fates).filter(|(_, fate)| *fate == Fate::Remove);
        removed.map(|((version, _), _)| version.to_string()).collect()
    }

    #[test]
    fn only_what_is_old_and_beyond_the_newest_goes_and_nothing_unasked() {
        let all = [("550.54.14", 90), ("550.163.01", 60), ("580.126.20", 10), ("580.142", 1)];
        assert!(run(&all, "", None).is_empty());
        assert_eq!(run(&all, "--keep 1", None), ["550.54.14", "550.163.01", "580.126.20"]);
        assert_eq!(run(&all, "--keep 2 --older-than 70", None), ["550.54.14"]);
        assert_eq!(run(&all, "--older-than 5", None), ["550.54.14", "550.163.01", "580.126.20"]);
        assert_eq!(
            run(&all, "--keep 0 --keep-version 550.54.14", Some("580.142")),
            ["550.163.01", "580.126.20"]
        );
        // kinds are counted by themselves
        let kinds = [("550.54.14", 1), ("550.54.14-grid", 1), ("570.1", 1)];
        assert_eq!(run(&kinds, "--keep 1", None), ["550.54.14"]);
    }

    #[test]
    fn names_of_others_are_left_alone() {
        for (name, of) in [
            ("a.run.json", Some("a.run")),
            ("a.run.part.json", Some("a.run")),
            ("a.run.json.tmp.12", Some("a.run")),
            ("a.run.lock", None),
            ("README.json", None),
            ("a.run.json.tmp.x", None),
            (".x.run.json", None),
        ] {
            assert_eq!(leftover_of(name), of, "{name}");
        }
    }
}
