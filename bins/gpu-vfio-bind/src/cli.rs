//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Common, CommonOptions, CommonValues, OutputOption};
pub use passthrough::ForceKind;

use crate::boot::list::MatchBy;

/// Bind GPUs to vfio-pci and release them
///
/// A GPU is passed through to a VM with all functions of its slot: display,
/// audio, USB and USB-C. bind binds them to vfio-pci, release returns them to the
/// drivers that they had. Both check first, never wait forever for the kernel,
/// read back what they wrote, and roll everything back if one function fails.
#[derive(Parser, Debug)]
#[command(name = "gpu-vfio-bind", version, max_term_width = 100)]
pub struct Options {
    /// Command to run
    #[command(subcommand)]
    pub verb: Verb,

    #[command(flatten)]
    pub output: OutputOption,

    #[command(flatten)]
    pub common: CommonOptions,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Bind slots to vfio-pci, for a VM
    ///
    /// Binds all functions of each named slot. A bind that would hang the kernel,
    /// or take a device that is in use, is refused; the message names the user.
    Bind(Bind),
    /// Return slots to the host's drivers
    ///
    /// Each function gets the driver that it had before bind, or the one that
    /// the kernel finds for it.
    Release(Release),
    /// Bind slots to vfio-pci at every boot
    ///
    /// Writes a list of functions, and a script that binds them in the initramfs
    /// before native drivers are loaded; then rebuilds the images and checks
    /// their contents. It takes effect at the next boot; bind takes effect now.
    Persist(Persist),
    /// Stop binding slots at boot
    Unpersist(Unpersist),
    /// Show current and next-boot drivers
    Status(Status),
    /// Reset slots that do not work after a VM
    ///
    /// Resets each function of the slot by the first method that the kernel has
    /// for it. The functions have to be bound to vfio-pci or to no driver, and may
    /// not be in use.
    Reset(Reset),
    /// Bind and release GPUs from a hookscript of a VM
    ///
    /// pre-start binds the GPUs that the VM is given as hostpci[n], and fails if
    /// one is in use; Proxmox VE does not start the VM then. post-stop releases
    /// those that pre-start has bound. Other phases, and VMs without a GPU, are
    /// left alone.
    Hook(Hook),
}

#[derive(Args, Debug)]
pub struct Persist {
    #[command(flatten)]
    pub named: Named,

    /// How to recognise the functions at boot
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub by: MatchBy,

    /// VFIO driver, or 'auto'
    ///
    /// auto selects the variant of vfio-pci that matches the function most
    /// exactly according to modules.alias.
    #[arg(long, value_name = "DRIVER", default_value = "vfio-pci")]
    pub driver: String,

    /// Also bind the other devices of the IOMMU group
    #[arg(long)]
    pub group: bool,

    /// Also enable the IOMMU on the kernel command line
    ///
    /// Only if the kernel does not enable it by default.
    #[arg(long)]
    pub cmdline: bool,

    /// Also blacklist the kernel's own display drivers
    ///
    /// Those of its vendor, unless another GPU needs them.
    #[arg(long)]
    pub blacklist: bool,

    #[command(flatten)]
    pub force: ForceOption,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct Unpersist {
    #[command(flatten)]
    pub named: Named,

    /// All slots that are bound at boot
    #[arg(long, conflicts_with = "operands")]
    pub all: bool,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct Named {
    /// Functions (41:00.0) or slots (41:00); none: piped records
    ///
    /// A function selects its whole slot. Without operands, reads pci-device
    /// records from standard input (gpu-iommu-groups ... |).
    #[arg(value_name = "FUNCTION|SLOT")]
    pub operands: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Bind {
    #[command(flatten)]
    pub named: Named,

    /// Also bind the other devices of the IOMMU group
    ///
    /// Bridges are never bound.
    #[arg(long)]
    pub group: bool,

    /// VFIO driver, or 'auto'
    ///
    /// auto selects the variant of vfio-pci that matches the function most
    /// exactly according to modules.alias.
    #[arg(long, value_name = "DRIVER", default_value = "vfio-pci")]
    pub driver: String,

    /// Stop nvidia-persistenced if it has a GPU open
    ///
    /// It is started again if the bind fails.
    #[arg(long)]
    pub stop_persistenced: bool,

    #[command(flatten)]
    pub wait: Wait,

    #[command(flatten)]
    pub force: ForceOption,

    #[command(flatten)]
    pub change: ChangeOptions,

    /// The VM whose start this is, in a hookscript.
    #[arg(skip)]
    pub vm: Option<u32>,
}

#[derive(Args, Debug)]
pub struct Reset {
    #[command(flatten)]
    pub named: Named,

    #[command(flatten)]
    pub wait: Wait,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct Hook {
    /// VM
    #[arg(value_name = "VMID", value_parser = clap::value_parser!(u32).range(100..=999_999_999))]
    pub vmid: u32,

    /// pre-start, post-start, pre-stop or post-stop
    #[arg(value_name = "PHASE")]
    pub phase: String,

    #[command(flatten)]
    pub wait: Wait,

    #[command(flatten)]
    pub force: ForceOption,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct Release {
    #[command(flatten)]
    pub named: Named,

    /// Bind the functions that this driver claims to it instead
    #[arg(long, value_name = "DRIVER")]
    pub to: Option<String>,

    #[command(flatten)]
    pub wait: Wait,

    #[command(flatten)]
    pub force: ForceOption,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct Status {
    /// Functions (41:00.0), slots (41:00) or IOMMU groups (group:26)
    ///
    /// Default: the slots of all GPUs.
    #[arg(value_name = "FUNCTION|SLOT|GROUP")]
    pub operands: Vec<String>,

    /// Print configuration for another program
    #[arg(long, value_enum, value_name = "FOR")]
    pub format: Option<ExportFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Commands that give the slots to a VM
    Qm,
    /// permittedHostDevices of KubeVirt's custom resource
    Kubevirt,
    /// Resource mappings of Proxmox VE (/etc/pve/mapping/pci.cfg)
    PveMapping,
}

#[derive(Args, Debug)]
pub struct ForceOption {
    /// Override safety refusals of these kinds
    ///
    /// Separate several by commas. A refusal names the kinds that it needs; disks,
    /// processes and running VMs have none.
    #[arg(long = "force", value_enum, value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<ForceKind>,
}

#[derive(Args, Debug, Clone, Copy)]
pub struct Wait {
    /// Seconds to wait for one unbind or bind
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

impl Common for Options {
    const CORRECTIONS: &'static [cli::Correction] = &[
        ("unbind", "release"),
        ("rebind", "release"),
        ("attach", "bind"),
        ("detach", "bind"),
        ("reattach", "release"),
        ("list", "status"),
        ("show", "status"),
        ("--driver", "release --to DRIVER"),
        (cli::ADDRESS, "bind {}"),
    ];

    fn common(&self) -> CommonValues {
        self.common.values(self.output.choice)
    }
}
