//! Checks that NVIDIA driver versions match.

use std::process::ExitCode;

fn main() -> ExitCode {
    nv_version_check::main()
}
