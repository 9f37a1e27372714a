//! A root file system beside the host's, with what its configuration says of it.

/// A container or another root file system.
#[derive(Clone, Debug, Default)]
pub struct CheckedRoot {
    /// `ct 901`, `rootfs /srv/image`.
    pub subject: String,
    /// Container id.
    pub ctid: Option<u32>,
    /// The directory that `--rootfs` names.
    pub dir: Option<String>,
    /// Its configuration gives it a GPU.
    pub gpu: bool,
    /// The container is running.
    pub running: bool,
    /// Its root is an unprivileged user of the host.
    pub unprivileged: bool,
    /// Versions of driver libraries that its configuration mounts into it.
    pub mounted: Vec<String>,
    /// It was named on the command line, not found by --all-cts.
    pub named: bool,
}
