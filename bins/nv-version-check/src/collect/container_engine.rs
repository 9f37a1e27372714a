//! Container engines in a root file system that NVIDIA's runtime gives GPUs to.

use host::Machine;
use serde::{Deserialize, Serialize};

/// The runtime's configuration has a few kilobytes.
const MOST_CONFIG: usize = 1 << 20;
const CONFIG: &str = "/etc/nvidia-container-runtime/config.toml";

/// Docker, containerd or podman with NVIDIA's runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEngine {
    /// `docker`, `containerd`, `podman`.
    pub name: String,
    /// Path of the runtime's configuration.
    pub config: String,
    /// The configuration says `no-cgroups = true`.
    pub no_cgroups: bool,
}

/// Finds an engine with NVIDIA's runtime.
pub fn read(root: &Machine) -> Option<ContainerEngine> {
    let engines = [
        ("docker", "/usr/bin/dockerd"),
        ("containerd", "/usr/bin/containerd"),
        ("podman", "/usr/bin/podman"),
    ];
    let name = engines.iter().find(|(_, program)| root.exists(program))?.0;
    let text = root.read_text(CONFIG, MOST_CONFIG).unwrap_or_default();
    if text.is_empty() && !root.exists("/usr/bin/nvidia-container-cli") {
        return None;
    }
    let no_cgroups = no_cgroups(&text);
    Some(ContainerEngine { name: name.into(), config: CONFIG.into(), no_cgroups })
}

/// `no-cgroups = true` in `[nvidia-container-cli]`; the shipped file has it
/// commented out.
fn no_cgroups(text: &str) -> bool {
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap_or("").trim();
        }
        if section != "nvidia-container-cli" {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            if key.trim() == "no-cgroups" {
                return value.split('#').next().is_some_and(|value| value.trim() == "true");
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cgroups_counts_only_in_its_section_and_uncommented() {
        for (text, expected) in [
            ("[nvidia-container-cli]\nno-cgroups = true\n", true),
            ("[nvidia-container-cli]\nno-cgroups=true # x\n", true),
            ("[nvidia-container-cli]\n#no-cgroups = true\n", false),
            ("[nvidia-container-cli]\nno-cgroups = false\n", false),
            ("[nvidia-container-runtime]\nno-cgroups = true\n[nvidia-container-cli]\n", false),
            ("", false),
        ] {
            assert_eq!(no_cgroups(text), expected, "{text}");
        }
    }
}
