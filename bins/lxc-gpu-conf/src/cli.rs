//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Chosen, Common, CommonOptions, Example, ManText, OutputChoice};

use crate::finding::CAUSES;

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
    /// GPUs that have another number, mounted libraries of another version.
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

    /// The right to watch all MIG instances
    #[arg(long, hide_short_help = true)]
    pub mig_monitor: bool,

    /// DRM nodes and nvidia-modeset too
    ///
    /// For OpenGL, Vulkan and displays.
    #[arg(long)]
    pub graphics: bool,

    /// IMEX channels, by number or 'all'
    #[arg(long, value_name = "CHANNEL", value_delimiter = ',', hide_short_help = true)]
    pub imex: Vec<String>,

    /// NVSwitch and NVLink nodes too
    #[arg(long, hide_short_help = true)]
    pub fabric: bool,

    /// How it gets the nodes
    #[arg(long, value_enum, value_name = "STYLE", default_value_t)]
    pub style: StyleChoice,

    /// Make dev[n] of hand-made mount entries and rules
    ///
    /// Without --gpu of those that are there.
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

    /// Mount those below DIR instead
    ///
    /// A directory that 'nv-runfile install --share DIR' filled.
    #[arg(long, value_name = "DIR")]
    pub share_driver: Option<String>,

    /// Do not hand new nodes to the running container
    ///
    /// Without this they are handed to it through pct where it can do that.
    #[arg(long, hide_short_help = true)]
    pub no_hotplug: bool,

    /// Restart the container if it runs and needs it
    ///
    /// And wait until its nodes open inside.
    #[arg(long)]
    pub restart: bool,

    /// Start the container if it does not run
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
    /// Only what this GPU needs goes. '-' reads pci-device records from standard
    /// input.
    #[arg(short, long, value_name = "GPU", value_delimiter = ',')]
    pub gpu: Vec<String>,

    /// MIG instance: GI/CI (2/0)
    ///
    /// Only what this instance needs goes.
    #[arg(long, value_name = "INSTANCE", value_delimiter = ',')]
    pub mig: Vec<String>,

    /// Only this node
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub node: Vec<String>,

    /// Only the mounted driver libraries
    #[arg(long)]
    pub libs: bool,

    /// Restart the container if it runs and needs it
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
    /// Container
    #[arg(value_name = "CTID", value_parser = pve::ctid)]
    pub ctid: u32,

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
    const INSTEAD: &'static [cli::Instead] = &[
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

    fn common(&self) -> Chosen {
        Chosen { verbose: self.common.verbose, quiet: self.common.quiet, output: self.output }
    }
}

/// The manual page beyond the options.
pub const MAN: ManText = ManText {
    input: "add without --gpu, --mig or --convert (or with --gpu -) reads pci-device records, all of \
        them before it does anything. Only the address counts: driver, minor and everything else are \
        looked up on this host. Functions that only accompany a GPU are not asked for, GPUs of other \
        vendors and virtual functions are skipped. An empty stream, a line that is no record, and an \
        error record from the tool before are failures, and nothing is changed. remove --gpu - reads \
        the same; the other commands do not look at standard input.",
    output: "show: one lxc-gpu record for each GPU. check: one check record for each thing that is \
        wrong, with its cause, and one for each GPU of a container with which nothing is. add, \
        remove, sync: one change record for each line of the configuration, with status unchanged, \
        planned, changed, skipped, refused, failed or rolled-back; with --check one check record \
        each. nodes: one change record for each node. With --restart or --wait also one check record \
        for each node as it opens inside. hook prints no records. On a terminal a table, and for \
        --dry-run a diff. The records are described in pve-gpu-records(5).",
    exit: &[
        (1, "check found something; with --check: a change would be made."),
        (2, "Among others: no such container or GPU on this host."),
        (3, "Among others: /etc/pve is not mounted or has no quorum; the configuration's lock was \
             not free within 10 seconds; someone else changed the file meanwhile; a node does not \
             open inside in time; hook: the container's GPU could not work."),
        (4, "The container has a lock: property; the GPU is bound to vfio-pci or nouveau; a device \
             node is missing on the host; the change would keep the container from starting; hook: \
             the container's userspace is of another version than the kernel module."),
    ],
    files: &[
        ("/etc/pve/lxc/CTID.conf", "the configuration; only its main section is changed"),
        ("/run/lock/lxc/pve-config-CTID.lock", "Proxmox VE's lock on it, taken with flock(2)"),
        ("/var/lib/pve-gpu-tools/lxc/CTID.json", "what add was asked for, by GPU and not by number: \
            what sync brings back. Not needed: without it sync goes by the numbers"),
        ("/proc/devices", "the drivers' major numbers; only 195 is fixed"),
        ("/proc/driver/nvidia/gpus", "minor, UUID and model of the host's GPUs"),
        ("/proc/driver/nvidia/params", "owner and mode of nodes that are made"),
        ("/proc/driver/nvidia-caps/mig-minors", "numbers of MIG's capabilities"),
        ("/dev/nvidia*", "the host's device nodes"),
        ("/var/lib/dpkg/status", "the version of pve-container: dev[n] came with 5.0.7, handing it \
            to a running container with 6.0.4"),
        ("/lib/systemd/system/pve-gpu-nodes.service", "nodes and sync --all before containers start; \
            'systemctl enable pve-gpu-nodes'"),
        ("/usr/share/pve-gpu-tools/hookscript", "copy it to a storage for snippets"),
    ],
    notes: "Nodes: /dev/nvidia<minor>, nvidiactl and nvidia-uvm, and where the host has them \
        nvidia-uvm-tools and nvidia-modeset; with --graphics the GPU's DRM nodes, with the groups \
        video and render of the container's own /etc/group; with --mig the two capabilities of the \
        instance, readable by all. /dev/nvidia-caps/nvidia-cap1, the right to reconfigure MIG, is \
        never given.

Style dev writes dev[n] with mode=0666, as the nodes are on the host: Proxmox VE makes a fresh node \
        at each start, so that a major number that moved does no harm, but a node that is missing \
        on the host keeps the container from starting; pve-gpu-nodes.service makes them before. \
        Style mount writes optional mount entries; a privileged container also gets exact device \
        rules (an unprivileged one has no list of allowed devices in Proxmox VE, so rules would do \
        nothing there). The same node is never given both ways: the container would not start.

The minor is neither nvidia-smi's index nor the number of its DRM node; where in doubt use the \
        address.

A stopped container has the change at its next start. A running one gets a new dev[n] at once where \
        pct can hand it over, and all else at its next start: --restart does that. Whether it really \
        works is found out by opening the nodes inside the container's control group and namespaces; \
        that a name exists says nothing, since a failed mount leaves an empty file. Inside, the \
        userspace driver must have exactly the version of the host's kernel module.

The file is replaced atomically: a crash at any moment leaves the old one or the new one. Comments \
        are not used to mark lines, since Proxmox VE moves them.",
    lists: &[("CAUSES", CAUSES), ("RECIPES", RECIPES)],
    examples: EXAMPLES,
    see_also: &[
        "gpu-iommu-groups(1)",
        "gpu-vfio-bind(1)",
        "pve-gpu-records(5)",
        "pct(1)",
        "pct.conf(5)",
        "nvidia-modprobe(1)",
    ],
};

/// What to do in which situation.
const RECIPES: &[(&str, &str)] = &[
    (
        "CUDA or Ollama in an unprivileged container",
        "'lxc-gpu-conf add 901 --gpu 41:00.0 --restart', then the host's driver version inside, \
         without its kernel module (nv-runfile(1)).",
    ),
    (
        "Transcoding (Jellyfin, Plex, Frigate)",
        "The same; NVENC needs no DRM node. The default mode 0666 lets a program in that runs as a \
         user of its own; '--mode 0660 --gid GID' only a group, by its number inside.",
    ),
    ("OpenGL, Vulkan, a desktop", "--graphics."),
    (
        "MIG",
        "Make the instance on the host ('nvidia-smi mig -cgi 9 -C'), then 'lxc-gpu-conf add 101 \
         --gpu 41:00.0 --mig 2/0': GPU instance and compute instance as 'nvidia-smi mig -lci' lists \
         them. They do not outlive a reboot of the host by themselves: make them again before \
         pve-gpu-nodes.service.",
    ),
    (
        "Docker in the container",
        "'features: nesting=1,keyctl=1', add as above, NVIDIA's container toolkit inside, and there \
         'nvidia-ctk config --set nvidia-container-cli.no-cgroups=true --in-place': an unprivileged \
         container may not load device programs of its own.",
    ),
    (
        "A privileged container",
        "As any other. Do not write 'lxc.cgroup2.devices.allow: a' or 'deny: a': with either as the \
         last rule the container may open every device of the host.",
    ),
    (
        "An application container (OCI image)",
        "As any other. With --libs it needs neither a package manager nor ldconfig: each file of the \
         host's driver is mounted under its own name.",
    ),
    (
        "Many containers with one userspace",
        "Unpack the installer once (nv-runfile(1)), then 'lxc-gpu-conf add 901 --gpu all \
         --share-driver DIR' for each.",
    ),
    ("An old hand-made block", "'lxc-gpu-conf add 902 --convert'."),
];

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Give all NVIDIA GPUs of this host to container 901, but only show what would change.",
        command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901 --dry-run",
    },
    Example { says: "Do it.", command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901" },
    Example {
        says: "Give it the GPU of /dev/nvidia1 only, and restart it if it runs.",
        command: "lxc-gpu-conf add 904 --gpu 1 --restart",
    },
    Example { says: "Take that one away again.", command: "lxc-gpu-conf remove 904 --gpu 1" },
    Example {
        says: "What does container 902 have, and is anything wrong with it?",
        command: "lxc-gpu-conf show 902",
    },
    Example {
        says: "From cron: is anything wrong with any container of the cluster?",
        command: "lxc-gpu-conf check --all -q",
    },
    Example {
        says: "Make dev[n] of lines that somebody once wrote by hand.",
        command: "lxc-gpu-conf add 902 --convert",
    },
    Example {
        says: "After a reboot, before containers start: what pve-gpu-nodes.service runs.",
        command: "lxc-gpu-conf nodes && lxc-gpu-conf sync --all",
    },
    Example {
        says: "From a script: is everything in place?",
        command: "lxc-gpu-conf add 901 --gpu all --check",
    },
];
