//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Chosen, Common, CommonOptions, Example, OutputChoice};

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
    /// Show which GPUs a container has and what is wrong with them
    ///
    /// Prints one record for each GPU that the main section of the container's
    /// configuration gives it.
    Show(Show),
    /// Give a container GPUs
    ///
    /// GPUs are named with --gpu or come as pci-device records on standard
    /// input (gpu-iommu-groups | lxc-gpu-conf add 901). With --dry-run on a
    /// terminal the change is shown as a diff.
    Add(Add),
}

/// Operands of `show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Container id
    #[arg(value_name = "CTID", value_parser = ctid)]
    pub ctid: u32,
}

/// Operands and options of `add`.
#[derive(Args, Debug)]
pub struct Add {
    /// Container id
    #[arg(value_name = "CTID", value_parser = ctid)]
    pub ctid: u32,

    /// GPU by address (41:00.0), UUID (GPU-...) or minor of /dev/nvidia<MINOR>
    /// (not nvidia-smi's index), or 'all'; standard input is then not read
    #[arg(short, long, value_name = "ADDRESS|UUID|MINOR|all", value_delimiter = ',')]
    pub gpu: Vec<String>,

    /// How the container is given the nodes
    #[arg(long, value_enum, value_name = "STYLE", default_value_t)]
    pub style: StyleChoice,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
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
