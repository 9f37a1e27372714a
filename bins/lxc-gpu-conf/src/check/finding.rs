//! What can be wrong with a container's GPUs: the list that `check`, the manual
//! page and the tests share.

use record::{Check, CheckStatus, CommandLine, Hint, Severity};

record::causes! {
    MissingNode "missing-node" "A device node does not exist on the host: with dev[n] the container cannot start, with a mount entry it has an empty file instead.",
    Stub "stub" "A regular file exists on the host where a device node should be.",
    StaleNode "stale-node" "A device node on the host has an outdated major or minor number.",
    StaleRule "stale-rule" "A device rule is for an outdated major number.",
    NoRule "no-rule" "No device rule lets a privileged container open a node.",
    NoAccess "no-access" "The mode of a mounted node keeps an unprivileged container from opening it.",
    IdleRule "idle-rule" "A device rule has no effect in an unprivileged container.",
    InvalidRule "invalid-rule" "LXC cannot parse a device rule and ignores it.",
    WipedRules "wiped-rules" "A line 'deny: a' discards the device rules that Proxmox VE adds.",
    CgroupV1 "cgroup-v1" "A device rule for cgroup v1 has no effect.",
    BadDev "bad-dev" "Proxmox VE cannot parse the value of a dev[n], or its path is not a device: the container cannot start.",
    BadMount "bad-mount" "A mount entry cannot be mounted, and it is not optional: the container cannot start.",
    NoEffect "no-effect" "A mount entry does not give the container its node: the container has an empty file, or nothing.",
    StubOnHost "stub-on-host" "A mount entry below a mounted directory leaves an empty file in the host's own directory.",
    UnknownKey "unknown-key" "LXC does not know a key any more: the container cannot start.",
    CannotStart "cannot-start" "Another line keeps the container from starting.",
    RootOnly "root-only" "A dev[n] has no mode, so that services that do not run as root cannot open the node.",
    GivenTwice "given-twice" "A device node is given twice.",
    SnapshotOnly "snapshot-only" "The GPU lines are only in a snapshot section.",
    DroppedLine "dropped-line" "Proxmox VE cannot parse a line and drops it at the next write.",
    ForbiddenKey "forbidden-key" "Proxmox VE does not permit an lxc key and drops it at the next write.",
    MigAdmin "mig-admin" "The container has the right to reconfigure MIG on the host.",
    MigPair "mig-pair" "One of the two capabilities of a MIG instance is not given.",
    MigParent "mig-parent" "The GPU of a MIG instance is not given.",
    MigGone "mig-gone" "A MIG instance does not exist any more.",
    OtherCard "other-card" "The configured minor now belongs to a different GPU.",
    OnVfio "on-vfio" "The GPU is bound to VFIO, for a VM.",
    NoGpu "no-gpu" "No GPU of the host has the configured minor.",
    Incomplete "incomplete" "A device node that CUDA needs is not given.",
    LinkPath "link-path" "A dev[n] names a symbolic link: the container has the node only under that name.",
    LibraryMissing "library-missing" "A mounted driver file does not exist on the host any more.",
    LibraryVersion "library-version" "A mounted driver file has another version than the loaded kernel module.",
    OldProxmox "old-proxmox" "This version of pve-container does not support dev[n].",
    NotRestarted "not-restarted" "The running container still has its old device nodes.",
}

/// A problem of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which of the causes.
    pub cause: Cause,
    /// The path or key that it concerns.
    pub property: String,
    /// What should be.
    pub expected: Option<String>,
    /// What is.
    pub actual: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence without a full stop.
    pub reason: String,
    /// What to do next.
    pub hint: Hint,
    /// Whether it keeps the container from starting.
    pub prevents_start: bool,
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
            hint: Hint::default(),
            prevents_start: false,
        }
    }

    /// One that does no harm yet.
    pub fn warning(cause: Cause) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(cause) }
    }

    /// The same finding with a command that repairs it.
    pub fn run(self, command: CommandLine) -> Finding {
        Finding { hint: Hint::command(command), ..self }
    }

    /// The same finding with what a person can do.
    pub fn words(self, words: &str) -> Finding {
        Finding { hint: Hint::words(words), ..self }
    }

    /// As `check` prints it.
    pub fn check(&self, subject: &str) -> Check {
        Check {
            commands: self.hint.commands.clone(),
            subject: subject.into(),
            property: self.property.clone(),
            expected: self.expected.clone(),
            actual: self.actual.clone(),
            status: CheckStatus::Drift,
            severity: self.severity,
            cause: Some(self.cause.name().into()),
            reason: Some(self.reason.clone()),
            hint: self.hint.words.clone(),
        }
    }
}
