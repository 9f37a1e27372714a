//! The types of a start: what a container will have, who gives it, and what keeps
//! it from starting.

use host::Node;

/// The host as a start sees it. What cannot be read is an error in words, never "none".
pub trait StartHost {
    /// What a path of the host leads to; `None` where there is nothing. Errors: it
    /// cannot be looked at.
    fn node(&self, path: &str) -> Result<Option<Node>, String>;
    /// Names directly in a directory of the host. Errors: it cannot be read.
    fn names(&self, dir: &str) -> Result<Vec<String>, String>;
    /// A text file of the host; `None` where there is none. Errors: it cannot be read.
    fn text(&self, path: &str) -> Result<Option<String>, String>;
}

impl StartHost for host::Machine {
    fn node(&self, path: &str) -> Result<Option<Node>, String> {
        host::Machine::node(self, path).map_err(|error| error.to_string())
    }

    fn names(&self, dir: &str) -> Result<Vec<String>, String> {
        self.nodes_in(dir).map_err(|error| error.to_string())
    }

    fn text(&self, path: &str) -> Result<Option<String>, String> {
        match self.read_text(path, 1 << 20) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The host of a container on another cluster node: nothing of it is known here.
pub struct OtherHost;

const OTHER: &str = "it is on another cluster node";

impl StartHost for OtherHost {
    fn node(&self, _: &str) -> Result<Option<Node>, String> {
        Err(OTHER.into())
    }

    fn names(&self, _: &str) -> Result<Vec<String>, String> {
        Err(OTHER.into())
    }

    fn text(&self, _: &str) -> Result<Option<String>, String> {
        Err(OTHER.into())
    }
}

/// Who gives a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiverKind {
    /// `dev[n]`.
    Dev,
    /// `lxc.mount.entry`, or a line of an fstab.
    Mount,
    /// A program that LXC runs, known by name or by what it says.
    Hook,
}

/// The line that gives a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Giver {
    /// What kind of line.
    pub kind: GiverKind,
    /// Its key: `dev3`, `lxc.mount.entry`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The file that has the line, where it is not the container's configuration.
    pub file: Option<String>,
}

/// Whether a process can open a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It can.
    Opens,
    /// The device rules deny it (EPERM); the value of the rule that does, `None` where
    /// no rule allows it.
    DeniedByRule(Option<String>),
    /// Owner and mode deny it, or the mount has no devices (EACCES).
    DeniedByMode,
}

/// A device as the container has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenDevice {
    /// The device: type, numbers, mode. Owner and group are ids of the host.
    pub node: Node,
    /// The container's root opens it for reading.
    pub read: Opening,
    /// The container's root opens it for reading and writing, as drivers are opened.
    pub write: Opening,
    /// The mode lets every user of the container open it for reading and writing.
    pub everybody: bool,
}

/// What the container has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A device.
    Device(GivenDevice),
    /// An empty file with mode 0000, which create=file leaves where the mount fails.
    EmptyFile,
    /// An empty directory, which create=dir leaves where the mount fails.
    EmptyDir,
    /// A file or directory of the host that is not a device.
    Other,
    /// Nothing, and why.
    Nothing(String),
    /// It cannot be known from here, and why.
    Unknown(String),
}

/// A path that a line is to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenPath {
    /// Path in the container.
    pub target: String,
    /// Path on the host; empty where a hook gives it.
    pub source: String,
    /// The line.
    pub giver: Giver,
    /// What becomes of it.
    pub outcome: Outcome,
    /// A file that the start leaves in a directory of the host, below this path of the
    /// host: create=file for a missing node below a mounted directory.
    pub stub_on_host: Option<String>,
}

impl GivenPath {
    /// The device that it is.
    pub fn device(&self) -> Option<&GivenDevice> {
        match &self.outcome {
            Outcome::Device(device) => Some(device),
            _ => None,
        }
    }
}

/// What keeps a container from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Proxmox VE cannot parse the value of a dev[n].
    DevValue,
    /// The path of a dev[n] does not exist.
    DevMissing,
    /// The path of a dev[n] is not a device.
    DevNotDevice,
    /// A path is given twice, and one of both is a dev[n].
    GivenTwice,
    /// A mount entry that is not optional cannot be mounted.
    Mount,
    /// LXC does not know a key.
    Key,
    /// A file that the configuration names does not exist.
    File,
    /// Device rules that the kernel does not load as a program.
    Rules,
    /// A program that LXC runs fails.
    Hook,
    /// `lxc.idmap` that Proxmox VE does not take.
    IdMap,
    /// dev[n] in a privileged container whose ostype has no set-up of its own.
    DevOfOstype,
}

/// One reason why the container does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFault {
    /// Which.
    pub kind: FaultKind,
    /// Key of the line.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Path in the container, where the line is about one.
    pub target: Option<String>,
    /// One sentence without a full stop.
    pub reason: String,
}
