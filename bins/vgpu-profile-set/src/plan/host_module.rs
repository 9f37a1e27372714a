//! The second module of NVIDIA's vGPU host driver.

use advice::external;
use record::Hint;

pub(crate) const NO_MODULE: &str = "has no vGPU files, and nvidia_vgpu_vfio is not loaded";

/// What to do where it is not loaded.
pub(crate) fn host_module_hint() -> Hint {
    let words = "only NVIDIA's vGPU host driver has this module; the driver for GPUs without \
                 vGPUs does not";
    Hint::command(external::modprobe("nvidia_vgpu_vfio")).because(words)
}
