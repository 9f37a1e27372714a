//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Common, CommonOptions, CommonValues, OutputOption};

pub use crate::man::{EXAMPLES, MAN};

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

    /// How to print.
    #[command(flatten)]
    pub output: OutputOption,

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
    Show(ContainerSelection),
    /// Give a container GPUs
    ///
    /// GPUs are named with --gpu or come as pci-device records on standard
    /// input (gpu-iommu-groups | lxc-gpu-conf add 901). With --dry-run on a
    /// terminal the change is shown as a diff.
    Add(Box<Add>),
    /// Remove GPUs from a container
    ///
    /// Without a selection all NVIDIA nodes, rules and mounted driver libraries are
    /// removed. Shared nodes are removed with the last GPU.
    Remove(Remove),
    /// Check container GPU configuration
    ///
    /// Prints one check record for each problem, and exits 1 if there is any.
    Check(ContainerSelection),
    /// Repair container GPU configuration after a reboot or update
    ///
    /// Repairs device nodes, stale device rules, GPUs whose number has changed, and
    /// mounted driver libraries of another version.
    Sync(Sync),
    /// Create or fix the NVIDIA device nodes in /dev
    ///
    /// Uses nvidia-modprobe where it is installed, else /proc/devices.
    Nodes(Nodes),
    /// Run checks from a hookscript
    ///
    /// pre-start: the device nodes exist and the driver versions match; post-start:
    /// the nodes open inside. Prints nothing when all checks pass.
    Hook(Hook),
}

/// Containers.
#[derive(Args, Debug)]
pub struct ContainerSelection {
    /// Containers
    #[arg(value_name = "CTID", value_parser = pve::ctid)]
    pub ctid: Vec<u32>,

    /// All containers of the cluster that have a GPU
    #[arg(long, conflicts_with = "ctid")]
    pub all: bool,
}

/// Operands and options of `add`.
#[derive(Args, Debug)]
pub struct Add {
    /// Container
    #[arg(value_name = "CTID", value_parser = pve::ctid)]
    pub ctid: u32,

    /// GPU: 41:00.0, GPU-UUID, minor, all or - (piped)
    ///
    /// The minor is the number of /dev/nvidia<MINOR>, not nvidia-smi's index.
    /// '-' reads pci-device records from standard input.
    #[arg(short, long, value_name = "GPU", value_delimiter = ',')]
    pub gpu: Vec<String>,

    /// MIG instance: GI/CI (2/0) or MIG-UUID
    ///
    /// GI and CI are the numbers of GPU instance and compute instance.
    #[arg(long, value_name = "INSTANCE", value_delimiter = ',')]
    pub mig: Vec<String>,

    /// Allow monitoring all MIG instances
    #[arg(long, hide_short_help = true)]
    pub mig_monitor: bool,

    /// Also give DRM nodes and nvidia-modeset
    ///
    /// For OpenGL, Vulkan and displays.
    #[arg(long)]
    pub graphics: bool,

    /// IMEX channels, by number or 'all'
    #[arg(long, value_name = "CHANNEL", value_delimiter = ',', hide_short_help = true)]
    pub imex: Vec<String>,

    /// Also give NVSwitch and NVLink nodes
    #[arg(long, hide_short_help = true)]
    pub fabric: bool,

    /// How the container gets the nodes
    #[arg(long, value_enum, value_name = "STYLE", default_value_t)]
    pub style: StyleChoice,

    /// Convert mount entries and rules to dev[n]
    ///
    /// Without --gpu it converts the GPUs that the container has.
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

    /// Mount the host's driver libraries
    ///
    /// File by file and read-only; sets of them by --libs=SET,SET, without that
    /// utility,compute,video.
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

    /// Mount the driver libraries in DIR instead
    ///
    /// A directory that 'nv-runfile install --share DIR' filled.
    #[arg(long, value_name = "DIR")]
    pub share_driver: Option<String>,

    /// Do not hot-plug new nodes into a running container
    ///
    /// By default pct hot-plugs them where it supports that.
    #[arg(long, hide_short_help = true)]
    pub no_hotplug: bool,

    /// Restart the container if it is running and needs it
    ///
    /// And wait until its nodes open inside.
    #[arg(long)]
    pub restart: bool,

    /// Start the container if it is not running
    ///
    /// And wait until its nodes open inside.
    #[arg(long)]
    pub start: bool,

    /// Wait until its nodes open inside
    ///
    /// 60 seconds with --restart or --start, else not at all.
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
    /// Container
    #[arg(value_name = "CTID", value_parser = pve::ctid)]
    pub ctid: u32,

    /// GPU: 41:00.0, GPU-UUID, minor, all or - (piped)
    ///
    /// Removes only what this GPU needs. '-' reads pci-device records from standard
    /// input.
    #[arg(short, long, value_name = "GPU", value_delimiter = ',')]
    pub gpu: Vec<String>,

    /// MIG instance: GI/CI (2/0)
    ///
    /// Removes only what this instance needs.
    #[arg(long, value_name = "INSTANCE", value_delimiter = ',')]
    pub mig: Vec<String>,

    /// Remove only this node
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub node: Vec<String>,

    /// Remove only the mounted driver libraries
    #[arg(long)]
    pub libs: bool,

    /// Restart the container if it is running and needs it
    #[arg(long)]
    pub restart: bool,

    /// Wait until its nodes open inside
    ///
    /// Those that it keeps.
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
    pub selection: ContainerSelection,

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
    /// Container
    #[arg(value_name = "CTID", value_parser = pve::ctid)]
    pub ctid: u32,

    /// pre-start, post-start, pre-stop or post-stop
    #[arg(value_name = "PHASE")]
    pub phase: String,

    /// Print problems, but let the container start anyway
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
pub(crate) fn mode(text: &str) -> Result<String, String> {
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
    const CORRECTIONS: &'static [cli::Correction] = &[
        ("list", "show"),
        ("status", "check"),
        ("set", "add"),
        ("attach", "add"),
        ("del", "remove"),
        ("delete", "remove"),
        ("detach", "remove"),
        ("update", "sync"),
        ("repair", "sync"),
        ("--ct", "lxc-gpu-conf add CTID"),
        ("compute", "--libs=compute"),
        ("utility", "--libs=utility"),
        ("video", "--libs=video"),
        ("graphics", "--libs=graphics"),
        (cli::ADDRESS, "--gpu {}"),
    ];

    fn common(&self) -> CommonValues {
        self.common.values(self.output.choice)
    }
}
