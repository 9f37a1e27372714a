//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Chosen, Common, CommonOptions, Example, ManText, OutputChoice};

/// Give a Proxmox VE container a GPU
///
/// Edits the main section of /etc/pve/lxc/<CTID>.conf as Proxmox VE itself
/// would: under its lock, atomically, every other byte unchanged. A container
/// shares a GPU that the host's nvidia driver owns; it gets the device nodes,
/// and needs the same version of the userspace driver inside.
#[derive(Parser, Debug)]
#[command(name = "lxc-gpu-conf", version, max_term_width = 100)]
pub struct Options {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,

    /// How to print
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Common options"
    )]
    pub output: OutputChoice,

    /// Common options.
    #[command(flatten)]
    pub common: CommonOptions,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Show which GPUs containers have and what is wrong with them
    ///
    /// Prints one record for each GPU that the main section of a container's
    /// configuration gives it.
    Show(Which),
    /// Give a container GPUs
    ///
    /// GPUs are named with --gpu or come as pci-device records on standard
    /// input (gpu-iommu-groups | lxc-gpu-conf add 901). With --dry-run on a
    /// terminal the change is shown as a diff.
    Add(Box<Add>),
    /// Take GPUs away from a container
    ///
    /// Without a selection everything of NVIDIA's goes: nodes, rules, mounted
    /// userspace. What all GPUs share goes with the last of them.
    Remove(Remove),
    /// Find what keeps containers from their GPUs
    ///
    /// Prints one check record for each thing that is wrong, and exits 1 if
    /// there is any.
    Check(Which),
    /// Bring containers back to what they are to have
    ///
    /// After a reboot, a kernel or a driver update: device nodes, stale rules,
    /// cards that have another number, mounted libraries of another version.
    Sync(Sync),
    /// Make this host's device nodes, with the numbers of now
    ///
    /// With nvidia-modprobe where it is installed, else from /proc/devices.
    Nodes(Nodes),
    /// What a hookscript of Proxmox VE calls
    ///
    /// pre-start: nodes there, versions equal; post-start: the nodes open
    /// inside. Silent when all is well.
    Hook(Hook),
}

/// Containers.
#[derive(Args, Debug)]
pub struct Which {
    /// Container ids
    #[arg(value_name = "CTID", value_parser = ctid, required_unless_present = "all")]
    pub ctid: Vec<u32>,

    /// All containers of the cluster that have a GPU
    #[arg(long, conflicts_with = "ctid")]
    pub all: bool,
}

/// Operands and options of `add`.
#[derive(Args, Debug)]
pub struct Add {
    /// Container id
    #[arg(value_name = "CTID", value_parser = ctid)]
    pub ctid: u32,

    /// GPU by address (41:00.0), UUID (GPU-...) or minor of /dev/nvidia<MINOR>
    /// (not nvidia-smi's index), or 'all'; '-' for records on standard input
    #[arg(short, long, value_name = "ADDRESS|UUID|MINOR|all", value_delimiter = ',')]
    pub gpu: Vec<String>,

    /// MIG instance by GPU instance/compute instance (2/0) or UUID (MIG-...)
    #[arg(long, value_name = "GI/CI|UUID", value_delimiter = ',')]
    pub mig: Vec<String>,

    /// The right to watch all MIG instances
    #[arg(long)]
    pub mig_monitor: bool,

    /// DRM nodes and nvidia-modeset too, for OpenGL, Vulkan and displays
    #[arg(long)]
    pub graphics: bool,

    /// IMEX channels, by number or 'all'
    #[arg(long, value_name = "CHANNEL|all", value_delimiter = ',')]
    pub imex: Vec<String>,

    /// NVSwitch and NVLink nodes too
    #[arg(long)]
    pub fabric: bool,

    /// How the container is given the nodes
    #[arg(long, value_enum, value_name = "STYLE", default_value_t)]
    pub style: StyleChoice,

    /// Make dev[n] of hand-made mount entries and rules; without --gpu of those
    /// that are there
    #[arg(long)]
    pub convert: bool,

    /// Owner of the nodes inside the container
    #[arg(long, value_name = "ID")]
    pub uid: Option<u32>,

    /// Group of the nodes inside the container
    #[arg(long, value_name = "ID")]
    pub gid: Option<u32>,

    /// Mode of the nodes inside the container (0666)
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<String>,

    /// Mount the host's driver libraries, file by file and read-only
    /// (utility,compute,video where none is named)
    #[arg(
        long,
        value_enum,
        value_name = "SET",
        value_delimiter = ',',
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "utility,compute,video"
    )]
    pub libs: Vec<SetChoice>,

    /// The same from a directory into which an installer was unpacked
    #[arg(long, value_name = "DIR")]
    pub share_driver: Option<String>,

    /// Never hand new nodes to the running container through pct
    #[arg(long)]
    pub no_hotplug: bool,

    /// Restart the container if it runs and needs it, and wait until its nodes
    /// open inside
    #[arg(long)]
    pub restart: bool,

    /// Wait so long until the nodes open inside (60 with --restart)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub wait: Option<u64>,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

impl Add {
    /// Whether records come on standard input.
    pub fn reads_stdin(&self) -> bool {
        let named = !self.gpu.is_empty() || !self.mig.is_empty() || self.convert;
        !named || self.gpu.iter().any(|name| name == "-")
    }
}

/// Operands and options of `remove`.
#[derive(Args, Debug)]
pub struct Remove {
    /// Container id
    #[arg(value_name = "CTID", value_parser = ctid)]
    pub ctid: u32,

    /// Only this GPU, by address, UUID or minor; '-' for records on standard
    /// input
    #[arg(short, long, value_name = "ADDRESS|UUID|MINOR|-", value_delimiter = ',')]
    pub gpu: Vec<String>,

    /// Only this MIG instance
    #[arg(long, value_name = "GI/CI", value_delimiter = ',')]
    pub mig: Vec<String>,

    /// Only this node
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub node: Vec<String>,

    /// Only the mounted driver libraries
    #[arg(long)]
    pub libs: bool,

    /// Restart the container if it runs
    #[arg(long)]
    pub restart: bool,

    /// Wait so long until the nodes that it keeps open inside
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub wait: Option<u64>,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Operands of `sync`.
#[derive(Args, Debug)]
pub struct Sync {
    /// Which containers.
    #[command(flatten)]
    pub which: Which,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Operands of `nodes`.
#[derive(Args, Debug)]
pub struct Nodes {
    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Operands of `hook`.
#[derive(Args, Debug)]
pub struct Hook {
    /// Container id
    #[arg(value_name = "VMID", value_parser = ctid)]
    pub vmid: u32,

    /// pre-start, post-start, pre-stop or post-stop
    #[arg(value_name = "PHASE")]
    pub phase: String,

    /// Say what is wrong and let the container start all the same
    #[arg(long)]
    pub warn_only: bool,
}

/// Sets of the driver's userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SetChoice {
    /// nvidia-smi and NVML
    Utility,
    /// CUDA and OpenCL
    Compute,
    /// Encoding and decoding
    Video,
    /// OpenGL, Vulkan, ray tracing
    Graphics,
}

impl SetChoice {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            SetChoice::Utility => "utility",
            SetChoice::Compute => "compute",
            SetChoice::Video => "video",
            SetChoice::Graphics => "graphics",
        }
    }
}

/// Proxmox VE's form of a mode: `0` and three octal digits.
fn mode(text: &str) -> Result<String, String> {
    let octal = text.len() == 4
        && text.starts_with('0')
        && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if octal { Ok(text.into()) } else { Err("a mode is 0 and three octal digits: 0660".into()) }
}

/// How nodes are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StyleChoice {
    /// dev[n] where pve-container has it (5.0.7) and the container has no
    /// mount entries for such nodes, else mount
    #[default]
    Auto,
    /// dev[n]: Proxmox VE makes the nodes at each start
    Dev,
    /// lxc.mount.entry, with device rules where the container is privileged
    Mount,
}

impl Common for Options {
    fn common(&self) -> Chosen {
        Chosen { verbose: self.common.verbose, quiet: self.common.quiet, output: self.output }
    }
}

/// Proxmox VE's range of guest ids.
fn ctid(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(id @ 100..=999_999_999) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(id),
        _ => Err("a container id is a number from 100 to 999999999".into()),
    }
}

/// The manual page beyond the options.
pub const MAN: ManText = ManText {
    input: "add without --gpu reads pci-device records, all of them before it does anything. Only \
        the address counts: driver, minor and everything else are looked up on this host. Functions \
        that only accompany a GPU are not asked for, GPUs of other vendors and virtual functions \
        are skipped. An empty stream, a line that is no record, and an error record from the tool \
        before are failures, and nothing is changed.",
    output: "show: one lxc-gpu record for each GPU. add: one change record for each line of the \
        configuration that the container needs, with status unchanged, planned, changed, skipped, \
        refused, failed or rolled-back; with --check one check record each. On a terminal a table, \
        and for --dry-run a diff. The records are described in pve-gpu-records(5).",
    exit: &[
        (1, "With --check: add would change something."),
        (2, "Among others: no such container or GPU on this host."),
        (3, "Among others: /etc/pve is not mounted or has no quorum; the configuration's lock was \
             not free within 10 seconds; someone else changed the file meanwhile."),
        (4, "The container has a lock: property; the GPU is bound to vfio-pci or nouveau; a device \
             node is missing on the host; the change would keep the container from starting."),
    ],
    files: &[
        ("/etc/pve/lxc/CTID.conf", "the configuration; only its main section is changed"),
        ("/run/lock/lxc/pve-config-CTID.lock", "Proxmox VE's lock on it, taken with flock(2)"),
        ("/proc/devices", "the drivers' major numbers; only 195 is fixed"),
        ("/proc/driver/nvidia/gpus", "minor, UUID and model of the host's GPUs"),
        ("/dev/nvidia*", "the host's device nodes"),
        ("/var/lib/dpkg/status", "the version of pve-container, for --style auto"),
    ],
    notes: "Nodes: /dev/nvidia<minor>, nvidiactl and nvidia-uvm, and where the host has them \
        nvidia-uvm-tools and nvidia-modeset.

Style dev writes dev[n] with mode=0666, as the nodes are on the host: Proxmox VE makes a fresh node \
        at each start, so that a major number that moved does no harm, but a node that is missing \
        on the host keeps the container from starting. Style mount writes optional mount entries; a \
        privileged container also gets exact device rules (an unprivileged one has no list of \
        allowed devices in Proxmox VE, so rules would do nothing there). The same node is never \
        given both ways: the container would not start.

The minor is neither nvidia-smi's index nor the number of the DRM card; where in doubt use the \
        address.

A running container gets the nodes at its next start. Inside, the userspace driver must have exactly \
        the version of the host's kernel module.

The file is replaced atomically: a crash at any moment leaves the old one or the new one. Comments \
        are not used to mark lines, since Proxmox VE moves them.",
    examples: EXAMPLES,
    see_also: &["gpu-iommu-groups(1)", "gpu-vfio-bind(1)", "pve-gpu-records(5)", "pct(1)", "pct.conf(5)"],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Give all NVIDIA GPUs of this host to container 901, but only show what would change.",
        command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901 --dry-run",
    },
    Example { says: "Do it.", command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901" },
    Example {
        says: "Give it the GPU of /dev/nvidia1 only.",
        command: "lxc-gpu-conf add 904 --gpu 1",
    },
    Example {
        says: "What does container 902 have, and is anything wrong with it?",
        command: "lxc-gpu-conf show 902",
    },
    Example {
        says: "From a script: is everything in place?",
        command: "lxc-gpu-conf add 901 --gpu all --check",
    },
];
