//! The command line.

mod fetch;
mod install;
mod toolkit;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use cli::{ChangeOptions, Common, CommonOptions, CommonValues, OutputOption};

pub use crate::man::{EXAMPLES, MAN};
pub use fetch::{Fetch, Patience, Prune};
pub use install::{Install, Mode, Uninstall};
pub use toolkit::Toolkit;
use values::{Caps, octal, owner};
pub use values::{Files, Owner, sha256};

/// Download, inspect, verify, extract and install NVIDIA .run installers
///
/// A .run file is a shell script followed by an archive. This tool reads it as a
/// file and executes nothing of it, except with --mode installer and --host. It
/// supports the format of the driver's installers and that of makeself, which
/// CUDA uses.
#[derive(Parser, Debug)]
#[command(name = "nv-runfile", version, max_term_width = 100)]
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
    /// Show what an installer is
    ///
    /// Shows version, architecture, flavour, sizes, compression, embedded checksums
    /// and options, all from the head of the file. With --contents the archive is
    /// decompressed too. With --for the command shows whether the driver supports
    /// a GPU.
    Info(Info),
    /// Verify embedded checksums
    ///
    /// Reads the file once. Exit status 0 means that the installer has at least one
    /// checksum and that all are right.
    Verify(Verify),
    /// List the contents of an installer
    ///
    /// Lists the members of the archive in their order, then the links that are
    /// only in the manifest.
    List(List),
    /// Extract an installer into a new directory
    ///
    /// The directory appears complete and verified, or not at all. Members that lead
    /// out of it, devices and other special files are refused.
    Extract(Extract),
    /// Install a driver in a container or on the host
    ///
    /// In a container only the files that programs need are placed, from the host:
    /// no kernel module, no compiler and no network are needed, and the installer is
    /// not executed (except with --mode installer, which runs it in the container).
    /// On the host the installer is executed, with the options that its version has.
    // with --all-cts the line would not fit a terminal
    #[command(
        override_usage = "nv-runfile install [OPTIONS] <--ct <CTID>|--share <DIR>|--host> [FILE]..."
    )]
    Install(Install),
    /// Remove the files that install added
    ///
    /// Removes exactly the files that install placed in the container. Files that
    /// were modified since are kept and reported.
    Uninstall(Uninstall),
    /// Install the CUDA toolkit in a container
    ///
    /// Adds NVIDIA's repository to a running container of Debian, Ubuntu, Fedora or
    /// the RHEL family, with its signing key and pinned so that no driver is
    /// installed from it, and installs cuda-toolkit with the container's own
    /// package manager; or runs the toolkit part of a CUDA installer in the
    /// container. The driver is never installed: use install for that.
    Toolkit(Toolkit),
    /// Download and verify an installer
    ///
    /// Downloads into the cache and resumes an earlier download that broke off. Only
    /// a complete file with a trusted SHA-256 gets its final name. A file that is
    /// in the cache and was not modified is not downloaded again.
    Fetch(Fetch),
    /// Remove cached installers
    ///
    /// Without options only incomplete downloads and leftovers are removed. Files
    /// that are in use are kept.
    Prune(Prune),
}

#[derive(Args, Debug)]
pub struct Info {
    #[command(flatten)]
    pub named: Files,

    /// Decompress it and show its contents
    ///
    /// Shows manifest, types of kernel modules, GPUs and nested installers.
    #[arg(short, long, conflicts_with = "functions")]
    pub contents: bool,

    /// Show whether it supports this GPU (41:00.0)
    ///
    /// Names a PCI function, a slot or an IOMMU group. '-' reads pci-device records
    /// from standard input.
    #[arg(long = "for", value_name = "FUNCTION", value_delimiter = ',')]
    pub functions: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Verify {
    #[command(flatten)]
    pub named: Files,

    /// Require this SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
}

#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    pub named: Files,

    #[command(flatten)]
    pub caps: Caps,
}

#[derive(Args, Debug)]
pub struct Extract {
    /// Installer
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// New directory; its parent directory must exist
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// Require this SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// Set the owner of the files [default: the user]
    ///
    /// Numbers, or 'archive' for the owners in the archive.
    #[arg(long, value_name = "UID[:GID]|archive", value_parser = owner)]
    pub owner: Option<Owner>,

    /// Remove these permissions
    ///
    /// In octal. The default removes set-id and sticky bits, 0 removes nothing.
    #[arg(long, value_name = "OCTAL", default_value = "7000", value_parser = octal, hide_short_help = true)]
    pub umask: u32,

    #[command(flatten)]
    pub caps: Caps,

    /// Override a safety refusal that mentions --force
    ///
    /// Extracts an installer although a checksum is wrong.
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub change: ChangeOptions,
}

impl Common for Options {
    const CORRECTIONS: &'static [cli::Correction] = &[
        ("unpack", "extract"),
        ("download", "fetch"),
        ("get", "fetch"),
        ("show", "info"),
        ("check", "verify"),
        ("prune <number>", "--keep {}"),
        ("remove", "uninstall"),
        ("clean", "prune"),
        ("cuda", "toolkit"),
        ("--container", "--ct"),
        (cli::NUMBER, "--ct {}"),
    ];

    fn common(&self) -> CommonValues {
        self.common.values(self.output.choice)
    }
}
