//! Hot-plugs new dev[n] into a running container with pct: only Proxmox VE can
//! create the node inside and extend the device rules.

use std::time::Duration;

use host::Machine;
use sha1::{Digest, Sha1};

use crate::plan::model::ConfigStep;

/// pct starts Perl, waits up to 10 s for the lock, and creates the nodes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether a container runs and can get a new dev[n] now.
pub fn possible(machine: &Machine, ctid: u32) -> bool {
    machine.is_host()
        && pve::is_running(machine, ctid)
        && matches!(pve::pve_container_version(machine), Ok(Some(v)) if pve::has_hotplug(&v))
        && has_pct(machine)
}

/// Whether this host has Proxmox VE's command for containers.
pub fn has_pct(machine: &Machine) -> bool {
    let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    machine.is_host() && dirs.iter().any(|dir| machine.exists(&format!("{dir}/pct")))
}

/// Runs `pct set`, which fails unless the file still is `old`. The error is a
/// reason for the user.
pub fn pct_set(
    machine: &Machine,
    ctid: u32,
    added: &[&ConfigStep],
    old: &[u8],
) -> Result<(), String> {
    let ctid = ctid.to_string();
    let digest = hex::encode(Sha1::digest(old));
    let mut argv = vec!["pct".to_string(), "set".into(), ctid, "--digest".into(), digest];
    for step in added {
        argv.push(format!("--{}", step.key));
        argv.push(step.to.clone().unwrap_or_default());
    }
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    match machine.run(&argv, DEADLINE) {
        Ok(Some(ran)) if ran.success() => Ok(()),
        Ok(Some(ran)) => Err(ran.reason()),
        Ok(None) => Err("commands are not run with --root".into()),
        Err(error) => Err(error.to_string()),
    }
}
