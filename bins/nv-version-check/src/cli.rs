//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use cli::{Common, CommonOptions, CommonValues, Example, ManText, OutputChoice};

use crate::cause::CAUSES;
use crate::pin;

/// Find out who disagrees about the version of NVIDIA's driver
///
/// Compares the loaded kernel module, the modules on disk of the kernels that
/// run and boot next, the host's libraries, and those of containers and other
/// root file systems. Says for each disagreement what it is and which command
/// repairs it. Nothing is executed, neither nvidia-smi nor anything in a
/// container.
#[derive(Parser, Debug)]
#[command(name = "nv-version-check", version, max_term_width = 100)]
pub struct Options {
    /// Look at this container, running or stopped
    ///
    /// May be repeated.
    #[arg(long = "ct", value_name = "CTID", value_parser = pve::ctid)]
    pub ct: Vec<u32>,

    /// Look at all containers that have driver or GPU
    ///
    /// All containers of this node that have the driver or are given a GPU.
    #[arg(short, long)]
    pub all_cts: bool,

    /// Look at the root file system below DIR
    ///
    /// May be repeated.
    #[arg(long, value_name = "DIR")]
    pub rootfs: Vec<PathBuf>,

    /// Judge only these, not the host
    ///
    /// The host's own kernels and libraries are left out.
    #[arg(long)]
    pub no_host: bool,

    /// Version that everything must have, '-' if piped
    ///
    /// '-' reads a version, or a runfile record, from standard input.
    #[arg(long, value_name = "VERSION", value_parser = pin::parse)]
    pub pin: Option<String>,

    /// Look at CUDA too
    ///
    /// At toolkits and at libraries for forward compatibility.
    #[arg(long)]
    pub cuda: bool,

    /// Compare with what the next boot loads
    ///
    /// With that module instead of the loaded one.
    #[arg(long)]
    pub next_boot: bool,

    /// Decode the Xid errors since the host booted
    #[arg(long)]
    pub xid: bool,

    /// Print only what is not as it should be
    #[arg(long)]
    pub problems: bool,

    /// Write metrics to FILE
    ///
    /// It is replaced as a whole: for the textfile collector of Prometheus' node
    /// exporter.
    #[arg(long, value_name = "FILE")]
    pub prometheus_file: Option<PathBuf>,

    /// How to print
    #[arg(
        short,
        long,
        visible_alias = "format",
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

/// What comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table on a terminal, JSON lines in a pipe
    #[default]
    Auto,
    /// One JSON object a line
    Jsonl,
    /// Aligned columns
    Table,
    /// Metrics: to standard output, or with --prometheus-file nowhere else
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
            Format::Auto => OutputChoice::Auto,
            Format::Jsonl => OutputChoice::Jsonl,
            Format::Table | Format::Prometheus => OutputChoice::Table,
        };
        self.common.values(output)
    }
}

/// The manual page beyond the options.
pub const MAN: ManText = ManText {
    input: "With --pin - a runfile record, as nv-runfile prints it, or a line with a version. \
        Otherwise standard input is not read.",
    output: "One check record for each comparison: the host first, then its kernels, containers \
        by their number, other root file systems. status is ok, drift or unknown; severity error \
        means that something does not work now, warning that it may stop working, info that it is \
        good to know. expected and actual are versions, cause is one of the names below, hint a \
        command. On a terminal a table. The records are described in pve-gpu-records(5).

Everything is held against one version: the one of --pin; with --next-boot that of the module \
        which the next boot loads; otherwise that of the loaded module, and where none is loaded \
        that of the module on disk.

Metrics: nvidia_version_info and nvidia_version_expected_info with the version as a label, \
        nvidia_version_drift and nvidia_version_unknown (0 or 1), nvidia_version_drifts (their \
        number), when this run was and when the last one without a complaint, and how long ago \
        that is.",
    exit: &[
        (1, "Something differs, or with --pin there is no driver."),
        (
            3,
            "Something that was asked for could not be read: its record has the status unknown. A \
                stopped container whose volume cannot be looked into counts only where it was named.",
        ),
    ],
    files: &[
        ("/proc/driver/nvidia/version, /sys/module/nvidia/version", "the loaded module"),
        ("/lib/modules/RELEASE", "modules on disk; .modinfo is read, compressed or not"),
        ("/var/lib/dkms", "what DKMS has built for which kernel"),
        (
            "/etc/kernel/next-boot-pin, /etc/kernel/proxmox-boot-pin, /etc/default/grub, \
                /boot/grub/grubenv",
            "which kernel boots next; without any of them the newest of /boot/vmlinuz-*",
        ),
        ("/etc/ld.so.cache", "which library the loader takes; without it, the usual directories"),
        ("/etc/pve/nodes/*/lxc/*.conf, /proc/PID/root", "containers and what they see"),
        ("/etc/cdi, /run/cdi", "CDI specifications"),
        ("/lib/firmware/nvidia/VERSION", "GSP firmware"),
        ("/usr/local/cuda*", "CUDA toolkits (--cuda)"),
    ],
    notes: "The kernel module and the libraries must be of exactly the same version, all numbers \
        of it. In a container /proc shows the host's module, so a container cannot find out about \
        the next boot by itself: this is for the host.

A container's root file system is treated as hostile: paths are resolved inside it, links do not \
        lead out, files are read up to a limit and only where they are regular files, and a look \
        that takes longer than five seconds is given up. Containers are looked at side by side. A \
        running container is seen as its own processes see it; a stopped one where its volume is a \
        directory, or after 'pct mount CTID'.

A container that has the libraries and is given no GPU is held against the host as the others \
        are, as a warning.

A libcuda of a directory named compat is for forward compatibility: it may differ. What lies \
        beside the libraries that count and has no link is told and no drift.

A cron line and a systemd timer are in the package: see nv-version-check.timer. Both say something \
        only if there is something to say.",
    lists: &[("CAUSES", CAUSES)],
    examples: EXAMPLES,
    see_also: &[
        "lxc-gpu-conf(1)",
        "gpu-vfio-bind(1)",
        "gpu-iommu-groups(1)",
        "pve-gpu-records(5)",
        "dkms(8)",
        "modinfo(8)",
    ],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Is this host right, and will it be after the next boot?",
        command: "nv-version-check",
    },
    Example {
        says: "What drifted tonight?",
        command: "nv-version-check --all-cts | jq -c 'select(.status != \"ok\")'",
    },
    Example {
        says: "Does everything have the pinned version? The exit status tells.",
        command: "nv-version-check --all-cts --pin 550.163.01",
    },
    Example {
        says: "The commands that repair what drifted.",
        command: "nv-version-check --all-cts | jq -r 'select(.status == \"drift\") | .hint'",
    },
    Example {
        says: "Metrics for Prometheus' node exporter.",
        command: "nv-version-check --all-cts --format prometheus",
    },
];
