//! NVIDIA's driver as procfs and /dev show it: GPUs, majors, device nodes, MIG
//! instances; its userspace as files; and what is known of its packages and
//! versions. Everything without nvidia-smi, which needs a working userspace.

mod devices;
pub mod dynamic_linker;
mod generations;
mod gpus;
mod installations;
mod installer_record;
mod kernels;
mod ldcache;
mod library_dirs;
mod links;
mod mig;
mod nodes;
mod nouveau;
mod packages;
mod params;
mod tables;
pub mod userspace;
mod version;
mod vgpu;

pub use devices::CharDevices;
pub use generations::Generation;
pub use gpus::{GpuInfo, module_version, read_gpus};
pub use installations::{DriverPackage, Installation, InstallationKind, Installations, RECEIPT};
pub use installer_record::{INSTALLER_RECORD, RunInstallation};
pub use kernels::{NextBoot, has_kernel_headers, installed_kernels, next_boot};
pub use library_dirs::{LIBRARY_DIRS, LibraryArch, LibraryDirError, library_dir};
pub use links::{LinkEnd, follow, resolve};
pub use mig::{
    Capability, GpuInstance, GpuInstanceProfile, Mig, MigInstance, parse_gpu_instance_profiles,
    parse_gpu_instances,
};
pub use nodes::{
    CAPS_DRIVER, DYNAMIC_DRIVERS, GPU_MAJOR, NodeClass, NodeSpec, UVM_DRIVER, cap_path, classify,
    gpu_nodes,
};
pub use nouveau::Nouveau;
pub use packages::{DriverPart, driver_package_patterns, driver_part, is_driver_dkms_module};
pub use params::NodeParams;
pub use tables::{
    BuildSource, CudaNeed, DriverBuild, KernelLimit, Xid, XidSeverity, cuda_need, kernel_limit,
    kernel_limits, unpublished, xid, xids,
};
pub use version::{branch, compare_versions, is_version, numbers};
pub use vgpu::{Profile, VgpuOffer, parse_creatable, short_name};
