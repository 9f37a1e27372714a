//! What machine.toml may say.

use std::collections::BTreeMap;

use record::Address;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub title: String,
    pub source: Vec<String>,
    pub notes: String,
    pub kernel: String,
    pub cmdline: String,
    pub iommu: Vec<String>,
    #[serde(default)]
    pub mig_minors: bool,
    #[serde(default, rename = "function")]
    pub functions: Vec<Function>,
    #[serde(default, rename = "vf_range")]
    pub vf_ranges: Vec<VfRange>,
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
    #[serde(default)]
    pub nvidia: Vec<Nvidia>,
    #[serde(default, rename = "capability")]
    pub capabilities: Vec<Capability>,
    #[serde(default, rename = "node")]
    pub nodes: Vec<Node>,
    #[serde(default, rename = "link")]
    pub links: Vec<Link>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    pub address: Address,
    pub parent: Option<Address>,
    pub vendor: String,
    pub device: String,
    #[serde(default)]
    pub subsystem_vendor: Option<String>,
    #[serde(default)]
    pub subsystem_device: Option<String>,
    pub class: String,
    #[serde(default)]
    pub revision: Option<String>,
    pub driver: Option<String>,
    pub driver_override: Option<String>,
    pub group: Option<u32>,
    pub numa_node: Option<i32>,
    pub boot_vga: Option<u8>,
    #[serde(default)]
    pub header_type: u8,
    pub link: Option<PcieLink>,
    pub reset: Option<String>,
    #[serde(default)]
    pub drm: Vec<String>,
    pub vfio_dev: Option<String>,
    pub sriov: Option<Sriov>,
    pub pf: Option<Address>,
    pub vgpu: Option<Vgpu>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcieLink {
    pub speed: String,
    pub width: u32,
    pub max_speed: String,
    pub max_width: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sriov {
    pub total: u32,
    pub numvfs: u32,
    pub offset: u32,
    pub stride: u32,
    pub vf_device: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vgpu {
    pub current: u32,
    pub creatable: Vec<(u32, String)>,
    pub gpu_instance_id: Option<String>,
    pub placement_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfRange {
    pub pf: Address,
    pub first_group: u32,
    pub driver: Option<String>,
    #[serde(default)]
    pub creatable: Vec<(u32, String)>,
    #[serde(default)]
    pub current: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub id: u32,
    #[serde(rename = "type")]
    pub domain_type: Option<String>,
    pub reserved: Option<Vec<String>>,
    #[serde(default)]
    pub members: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvidia {
    pub address: Address,
    pub minor: u32,
    pub model: String,
    pub uuid: String,
    pub irq: u32,
    pub vbios: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    pub path: String,
    pub minor: u32,
    pub mode: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub major: u32,
    pub minor: u32,
    pub mode: String,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub path: String,
    pub target: String,
}
