//! The files of one driver into a root file system: plan, then apply.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ::cli::{Exit, Failure, Progress, Say, fail, interrupted};
use host::{Attributes, FileError, NewFile, Owner};
use nvidia::userspace::{Set, soname};
use runfile::{ArchiveLimits, MemberKind, TarError, TarReader};
use sha2::{Digest, Sha256};

use crate::content::archive_error;
use crate::installer::Installer;
use crate::ledger::{Entry, FORMAT, Ledger, Now, Placed, compare};
use crate::pick::{Pick, What, pick};
use crate::study::Study;
use crate::transition::{Goal, Tree, temporary};

/// What is to be done to a root file system.
pub struct Plan {
    /// What is written down in it.
    pub from: Option<Ledger>,
    /// What stays.
    pub keep: Vec<Entry>,
    /// What is new.
    pub make: Vec<Pick>,
    /// What goes away: also what is replaced.
    pub gone: Vec<Entry>,
    /// Why not, one sentence each.
    pub conflicts: Vec<String>,
    /// Sets and installer.
    pub to: Ledger,
}

impl Plan {
    /// Whether there is anything to do.
    pub fn changes(&self) -> bool {
        let same = |from: &Ledger| from.sets == self.to.sets && from.installer == self.to.installer;
        !self.make.is_empty() || !self.gone.is_empty() || !self.from.as_ref().is_some_and(same)
    }
}

/// Compares what is there with what is to be.
pub fn plan(
    tree: &Tree<'_>,
    study: &Study,
    sets: &[Set],
    libraries: &str,
    force: bool,
) -> Result<Plan, Failure> {
    let from = tree.ledger()?;
    let picks = pick(&study.manifest, sets, libraries);
    if !picks.iter().any(|pick| matches!(pick.what, What::File { .. })) {
        let message = format!("the manifest of {} has no file of these sets", study.version);
        return Err(fail(Exit::Usage, message));
    }
    let same = from.as_ref().is_some_and(|from| from.installer == study.sha256);
    let mut plan = Plan {
        from: None,
        keep: Vec::new(),
        make: Vec::new(),
        gone: Vec::new(),
        conflicts: Vec::new(),
        to: Ledger {
            format: FORMAT,
            run: String::new(),
            version: study.version.clone(),
            sets: sets.iter().map(|set| set.as_str().to_string()).collect(),
            installer: study.sha256.clone(),
            entries: Vec::new(),
            dirs: Vec::new(),
        },
    };
    let mut old: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in from.iter().flat_map(|from| &from.entries) {
        old.insert(&entry.path, entry);
    }
    for pick in picks {
        let Some(entry) = old.remove(pick.path.as_str()) else {
            match tree.in_the_way(&pick.path)? {
                Some(what) => plan.conflicts.push(format!("'{}' is {what}", pick.path)),
                None => plan.make.push(pick),
            }
            continue;
        };
        match compare(tree.root, entry, tree.owner)? {
            Now::Same if same => plan.keep.push(entry.clone()),
            Now::Other(what) if !force => {
                plan.conflicts.push(format!("'{}' was changed: {what}", entry.path));
            }
            Now::Absent => plan.make.push(pick),
            _ => {
                plan.gone.push(entry.clone());
                plan.make.push(pick);
            }
        }
    }
    // names that only the libraries themselves know stay with them
    let kept: BTreeSet<String> = plan.keep.iter().map(|entry| entry.path.clone()).collect();
    for entry in old.into_values() {
        let beside = |target: &str| {
            let dir = entry.path.rsplit_once('/').map_or("", |(dir, _)| dir);
            kept.contains(&format!("{dir}/{target}"))
        };
        let stays = matches!(&entry.what, Placed::Link { target } if beside(target));
        match compare(tree.root, entry, tree.owner)? {
            Now::Same if stays => plan.keep.push(entry.clone()),
            Now::Same => plan.gone.push(entry.clone()),
            Now::Absent => {}
            Now::Other(_) if force => plan.gone.push(entry.clone()),
            Now::Other(what) => {
                plan.conflicts.push(format!("'{}' was changed: {what}", entry.path));
            }
        }
    }
    plan.from = from;
    Ok(plan)
}

/// Why files cannot be taken out of the archive.
enum Stop {
    Archive(TarError),
    File(FileError),
    Interrupted,
}

impl From<TarError> for Stop {
    fn from(error: TarError) -> Stop {
        Stop::Archive(error)
    }
}

/// Does it. `check` is asked before it counts. Gives what was placed. On
/// failure the caller has the tree recover.
pub fn apply(
    tree: &Tree<'_>,
    plan: &Plan,
    installer: &mut Installer,
    limits: ArchiveLimits,
    say: &Say,
    check: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<Vec<Entry>, Failure> {
    let goal = Goal {
        from: plan.from.as_ref(),
        keep: plan.keep.iter().map(|entry| entry.path.clone()).collect(),
        paths: plan.make.iter().map(|pick| pick.path.clone()).collect(),
    };
    let intent = tree.begin(&goal)?;
    let mut start = |path: &str| tree.stage(path);
    let owner = Some(tree.owner);
    let mut made = take_out(&plan.make, installer, limits, say, &mut start, owner)?;
    let links = plan.make.iter().filter_map(|pick| match &pick.what {
        What::Link { target } => {
            let what = Placed::Link { target: target.clone() };
            Some(Entry { path: pick.path.clone(), what })
        }
        What::File { .. } => None,
    });
    made.extend(links);
    sonames(tree, plan, &mut made)?;
    let entries = plan.keep.iter().chain(&made).cloned().collect();
    let to = Ledger { entries, ..plan.to.clone() };
    tree.place(intent, made.clone(), Some(to), plan.from.as_ref(), check)?;
    Ok(made)
}

/// Takes files out of an installer; `start` makes each.
pub fn take_out(
    picks: &[Pick],
    installer: &mut Installer,
    limits: ArchiveLimits,
    say: &Say,
    start: &mut dyn FnMut(&str) -> Result<NewFile, FileError>,
    owner: Option<Owner>,
) -> Result<Vec<Entry>, Failure> {
    let mut wanted: HashMap<&str, (&str, u32)> = HashMap::new();
    for pick in picks {
        if let What::File { member, mode, .. } = &pick.what {
            wanted.insert(member, (&pick.path, *mode));
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut made = Vec::new();
    let progress = Progress::new(say, "unpacking", Some(installer.header.size));
    let at = |at| progress.at(at);
    let shown = installer.path.clone();
    let (source, header) = installer.source(&interrupted, &at)?;
    let consume = |plain: &mut runfile::Decompressed| -> Result<(), Stop> {
        let mut left = limits;
        while plain.next_part().map_err(TarError::Io)? {
            let mut tar = TarReader::new(plain, left);
            while let Some(member) = tar.next_member()? {
                let Ok(place) = member.relative_path() else { continue };
                let Ok(name) = String::from_utf8(place) else { continue };
                let found =
                    wanted.remove(name.as_str()).filter(|_| member.kind == MemberKind::File);
                let Some((path, mode)) = found else { continue };
                let mut file = start(path).map_err(Stop::File)?;
                let (mut sha, mut size) = (Sha256::new(), 0u64);
                tar.content::<Stop>(&mut |bytes| {
                    if interrupted() {
                        return Err(Stop::Interrupted);
                    }
                    sha.update(bytes);
                    size += bytes.len() as u64;
                    file.write(bytes).map_err(Stop::File)
                })?;
                let mtime = Some(member.mtime);
                let attributes = Attributes { owner, mode, mtime };
                file.finish(attributes).map_err(Stop::File)?;
                let what = Placed::File { size, sha256: hex::encode(sha.finalize()), mode };
                made.push(Entry { path: path.into(), what });
                if wanted.is_empty() {
                    return Ok(());
                }
            }
            left = tar.left();
        }
        Ok(())
    };
    let passed = runfile::unpack(source, header, &[], consume, |_| true);
    let passed = passed.map_err(|error| installer.pass_error(error))?;
    drop(progress);
    passed.outcome.map_err(|stop| match stop {
        Stop::Archive(error) => archive_error(&shown, &error),
        Stop::File(error) => no_space(error),
        Stop::Interrupted => fail(Exit::System, "interrupted"),
    })?;
    match wanted.keys().next() {
        None => Ok(made),
        Some(member) => {
            let message = format!("'{shown}': its manifest names '{member}', which is not in it");
            Err(fail(Exit::Usage, message))
        }
    }
}

/// A file that could not be written.
pub fn no_space(error: FileError) -> Failure {
    let full = [libc::ENOSPC, libc::EDQUOT].contains(&error.errno());
    let failure = Failure::from(error);
    if full { failure.hint("free space there") } else { failure }
}

/// Names that libraries give themselves and the manifest does not know: without
/// them no program finds them.
fn sonames(tree: &Tree<'_>, plan: &Plan, made: &mut Vec<Entry>) -> Result<(), Failure> {
    let mut taken: BTreeSet<String> =
        plan.keep.iter().chain(made.iter()).map(|entry| entry.path.clone()).collect();
    let ours: BTreeSet<&str> = plan.gone.iter().map(|entry| entry.path.as_str()).collect();
    let mut links = Vec::new();
    for pick in &plan.make {
        let What::File { library: true, .. } = pick.what else { continue };
        let (dir, name) = pick.path.rsplit_once('/').unwrap_or(("", &pick.path));
        let Some(soname) = soname(tree.root, &temporary(&pick.path)) else { continue };
        let path = format!("{dir}/{soname}");
        if soname == name || taken.contains(&path) {
            continue;
        }
        let free = ours.contains(path.as_str()) || tree.in_the_way(&path)?.is_none();
        if !free {
            let message = format!("{}: '{path}' is in the way", tree.name);
            return Err(fail(Exit::Refused, message).hint("find out inside what it belongs to"));
        }
        taken.insert(path.clone());
        links.push(Entry { path, what: Placed::Link { target: name.into() } });
    }
    made.extend(links);
    Ok(())
}
