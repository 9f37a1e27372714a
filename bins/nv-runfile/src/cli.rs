//! The command line.

mod fetch;
mod toolkit;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Common, CommonOptions, CommonValues, OutputOption};
use nvidia::userspace::Set;

pub use crate::man::{EXAMPLES, MAN};
pub use fetch::{Fetch, Patience, Prune};
pub use toolkit::{Release, Toolkit};

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

/// Where a driver goes.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Target {
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
pub enum SetChoice {
    /// CUDA and OpenCL
    Compute,
    /// nvidia-smi and NVML
    Utility,
    /// Encoding and decoding
    Video,
    /// OpenGL, Vulkan, ray tracing
    Graphics,
}

impl SetChoice {
    /// The set.
    pub fn set(self) -> Set {
        match self {
            SetChoice::Compute => Set::Compute,
            SetChoice::Utility => Set::Utility,
            SetChoice::Video => Set::Video,
            SetChoice::Graphics => Set::Graphics,
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
    pub target: Target,

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
    pub set: Vec<SetChoice>,

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

/// Installers by name.
#[derive(Args, Debug)]
pub struct Files {
    /// Installers; none: piped runfile records
    ///
    /// Without one runfile records are read from standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Caps on what is unpacked.
#[derive(Args, Debug)]
pub struct Caps {
    /// Refuse more bytes in all (K, M, G, T)
    #[arg(long, value_name = "SIZE", default_value = "32G", value_parser = size, hide_short_help = true)]
    pub max_size: u64,

    /// Refuse more members
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000, hide_short_help = true)]
    pub max_entries: u64,
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

/// Who owns what is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// What the archive says.
    Archive,
    /// User and group.
    Ids(u32, u32),
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

fn sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a SHA-256 has 64 hexadecimal digits".into()),
    }
}

fn owner(text: &str) -> Result<Owner, String> {
    // the highest number means "leave it" to chown(2)
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let ids = match text.split_once(':') {
        _ if text == "archive" => return Ok(Owner::Archive),
        Some((user, group)) => id(user).zip(id(group)),
        None => id(text).map(|user| (user, user)),
    };
    let (user, group) = ids.ok_or("neither UID, nor UID:GID, nor 'archive'")?;
    Ok(Owner::Ids(user, group))
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask @ 0..=0o7777) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(mask),
        _ => Err("an octal number up to 7777".into()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("a number of bytes, such as 512M".into()),
    };
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    number
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| "a number of bytes, such as 512M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_owners_and_masks_are_read_strictly() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "G", "1GG", "1g", "-1", "+1", "99999999T", "1.5G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(owner("100000"), Ok(Owner::Ids(100_000, 100_000)));
        assert_eq!(owner("1:2"), Ok(Owner::Ids(1, 2)));
        for bad in ["", "root", "1:", ":1", "4294967295", "1:2:3"] {
            assert!(owner(bad).is_err(), "{bad}");
        }
        assert_eq!(octal("022"), Ok(0o22));
        for bad in ["", "8", "17777", "+7", "-1"] {
            assert!(octal(bad).is_err(), "{bad}");
        }
        assert!(sha256(&"A".repeat(64)).is_ok_and(|hex| hex == "a".repeat(64)));
        assert!(sha256(&"g".repeat(64)).is_err());
    }
}
