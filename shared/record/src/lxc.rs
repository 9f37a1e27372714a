//! Records about GPUs in containers.

use serde::{Deserialize, Serialize};

use crate::Address;

/// How a container is given a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LxcStyle {
    /// PVE's `dev[n]`.
    Dev,
    /// `lxc.mount.entry`, with device rules where the container is privileged.
    Mount,
    /// `lxc.cgroup.*` keys, which do nothing on cgroup v2.
    CgroupV1,
    /// A program that LXC runs (`lxc.hook.mount`), such as NVIDIA's.
    Hook,
    /// More than one of these.
    Mixed,
}

impl LxcStyle {
    /// The word used in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            LxcStyle::Dev => "dev",
            LxcStyle::Mount => "mount",
            LxcStyle::CgroupV1 => "cgroup-v1",
            LxcStyle::Hook => "hook",
            LxcStyle::Mixed => "mixed",
        }
    }
}

/// One GPU as one container sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LxcGpu {
    /// Container id.
    pub ctid: u32,
    /// Cluster node that owns the container.
    pub node: Option<String>,
    /// Whether its root is mapped to an unprivileged user of the host.
    pub unprivileged: bool,
    /// Address of the GPU, `None` where its minor belongs to no GPU of this host.
    pub gpu: Option<Address>,
    /// Minor of /dev/nvidia<minor>.
    pub minor: Option<u32>,
    /// `GPU-` and a UUID.
    pub uuid: Option<String>,
    /// Product name.
    pub model: Option<String>,
    /// How the nodes are given.
    pub style: LxcStyle,
    /// The GPU's own nodes and those that all GPUs share.
    pub nodes: Vec<LxcNode>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// One device node that a container is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LxcNode {
    /// Path on the host.
    pub path: String,
    /// Configuration key that gives it.
    pub key: String,
    /// Major number on the host now.
    pub major: Option<u32>,
    /// Minor number on the host now.
    pub minor: Option<u32>,
    /// Octal mode inside the container, where the configuration says it.
    pub mode: Option<String>,
    /// The host has a character device there now. `None`: the container is
    /// another node's.
    pub present: Option<bool>,
}
