//! Give a Proxmox VE container a GPU.

use std::process::ExitCode;

fn main() -> ExitCode {
    lxc_gpu_conf::main()
}
