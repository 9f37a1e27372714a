//! Which device nodes a GPU needs, and which driver owns each.

/// The one major that is fixed: GPUs, nvidiactl and nvidia-modeset.
pub const GPU_MAJOR: u32 = 195;

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeClass {
    /// /dev/nvidia<minor>.
    Gpu(u32),
    /// /dev/nvidiactl.
    Control,
    /// /dev/nvidia-modeset.
    Modeset,
    /// /dev/nvidia-uvm.
    Uvm,
    /// /dev/nvidia-uvm-tools.
    UvmTools,
    /// /dev/nvidia-caps/nvidia-cap<minor>.
    Cap(u32),
    /// /dev/nvidia-caps-imex-channels/channel<minor>.
    ImexChannel(u32),
    /// /dev/nvidia-nvswitchctl.
    NvSwitchControl,
    /// /dev/nvidia-nvswitch<minor>.
    NvSwitch(u32),
    /// /dev/nvidia-nvlink.
    NvLink,
    /// Any other node of NVIDIA's (vGPU, file system, ...).
    Other,
}

/// Name in /proc/devices of the driver of /dev/nvidia-uvm.
pub const UVM_DRIVER: &str = "nvidia-uvm";
/// Name in /proc/devices of the driver of /dev/nvidia-caps.
pub const CAPS_DRIVER: &str = "nvidia-caps";
/// Drivers with majors of their own, by their names in /proc/devices.
pub const DYNAMIC_DRIVERS: [&str; 5] =
    [UVM_DRIVER, CAPS_DRIVER, "nvidia-caps-imex-channels", "nvidia-nvswitch", "nvidia-nvlink"];

impl NodeClass {
    /// All GPUs share it.
    pub fn is_shared(self) -> bool {
        !matches!(self, NodeClass::Gpu(_) | NodeClass::Cap(_))
    }

    /// It belongs to NVSwitch or NVLink.
    pub fn is_fabric(self) -> bool {
        matches!(self, NodeClass::NvSwitch(_) | NodeClass::NvSwitchControl | NodeClass::NvLink)
    }

    /// How programs open it: capabilities for reading, all others for both.
    pub fn access(self) -> &'static str {
        if matches!(self, NodeClass::Cap(_)) { "r" } else { "rw" }
    }

    /// Minor number, where it is fixed (nvidia-modprobe-utils.h, uvm.c).
    pub fn minor(self) -> Option<u32> {
        match self {
            NodeClass::Gpu(minor)
            | NodeClass::Cap(minor)
            | NodeClass::ImexChannel(minor)
            | NodeClass::NvSwitch(minor) => Some(minor),
            NodeClass::Control | NodeClass::NvSwitchControl => Some(255),
            NodeClass::Modeset => Some(254),
            NodeClass::Uvm | NodeClass::NvLink => Some(0),
            NodeClass::UvmTools => Some(1),
            NodeClass::Other => None,
        }
    }

    /// Name in /proc/devices of the driver whose dynamic major it has; `None`
    /// where the major is [`GPU_MAJOR`] or unknown.
    pub fn driver(self) -> Option<&'static str> {
        match self {
            NodeClass::Uvm | NodeClass::UvmTools => Some(UVM_DRIVER),
            NodeClass::Cap(_) => Some(CAPS_DRIVER),
            NodeClass::ImexChannel(_) => Some("nvidia-caps-imex-channels"),
            NodeClass::NvSwitch(_) | NodeClass::NvSwitchControl => Some("nvidia-nvswitch"),
            NodeClass::NvLink => Some("nvidia-nvlink"),
            _ => None,
        }
    }
}

/// One node that a container should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Path on the host and in the container.
    pub path: String,
    /// What it is for.
    pub class: NodeClass,
    /// CUDA does not work without it.
    pub required: bool,
}

/// The nodes of one GPU, with those that all GPUs share: the GPU's own,
/// nvidiactl and nvidia-uvm are required for CUDA; the others serve profilers
/// and displays and are taken where the host has them.
pub fn gpu_nodes(minor: u32) -> Vec<NodeSpec> {
    let node = |path: &str, class, required| NodeSpec { path: path.into(), class, required };
    vec![
        node(&format!("/dev/nvidia{minor}"), NodeClass::Gpu(minor), true),
        node("/dev/nvidiactl", NodeClass::Control, true),
        node("/dev/nvidia-uvm", NodeClass::Uvm, true),
        node("/dev/nvidia-uvm-tools", NodeClass::UvmTools, false),
        node("/dev/nvidia-modeset", NodeClass::Modeset, false),
    ]
}

/// Path of a capability's node.
pub fn cap_path(minor: u32) -> String {
    format!("/dev/nvidia-caps/nvidia-cap{minor}")
}

/// What a path in /dev is; `None` where it is not a node of NVIDIA's driver.
pub fn classify(path: &str) -> Option<NodeClass> {
    let number = |text: &str| {
        let plain = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        plain.then(|| text.parse().ok()).flatten()
    };
    let name = path.strip_prefix("/dev/")?;
    Some(match name {
        "nvidiactl" => NodeClass::Control,
        "nvidia-modeset" => NodeClass::Modeset,
        "nvidia-uvm" => NodeClass::Uvm,
        "nvidia-uvm-tools" => NodeClass::UvmTools,
        "nvidia-nvswitchctl" => NodeClass::NvSwitchControl,
        "nvidia-nvlink" => NodeClass::NvLink,
        _ => {
            let rest = name.strip_prefix("nvidia")?;
            if let Some(minor) = number(rest) {
                NodeClass::Gpu(minor)
            } else if let Some(cap) = rest.strip_prefix("-caps/nvidia-cap").and_then(number) {
                NodeClass::Cap(cap)
            } else if let Some(channel) =
                rest.strip_prefix("-caps-imex-channels/channel").and_then(number)
            {
                NodeClass::ImexChannel(channel)
            } else if let Some(minor) = rest.strip_prefix("-nvswitch").and_then(number) {
                NodeClass::NvSwitch(minor)
            } else if rest.starts_with('-') {
                NodeClass::Other
            } else {
                return None;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_distinguished_by_their_whole_name() {
        assert_eq!(classify("/dev/nvidia0"), Some(NodeClass::Gpu(0)));
        assert_eq!(classify("/dev/nvidia12"), Some(NodeClass::Gpu(12)));
        assert_eq!(classify("/dev/nvidia-uvm-tools"), Some(NodeClass::UvmTools));
        assert_eq!(classify("/dev/nvidia-caps/nvidia-cap21"), Some(NodeClass::Cap(21)));
        assert_eq!(classify("/dev/nvidia-nvswitchctl"), Some(NodeClass::NvSwitchControl));
        assert_eq!(classify("/dev/nvidia-nvswitch3"), Some(NodeClass::NvSwitch(3)));
        assert_eq!(
            classify("/dev/nvidia-caps-imex-channels/channel7"),
            Some(NodeClass::ImexChannel(7))
        );
        assert_eq!(classify("/dev/nvidia-vgpuctl"), Some(NodeClass::Other));
        for path in ["/dev/nvidia", "/dev/nvidia01", "/dev/nvidiax", "/dev/dri/card0", "nvidia0"] {
            assert_eq!(classify(path), None, "{path}");
        }
    }
}
