//! Command lines of `lxc-gpu-conf`.

use record::CommandLine;

use crate::command;

/// Repairs a container's GPU configuration.
pub fn sync(ctid: u32) -> CommandLine {
    command(&["lxc-gpu-conf", "sync", &ctid.to_string()])
}

/// Checks a container's GPU configuration.
pub fn check(ctid: u32) -> CommandLine {
    command(&["lxc-gpu-conf", "check", &ctid.to_string()])
}

/// Creates or fixes the host's device nodes.
pub fn nodes() -> CommandLine {
    command(&["lxc-gpu-conf", "nodes"])
}

/// Removes one GPU from a container's configuration.
pub fn remove_gpu(ctid: u32, gpu: &str) -> CommandLine {
    command(&["lxc-gpu-conf", "remove", &ctid.to_string(), "--gpu", gpu])
}
