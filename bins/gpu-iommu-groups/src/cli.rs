//! The command line.

use clap::{Parser, ValueEnum};
use cli::{Chosen, Common, CommonOptions, Example, OutputChoice};

/// Show GPUs and other PCI functions with their IOMMU groups
///
/// Prints a record for every function that shares a slot or an IOMMU group
/// with a GPU (display class, of any vendor): what it is, which driver has it,
/// in which IOMMU group it is, who shares that group, and whether its slot
/// may be passed through to a VM.
#[derive(Parser, Debug)]
#[command(name = "gpu-iommu-groups", version, max_term_width = 100)]
pub struct Options {
    /// Functions (41:00.0), slots (41:00) or IOMMU groups (26); default: what
    /// shares a slot or group with a GPU
    #[arg(value_name = "FUNCTION|SLOT|GROUP")]
    pub operands: Vec<String>,

    /// Every PCI function of the machine
    #[arg(short, long, conflicts_with = "operands")]
    pub all: bool,

    /// Only functions of this vendor (10de)
    #[arg(long, value_name = "ID", value_parser = vendor)]
    pub vendor: Option<u16>,

    /// Only functions of this class, or of classes that begin so (03, 0302)
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub class: Option<String>,

    /// Only functions bound to this driver; 'none' for those without one
    #[arg(long, value_name = "NAME")]
    pub driver: Option<String>,

    /// Print a record for each IOMMU group instead of each function
    #[arg(short, long)]
    pub groups: bool,

    /// Check that every selected GPU could be passed through; exit 1 if not
    #[arg(long, conflicts_with = "groups")]
    pub check: bool,

    /// How to print
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Common options"
    )]
    pub output: Format,

    /// Common options.
    #[command(flatten)]
    pub common: CommonOptions,
}

/// What comes out. `tree` is for eyes only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table on a terminal, JSON lines in a pipe
    #[default]
    Auto,
    /// One JSON object a line
    Jsonl,
    /// Aligned columns
    Table,
    /// The PCI topology from root port to function, for eyes
    Tree,
}

impl Common for Options {
    fn common(&self) -> Chosen {
        let output = match self.output {
            Format::Auto => OutputChoice::Auto,
            Format::Jsonl => OutputChoice::Jsonl,
            Format::Table | Format::Tree => OutputChoice::Table,
        };
        Chosen { verbose: self.common.verbose, quiet: self.common.quiet, output }
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

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "The GPUs of this machine and what shares a slot or group with them.",
        command: "gpu-iommu-groups",
    },
    Example { says: "The topology around them, for eyes.", command: "gpu-iommu-groups -o tree" },
    Example {
        says: "Give all NVIDIA GPUs to container 901.",
        command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901",
    },
    Example {
        says: "May every GPU of one slot be passed through? The exit status tells.",
        command: "gpu-iommu-groups --check 2b:00",
    },
    Example {
        says: "Groups in which something else than bridges sits beside a GPU.",
        command: "gpu-iommu-groups --groups | jq -c 'select(.isolated == false)'",
    },
];
