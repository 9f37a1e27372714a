//! Kernel modules that hold a GPU, which no list of processes shows.

use std::collections::BTreeSet;

use host::Machine;
use pci::Function;

use crate::nodes::FunctionNode;
use crate::{Usage, User, UserKind};

const NVIDIA_DRM: &str = "/sys/module/nvidia_drm";

/// Adds nvidia-drm where it has a GPU. With its parameter modeset it takes each
/// GPU for which it makes DRM nodes for as long as it is loaded
/// (nvidia-drm-drv.c, nv_drm_dev_load(): allocateDevice, down to
/// nvidia_dev_get()), and NVIDIA's driver waits for it in an unbind.
pub(crate) fn of(
    machine: &Machine,
    function: &Function,
    nodes: &BTreeSet<FunctionNode>,
    usage: &mut Usage,
) {
    let has_drm = || nodes.iter().any(|node| node.path.starts_with("/dev/dri/"));
    if function.driver.as_deref() != Some("nvidia") || !machine.exists(NVIDIA_DRM) || !has_drm() {
        return;
    }
    match machine.attr(&format!("{NVIDIA_DRM}/parameters/modeset")).as_deref() {
        Ok("Y" | "y" | "1") => usage.users.push(User {
            kind: UserKind::KernelModule,
            name: "kernel module nvidia_drm".into(),
            what: "holds it (modeset=1)".into(),
        }),
        Ok(_) => {}
        Err(error) => usage.unknown.push(format!("whether nvidia_drm holds it: {error}")),
    }
}
