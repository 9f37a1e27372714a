//! What one line of a stream may be. The meaning of each field of a record
//! stands in the JSON Schema of its type, from which pve-gpu-records(5) is
//! made; here stands what a program in Rust needs to know beyond that.

use serde::{Deserialize, Serialize};

use crate::hint::CommandLine;
use crate::{
    Change, Check, IommuGroup, LxcGpu, PciDevice, Runfile, RunfileEntry, Vgpu, VgpuAssignment,
    VgpuType,
};

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// One PCI function.
    PciDevice(Box<PciDevice>),
    /// One IOMMU group.
    IommuGroup(IommuGroup),
    /// One step of a change.
    Change(Change),
    /// One comparison.
    Check(Check),
    /// One GPU as one container sees it.
    LxcGpu(Box<LxcGpu>),
    /// One installer.
    Runfile(Box<Runfile>),
    /// One thing in an installer.
    RunfileEntry(Box<RunfileEntry>),
    /// One GPU, virtual function or mediated device with its vGPU profile.
    Vgpu(Box<Vgpu>),
    /// One profile that a GPU offers.
    VgpuType(VgpuType),
    /// Which profile a virtual function or a GPU is to have.
    VgpuAssignment(VgpuAssignment),
    /// Where a stream of records begins or ends.
    Stream(StreamRecord),
    /// Why the stream ends here.
    Error(ErrorRecord),
}

impl Record {
    /// The value of the `type` key.
    pub fn type_name(&self) -> &'static str {
        match self {
            Record::PciDevice(_) => "pci-device",
            Record::IommuGroup(_) => "iommu-group",
            Record::Change(_) => "change",
            Record::Check(_) => "check",
            Record::LxcGpu(_) => "lxc-gpu",
            Record::Runfile(_) => "runfile",
            Record::RunfileEntry(_) => "runfile-entry",
            Record::Vgpu(_) => "vgpu",
            Record::VgpuType(_) => "vgpu-type",
            Record::VgpuAssignment(_) => "vgpu-assignment",
            Record::Stream(_) => "stream",
            Record::Error(_) => "error",
        }
    }
}

/// One end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamPart {
    /// Records follow.
    Begin,
    /// These were all.
    End,
}

/// Where a stream of records begins or ends, so that a reader knows one that was cut off
/// between two records from one that is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The tool that prints the records.
    pub tool: String,
    /// Which end.
    pub part: StreamPart,
    /// How many records were printed, at the end.
    pub records: Option<u64>,
}

/// Why a stream ends here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The tool that failed.
    pub tool: String,
    /// The message.
    pub message: String,
    /// Its exit code.
    pub exit: u8,
    /// What to do next, in words.
    #[serde(default)]
    pub hint: Option<String>,
    /// The commands to run next, in order.
    #[serde(default)]
    pub commands: Vec<CommandLine>,
}
