//! NVIDIA's driver as procfs and /dev show it: GPUs, majors, device nodes, MIG
//! instances, and its userspace as files. Everything without nvidia-smi, which
//! needs a working userspace.

mod devices;
mod gpus;
mod kernels;
mod ldcache;
pub mod loader;
mod mig;
mod nodes;
mod params;
mod tables;
pub mod userspace;
mod version;
mod vgpu;

pub use devices::CharDevices;
pub use gpus::{GpuInfo, is_version, module_version, read_gpus};
pub use kernels::{NextBoot, installed_kernels, next_boot};
pub use mig::{Capability, Mig, MigInstance};
pub use nodes::{
    CAPS_DRIVER, DYNAMIC_DRIVERS, GPU_MAJOR, NodeClass, NodeSpec, UVM_DRIVER, cap_path, classify,
    gpu_nodes,
};
pub use params::NodeParams;
pub use tables::{
    CudaNeed, KernelLimit, Xid, XidSeverity, cuda_need, kernel_limit, kernel_limits, xid, xids,
};
pub use version::{branch, compare_versions, numbers};
pub use vgpu::{Profile, VgpuOffer, parse_creatable, short_name};
