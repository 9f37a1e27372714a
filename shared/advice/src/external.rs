//! Command lines of programs that are not ours: Proxmox VE's, Debian's,
//! NVIDIA's.

use record::{Address, CommandLine};

use crate::command;

/// Restarts a container.
pub fn pct_reboot(ctid: u32) -> CommandLine {
    command(&["pct", "reboot", &ctid.to_string()])
}

/// Loads a kernel module.
pub fn modprobe(module: &str) -> CommandLine {
    command(&["modprobe", module])
}

/// Shuts a VM down.
pub fn qm_shutdown(vmid: u32) -> CommandLine {
    command(&["qm", "shutdown", &vmid.to_string()])
}

/// Enables all virtual functions of a GPU (NVIDIA's vGPU host driver).
pub fn sriov_manage_enable(gpu: Address) -> CommandLine {
    command(&["/usr/lib/nvidia/sriov-manage", "-e", &gpu.to_string()])
}

/// Disables all virtual functions of a GPU (NVIDIA's vGPU host driver).
pub fn sriov_manage_disable(gpu: Address) -> CommandLine {
    command(&["/usr/lib/nvidia/sriov-manage", "-d", &gpu.to_string()])
}

/// Turns MIG mode of a GPU on or off.
pub fn nvidia_smi_mig_mode(gpu: Address, on: bool) -> CommandLine {
    let mode = if on { "1" } else { "0" };
    command(&["nvidia-smi", "-i", &gpu.to_string(), "-mig", mode])
}

/// Lists the MIG instance profiles that a GPU offers.
pub fn nvidia_smi_mig_profiles(gpu: Address) -> CommandLine {
    command(&["nvidia-smi", "mig", "-i", &gpu.to_string(), "-lgip"])
}

/// Switches the persistence mode of one GPU off.
pub fn nvidia_smi_persistence_off(gpu: Address) -> CommandLine {
    command(&["nvidia-smi", "-i", &gpu.to_string(), "-pm", "0"])
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
