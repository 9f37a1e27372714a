//! The mounted driver files: they exist, and have the version of the loaded
//! kernel module.

use advice::lxc_gpu_conf::{AddOptions, add, sync};

use crate::check::finding::{Cause, Finding};
use crate::config::access::is_driver_file;
use crate::config::given_nodes::ContainerView;

/// Each mounted driver file.
pub fn check(view: &ContainerView<'_>) -> Vec<Finding> {
    let Some(facts) = view.facts else { return Vec::new() };
    let module = facts.module_version();
    let mut found = Vec::new();
    for mount in view.access.mounts.iter().filter(|mount| is_driver_file(&mount.target)) {
        let version = nvidia::userspace::driver_version_of(&mount.source);
        let base =
            Finding { property: mount.target.clone(), ..Finding::error(Cause::LibraryMissing) };
        let finding = if !facts.machine.exists(&mount.source) {
            Finding {
                expected: Some("a file of the host".into()),
                reason: format!("{} does not exist on the host any more", mount.source),
                ..base
            }
        } else if version.is_some() && module.is_some() && version.as_deref() != module {
            Finding {
                cause: Cause::LibraryVersion,
                expected: module.map(str::to_string),
                reason: format!(
                    "{} has another version than the loaded module {}: programs fail with \
                     'driver/library version mismatch'",
                    mount.source,
                    module.unwrap_or_default()
                ),
                actual: version,
                ..base
            }
        } else {
            continue;
        };
        found.push(finding.run(repair(view)));
    }
    found
}

/// `sync` knows only the libraries that `add` mounted.
fn repair(view: &ContainerView<'_>) -> record::CommandLine {
    let stored = view.stored.as_ref();
    let known = stored.is_some_and(|stored| stored.assignment.userspace.is_some());
    let gpus: Vec<String> = view.minors().iter().map(u32::to_string).collect();
    if known || gpus.is_empty() {
        return sync(view.guest.ctid);
    }
    let libs = ["utility", "compute", "video"].map(String::from).to_vec();
    add(view.guest.ctid, &AddOptions { gpus, libs, ..AddOptions::default() })
}
