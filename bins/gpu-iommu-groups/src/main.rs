//! Which GPUs are there, in which IOMMU group, and may they be passed through.

use std::process::ExitCode;

fn main() -> ExitCode {
    gpu_iommu_groups::main()
}
