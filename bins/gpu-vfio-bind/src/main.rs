//! Bind GPUs to vfio-pci and release them.

use std::process::ExitCode;

fn main() -> ExitCode {
    gpu_vfio_bind::main()
}
