//! The answer: users, and what could not be found out.

use record::{FunctionUsage, UsedBy, UsedByKind};

/// What kind of user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserKind {
    /// A block device that is mounted, swapped to, part of another or held.
    Disk,
    /// A network interface with a route, or that others are built on.
    Network,
    /// The boot display, the text console, the firmware's frame buffer.
    Display,
    /// A process that has a device node open.
    Process {
        /// Process id.
        pid: u32,
        /// The VM whose process it is.
        vm: Option<u32>,
        /// The container that it runs in.
        ctid: Option<u32>,
        /// It is NVIDIA's persistence daemon.
        is_persistenced: bool,
    },
    /// A module that holds it from inside the kernel.
    KernelModule,
    /// A write to its driver that an earlier run left to the kernel, or a driver
    /// in the middle of its removal.
    Removal {
        /// The process that waits.
        pid: Option<u32>,
    },
    /// A container of this cluster node that is given a device node.
    Container {
        /// Its id.
        ctid: u32,
        /// It runs now.
        is_running: bool,
    },
    /// A VM of this cluster node that is given the function.
    Vm {
        /// Its id.
        vmid: u32,
        /// It runs now, or is being started.
        is_running: bool,
    },
    /// A mediated device.
    MediatedDevice {
        /// The VM for which Proxmox VE made it.
        vmid: Option<u32>,
    },
}

impl User {
    fn to_record(&self) -> UsedBy {
        let mut record = UsedBy {
            kind: UsedByKind::Disk,
            name: self.name.clone(),
            what: self.what.clone(),
            pid: None,
            ctid: None,
            vm: None,
            running: None,
        };
        record.kind = match self.kind {
            UserKind::Disk => UsedByKind::Disk,
            UserKind::Network => UsedByKind::Network,
            UserKind::Display => UsedByKind::Display,
            UserKind::Process { pid, vm, ctid, .. } => {
                (record.pid, record.ctid, record.vm) = (Some(pid), ctid, vm);
                UsedByKind::Process
            }
            UserKind::KernelModule => UsedByKind::KernelModule,
            UserKind::Removal { pid } => {
                record.pid = pid;
                UsedByKind::Removal
            }
            UserKind::Container { ctid, is_running } => {
                (record.ctid, record.running) = (Some(ctid), Some(is_running));
                UsedByKind::Container
            }
            UserKind::Vm { vmid, is_running } => {
                (record.vm, record.running) = (Some(vmid), Some(is_running));
                UsedByKind::Vm
            }
            UserKind::MediatedDevice { vmid } => {
                record.vm = vmid;
                UsedByKind::MediatedDevice
            }
        };
        record
    }
}

impl Usage {
    /// The same, as in records.
    pub fn to_record(&self) -> FunctionUsage {
        let users = self.users.iter().map(User::to_record).collect();
        FunctionUsage { users, unknown: self.unknown.clone() }
    }
}

/// One user of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What kind of user.
    pub kind: UserKind,
    /// Its name: `/dev/sda1`, `eno1`, `VM 100`.
    pub name: String,
    /// What it does with the function, in words that follow the name.
    pub what: String,
}

/// Who uses one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its users.
    pub users: Vec<User>,
    /// What could not be found out, in words.
    pub unknown: Vec<String>,
}
