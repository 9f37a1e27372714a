//! The command line of `install` and `uninstall`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cli::ChangeOptions;
use nvidia::userspace::Set;

use crate::cli::values::{Caps, Files, sha256};

/// Where a driver goes.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct InstallTarget {
    /// Into this container, running or stopped
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: Option<u32>,

    /// Into a new directory, for all containers
    ///
    /// For 'lxc-gpu-conf add --share-driver DIR'.
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,

    /// On this host, after a pre-flight
    ///
    /// Runs the installer.
    #[arg(long)]
    pub host: bool,
}

/// How a driver gets into a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Place the files of its manifest from outside
    #[default]
    Unpack,
    /// Run the installer inside, without kernel modules
    Installer,
}

/// What programs in a container are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LibrarySet {
    /// CUDA and OpenCL
    Compute,
    /// nvidia-smi and NVML
    Utility,
    /// Encoding and decoding
    Video,
    /// OpenGL, Vulkan, ray tracing
    Graphics,
}

impl LibrarySet {
    /// The set.
    pub fn set(self) -> Set {
        match self {
            LibrarySet::Compute => Set::Compute,
            LibrarySet::Utility => Set::Utility,
            LibrarySet::Video => Set::Video,
            LibrarySet::Graphics => Set::Graphics,
        }
    }
}

/// Operands and options of `install`.
#[derive(Args, Debug)]
pub struct Install {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// Where it goes.
    #[command(flatten)]
    pub target: InstallTarget,

    /// How it gets into a container
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub mode: Mode,

    /// What is installed
    ///
    /// By what programs in the container are to do.
    #[arg(
        long,
        value_enum,
        value_name = "SET",
        value_delimiter = ',',
        default_value = "compute,utility,video"
    )]
    pub set: Vec<LibrarySet>,

    /// With --host: remove other packagings first
    ///
    /// Packages and DKMS modules of another packaging; --dry-run shows which.
    #[arg(long)]
    pub purge: bool,

    /// With --host: build the modules with DKMS
    ///
    /// So that new kernels get them; the default where dkms is installed.
    #[arg(long, conflicts_with = "no_dkms")]
    pub dkms: bool,

    /// With --host: for the running kernel only
    #[arg(long)]
    pub no_dkms: bool,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// How much it may hold.
    #[command(flatten)]
    pub caps: Caps,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Install a version other than the loaded kernel module's; replace files of
    /// ours that were changed; run the installer on a host that is not ready.
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Options of `uninstall`.
#[derive(Args, Debug)]
pub struct Uninstall {
    /// From this container, running or stopped
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: u32,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Remove files of ours that were changed since, too.
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}
