//! The command line of `toolkit`.

use std::path::PathBuf;

use clap::Args;
use cli::ChangeOptions;

use crate::cli::fetch::Patience;
use crate::cli::values::sha256;
use crate::toolkit::release::{CudaRelease, cuda_release};

/// Options of `toolkit`.
#[derive(Args, Debug)]
pub struct Toolkit {
    /// In this container, which must run
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: u32,

    /// CudaRelease of CUDA, such as 12-8 or 12.8
    #[arg(
        long,
        value_name = "RELEASE",
        value_parser = cuda_release,
        required_unless_present_any = ["runfile", "remove"]
    )]
    pub cuda: Option<CudaRelease>,

    /// Run the toolkit part of this CUDA installer
    ///
    /// Inside the container, instead of taking packages from a repository.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repo_url", "key"])]
    pub runfile: Option<PathBuf>,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256, requires = "runfile")]
    pub sha256: Option<String>,

    /// Repository in place of NVIDIA's
    ///
    /// The one for the container's distribution, as the container reaches it.
    #[arg(long, value_name = "URL")]
    pub repo_url: Option<String>,

    /// The repository's signing key
    ///
    /// By default NVIDIA's is fetched from the repository and held against its
    /// known fingerprint.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Take away what toolkit wrote into it
    ///
    /// Installed packages stay.
    #[arg(long, conflicts_with_all = ["cuda", "runfile", "repo_url", "key"])]
    pub remove: bool,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Install a toolkit that the loaded driver is too old for; replace or remove
    /// files that are not as toolkit wrote them.
    #[arg(long)]
    pub force: bool,

    /// How the network is used.
    #[command(flatten)]
    pub patience: Patience,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}
