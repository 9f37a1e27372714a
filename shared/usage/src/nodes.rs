//! The device nodes through which programs and containers use a function.

use std::collections::{BTreeMap, BTreeSet};

use host::{DeviceNumber, Machine};
use nvidia::GpuInfo;
use pci::Function;
use record::Address;

use crate::sysfs::{ClassDevice, Subtree, class_devices};

/// Classes whose devices have nodes that somebody opens.
const CLASSES: [&str; 15] = [
    "accel",
    "block",
    "drm",
    "graphics",
    "hidraw",
    "infiniband_verbs",
    "input",
    "nvme",
    "ptp",
    "scsi_generic",
    "sound",
    "tty",
    "usbmisc",
    "vfio-dev",
    "video4linux",
];

/// One node of a function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionNode {
    /// Its path, `/dev/dri/card1`.
    pub path: String,
    /// Its device number; `None` where the kernel was not recorded as saying it.
    pub device: Option<DeviceNumber>,
}

/// All devices of the classes that have nodes, and NVIDIA's own numbers.
pub(crate) struct NodeTable {
    devices: Vec<(&'static str, ClassDevice)>,
    gpus: BTreeMap<Address, GpuInfo>,
    unknown: Vec<String>,
}

impl NodeTable {
    /// Lists them.
    pub fn read(machine: &Machine) -> NodeTable {
        let (gpus, unread) = nvidia::read_gpus(machine);
        NodeTable::new(machine, gpus, unread)
    }

    /// Lists them, where NVIDIA's GPUs were read already.
    pub fn new(
        machine: &Machine,
        gpus: BTreeMap<Address, GpuInfo>,
        unread: Vec<String>,
    ) -> NodeTable {
        let mut table = NodeTable { devices: Vec::new(), gpus, unknown: unread };
        for class in CLASSES {
            match class_devices(machine, class) {
                Ok(devices) => table.devices.extend(devices.into_iter().map(|d| (class, d))),
                Err(why) => table.unknown.push(why),
            }
        }
        table
    }

    /// What could not be read, in words.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The nodes of a function.
    pub fn of(
        &self,
        machine: &Machine,
        function: &Function,
        below: &Subtree,
    ) -> BTreeSet<FunctionNode> {
        let own = self.devices.iter().filter(|(_, device)| below.holds(&device.path));
        let mut nodes: BTreeSet<FunctionNode> =
            own.filter_map(|(class, device)| node(machine, class, device)).collect();
        if let Some(minor) = self.gpus.get(&function.address).and_then(|gpu| gpu.minor) {
            nodes.insert(FunctionNode {
                path: format!("/dev/nvidia{minor}"),
                device: Some(DeviceNumber::character(nvidia::GPU_MAJOR, minor)),
            });
        }
        if function.on_vfio() {
            let paths =
                function.group.map(|group| format!("/dev/vfio/{group}")).into_iter().chain(
                    function.vfio_device.iter().map(|name| format!("/dev/vfio/devices/{name}")),
                );
            nodes.extend(paths.map(|path| {
                let device = machine.node(&path).ok().flatten().and_then(|node| node.device());
                FunctionNode { path, device }
            }));
        }
        nodes
    }
}

/// The node of a class's device: its name is what the kernel suggests to
/// whoever makes it (`DEVNAME` of its uevent), its number is beside that.
fn node(machine: &Machine, class: &str, device: &ClassDevice) -> Option<FunctionNode> {
    let attr = |name: &str| machine.attr(&format!("{}/{name}", device.path)).ok();
    let numbers = attr("dev")?;
    let (major, minor) = numbers.split_once(':')?;
    let uevent = attr("uevent").unwrap_or_default();
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let usual = match class {
        "drm" => format!("dri/{}", device.name),
        "sound" => format!("snd/{}", device.name),
        "input" => format!("input/{}", device.name),
        _ => device.name.clone(),
    };
    Some(FunctionNode {
        path: format!("/dev/{}", name.map_or(usual.as_str(), |name| name)),
        device: Some(DeviceNumber {
            is_block: class == "block",
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        }),
    })
}
