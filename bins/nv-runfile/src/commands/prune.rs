//! `prune`: removes cached installers, broken-off downloads and leftovers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use ::cli::{Exit, Failure, Say, catch_signals, interrupted};
use host::{FileKind, LockError, PrivateDir, PrivateFile};
use nvidia::compare_versions;
use record::{Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};
use runfile::InstallerName;

use crate::cli::{Options, Prune};
use crate::fetch::cache::{self, lock_name, note_name, part_name, part_note_name};

/// One day in nanoseconds.
const DAY: i64 = 86_400 * 1_000_000_000;

/// An installer, a part or a leftover in the cache, with its note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// Name of the installer that it belongs to.
    of: String,
    /// CacheEntryKind it is.
    what: CacheEntryKind,
    /// Its files, the one that counts first.
    files: Vec<String>,
    size: u64,
    mtime: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CacheEntryKind {
    Runfile,
    Part,
    Leftover,
}

impl CacheEntryKind {
    /// The property of its record.
    fn as_str(self) -> &'static str {
        match self {
            CacheEntryKind::Runfile => "runfile",
            CacheEntryKind::Part => "part",
            CacheEntryKind::Leftover => "leftover",
        }
    }
}

/// CacheEntryKind happens to an entry, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PruneDecision {
    Keep(String),
    Remove,
}

pub fn run(
    options: &Options,
    prune: &Prune,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    catch_signals();
    let Some(store) = cache::open(options, prune.cache.as_deref(), false)? else {
        say.note("the cache does not exist");
        return Ok(Exit::Done);
    };
    let loaded = nvidia::module_version(&options.common.machine()?);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    let entries = entries(&store)?;
    let decisions = plan(&entries, prune, loaded.as_deref(), now);
    let mut exit = Exit::Done;
    for (entry, decision) in entries.iter().zip(decisions) {
        exit = exit.max(carry_out(&store, entry, decision, prune, say, writer)?);
    }
    Ok(exit)
}

fn carry_out(
    store: &PrivateDir,
    entry: &CacheEntry,
    decision: PruneDecision,
    prune: &Prune,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let target = store.shown(&entry.files[0]);
    let mut change = Change::planned(say.tool(), &target, entry.what.as_str());
    change.from = Some(format!("{} bytes", entry.size));
    let (status, reason) = match decision {
        PruneDecision::Keep(why) => {
            if prune.change.check {
                return Ok(Exit::Done);
            }
            change.to = change.from.clone();
            (ChangeStatus::Unchanged, Some(why))
        }
        PruneDecision::Remove if prune.change.only_look() => match in_use(store, entry) {
            Some(why) => (ChangeStatus::Skipped, Some(why)),
            None if prune.change.check => {
                writer.put(Record::Check(check(target, entry)))?;
                return Ok(Exit::Difference);
            }
            None => (ChangeStatus::Planned, None),
        },
        PruneDecision::Remove if interrupted() => {
            (change.status, change.reason) =
                (ChangeStatus::Skipped, Some("interrupted".to_string()));
            writer.put(Record::Change(change))?;
            return Ok(Exit::System);
        }
        PruneDecision::Remove => remove(store, entry),
    };
    (change.status, change.reason) = (status, reason);
    writer.put(Record::Change(change))?;
    Ok(if status == ChangeStatus::Failed { Exit::System } else { Exit::Done })
}

fn check(subject: String, entry: &CacheEntry) -> Check {
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
        hint: Some("run without --check to remove it".into()),
    }
}

/// Why an entry is in use, if it is.
fn in_use(store: &PrivateDir, entry: &CacheEntry) -> Option<String> {
    let lock = lock_name(&entry.of);
    // a lock that does not exist is not created only to look at it
    if store.stat(&lock).ok().flatten().is_some() {
        match store.lock(&lock, Duration::ZERO, &|| false) {
            Err(LockError::Busy { .. }) => return Some(FETCHED.into()),
            Err(error) => return Some(error.to_string()),
            Ok(_) => {}
        }
    }
    open(store, entry)
}

const FETCHED: &str = "in use: it is being downloaded";

fn open(store: &PrivateDir, entry: &CacheEntry) -> Option<String> {
    let open = entry.what != CacheEntryKind::Leftover && store.in_use(&entry.files[0]);
    open.then(|| "in use: a process has it open".into())
}

fn remove(store: &PrivateDir, entry: &CacheEntry) -> (ChangeStatus, Option<String>) {
    let _lock = match store.lock(&lock_name(&entry.of), Duration::ZERO, &|| false) {
        Ok(lock) => lock,
        Err(LockError::Busy { .. }) => return (ChangeStatus::Skipped, Some(FETCHED.into())),
        Err(error) => return (ChangeStatus::Failed, Some(error.to_string())),
    };
    if let Some(why) = open(store, entry) {
        return (ChangeStatus::Skipped, Some(why));
    }
    // a download may have ended before the lock was taken
    match store.stat(&entry.files[0]) {
        Ok(Some(now)) if now.mtime == entry.mtime => {}
        Ok(_) => return (ChangeStatus::Skipped, Some("modified by another process".into())),
        Err(error) => return (ChangeStatus::Failed, Some(error.to_string())),
    }
    match entry.files.iter().try_for_each(|file| store.remove(file)) {
        Ok(()) => (ChangeStatus::Changed, None),
        Err(error) => (ChangeStatus::Failed, Some(error.to_string())),
    }
}

/// CacheEntryKind is in the cache. CacheEntryKind has no name of ours is none of our business.
fn entries(store: &PrivateDir) -> Result<Vec<CacheEntry>, Failure> {
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
        entries.push(entry(
            &found,
            CacheEntryKind::Runfile,
            name,
            [name.to_string(), note_name(name)],
        ));
    }
    for name in &names {
        let Some(of) = name.strip_suffix(".part").filter(|of| is_installer(of)) else { continue };
        entries.push(entry(&found, CacheEntryKind::Part, of, [part_name(of), part_note_name(of)]));
    }
    taken.extend(entries.iter().flat_map(|entry| entry.files.clone()));
    for name in names.iter().filter(|name| !taken.contains(**name)) {
        let Some(of) = leftover_of(name) else { continue };
        entries.push(entry(
            &found,
            CacheEntryKind::Leftover,
            of,
            [name.to_string(), String::new()],
        ));
    }
    Ok(entries)
}

fn entry(
    found: &BTreeMap<String, PrivateFile>,
    what: CacheEntryKind,
    of: &str,
    files: [String; 2],
) -> CacheEntry {
    let files: Vec<String> = files.into_iter().filter(|file| found.contains_key(file)).collect();
    let size = files.iter().filter_map(|file| found.get(file)).map(|stored| stored.size).sum();
    let mtime = files.first().and_then(|file| found.get(file)).map_or(0, |stored| stored.mtime);
    CacheEntry { of: of.into(), what, files, size, mtime }
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

/// Decides what is removed: without --keep and --older-than no complete file.
fn plan(
    entries: &[CacheEntry],
    prune: &Prune,
    loaded: Option<&str>,
    now: i64,
) -> Vec<PruneDecision> {
    let beyond = beyond(entries, prune.keep);
    let old = |entry: &CacheEntry| {
        prune.older_than.is_some_and(|days| {
            now.saturating_sub(entry.mtime) > i64::from(days).saturating_mul(DAY)
        })
    };
    let decision = |entry: &CacheEntry| {
        let keep = |why: &str| PruneDecision::Keep(why.into());
        match entry.what {
            CacheEntryKind::Leftover => return PruneDecision::Remove,
            CacheEntryKind::Part if prune.keep_partial => {
                return keep("an incomplete download: --keep-partial");
            }
            CacheEntryKind::Part => return PruneDecision::Remove,
            CacheEntryKind::Runfile => {}
        }
        let version = named(&entry.of).version;
        if version.as_ref().is_some_and(|version| prune.keep_versions.contains(version)) {
            return keep("--keep-version");
        }
        if version.is_some() && version.as_deref() == loaded {
            return keep("in use: its kernel module is loaded");
        }
        match (prune.keep, prune.older_than) {
            (None, None) => keep("complete; use --keep or --older-than to remove it"),
            (Some(_), _) if !beyond.contains(&entry.of) => keep("among the newest"),
            (_, Some(_)) if !old(entry) => keep("not old enough"),
            _ => PruneDecision::Remove,
        }
    };
    entries.iter().map(decision).collect()
}

/// Installers that are not among the newest of their kind.
fn beyond(entries: &[CacheEntry], keep: Option<usize>) -> BTreeSet<String> {
    let mut kinds: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.what == CacheEntryKind::Runfile) {
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
        let entries: Vec<CacheEntry> = versions
            .iter()
            .map(|(version, days)| {
                let of = format!("NVIDIA-Linux-x86_64-{version}.run");
                let (files, mtime) = (vec![of.clone()], 1000 * DAY - days * DAY);
                CacheEntry { of, what: CacheEntryKind::Runfile, files, size: 1, mtime }
            })
            .collect();
        let decisions = plan(&entries, &prune(args), loaded, 1000 * DAY);
        let removed = versions
            .iter()
            .zip(decisions)
            .filter(|(_, decision)| *decision == PruneDecision::Remove);
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
