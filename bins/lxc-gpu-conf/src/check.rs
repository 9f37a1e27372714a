//! What is wrong with a container's GPUs: one file for each subject.

pub mod config_sections;
pub mod device_rules;
pub mod finding;
pub mod gpus;
pub mod libraries;
pub mod mig;
pub mod nodes;
pub mod pve_version;
pub mod running_container;
pub mod start;

use crate::config::given_nodes::ContainerView;
use finding::Finding;

/// All findings of a container, each once.
pub fn findings(view: &ContainerView<'_>) -> Vec<Finding> {
    let mut found = config_sections::check(view);
    if view.has_gpu() {
        let subjects: [fn(&ContainerView<'_>) -> Vec<Finding>; 8] = [
            start::check,
            nodes::check,
            device_rules::check,
            mig::check,
            gpus::check,
            libraries::check,
            pve_version::check,
            running_container::check,
        ];
        found.extend(subjects.iter().flat_map(|check| check(view)));
    }
    let mut findings: Vec<Finding> = Vec::new();
    for finding in found {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}
