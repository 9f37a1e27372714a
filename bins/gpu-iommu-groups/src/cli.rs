//! The command line.

use clap::{Parser, ValueEnum};
use cli::{Common, CommonOptions, CommonValues, OutputChoice};

/// Show GPUs and other PCI functions with their IOMMU groups
///
/// Prints a record for every function that shares a slot or an IOMMU group
/// with a GPU (display class, any vendor): what it is, its driver, its IOMMU
/// group, the other members of that group, and whether its slot can be passed
/// through to a VM.
#[derive(Parser, Debug)]
#[command(name = "gpu-iommu-groups", version, max_term_width = 100)]
pub struct Options {
    /// Functions (41:00.0), slots (41:00) or IOMMU groups (group:26)
    ///
    /// A bare number is an IOMMU group, unless a GPU has it as minor number.
    ///
    /// Default: all functions that share a slot or a group with a GPU.
    #[arg(value_name = "FUNCTION|SLOT|GROUP")]
    pub operands: Vec<String>,

    /// Show every PCI function of the host
    #[arg(short, long, conflicts_with = "operands")]
    pub all: bool,

    /// Show only functions of this vendor (10de)
    #[arg(long, value_name = "ID", value_parser = vendor)]
    pub vendor: Option<u16>,

    /// Show only functions of this class (03, 0302)
    ///
    /// A shorter value matches all classes that begin with it.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub class: Option<String>,

    /// Show only functions of this driver, or 'none'
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,

    /// Show IOMMU groups instead of functions
    #[arg(short, long)]
    pub groups: bool,

    /// Exit 1 unless all selected GPUs can be passed through
    #[arg(long, conflicts_with = "groups")]
    pub check: bool,

    /// Output format
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Common options"
    )]
    pub output: Format,

    #[command(flatten)]
    pub common: CommonOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table on a terminal, JSON lines in a pipe
    #[default]
    Auto,
    /// One JSON object a line
    Jsonl,
    /// Aligned columns
    Table,
    /// The PCI topology from root port to function, for people
    Tree,
}

impl Common for Options {
    const CORRECTIONS: &'static [cli::Correction] = &[
        ("--json", "--output jsonl"),
        ("--tree", "--output tree"),
        ("--gpu", "gpu-iommu-groups 41:00.0"),
    ];

    fn common(&self) -> CommonValues {
        let output = match self.output {
            Format::Auto => OutputChoice::Auto,
            Format::Jsonl => OutputChoice::Jsonl,
            Format::Table | Format::Tree => OutputChoice::Table,
        };
        self.common.values(output)
    }
}

fn vendor(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 4 {
        return Err("four hex digits, like 10de".into());
    }
    u16::from_str_radix(digits, 16).map_err(|_| "four hex digits, like 10de".into())
}

fn class(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase();
    let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex || digits.len() > 6 || digits.len() % 2 != 0 {
        return Err("two, four or six hex digits, like 03 or 0302".into());
    }
    Ok(digits)
}
