//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Common, CommonOptions, CommonValues, OutputOption};

use crate::plan::Rules;

pub use crate::man::{EXAMPLES, MAN};

/// Put NVIDIA vGPU profiles onto virtual functions and keep them there
///
/// An SR-IOV virtual function of an NVIDIA GPU has the vGPU profile that was
/// written to it since boot, and none after the next. This sets profiles by
/// name, after checking that all of them fit; reads back; puts everything back
/// where one is refused; and can watch over it. On older GPUs and kernels it
/// makes mediated devices instead.
#[derive(Parser, Debug)]
#[command(name = "vgpu-profile-set", version, max_term_width = 100)]
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
    /// Show GPUs, virtual functions and mediated devices with their profiles
    List(List),
    /// Show what apply would do
    ///
    /// Decides before anything is written: whether there are enough virtual
    /// functions, framebuffer and MIG instances, whether sizes may be mixed, what
    /// is in use. A plan that cannot be says what would fit.
    Plan(PlanOptions),
    /// Set profiles
    ///
    /// Switches virtual functions on where none are, writes each profile once,
    /// reads it back, and puts all of them back if one is refused.
    Apply(Apply),
    /// Compare what is set with what is asked for
    Check(CheckOptions),
    /// Take profiles away
    Clear(Clear),
    /// Apply now, when the file changes and when the machine does
    ///
    /// Runs until SIGTERM. A virtual function that somebody uses is left alone. Says
    /// what is new: the first failure of each function and its end.
    Watch(Watch),
}

/// Operands and options of `list`.
#[derive(Args, Debug)]
pub struct List {
    /// GPUs or virtual functions (41:00.4); none: all of NVIDIA's
    #[arg(value_name = "FUNCTION")]
    pub operands: Vec<String>,

    /// The profiles that the GPUs offer, instead
    #[arg(long)]
    pub types: bool,

    /// Configuration for somebody else, instead
    #[arg(long, value_enum, value_name = "FOR", conflicts_with_all = ["types", "operands"])]
    pub format: Option<Format>,
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// permittedHostDevices of KubeVirt's custom resource
    Kubevirt,
    /// A resource mapping of Proxmox VE, for /etc/pve/mapping/pci.cfg
    PveMapping,
}

/// What is asked for.
#[derive(Args, Debug)]
pub struct Asked {
    /// Lines ADDRESS=PROFILE or records; none or -: standard input
    ///
    /// Lines ADDRESS=PROFILE, vgpu-assignment or vgpu records, or a configuration
    /// file of vgpu-device-manager.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Configuration of vgpu-device-manager's file
    #[arg(long, value_name = "NAME")]
    pub config: Option<String>,

    /// Allow several framebuffer sizes on one GPU
    ///
    /// Switches GPUs that get several to heterogeneous mode.
    #[arg(long)]
    pub heterogeneous: bool,
}

impl Asked {
    /// The same, for a plan.
    pub fn rules(&self, skip_in_use: bool) -> Rules {
        Rules { heterogeneous: self.heterogeneous, skip_in_use }
    }
}

/// Operands and options of `plan`.
#[derive(Args, Debug)]
pub struct PlanOptions {
    /// What is asked for.
    #[command(flatten)]
    pub asked: Asked,
}

/// Operands and options of `apply`.
#[derive(Args, Debug)]
pub struct Apply {
    /// What is asked for.
    #[command(flatten)]
    pub asked: Asked,

    /// Leave alone what is in use or Proxmox VE's own
    #[arg(long)]
    pub skip_in_use: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Operands and options of `check`.
#[derive(Args, Debug)]
pub struct CheckOptions {
    /// What is asked for.
    #[command(flatten)]
    pub asked: Asked,

    /// Health file of watch
    ///
    /// Answer by it, instead, whether the running watch is well.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "config", "heterogeneous"])]
    pub health_file: Option<PathBuf>,

    /// With --health-file: whether it runs at all, well or not
    #[arg(long, requires = "health_file")]
    pub alive: bool,
}

/// Operands and options of `clear`.
#[derive(Args, Debug)]
pub struct Clear {
    /// Virtual functions (41:00.4), or GPUs for all of theirs
    #[arg(value_name = "FUNCTION")]
    pub operands: Vec<String>,

    /// All of this machine
    #[arg(long, conflicts_with = "operands")]
    pub all: bool,

    /// Leave alone what is in use or Proxmox VE's own
    #[arg(long)]
    pub skip_in_use: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Operands and options of `watch`.
#[derive(Args, Debug)]
pub struct Watch {
    /// As for apply; it may be replaced at any time
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Configuration of vgpu-device-manager's file
    #[arg(long, value_name = "NAME")]
    pub config: Option<String>,

    /// Allow several framebuffer sizes on one GPU
    ///
    /// Switches GPUs that get several to heterogeneous mode.
    #[arg(long)]
    pub heterogeneous: bool,

    /// Look at the machine again after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub interval: u64,

    /// Health file of watch
    ///
    /// Says whether all is as asked, for check --health-file.
    #[arg(long, value_name = "FILE")]
    pub health_file: Option<PathBuf>,
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
        (cli::ADDRESS, "list {}"),
    ];

    fn common(&self) -> CommonValues {
        self.common.values(self.output.choice)
    }
}
