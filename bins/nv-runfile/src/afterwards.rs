//! After an install: what programs in the container would load, and whether one
//! runs.

use std::time::Duration;

use ::cli::Failure;
use host::Machine;
use nvidia::userspace::{Set, loaded_version};
use record::{Check, CheckStatus, Severity};

use crate::cli::Install;
use crate::container::Container;
use crate::install::sets;

/// nvidia-smi wakes every GPU it is shown.
const SMI: Duration = Duration::from_secs(60);

/// Which version is loaded, and whether nvidia-smi runs.
pub fn checks(
    machine: &Machine,
    container: &Container<'_>,
    install: &Install,
    version: &str,
) -> Result<Vec<Check>, Failure> {
    let target = container.guest.target();
    let mut checks = Vec::new();
    if let Some(loaded) = loaded_version(&container.root) {
        let mut check = Check::ok(&target, "libraries", loaded.clone());
        let module = nvidia::module_version(machine);
        check.expected = module.clone().or(Some(version.to_string()));
        if module.is_some_and(|module| module != loaded) {
            (check.status, check.severity) = (CheckStatus::Unknown, Severity::Error);
            check.reason = Some("they are not of the loaded kernel module's version".into());
        }
        checks.push(check);
    }
    checks.extend(nvidia_smi(container, install)?);
    Ok(checks)
}

fn nvidia_smi(container: &Container<'_>, install: &Install) -> Result<Option<Check>, Failure> {
    if !sets(install).contains(&Set::Utility) || !container.root.exists("/usr/bin/nvidia-smi") {
        return Ok(None);
    }
    let mut check = Check::ok(&container.guest.target(), "nvidia-smi", None);
    check.expected = Some("runs".into());
    // asked first: where it may, nvidia-smi makes nodes itself
    let given = container.exec(&["test", "-c", "/dev/nvidiactl"], SMI)?;
    let Some(ran) = container.exec(&["/usr/bin/nvidia-smi", "-L"], SMI)? else {
        (check.status, check.severity) = (CheckStatus::Unknown, Severity::Info);
        check.reason = Some("the container does not run".into());
        return Ok(Some(check));
    };
    if ran.success() {
        check.actual = Some("runs".into());
        return Ok(Some(check));
    }
    // it says on standard output why not
    let said = String::from_utf8_lossy(&ran.stdout).trim().replace('\n', " ");
    check.actual = Some(match said.is_empty() {
        true => ran.reason(),
        false => said.chars().take(400).collect(),
    });
    check.severity = Severity::Warning;
    // without nodes it cannot work, whatever its libraries
    let ctid = container.guest.ctid;
    if given.is_some_and(|ran| ran.success()) {
        check.status = CheckStatus::Drift;
        check.severity = Severity::Error;
        check.hint = Some(format!("see 'lxc-gpu-conf check {ctid}'"));
    } else {
        check.status = CheckStatus::Unknown;
        check.reason = Some("the container is given no GPU".into());
        check.hint = Some(format!("give it one: lxc-gpu-conf add {ctid} --gpu ..."));
    }
    Ok(Some(check))
}
