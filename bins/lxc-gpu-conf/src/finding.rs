//! What can be wrong with a container's GPU: the list that `check`, the manual
//! page and the tests share.

use record::{Check, CheckStatus, Severity};

record::causes! {
    MissingNode "missing-node" "A node is not on the host: with dev[n] the container cannot start, with a mount it finds an empty file.",
    Stub "stub" "Something that is no device stands in a node's place on the host.",
    StaleNode "stale-node" "A node on the host has other numbers than its driver has now.",
    StaleRule "stale-rule" "A device rule names a major that the driver had before.",
    NoRule "no-rule" "No device rule lets a privileged container open a node.",
    NoAccess "no-access" "The mode of a node that is mounted lets nobody from an unprivileged container in.",
    IdleRule "idle-rule" "Device rules do nothing in an unprivileged container.",
    InvalidRule "invalid-rule" "LXC does not understand a device rule and goes on without it.",
    WipedRules "wiped-rules" "A line 'deny: a' wipes out the rules that Proxmox VE makes.",
    CgroupV1 "cgroup-v1" "A rule for cgroup v1 does nothing.",
    GivenTwice "given-twice" "A node is given by dev[n] and by a mount entry: the container cannot start.",
    SnapshotOnly "snapshot-only" "Lines for a GPU stand in a snapshot's section only.",
    DroppedLine "dropped-line" "Proxmox VE does not understand a line and drops it when it next writes the file.",
    ForbiddenKey "forbidden-key" "Proxmox VE does not permit an lxc key and drops it when it next writes the file.",
    MigAdmin "mig-admin" "The container holds the right to reconfigure MIG on the host.",
    MigPair "mig-pair" "One of the two capabilities of a MIG instance is missing.",
    MigParent "mig-parent" "The GPU of a MIG instance is not given.",
    MigGone "mig-gone" "A MIG instance does not exist any more.",
    OtherCard "other-card" "A node's number belongs to another GPU now.",
    OnVfio "on-vfio" "The GPU is bound to VFIO, for a VM.",
    NoGpu "no-gpu" "No GPU of the host has a node's number.",
    Incomplete "incomplete" "A node that CUDA needs is not given.",
    LinkPath "link-path" "A dev[n] names a link: the container has the node under that name only.",
    LibraryMissing "library-missing" "A mounted file of the driver is not on the host any more.",
    LibraryVersion "library-version" "A mounted library is not of the loaded module's version.",
    OldProxmox "old-proxmox" "This pve-container does not know dev[n].",
    NotRestarted "not-restarted" "The running container has nodes of before: it was not restarted since.",
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which of them.
    pub cause: Cause,
    /// What it is about: a path, a key.
    pub property: String,
    /// What should be.
    pub expected: Option<String>,
    /// What is.
    pub actual: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// In words.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    /// One that keeps the GPU from working.
    pub fn error(cause: Cause) -> Finding {
        Finding {
            cause,
            property: String::new(),
            expected: None,
            actual: None,
            severity: Severity::Error,
            reason: String::new(),
            hint: None,
        }
    }

    /// One that does no harm yet.
    pub fn warning(cause: Cause) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(cause) }
    }

    /// As `check` prints it.
    pub fn check(&self, subject: &str) -> Check {
        Check {
            commands: Vec::new(),
            subject: subject.into(),
            property: self.property.clone(),
            expected: self.expected.clone(),
            actual: self.actual.clone(),
            status: CheckStatus::Drift,
            severity: self.severity,
            cause: Some(self.cause.name().into()),
            reason: Some(self.reason.clone()),
            hint: self.hint.clone(),
        }
    }
}
