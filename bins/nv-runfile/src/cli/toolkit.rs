//! The command line of `toolkit`.

use std::path::PathBuf;

use clap::Args;
use cli::ChangeOptions;

use crate::cli::fetch::Patience;
use crate::cli::values::sha256;
use crate::toolkit::release::{CudaRelease, cuda_release};

#[derive(Args, Debug)]
pub struct Toolkit {
    /// Install in this container, which must be running
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: u32,

    /// Release of CUDA, such as 12-8 or 12.8
    #[arg(
        long,
        value_name = "RELEASE",
        value_parser = cuda_release,
        required_unless_present_any = ["runfile", "remove"]
    )]
    pub cuda: Option<CudaRelease>,

    /// Run the toolkit part of this CUDA installer
    ///
    /// Runs it in the container instead of installing packages from a repository.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repo_url", "key"])]
    pub runfile: Option<PathBuf>,

    /// Require this SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256, requires = "runfile")]
    pub sha256: Option<String>,

    /// Use this repository, not NVIDIA's
    ///
    /// The repository for the container's distribution, as the container reaches it.
    #[arg(long, value_name = "URL")]
    pub repo_url: Option<String>,

    /// Use this signing key of the repository
    ///
    /// Default: the repository's, if it has the known fingerprint.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Remove the files that toolkit added
    ///
    /// Installed packages are kept.
    #[arg(long, conflicts_with_all = ["cuda", "runfile", "repo_url", "key"])]
    pub remove: bool,

    /// Override a safety refusal that mentions --force
    ///
    /// Installs a toolkit although the loaded driver is too old for it, or replaces
    /// and removes files that were modified.
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub patience: Patience,

    #[command(flatten)]
    pub change: ChangeOptions,
}
