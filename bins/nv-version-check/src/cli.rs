//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use cli::{Common, CommonOptions, CommonValues, OutputChoice};

use crate::baseline::pin;
pub use crate::man::{EXAMPLES, MAN};

/// Check that NVIDIA driver versions match
///
/// Compares the loaded kernel module, the modules on disk of the running and
/// the next-boot kernel, the host's libraries, and those of containers and other
/// root file systems. Reports each mismatch with the commands that repair it.
/// Nothing is executed: neither nvidia-smi nor a program in a container.
#[derive(Parser, Debug)]
#[command(name = "nv-version-check", version, max_term_width = 100)]
pub struct Options {
    /// Check this container, running or stopped
    ///
    /// May be repeated.
    #[arg(long = "ct", value_name = "CTID", value_parser = pve::ctid)]
    pub ct: Vec<u32>,

    /// Check all containers with the driver or a GPU
    ///
    /// All containers on this cluster node that have driver libraries or are given
    /// a GPU.
    #[arg(short, long)]
    pub all_cts: bool,

    /// Check the root file system in DIR
    ///
    /// May be repeated.
    #[arg(long, value_name = "DIR")]
    pub rootfs: Vec<PathBuf>,

    /// Skip the host
    ///
    /// Check only what --ct, --all-cts and --rootfs name. The host's module still
    /// says which version they must have.
    #[arg(long)]
    pub no_host: bool,

    /// Require this version ('-': from standard input)
    ///
    /// '-' reads a runfile record or a line.
    #[arg(long, value_name = "VERSION", value_parser = pin::parse)]
    pub pin: Option<String>,

    /// Check CUDA toolkits as well
    ///
    /// Toolkits, and libraries for forward compatibility.
    #[arg(long)]
    pub cuda: bool,

    /// Compare with the module that the next boot loads
    ///
    /// Instead of the loaded one.
    #[arg(long)]
    pub next_boot: bool,

    /// Decode Xid errors logged since the host booted
    #[arg(long)]
    pub xid: bool,

    /// Show only problems
    #[arg(long)]
    pub problems: bool,

    /// Write metrics to FILE
    ///
    /// FILE is replaced as a whole, for the textfile collector of Prometheus' node
    /// exporter.
    #[arg(long, value_name = "FILE")]
    pub prometheus_file: Option<PathBuf>,

    /// Output format
    #[arg(
        short,
        long,
        visible_alias = "format",
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Common options"
    )]
    pub output: OutputFormat,

    /// The options of every tool.
    #[command(flatten)]
    pub common: CommonOptions,
}

/// The formats of --output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table on a terminal, JSON lines in a pipe
    #[default]
    Auto,
    /// One JSON object a line
    Jsonl,
    /// Aligned columns
    Table,
    /// Metrics, on standard output or in the file of --prometheus-file
    Prometheus,
}

impl Common for Options {
    const CORRECTIONS: &'static [cli::Correction] = &[
        ("--all", "--all-cts"),
        ("--check", "nv-version-check"),
        ("--dry-run", "nv-version-check"),
        (cli::NUMBER, "--ct {}"),
    ];

    fn common(&self) -> CommonValues {
        let output = match self.output {
            OutputFormat::Auto => OutputChoice::Auto,
            OutputFormat::Jsonl => OutputChoice::Jsonl,
            OutputFormat::Table | OutputFormat::Prometheus => OutputChoice::Table,
        };
        self.common.values(output)
    }
}
