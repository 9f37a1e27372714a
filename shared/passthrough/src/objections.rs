//! What speaks against a plan, and what it is judged by.

use std::collections::BTreeSet;

use ::apply::Objection;
use pci::System;
use record::{Address, CommandLine, Hint};
use usage::Users;

use crate::force::ForceKind;

/// Reasons against binding or releasing a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectionKind {
    /// No IOMMU translates for any device.
    IommuOff,
    /// None translates for this function.
    NoIommuGroup,
    /// A virtual function of NVIDIA's vGPU stays on its driver.
    VgpuFunction,
    /// A physical function with virtual functions.
    VirtualFunctions,
    /// A running VM has it.
    RunningVm,
    /// A process has one of its device nodes open.
    OpenNode,
    /// An earlier write waits in the kernel.
    Removal,
    /// A mediated device was made on it.
    MediatedDevice,
    /// A disk below it is in use.
    BlockDevice,
    /// Who uses it could not be found out.
    Unknown,
    /// A container is given one of its nodes.
    Container,
    /// A network interface below it is in use.
    Network,
    /// The local console is on it.
    Display,
    /// Other functions of its IOMMU group are with the host.
    GroupMembers,
    /// Only a bridge of its group with a driver that may be tolerated.
    UnknownBridge,
    /// Its group has a range that is mapped one to one (RMRR).
    ReservedRegion,
    /// Interrupts are not remapped.
    Interrupts,
    /// Groups are no proof of isolation.
    AcsOverride,
    /// A virtual function of NVIDIA's vGPU that has no profile.
    NoProfile,
    /// `persist` of a slot without a GPU.
    NoGpu,
    /// NVIDIA's driver reports a user that is not a process.
    DriverBusy,
    /// It appears only after the initramfs, where `persist` binds.
    AbsentAtBoot,
    /// Matching by id would bind another GPU as well.
    SameIds,
    /// Another file of modprobe sets ids= and overrides ours.
    ForeignIds,
}

impl ObjectionKind {
    /// What the user has to name to override it; `None`: nothing overrides it.
    pub fn force_kind(self) -> Option<ForceKind> {
        match self {
            ObjectionKind::Container => Some(ForceKind::Container),
            ObjectionKind::Network => Some(ForceKind::Network),
            ObjectionKind::Display => Some(ForceKind::Display),
            ObjectionKind::GroupMembers | ObjectionKind::UnknownBridge => Some(ForceKind::Group),
            ObjectionKind::AcsOverride => Some(ForceKind::Acs),
            ObjectionKind::NoGpu => Some(ForceKind::NoGpu),
            _ => None,
        }
    }
}

/// What the user's own command needs to get past an objection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// `--force` with these kinds.
    Force(BTreeSet<ForceKind>),
    /// nvidia-persistenced has to be stopped.
    StopPersistenced,
    /// These other functions of the IOMMU group, and kinds that they need.
    WithGroup(Vec<Address>, BTreeSet<ForceKind>),
}

/// Makes the user's own command with that, for hints.
pub type RetryCommand<'a> = dyn Fn(Retry) -> CommandLine + 'a;

/// When the functions are taken from their drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenWhen {
    /// By this run.
    Now,
    /// The same, where nvidia-persistenced would be stopped before.
    NowWithoutPersistenced,
    /// At the next boot: processes and VMs that run now have ended then.
    AtBoot,
}

/// Judges plans of one run.
pub struct Judge<'a> {
    /// The host.
    pub system: &'a System,
    /// Who uses its functions.
    pub users: &'a Users<'a>,
    /// The user's own command, for hints.
    pub retry: &'a RetryCommand<'a>,
    /// When they are taken from their drivers.
    pub when: TakenWhen,
}

/// Objections against one function.
pub(crate) struct Objections<'a> {
    pub address: Address,
    pub found: &'a mut Vec<Objection<ObjectionKind>>,
}

impl Objections<'_> {
    pub fn add(&mut self, kind: ObjectionKind, why: impl Into<String>, hint: Hint) {
        let (target, why) = (self.address.to_string(), why.into());
        let overridable = kind.force_kind().is_some();
        self.found.push(Objection { target, kind, why, hint, overridable });
    }
}
