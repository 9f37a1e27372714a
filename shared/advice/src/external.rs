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

/// Starts a container.
pub fn pct_start(ctid: u32) -> CommandLine {
    command(&["pct", "start", &ctid.to_string()])
}

/// Unmounts the file system of a stopped container.
pub fn pct_unmount(ctid: u32) -> CommandLine {
    command(&["pct", "unmount", &ctid.to_string()])
}

/// Unloads the NVIDIA driver's kernel modules, those first that use the others.
pub fn unload_nvidia() -> CommandLine {
    command(&["modprobe", "-r", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"])
}

/// Keeps idle GPUs initialised until the next boot.
pub fn persistence_mode() -> CommandLine {
    command(&["nvidia-smi", "-pm", "1"])
}

/// Shows what kind of file a path is.
pub fn file(path: &str) -> CommandLine {
    command(&["file", path])
}
