//! Plans the mount entries of driver libraries.

use std::collections::{BTreeMap, BTreeSet};

use pve::Fate;

use crate::config::access::is_driver_file;
use crate::config::node_entries::{MountEntry, escape};
use crate::plan::model::{ConfigPlan, FileMount};

const FILE_OPTIONS: &str = "none bind,ro,optional,create=file";

/// Mounts these driver files, and removes mount entries of other driver files.
pub fn mount_libraries(plan: &mut ConfigPlan, files: &[FileMount]) {
    let wanted: BTreeMap<&str, String> = files
        .iter()
        .map(|file| {
            let (source, target) = (escape(&file.source), escape(&file.target));
            (file.target.as_str(), format!("{source} {} {FILE_OPTIONS}", &target[1..]))
        })
        .collect();
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    plan.conf.change_lxc(|key, value| {
        let Some(mount) = MountEntry::parse(value).filter(|_| key == "lxc.mount.entry") else {
            return Fate::Keep;
        };
        if !is_driver_file(&mount.target) {
            return Fate::Keep;
        }
        let text = wanted.get(mount.target.as_str()).filter(|_| seen.insert(mount.target.clone()));
        steps.push((value.to_string(), text.cloned()));
        match text {
            Some(text) if text == value => Fate::Keep,
            Some(text) => Fate::Become(key.into(), text.clone()),
            None => Fate::Remove,
        }
    });
    for (from, to) in steps {
        let why = match &to {
            None => Some("of another driver version, or not requested"),
            Some(to) if *to != from => Some("mounts another file of the host"),
            Some(_) => None,
        };
        plan.step("lxc.mount.entry", Some(from), to, why);
    }
    for (target, text) in &wanted {
        if !seen.contains(*target) {
            plan.add("lxc.mount.entry", text.clone());
        }
    }
}
