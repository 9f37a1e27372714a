//! Move whole GPU slots to vfio-pci and back.

use std::process::ExitCode;

fn main() -> ExitCode {
    gpu_vfio_bind::main()
}
