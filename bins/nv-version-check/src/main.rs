//! Who disagrees with whom about the version of NVIDIA's driver.

use std::process::ExitCode;

fn main() -> ExitCode {
    nv_version_check::main()
}
