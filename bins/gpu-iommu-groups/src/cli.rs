//! The command line.

use clap::{Parser, ValueEnum};
use cli::{Common, CommonOptions, CommonValues, Example, ManText, OutputChoice};

/// Show GPUs and other PCI functions with their IOMMU groups
///
/// Prints a record for every function that shares a slot or an IOMMU group
/// with a GPU (display class, of any vendor): what it is, which driver has it,
/// in which IOMMU group it is, who shares that group, and whether its slot
/// may be passed through to a VM.
#[derive(Parser, Debug)]
#[command(name = "gpu-iommu-groups", version, max_term_width = 100)]
pub struct Options {
    /// Functions (41:00.0), slots (41:00) or IOMMU groups (26)
    ///
    /// Without one: what shares a slot or a group with a GPU.
    #[arg(value_name = "FUNCTION|SLOT|GROUP")]
    pub operands: Vec<String>,

    /// Every PCI function of the machine
    #[arg(short, long, conflicts_with = "operands")]
    pub all: bool,

    /// Only functions of this vendor (10de)
    #[arg(long, value_name = "ID", value_parser = vendor)]
    pub vendor: Option<u16>,

    /// Only functions of this class (03, 0302)
    ///
    /// Or of classes that begin so.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub class: Option<String>,

    /// Only functions bound to this driver, or to 'none'
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,

    /// Show IOMMU groups instead of functions
    #[arg(short, long)]
    pub groups: bool,

    /// Exit 1 unless all selected GPUs can be passed through
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

/// The manual page beyond the options.
pub const MAN: ManText = ManText {
    input: "None: standard input is not read.",
    output: "One pci-device record for each function, in the order of their addresses; with \
        --groups one iommu-group record for each group; with --check one check record for each \
        slot. On a terminal a table. The records are described in pve-gpu-records(5).

The verdict in tables and trees is one of: ready (the slot can go to a VM as it is), bindable (it \
        can once all its functions are bound to vfio-pci), shared group (something else would have \
        to go to the same VM), blocked (the kernel would not hand the group out), no IOMMU, and \
        unproven (an ACS override makes groups meaningless, or a bridge's driver is unknown to \
        this tool).

The words of the kernel and of QEMU for a group that is not viable (\"Please ensure all devices \
        within the iommu_group are bound to their vfio bus driver\") do not name the offender; the \
        blockers of the record do.",
    exit: &[(1, "With --check: a selected GPU cannot be passed through, or there is none.")],
    files: &[
        ("/sys/bus/pci/devices", "the functions and what the kernel says of them"),
        ("/sys/kernel/iommu_groups", "the groups, their other members and reserved regions"),
        (
            "/sys/class/iommu",
            "the IOMMU: it is off where this is empty, whatever the command line says",
        ),
        ("/proc/driver/nvidia/gpus", "minor, UUID and model of the GPUs that NVIDIA's driver owns"),
        ("/lib/modules/RELEASE/modules.alias", "which modules claim a function"),
        ("/usr/share/misc/pci.ids", "names (package pci.ids)"),
    ],
    notes: "Reading changes nothing and needs no privileges, but some attributes are readable by \
        root only and are then null.

A read that blocks in the kernel, as some do beside a stuck unbind, is given up after three \
        seconds: the function's remaining fields are null and a warning says which read it was.

A group number may change at each boot. Where pcie_acs_override= is on the kernel command line, \
        groups look smaller than they are: devices may reach each other's memory all the same.",
    lists: &[],
    examples: EXAMPLES,
    see_also: &[
        "gpu-vfio-bind(1)",
        "lxc-gpu-conf(1)",
        "pve-gpu-records(5)",
        "pve-gpu-groups(7)",
        "lspci(8)",
    ],
};

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
