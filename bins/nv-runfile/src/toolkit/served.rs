//! Whether the loaded driver can serve the programs of a toolkit.

use std::cmp::Ordering;

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use nvidia::{compare_versions, cuda_need};

use crate::cli::Release;

/// Refuses a toolkit whose programs the loaded driver cannot run; warns where it
/// is older than the one that the toolkit was made with.
pub fn require(machine: &Machine, release: Release, force: bool, say: &Say) -> Result<(), Failure> {
    let release = release.dotted();
    let Some(need) = cuda_need(&release) else {
        say.warn(&format!("which driver CUDA {release} needs is not known to this version"));
        return Ok(());
    };
    let Some(loaded) = nvidia::module_version(machine) else {
        say.warn(&format!(
            "no kernel module of NVIDIA's is loaded; programs of CUDA {release} need {} or newer",
            need.minimum
        ));
        return Ok(());
    };
    let older = |than: &str| compare_versions(&loaded, than) == Ordering::Less;
    if older(need.minimum) {
        let message = format!(
            "the loaded kernel module is {loaded}; programs of CUDA {release} need {} or newer",
            need.minimum
        );
        if force {
            say.warn(&message);
            return Ok(());
        }
        let hint = "install a newer driver on the host, or take an older toolkit";
        return Err(fail(Exit::Refused, message).hint(hint));
    }
    if let Some(bundled) = need.bundled.filter(|bundled| older(bundled)) {
        say.warn(&format!(
            "the loaded kernel module {loaded} is older than {bundled}, which CUDA {release} was \
             made with: new features and PTX made by its compiler may fail"
        ));
    }
    Ok(())
}
