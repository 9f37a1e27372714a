//! Download, inspect, verify, extract and install NVIDIA .run installers.

use std::process::ExitCode;

fn main() -> ExitCode {
    nv_runfile::main()
}
