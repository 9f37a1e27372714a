//! Whether nvidia-smi runs, in a container or on the host.

use std::time::Duration;

use ::cli::Failure;
use host::Machine;
use record::{Check, CheckStatus, Severity};

use crate::install::container::Container;

/// nvidia-smi wakes every GPU that it is shown.
const DEADLINE: Duration = Duration::from_secs(60);
const PROGRAM: &str = "/usr/bin/nvidia-smi";

fn expected(subject: &str) -> Check {
    let mut check = Check::ok(subject, "nvidia-smi", "runs".to_string());
    check.expected = Some("runs".into());
    check
}

/// Runs it in the container. `None` if the container does not have it.
pub fn check_in_container(container: &Container<'_>) -> Result<Option<Check>, Failure> {
    if !container.root.exists(PROGRAM) {
        return Ok(None);
    }
    let mut check = expected(&container.guest.target());
    // before nvidia-smi runs: where it may, it makes device nodes itself
    let given = container.exec(&["test", "-c", "/dev/nvidiactl"], DEADLINE)?;
    let Some(ran) = container.exec(&[PROGRAM, "-L"], DEADLINE)? else {
        check.actual = None;
        (check.status, check.severity) = (CheckStatus::Unknown, Severity::Info);
        check.reason = Some("the container is not running".into());
        return Ok(Some(check));
    };
    if ran.success() {
        return Ok(Some(check));
    }
    // nvidia-smi prints its errors on standard output
    let said = String::from_utf8_lossy(&ran.stdout).trim().replace('\n', " ");
    check.actual = Some(match said.is_empty() {
        true => ran.reason(),
        false => said.chars().take(400).collect(),
    });
    check.severity = Severity::Warning;
    let ctid = container.guest.ctid;
    // without device nodes it fails whatever its libraries are
    if given.is_some_and(|ran| ran.success()) {
        (check.status, check.severity) = (CheckStatus::Drift, Severity::Error);
        check.commands = vec![advice::lxc_gpu_conf::check(ctid)];
    } else {
        check.status = CheckStatus::Unknown;
        check.reason = Some("the container has no GPU".into());
        check.hint = Some("add a GPU to the container, see lxc-gpu-conf(1)".into());
    }
    Ok(Some(check))
}

/// Runs it on the host.
pub fn check_on_host(machine: &Machine) -> Check {
    let mut check = expected("host");
    let why = match machine.run(&[PROGRAM, "-L"], DEADLINE) {
        Ok(Some(ran)) if ran.success() => return check,
        Ok(Some(ran)) => ran.reason(),
        Ok(None) => "no command is run with --root".into(),
        Err(error) => error.to_string(),
    };
    (check.status, check.severity) = (CheckStatus::Drift, Severity::Error);
    check.actual = Some(why);
    check
}
