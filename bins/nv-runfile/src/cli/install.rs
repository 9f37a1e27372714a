//! The command line of `install` and `uninstall`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cli::ChangeOptions;
use nvidia::userspace::Set;

use crate::cli::values::{Caps, Files, kernel_release, sha256};

/// Where a driver is installed.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct InstallTarget {
    /// Install in this container, running or stopped
    ///
    /// May be given several times. A container that fails does not stop the others.
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: Vec<u32>,

    /// Install in all containers that have a driver from nv-runfile
    ///
    /// Those of this host: after an upgrade of the host's driver.
    #[arg(long, hide_short_help = true)]
    pub all_cts: bool,

    /// Install into a new directory for all containers
    ///
    /// For 'lxc-gpu-conf add --share-driver DIR'.
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,

    /// Install on this host, after a pre-flight check
    ///
    /// Runs the installer.
    #[arg(long)]
    pub host: bool,
}

/// How a driver is installed in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Place the files of the manifest from the host
    #[default]
    Unpack,
    /// Run the installer in the container, without kernel modules
    Installer,
}

/// Library sets, by what programs in a container do.
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
    /// The library set.
    pub fn set(self) -> Set {
        match self {
            LibrarySet::Compute => Set::Compute,
            LibrarySet::Utility => Set::Utility,
            LibrarySet::Video => Set::Video,
            LibrarySet::Graphics => Set::Graphics,
        }
    }
}

#[derive(Args, Debug)]
pub struct Install {
    #[command(flatten)]
    pub named: Files,

    #[command(flatten)]
    pub target: InstallTarget,

    /// How to install in a container
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub mode: Mode,

    /// Install these library sets
    ///
    /// A set has what programs in the container need for one purpose.
    #[arg(
        long,
        value_enum,
        value_name = "SET",
        value_delimiter = ',',
        default_value = "compute,utility,video"
    )]
    pub set: Vec<LibrarySet>,

    /// First remove drivers installed by other means
    ///
    /// With --host: packages and DKMS modules. With --ct: packages, by the package
    /// manager of the container, and what a .run installer installed in it; the container
    /// must be running. --dry-run shows which.
    #[arg(long)]
    pub purge: bool,

    /// With --host: build the kernel modules with DKMS
    ///
    /// DKMS builds them for new kernels too. This is the default if dkms is installed.
    #[arg(long, conflicts_with = "no_dkms")]
    pub dkms: bool,

    /// With --host: build for the running kernel only
    #[arg(long)]
    pub no_dkms: bool,

    /// With --host: build the kernel module for this kernel
    ///
    /// Where this version is installed already, only the module of this kernel is built:
    /// the one that boots next, for example.
    #[arg(
        long,
        value_name = "RELEASE",
        value_parser = kernel_release,
        hide_short_help = true
    )]
    pub kernel: Option<String>,

    /// With --host: sign the kernel modules with this key
    ///
    /// For Secure Boot: a private key in PEM whose certificate the firmware knows.
    #[arg(long, value_name = "FILE", requires = "signing_cert", hide_short_help = true)]
    pub signing_key: Option<PathBuf>,

    /// With --host: certificate of the signing key, in DER
    #[arg(long, value_name = "FILE", requires = "signing_key", hide_short_help = true)]
    pub signing_cert: Option<PathBuf>,

    /// Require this SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    #[command(flatten)]
    pub caps: Caps,

    /// Override a safety refusal that mentions --force
    ///
    /// Installs another version than the loaded kernel module's, replaces files that
    /// were modified, or runs the installer on a host that is not ready.
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub change: ChangeOptions,
}

#[derive(Args, Debug)]
pub struct Uninstall {
    /// Remove from this container, running or stopped
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: u32,

    /// Override a safety refusal that mentions --force
    ///
    /// Also removes files that were modified since they were installed.
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub change: ChangeOptions,
}
