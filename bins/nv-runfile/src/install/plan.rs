//! What is to change in a root file system: decided from what was found in it
//! and what the driver has, without any I/O.

use std::collections::{BTreeMap, BTreeSet};

use nvidia::userspace::Set;

use crate::install::receipt::{FORMAT, PathState, PlacedKind, Receipt, ReceiptEntry};
use crate::install::select_files::SelectedFile;
use crate::install::verify::VerifiedDriver;

/// What was found in a root file system.
pub struct FoundFiles {
    /// What an earlier run placed.
    pub receipt: Option<Receipt>,
    /// How each path of the receipt is now.
    pub placed: BTreeMap<String, PathState>,
    /// What exists at selected paths that the receipt does not have.
    pub obstacles: BTreeMap<String, String>,
}

/// What is to be done to a root file system.
pub struct InstallPlan {
    pub from: Option<Receipt>,
    pub keep: Vec<ReceiptEntry>,
    pub make: Vec<SelectedFile>,
    /// What goes away, also what is replaced.
    pub gone: Vec<ReceiptEntry>,
    pub conflicts: Vec<Conflict>,
    /// The new receipt, its entries still to be filled in.
    pub to: Receipt,
}

/// Why a path cannot be placed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub path: String,
    /// What exists there.
    pub what: String,
    /// The receipt has the path: the file was placed and then modified.
    pub modified: bool,
}

/// What is below a mount point of a container.
const ELSEWHERE: &str = "on another file system, which is mounted there";

impl InstallPlan {
    /// Whether anything is to be done.
    pub fn changes(&self) -> bool {
        let same =
            |from: &Receipt| from.sets == self.to.sets && from.installer == self.to.installer;
        !self.make.is_empty() || !self.gone.is_empty() || !self.from.as_ref().is_some_and(same)
    }

    fn conflict(&mut self, path: &str, what: &str, modified: bool) {
        self.conflicts.push(Conflict { path: path.into(), what: what.into(), modified });
    }
}

/// Decides which files stay, which are new and which go away. With `force` files
/// that were modified since are replaced.
pub fn plan(
    found: FoundFiles,
    selected: Vec<SelectedFile>,
    driver: &VerifiedDriver,
    sets: &[Set],
    force: bool,
) -> InstallPlan {
    let FoundFiles { receipt, placed, obstacles } = found;
    let same = receipt.as_ref().is_some_and(|from| from.installer == driver.sha256);
    let state = |path: &str| placed.get(path).cloned().unwrap_or(PathState::Absent);
    let mut plan = empty(driver, sets);
    let mut old: BTreeMap<&str, &ReceiptEntry> = BTreeMap::new();
    for entry in receipt.iter().flat_map(|from| &from.entries) {
        old.insert(&entry.path, entry);
    }
    for file in selected {
        let Some(entry) = old.remove(file.path.as_str()) else {
            match obstacles.get(&file.path) {
                Some(what) => plan.conflict(&file.path, what, false),
                None => plan.make.push(file),
            }
            continue;
        };
        match state(&entry.path) {
            PathState::Same if same => plan.keep.push(entry.clone()),
            PathState::Other(what) if !force => plan.conflict(&entry.path, &what, true),
            PathState::OtherFileSystem => plan.conflict(&entry.path, ELSEWHERE, false),
            PathState::Absent => plan.make.push(file),
            _ => {
                plan.gone.push(entry.clone());
                plan.make.push(file);
            }
        }
    }
    plan_the_rest(&mut plan, old.into_values(), &state, force);
    plan.from = receipt;
    plan
}

/// Entries of the receipt that the manifest does not have. Links named by a
/// library's own soname stay with the library.
fn plan_the_rest<'a>(
    plan: &mut InstallPlan,
    rest: impl Iterator<Item = &'a ReceiptEntry>,
    state: &dyn Fn(&str) -> PathState,
    force: bool,
) {
    let kept: BTreeSet<String> = plan.keep.iter().map(|entry| entry.path.clone()).collect();
    for entry in rest {
        let beside = |target: &str| {
            let dir = entry.path.rsplit_once('/').map_or("", |(dir, _)| dir);
            kept.contains(&format!("{dir}/{target}"))
        };
        let stays = matches!(&entry.what, PlacedKind::Link { target } if beside(target));
        match state(&entry.path) {
            PathState::Same if stays => plan.keep.push(entry.clone()),
            PathState::Same => plan.gone.push(entry.clone()),
            PathState::Absent | PathState::OtherFileSystem => {}
            PathState::Other(_) if force => plan.gone.push(entry.clone()),
            PathState::Other(what) => plan.conflict(&entry.path, &what, true),
        }
    }
}

fn empty(driver: &VerifiedDriver, sets: &[Set]) -> InstallPlan {
    InstallPlan {
        from: None,
        keep: Vec::new(),
        make: Vec::new(),
        gone: Vec::new(),
        conflicts: Vec::new(),
        to: Receipt {
            format: FORMAT,
            run: String::new(),
            version: driver.version.clone(),
            sets: sets.iter().map(|set| set.as_str().to_string()).collect(),
            installer: driver.sha256.clone(),
            entries: Vec::new(),
            dirs: Vec::new(),
        },
    }
}
