//! NVIDIA's driver as procfs and /dev show it: GPUs, majors, device nodes.
//! Everything without nvidia-smi, which needs a working userspace.

mod devices;
mod gpus;
mod nodes;

pub use devices::CharDevices;
pub use gpus::{GpuInfo, module_version, read_gpus};
pub use nodes::{GPU_MAJOR, NodeClass, NodeSpec, classify, gpu_nodes};
