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

/// Keeps a kernel module from being loaded for a device (modprobe.d(5)).
pub fn blacklist(module: &str) -> CommandLine {
    let script = format!("echo blacklist {module} >/etc/modprobe.d/blacklist-{module}.conf");
    command(&["sh", "-c", &script])
}

/// Rebuilds the initramfs of every kernel; where proxmox-boot-tool manages the
/// boot its hook copies them to the ESPs.
pub fn update_initramfs() -> CommandLine {
    command(&["update-initramfs", "-u", "-k", "all"])
}
