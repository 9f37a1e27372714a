//! Command lines of programs that are not ours: Proxmox VE's, Debian's,
//! NVIDIA's.

use record::CommandLine;

use crate::command;

/// Restarts a container.
pub fn pct_reboot(ctid: u32) -> CommandLine {
    command(&["pct", "reboot", &ctid.to_string()])
}

/// Loads a kernel module.
pub fn modprobe(module: &str) -> CommandLine {
    command(&["modprobe", module])
}
