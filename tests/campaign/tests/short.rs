//! Every campaign, a few trials of each kind: the same ones each time.
//! `make campaign` tries more.

#![allow(clippy::unwrap_used)]

use campaign::Effort;
use campaign::plan::all;

/// Runs the campaigns whose names begin so.
fn short(names: &[&str]) {
    let mut failures = Vec::new();
    let mut trials = 0;
    for campaign in all().iter().filter(|c| names.iter().any(|name| c.name.starts_with(name))) {
        for row in (campaign.run)(Effort::SHORT) {
            trials += row.trials;
            assert!(row.trials > 0, "{} {}: nothing was tried", row.what, row.fault);
            failures.extend(row.failures);
        }
    }
    assert!(trials > 0, "no campaign is called {names:?}");
    assert!(failures.is_empty(), "{} of {trials}:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn a_guests_configuration_survives() {
    short(&["lxc-gpu-conf"]);
}

#[test]
fn a_slots_drivers_survive() {
    short(&["gpu-vfio-bind-bind", "gpu-vfio-bind-release"]);
}

#[test]
fn what_is_bound_at_boot_survives() {
    short(&["gpu-vfio-bind-persist", "gpu-vfio-bind-unpersist"]);
}

#[test]
fn profiles_survive() {
    short(&["vgpu-profile-set"]);
}

#[test]
fn what_is_unpacked_fetched_and_pruned_survives() {
    short(&["nv-runfile-extract", "nv-runfile-fetch", "nv-runfile-prune"]);
}

#[test]
fn a_containers_files_survive() {
    short(&["nv-runfile-install", "nv-runfile-uninstall", "nv-runfile-container"]);
}

#[test]
fn metrics_survive() {
    short(&["nv-version-check"]);
}

#[test]
fn the_tools_survive_what_they_are_fed_with() {
    short(&["input"]);
}

#[test]
fn the_parsers_survive_what_they_are_fed_with() {
    short(&["parsers"]);
}
