//! Assigns NVIDIA vGPU profiles to virtual functions and keeps them set.

use std::process::ExitCode;

fn main() -> ExitCode {
    vgpu_profile_set::main()
}
