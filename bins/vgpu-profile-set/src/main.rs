//! Put NVIDIA vGPU profiles onto virtual functions and keep them there.

use std::process::ExitCode;

fn main() -> ExitCode {
    vgpu_profile_set::main()
}
