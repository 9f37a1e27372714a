//! Command lines of programs that are not ours: Proxmox VE's, Debian's,
//! NVIDIA's.

use record::{Address, CommandLine};

use crate::command;

/// Restarts a container.
pub fn pct_reboot(ctid: u32) -> CommandLine {
    command(&["pct", "reboot", &ctid.to_string()])
}

/// Runs a command in a running container.
pub fn pct_exec(ctid: u32, inner: CommandLine) -> CommandLine {
    let mut words = command(&["pct", "exec", &ctid.to_string(), "--"]);
    words.extend(inner);
    words
}

/// Mounts the root file system of a stopped container on the host.
pub fn pct_mount(ctid: u32) -> CommandLine {
    command(&["pct", "mount", &ctid.to_string()])
}

/// Takes back `pct mount`.
pub fn pct_unmount(ctid: u32) -> CommandLine {
    command(&["pct", "unmount", &ctid.to_string()])
}

/// Installs a package.
pub fn apt_install(package: &str) -> CommandLine {
    command(&["apt-get", "install", package])
}

/// Installs packages.
pub fn apt_install_all(packages: &[String]) -> CommandLine {
    let mut words = command(&["apt-get", "install"]);
    words.extend(packages.iter().cloned());
    words
}

/// Installs packages again that are installed: their files and their scripts.
pub fn apt_reinstall(packages: &[String]) -> CommandLine {
    let mut words = command(&["apt-get", "install", "--reinstall"]);
    words.extend(packages.iter().cloned());
    words
}

/// Configures packages that are unpacked.
pub fn dpkg_configure() -> CommandLine {
    command(&["dpkg", "--configure", "--pending"])
}

/// Completes what an interrupted installation of packages has left.
pub fn apt_fix_broken() -> CommandLine {
    command(&["apt-get", "install", "--fix-broken"])
}

/// Removes packages with their configuration.
pub fn apt_purge(packages: &[String]) -> CommandLine {
    let mut words = command(&["apt-get", "purge"]);
    words.extend(packages.iter().cloned());
    words
}

/// Removes packages of Arch Linux.
pub fn pacman_remove(packages: &[String]) -> CommandLine {
    let mut words = command(&["pacman", "-R"]);
    words.extend(packages.iter().cloned());
    words
}

/// Removes the package that owns a file, on Fedora and its relatives: dnf takes a
/// file for the package that provides it (dnf(8), "Specifying provides").
pub fn dnf_remove(file: &str) -> CommandLine {
    command(&["dnf", "remove", file])
}

/// Removes what NVIDIA's installer installed.
pub fn nvidia_uninstall() -> CommandLine {
    command(&["nvidia-uninstall", "--silent"])
}

/// Upgrades packages that are installed, and installs no other.
pub fn apt_upgrade(packages: &[String]) -> CommandLine {
    let mut words = command(&["apt-get", "install", "--only-upgrade"]);
    words.extend(packages.iter().cloned());
    words
}

/// The package with the headers of a kernel: Proxmox VE's or Debian's.
pub fn headers_package(release: &str) -> String {
    let distribution = if release.ends_with("-pve") { "proxmox" } else { "linux" };
    format!("{distribution}-headers-{release}")
}

/// Builds and installs a module that DKMS knows, `NAME/VERSION`, for a kernel.
pub fn dkms_install(module: &str, release: &str) -> CommandLine {
    command(&["dkms", "install", module, "-k", release])
}

/// The same although DKMS takes the module for installed, or a module of the same
/// or of a newer version is in its place: without `--force` dkms 3.0.10 and 3.2
/// skip both, with exit status 0.
pub fn dkms_install_forced(module: &str, release: &str) -> CommandLine {
    command(&["dkms", "install", module, "-k", release, "--force"])
}

/// Builds a module again for a kernel, and installs it.
pub fn dkms_build_forced(module: &str, release: &str) -> CommandLine {
    command(&["dkms", "build", module, "-k", release, "--force"])
}

/// Removes what DKMS has of a module, `NAME/VERSION`, whose source is missing, and
/// the files that it made: a link that says for which kernel it is installed makes
/// the next installation fail if it dangles, and so does the module in its place
/// (3.2). `dkms remove` refuses such a module: "Manual intervention is required"
/// (3.2), "Could not locate dkms.conf file" (3.0.10).
pub fn dkms_forget(module: &str, made: &[String]) -> CommandLine {
    let mut words = command(&["rm", "-r", &format!("/var/lib/dkms/{module}")]);
    words.extend(made.iter().cloned());
    words
}

/// Removes a module, `NAME/VERSION`, from DKMS for all kernels.
pub fn dkms_remove(module: &str) -> CommandLine {
    command(&["dkms", "remove", module, "--all"])
}

/// Makes Proxmox VE boot this kernel until it is unpinned.
pub fn proxmox_kernel_pin(release: &str) -> CommandLine {
    command(&["proxmox-boot-tool", "kernel", "pin", release])
}

/// Rebuilds the dynamic linker's cache and the links of sonames.
pub fn ldconfig() -> CommandLine {
    command(&["ldconfig"])
}

/// The same for the root file system in a directory.
pub fn ldconfig_in(dir: &str) -> CommandLine {
    command(&["ldconfig", "-r", dir])
}

/// Generates a CDI specification, into a file or on standard output.
pub fn nvidia_ctk_cdi_generate(output: Option<&str>) -> CommandLine {
    let mut words = command(&["nvidia-ctk", "cdi", "generate"]);
    words.extend(output.map(|output| format!("--output={output}")));
    words
}

/// Makes NVIDIA's container runtime leave device rules alone.
pub fn nvidia_ctk_no_cgroups() -> CommandLine {
    let setting = "nvidia-container-cli.no-cgroups=true";
    command(&["nvidia-ctk", "config", "--set", setting, "--in-place"])
}

/// Has the firmware ask at the next boot whether to trust a certificate.
pub fn mokutil_import(certificate: &str) -> CommandLine {
    command(&["mokutil", "--import", certificate])
}

/// Loads a kernel module.
pub fn modprobe(module: &str) -> CommandLine {
    command(&["modprobe", module])
}

/// Starts a container.
pub fn pct_start(ctid: u32) -> CommandLine {
    command(&["pct", "start", &ctid.to_string()])
}

/// Removes one configuration key of a container.
pub fn pct_delete(ctid: u32, key: &str) -> CommandLine {
    command(&["pct", "set", &ctid.to_string(), "--delete", key])
}

/// Discards the pending change of one configuration key of a container.
pub fn pct_revert(ctid: u32, key: &str) -> CommandLine {
    command(&["pct", "set", &ctid.to_string(), "--revert", key])
}

/// Shows whether the cluster has a quorum.
pub fn pvecm_status() -> CommandLine {
    command(&["pvecm", "status"])
}

/// Lists MIG compute instances.
pub fn nvidia_smi_list_mig() -> CommandLine {
    command(&["nvidia-smi", "mig", "-lci"])
}

/// Shows the kernel messages of this boot that contain a text.
pub fn kernel_log(text: &str) -> CommandLine {
    command(&["journalctl", "-k", "-g", text])
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

/// Shuts a VM down.
pub fn qm_shutdown(vmid: u32) -> CommandLine {
    command(&["qm", "shutdown", &vmid.to_string()])
}

/// Changes a hostpci line of a VM; it takes effect when the VM starts.
pub fn qm_set_hostpci(vmid: u32, key: &str, value: &str) -> CommandLine {
    command(&["qm", "set", &vmid.to_string(), &format!("--{key}"), value])
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

/// Destroys a GPU instance and its compute instances.
pub fn nvidia_smi_destroy_instance(gpu: Address, instance: u32) -> [CommandLine; 2] {
    let (gpu, instance) = (gpu.to_string(), instance.to_string());
    [
        command(&["nvidia-smi", "mig", "-i", &gpu, "-dci", "-gi", &instance]),
        command(&["nvidia-smi", "mig", "-i", &gpu, "-dgi", "-gi", &instance]),
    ]
}

/// Unloads the NVIDIA driver's kernel modules, those first that use the others.
pub fn unload_nvidia() -> CommandLine {
    command(&["modprobe", "-r", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia"])
}

/// Unloads NVIDIA's DRM driver and nothing else: `modprobe -r` would also unload
/// the modules that it used.
pub fn unload_nvidia_drm() -> CommandLine {
    command(&["rmmod", "nvidia_drm"])
}

/// Keeps idle GPUs initialised until the next boot.
pub fn persistence_mode() -> CommandLine {
    command(&["nvidia-smi", "-pm", "1"])
}

/// Shows what kind of file a path is.
pub fn file(path: &str) -> CommandLine {
    command(&["file", path])
}

/// Stops the graphical login and its X server.
pub fn stop_display_manager() -> CommandLine {
    command(&["systemctl", "stop", "display-manager"])
}

/// Allows programs to be executed on a file system, until it is mounted again.
pub fn remount_exec(dir: &str) -> CommandLine {
    command(&["mount", "-o", "remount,exec", dir])
}
