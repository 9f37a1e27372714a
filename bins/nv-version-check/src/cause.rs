//! What can be wrong: the list that records, the manual page and the tests
//! share.

use record::{Check, CheckStatus, Severity};

record::causes! {
    HostNotRebooted "host-not-rebooted" "The host was upgraded and still runs the driver module of before.",
    ModuleOldKernelOnly "module-old-kernel-only" "The module is built for another kernel than the one that boots next or runs.",
    ModuleMissing "module-missing" "A driver is installed and no kernel has its module.",
    KernelUnsupported "kernel-unsupported" "The driver's module is known not to build for a kernel.",
    ModulesDiffer "modules-differ" "Loaded modules of the driver's family are of different versions.",
    ModuleNotLoaded "module-not-loaded" "A container is given the GPU and the module is not loaded.",
    DkmsBroken "dkms-broken" "DKMS has lost the module's source: it cannot build it for the next kernel.",
    NouveauLoaded "nouveau-loaded" "nouveau is loaded in the driver's place.",
    HostBehind "host-behind" "The host's libraries are older than its module.",
    HostAhead "host-ahead" "The host's libraries are newer than its module.",
    ContainerBehind "container-behind" "A container's libraries are older than the host's module.",
    ContainerAhead "container-ahead" "A container's libraries are newer than the host's module.",
    TwoUserspaces "two-userspaces" "One root file system has libraries of two versions that programs can load.",
    PinNotFollowed "pin-not-followed" "Host or container have another version than the pinned one.",
    ToolkitTooNew "toolkit-too-new" "A CUDA toolkit needs a newer driver.",
    NothingInstalled "nothing-installed" "There is no driver where one is asked for.",
    VgpuGuestDriver "vgpu-guest-driver" "A container of a vGPU host has the guest's driver, which never fits the host's module.",
    FirmwareMissing "firmware-missing" "The GSP firmware of the loaded module's version is not there.",
    CdiStale "cdi-stale" "A CDI specification names files of another version, or files that are gone.",
    NoCgroupsMissing "no-cgroups-missing" "A container engine in an unprivileged container needs no-cgroups = true.",
    NoHostDriver "no-host-driver" "A container has the driver's libraries and is given the GPU, the host has no driver.",
    Xid "xid" "The driver logged an error of the GPU since the host booted.",
    StaleLeftovers "stale-leftovers" "Libraries of another version lie beside those that count. No drift.",
    ToolkitNewer "toolkit-newer" "A CUDA toolkit is newer than the driver, within what minor-version compatibility covers. No drift.",
    ForwardCompat "forward-compat" "A libcuda for forward compatibility. No drift.",
    Unreadable "unreadable" "Something could not be read: its state is unknown.",
    Unversioned "unversioned" "A library does not say its version in its name.",
}

/// A finding in the making.
pub struct Finding(Check);

impl Finding {
    fn of(cause: Cause, status: CheckStatus, severity: Severity) -> Finding {
        let mut check = Check::ok("", "", None);
        check.cause = Some(cause.name().into());
        check.status = status;
        check.severity = severity;
        Finding(check)
    }

    /// Something does not work.
    pub fn error(cause: Cause) -> Finding {
        Finding::of(cause, CheckStatus::Drift, Severity::Error)
    }

    /// Something differs and may stop working.
    pub fn warning(cause: Cause) -> Finding {
        Finding::of(cause, CheckStatus::Drift, Severity::Warning)
    }

    /// Worth knowing, and no drift.
    pub fn note(cause: Cause, severity: Severity) -> Finding {
        Finding::of(cause, CheckStatus::Ok, severity)
    }

    /// It could not be found out.
    pub fn unknown(cause: Cause) -> Finding {
        Finding::of(cause, CheckStatus::Unknown, Severity::Warning)
    }

    /// What it is about.
    pub fn on(mut self, subject: &str, property: impl Into<String>) -> Finding {
        self.0.subject = subject.into();
        self.0.property = property.into();
        self
    }

    /// What should be, and what is.
    pub fn found(mut self, expected: Option<&str>, actual: Option<&str>) -> Finding {
        self.0.expected = expected.map(str::to_string);
        self.0.actual = actual.map(str::to_string);
        self
    }

    /// In words.
    pub fn because(mut self, reason: impl Into<String>) -> Finding {
        self.0.reason = Some(reason.into());
        self
    }

    /// What to do, ready.
    pub fn hint(mut self, hint: impl Into<String>) -> Check {
        self.0.hint = Some(hint.into());
        self.0
    }

    /// Ready, with nothing to do.
    pub fn done(self) -> Check {
        self.0
    }
}
