//! Look into, verify and unpack NVIDIA .run installers.

use std::process::ExitCode;

fn main() -> ExitCode {
    nv_runfile::main()
}
