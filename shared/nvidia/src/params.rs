//! Owner and mode of the driver's device nodes, from /proc/driver/nvidia/params.

use host::Machine;

/// Owner and mode of nodes with major 195 and of capabilities. nvidia-uvm's nodes
/// do not follow them and are always open to all (nvidia-modprobe-utils.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeParams {
    /// User id of the owner.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Whether programs create and change nodes (ModifyDeviceFiles).
    pub modify: bool,
}

impl Default for NodeParams {
    /// The driver's own defaults.
    fn default() -> NodeParams {
        NodeParams { uid: 0, gid: 0, mode: 0o666, modify: true }
    }
}

impl NodeParams {
    /// Reads them; the defaults where the driver is not loaded.
    pub fn read(machine: &Machine) -> NodeParams {
        NodeParams::parse(&machine.attr("/proc/driver/nvidia/params").unwrap_or_default())
    }

    /// Parses `DeviceFileMode: 438` and its like: all decimal, the mode too.
    pub fn parse(text: &str) -> NodeParams {
        let mut params = NodeParams::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let Ok(value) = value.trim().parse::<u32>() else { continue };
            match name {
                "DeviceFileUID" => params.uid = value,
                "DeviceFileGID" => params.gid = value,
                "DeviceFileMode" => params.mode = value & 0o777,
                "ModifyDeviceFiles" => params.modify = value != 0,
                _ => {}
            }
        }
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_decimal() {
        let text = "ModifyDeviceFiles: 0\nDeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 432\nRmMsg: \"\"\n";
        let params = NodeParams::parse(text);
        assert_eq!(params, NodeParams { uid: 0, gid: 44, mode: 0o660, modify: false });
        assert_eq!(NodeParams::parse("x"), NodeParams::default());
    }
}
