//! Command lines of `vgpu-profile-set`.

use std::path::Path;

use record::{Address, CommandLine};

use crate::command;

/// Shows all GPUs and virtual functions.
pub fn list() -> CommandLine {
    command(&["vgpu-profile-set", "list"])
}

/// Shows the profiles that all GPUs offer.
pub fn list_all_types() -> CommandLine {
    command(&["vgpu-profile-set", "list", "--types"])
}

/// Shows the profiles that a GPU offers.
pub fn list_types(gpu: Address) -> CommandLine {
    command(&["vgpu-profile-set", "list", "--types", &gpu.to_string()])
}

/// Sets the profiles that a file requests: `config` is the configuration's name
/// in a file of vgpu-device-manager.
pub fn apply(file: &Path, config: Option<&str>, heterogeneous: bool) -> CommandLine {
    let mut words = command(&["vgpu-profile-set", "apply"]);
    words.push(file.display().to_string());
    if let Some(config) = config {
        words.extend(command(&["--config", config]));
    }
    if heterogeneous {
        words.push("--heterogeneous".into());
    }
    words
}

/// Clears the profile of a virtual function.
pub fn clear(function: Address) -> CommandLine {
    command(&["vgpu-profile-set", "clear", &function.to_string()])
}
