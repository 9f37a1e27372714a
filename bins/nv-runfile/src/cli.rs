//! The command line.

mod fetch;
mod install;
mod toolkit;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use cli::{ChangeOptions, Chosen, Common, CommonOptions, OutputOption};

pub use crate::man::{EXAMPLES, MAN};
pub use fetch::{Fetch, Patience, Prune};
pub use install::{Install, Mode, Uninstall};
pub use toolkit::Toolkit;
use values::{Caps, octal, owner, sha256};
pub use values::{Files, Owner};

/// Fetch, look into, verify, unpack and install NVIDIA .run installers
///
/// A .run file is a shell script with an archive behind it. This tool reads it
/// as a file: nothing of it is executed, except where --mode installer or --host
/// ask for that. It knows the dialect of the driver's installers and upstream
/// makeself's, which CUDA uses.
#[derive(Parser, Debug)]
#[command(name = "nv-runfile", version, max_term_width = 100)]
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
    /// Show what an installer is
    ///
    /// Version, architecture, flavour, sizes, compression, the digests that it
    /// carries and the options that it understands, all from its head. With
    /// --contents also what only decompressing it tells. With --for: does it
    /// drive this GPU?
    Info(Info),
    /// Compute every digest that an installer carries, and compare
    ///
    /// Reads the file once. Exit status 0 means that all digests are right and
    /// that there is one.
    Verify(Verify),
    /// List what an installer holds
    ///
    /// Members of its archive in their order, then the links that only its
    /// manifest knows.
    List(List),
    /// Unpack an installer into a directory that is not there yet
    ///
    /// The directory appears complete and verified, or not at all. What would
    /// lead out of it, devices and the like are refused.
    Extract(Extract),
    /// Install a driver: into a container, for containers, or on the host
    ///
    /// Into a container only the files that programs need are placed, from
    /// outside: no kernel module, no compiler, no network, and nothing of the
    /// installer is executed (--mode installer does execute it, inside). On the
    /// host it is executed, with the options that its version understands.
    Install(Install),
    /// Take away what install placed into a container
    ///
    /// Exactly the files that were placed, and nothing else. What somebody
    /// changed since stays, and is told.
    Uninstall(Uninstall),
    /// Have CUDA's toolkit installed in a container
    ///
    /// Gives a running container of Debian, Ubuntu, Fedora or the RHEL family
    /// NVIDIA's repository, held to its signing key and pinned so that no driver
    /// comes from it, and has the container's own package manager install
    /// cuda-toolkit from there; or runs the toolkit part of a CUDA .run inside.
    /// Never the driver: that is for install.
    Toolkit(Toolkit),
    /// Bring an installer into the cache: found, downloaded, verified
    ///
    /// Goes on where an earlier download broke off. The final name is only ever
    /// that of a complete file that somebody vouches for with a SHA-256. A file
    /// that is there and untouched costs no network.
    Fetch(Fetch),
    /// Take installers out of the cache
    ///
    /// Without options only broken-off downloads and leftovers go. Nothing goes
    /// that is in use.
    Prune(Prune),
}

/// Operands and options of `info`.
#[derive(Args, Debug)]
pub struct Info {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// Look inside as well
    ///
    /// Manifest, types of kernel modules, GPUs, nested installers.
    #[arg(short, long, conflicts_with = "functions")]
    pub contents: bool,

    /// Does it drive this function (41:00.0)?
    ///
    /// Or slot, or IOMMU group. '-' reads pci-device records from standard input.
    #[arg(long = "for", value_name = "FUNCTION", value_delimiter = ',')]
    pub functions: Vec<String>,
}

/// Operands and options of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
}

/// Operands and options of `list`.
#[derive(Args, Debug)]
pub struct List {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// How much it may hold.
    #[command(flatten)]
    pub caps: Caps,
}

/// Operands and options of `extract`.
#[derive(Args, Debug)]
pub struct Extract {
    /// The installer
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The directory to make; the one above it must be there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// Owner of what is unpacked
    ///
    /// Numbers, or 'archive' for what the archive says; by default whoever runs
    /// this.
    #[arg(long, value_name = "UID[:GID]|archive", value_parser = owner)]
    pub owner: Option<Owner>,

    /// Permissions to take away
    ///
    /// In octal; the default takes set-id and sticky bits, 0 nothing.
    #[arg(long, value_name = "OCTAL", default_value = "7000", value_parser = octal, hide_short_help = true)]
    pub umask: u32,

    /// How much it may hold.
    #[command(flatten)]
    pub caps: Caps,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Unpack it although a digest is wrong.
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

impl Common for Options {
    const INSTEAD: &'static [cli::Instead] = &[
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

    fn common(&self) -> Chosen {
        self.common.chosen(self.output.choice)
    }
}
