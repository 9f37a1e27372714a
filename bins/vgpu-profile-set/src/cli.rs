//! The command line.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Common, CommonOptions, CommonValues, OutputOption};

use crate::plan::model::PlanRules;

pub use crate::man::{EXAMPLES, MAN};

/// Assign vGPU profiles
///
/// A virtual function of an NVIDIA GPU has the vGPU profile that was written to
/// it since boot, and loses it at reboot. This tool sets profiles by name,
/// after checking that all of them fit. It reads back every change, rolls all
/// changes back if the driver refuses one, and can keep profiles set. On older
/// GPUs and kernels it makes mediated devices instead.
#[derive(Parser, Debug)]
#[command(name = "vgpu-profile-set", version, max_term_width = 100)]
pub struct Options {
    #[command(subcommand)]
    pub verb: Verb,

    #[command(flatten)]
    pub output: OutputOption,

    #[command(flatten)]
    pub common: CommonOptions,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Show GPUs, virtual functions and mediated devices with their profiles
    List(ListOptions),
    /// Show what apply would do
    ///
    /// Checks before anything is written whether there are enough virtual
    /// functions, framebuffer and MIG instances, whether framebuffer sizes can be
    /// mixed, and what is in use. If a plan does not fit, shows what would.
    Plan(PlanOptions),
    /// Set profiles
    ///
    /// Enables virtual functions where none are enabled, writes each profile once,
    /// reads it back, and rolls all changes back if the driver refuses one.
    Apply(ApplyOptions),
    /// Compare set profiles with requested ones
    Check(CheckOptions),
    /// Clear profiles
    Clear(ClearOptions),
    /// Reapply when the file or the hardware state changes
    ///
    /// Applies at once, then runs until SIGTERM. Skips a virtual function that is in
    /// use, and lines for GPUs that the host does not have. Tries a refused profile
    /// again after growing pauses. Prints each problem once, and once more when it is
    /// solved.
    Watch(WatchOptions),
    /// Set profiles for a VM from a hookscript
    ///
    /// Before a VM starts, sets the profiles of functions that it is given with
    /// driver=keep, and stops the start if one cannot be set. After it has stopped,
    /// shows what Proxmox VE has cleared.
    Hook(HookOptions),
    /// Print a cloud-init snippet with the licence files of a VM
    #[command(name = "cloud-init")]
    CloudInit(CloudInitOptions),
}

#[derive(Args, Debug)]
pub struct ListOptions {
    /// GPUs or virtual functions (41:00.4) [default: all]
    #[arg(value_name = "FUNCTION")]
    pub operands: Vec<String>,

    /// Show the profiles that the GPUs offer
    #[arg(long)]
    pub types: bool,

    /// Print configuration for another program
    #[arg(long, value_enum, value_name = "FOR", conflicts_with_all = ["types", "operands"])]
    pub format: Option<ExportFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// permittedHostDevices of KubeVirt's custom resource
    Kubevirt,
    /// Resource mappings of Proxmox VE (/etc/pve/mapping/pci.cfg)
    PveMapping,
    /// 'qm set' lines that give a VM a function with its profile
    Qm,
}

/// What is requested.
#[derive(Args, Debug)]
pub struct RequestOptions {
    /// File with profile assignments [default: standard input]
    ///
    /// Lines ADDRESS=PROFILE or ADDRESS KEY=VALUE, vgpu-assignment or vgpu records, or
    /// a configuration file of vgpu-device-manager or mig-parted; - for standard input.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Use this configuration of a file with several
    #[arg(long, value_name = "NAME")]
    pub config: Option<String>,

    /// Name of this cluster node, for [node NAME] sections
    #[arg(long = "node-name", value_name = "NAME")]
    pub node: Option<String>,

    /// Allow several framebuffer sizes on one GPU
    ///
    /// Turns heterogeneous mode on for GPUs that get several.
    #[arg(long)]
    pub heterogeneous: bool,
}

impl RequestOptions {
    /// The rules for a plan.
    pub fn rules(&self, skip_in_use: bool) -> PlanRules {
        PlanRules { heterogeneous: self.heterogeneous, skip_in_use }
    }
}

#[derive(Args, Debug)]
pub struct PlanOptions {
    #[command(flatten)]
    pub request: RequestOptions,
}

#[derive(Args, Debug)]
pub struct ApplyOptions {
    #[command(flatten)]
    pub request: RequestOptions,

    /// Skip what is in use or managed by Proxmox VE
    #[arg(long)]
    pub skip_in_use: bool,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct CheckOptions {
    #[command(flatten)]
    pub request: RequestOptions,

    /// Health file: watch writes it, check reads it
    ///
    /// The exit status is 0 if all profiles are set as requested, else 1.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "config", "node", "heterogeneous"])]
    pub health_file: Option<PathBuf>,

    /// With --health-file: check only that watch runs
    #[arg(long, requires = "health_file")]
    pub alive: bool,
}

#[derive(Args, Debug)]
pub struct ClearOptions {
    /// Virtual functions (41:00.4), or GPUs for all of theirs
    #[arg(value_name = "FUNCTION")]
    pub operands: Vec<String>,

    /// Clear all virtual functions of the host
    #[arg(long, conflicts_with = "operands")]
    pub all: bool,

    /// Skip what is in use or managed by Proxmox VE
    #[arg(long)]
    pub skip_in_use: bool,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct WatchOptions {
    /// File with profile assignments, which may change
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Use this configuration of a file with several
    #[arg(long, value_name = "NAME")]
    pub config: Option<String>,

    /// Name of this cluster node, for [node NAME] sections
    #[arg(long = "node-name", value_name = "NAME")]
    pub node: Option<String>,

    /// Allow several framebuffer sizes on one GPU
    ///
    /// Turns heterogeneous mode on for GPUs that get several.
    #[arg(long)]
    pub heterogeneous: bool,

    /// Check the hardware state after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub interval: u64,

    /// Health file: watch writes it, check reads it
    #[arg(long, value_name = "FILE")]
    pub health_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct HookOptions {
    /// VM
    #[arg(value_name = "VMID", value_parser = clap::value_parser!(u32).range(100..=999_999_999))]
    pub vmid: u32,

    /// pre-start, post-start, pre-stop or post-stop
    #[arg(value_name = "PHASE")]
    pub phase: String,

    /// File with profile assignments [default: /etc/vgpu-profiles]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Use this configuration of a file with several
    #[arg(long, value_name = "NAME")]
    pub config: Option<String>,

    /// Print problems, but let the VM start anyway
    #[arg(long)]
    pub warn_only: bool,
}

#[derive(Args, Debug)]
pub struct CloudInitOptions {
    /// Client configuration token of the licence server
    #[arg(value_name = "TOKEN")]
    pub token: PathBuf,

    /// FeatureType in gridd.conf [default: 1, by profile]
    ///
    /// 0 requests no licence, 1 lets the driver choose by profile, 2 requests a virtual
    /// workstation, 4 a compute server.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, hide_default_value = true,
        value_parser = clap::builder::PossibleValuesParser::new(["0", "1", "2", "4"])
            .map(|text| text.parse::<u8>().unwrap_or(1)))]
    pub feature_type: u8,
}

impl Common for Options {
    const CORRECTIONS: &'static [cli::Correction] = &[
        ("set", "apply"),
        ("show", "list"),
        ("ls", "list"),
        ("status", "list"),
        ("types", "list --types"),
        ("remove", "clear"),
        ("delete", "clear"),
        ("unset", "clear"),
        ("licence", "cloud-init"),
        ("license", "cloud-init"),
        (cli::ADDRESS, "list {}"),
    ];

    fn common(&self) -> CommonValues {
        self.common.values(self.output.choice)
    }
}
