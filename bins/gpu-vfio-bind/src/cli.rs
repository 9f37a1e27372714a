//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Common, CommonOptions, CommonValues, Example, ManText, OutputOption};

/// Move whole GPU slots to vfio-pci and back
///
/// A GPU goes to a VM with all functions of its slot: display, audio, USB and
/// USB-C. bind moves them to vfio-pci, release gives them back to the drivers
/// that they had. Both check before they touch, never wait forever for the
/// kernel, read back, and put everything back where one function fails.
#[derive(Parser, Debug)]
#[command(name = "gpu-vfio-bind", version, max_term_width = 100)]
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
    /// Move slots to vfio-pci, for a VM
    ///
    /// All functions of each named slot are moved. What would hang the kernel or
    /// take something away that is in use is refused, with who uses it.
    Bind(Bind),
    /// Give slots back to the host's drivers
    ///
    /// Each function gets the driver that it had before bind, or the one that
    /// the kernel finds for it.
    Release(Release),
    /// Move slots to vfio-pci at every boot, from the initramfs on
    ///
    /// Writes a list of functions and what makes the initramfs act on it before
    /// native drivers are loaded, rebuilds the images and looks into them.
    /// Nothing moves before the reboot; bind moves it now.
    Persist(Persist),
    /// Take slots out of what is moved at boot
    Unpersist(Unpersist),
    /// Show which driver functions have, and which they will have after a boot
    Status(Status),
}

/// Operands and options of `persist`.
#[derive(Args, Debug)]
pub struct Persist {
    /// What is named.
    #[command(flatten)]
    pub named: Named,

    /// How the functions are recognised at boot
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub by: Recognise,

    /// VFIO driver, or 'auto'
    ///
    /// auto: the variant of vfio-pci that claims the function most exactly by
    /// modules.alias.
    #[arg(long, value_name = "DRIVER", default_value = "vfio-pci")]
    pub driver: String,

    /// Also switch on the IOMMU on the kernel command line
    ///
    /// Where it is off and the kernel does not switch it on by itself.
    #[arg(long)]
    pub cmdline: bool,

    /// Also keep nouveau and nvidiafb from being loaded
    ///
    /// Unless another GPU needs them.
    #[arg(long)]
    pub blacklist: bool,

    /// Go on where a refusal says that --force overrides it
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// How a function is recognised at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Recognise {
    /// By its address, if its ids are still the same; else it is left alone
    #[default]
    Address,
    /// By its ids, wherever it is: every identical GPU
    Id,
}

/// Operands and options of `unpersist`.
#[derive(Args, Debug)]
pub struct Unpersist {
    /// What is named.
    #[command(flatten)]
    pub named: Named,

    /// All that is moved at boot
    #[arg(long, conflicts_with = "operands")]
    pub all: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// What all verbs take.
#[derive(Args, Debug)]
pub struct Named {
    /// Functions (41:00.0) or slots (41:00); none: piped records
    ///
    /// Always taken as whole slots. Without one: pci-device records on standard
    /// input (gpu-iommu-groups ... |).
    #[arg(value_name = "FUNCTION|SLOT")]
    pub operands: Vec<String>,
}

/// Operands and options of `bind`.
#[derive(Args, Debug)]
pub struct Bind {
    /// What is named.
    #[command(flatten)]
    pub named: Named,

    /// Also move all that shares an IOMMU group with them
    ///
    /// All other endpoints of the slots' IOMMU groups; bridges stay.
    #[arg(long)]
    pub group: bool,

    /// VFIO driver, or 'auto'
    ///
    /// auto: the variant of vfio-pci that claims the function most exactly by
    /// modules.alias.
    #[arg(long, value_name = "DRIVER", default_value = "vfio-pci")]
    pub driver: String,

    /// Stop nvidia-persistenced where it holds a GPU
    ///
    /// It is started again if anything fails.
    #[arg(long)]
    pub stop_persistenced: bool,

    /// How the kernel is waited for.
    #[command(flatten)]
    pub wait: Wait,

    /// Go on where a refusal says that --force overrides it
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Operands and options of `release`.
#[derive(Args, Debug)]
pub struct Release {
    /// What is named.
    #[command(flatten)]
    pub named: Named,

    /// Give all functions to this driver instead
    #[arg(long, value_name = "DRIVER")]
    pub to: Option<String>,

    /// How the kernel is waited for.
    #[command(flatten)]
    pub wait: Wait,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Operands of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// Functions (41:00.0), slots (41:00) or IOMMU groups (26)
    ///
    /// Without one: the slots of all GPUs.
    #[arg(value_name = "FUNCTION|SLOT|GROUP")]
    pub operands: Vec<String>,
}

/// How long the kernel is waited for.
#[derive(Args, Debug, Clone, Copy)]
pub struct Wait {
    /// How long one unbind or bind may take
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

impl Common for Options {
    const CORRECTIONS: &'static [cli::Correction] = &[
        ("unbind", "release"),
        ("rebind", "release"),
        ("attach", "bind"),
        ("detach", "release"),
        ("list", "status"),
        ("show", "status"),
        ("--driver", "release --to DRIVER"),
        (cli::ADDRESS, "bind {}"),
    ];

    fn common(&self) -> CommonValues {
        self.common.values(self.output.choice)
    }
}

/// The manual page beyond the options.
pub const MAN: ManText = ManText {
    input: "bind and release without operands read pci-device records, all of them before they do \
        anything. Only the address counts; everything else is looked up on this host. Each record \
        stands for its whole slot, except a virtual function, which stands for itself.",
    output: "bind and release: one change record for each function (property driver) with status \
        unchanged, planned, changed, refused, failed, rolled-back or skipped, and one for each \
        IOMMU group's node (property vfio_group). persist and unpersist: one for each file, one \
        for the images, and last one whose property is reboot_required. status: for each function \
        one check record of its driver against the one that it was moved to, and one \
        (driver_at_boot) of the driver that the files give it against the one that it has. The records are described in \
        pve-gpu-records(5).",
    exit: &[
        (
            1,
            "With --check: something would change. status: a function is not on the driver that \
             it was moved to.",
        ),
        (3, "The kernel refused, or did not answer in time; what could be put back was."),
        (4, "In use, or it could hang the kernel; the message names who uses it."),
    ],
    files: &[
        ("/sys/bus/pci/devices", "functions, drivers, overrides"),
        (
            "/proc/driver/nvidia/gpus/ADDRESS/unbindLock",
            "whether NVIDIA's driver would let go at once",
        ),
        ("/etc/gpu-vfio-bind.list", "what is moved at boot: one function a line"),
        ("/etc/modprobe.d/gpu-vfio-bind.conf", "softdeps, ids= for --by id, blacklisted modules"),
        ("/etc/modules-load.d/gpu-vfio-bind.conf", "vfio-pci, for the real root"),
        ("/etc/default/grub, /etc/kernel/cmdline", "the kernel command line, with --cmdline only"),
        ("/etc/initramfs-tools/hooks/gpu-vfio-bind", "what goes into the image"),
        ("/etc/initramfs-tools/scripts/init-top/gpu-vfio-bind", "sets driver_override before udev starts; for dracut a module of the same name"),
        ("/run/gpu-vfio-bind/ADDRESS", "the driver that a function had before bind"),
        ("/run/qemu-server/pci-id-reservations", "which running VM of Proxmox VE uses a function"),
        ("/run/lock/gpu-vfio-bind.lock", "held while something is changed"),
    ],
    notes:
        "Order for each function: driver_override is set, the old driver is unbound, the new one \
        bound by name so that the kernel's real answer is seen, and all is read back. When one \
        function fails, those before it get their old driver and override again, last first.

The kernel has no way to refuse an unbind: a driver in use makes it wait, and that wait cannot be \
        ended, not even by kill -9. So unbind is written by a child process; after --timeout \
        seconds the tool says so and returns. The unbind then still happens as soon as whoever \
        holds the device lets go. NVIDIA's driver is asked before, through unbindLock.

--force overrides what cannot hang the kernel: the boot display, a container that shares the GPU, \
        strangers in the group. It never overrides a busy driver, a running VM, a PF with VFs, an \
        NVIDIA vGPU's virtual function, or an IOMMU that is off.

bind lasts until reboot; persist acts from the next boot on. By address, the script in the initramfs \
        binds a function only if vendor, device and both subsystem ids are still those that were \
        meant: where another function has moved to that address it is left alone, and the kernel log \
        says so. A list by id is refused while an identical GPU is not meant to go.",
    lists: &[],
    examples: EXAMPLES,
    see_also: &["gpu-iommu-groups(1)", "lxc-gpu-conf(1)", "vgpu-profile-set(1)", "pve-gpu-records(5)", "pve-gpu-groups(7)", "driverctl(8)"],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "What would happen to the GPU at 2c:00 and its companions?",
        command: "gpu-vfio-bind bind 2c:00 --dry-run",
    },
    Example {
        says: "Which of this machine's GPUs are on which driver?",
        command: "gpu-vfio-bind status",
    },
    Example {
        says: "Let it happen at every boot.",
        command: "gpu-vfio-bind persist 2c:00 --dry-run",
    },
    Example {
        says: "Every slot that could be passed through and is not yet, as a plan.",
        command: "gpu-iommu-groups --vendor 10de | jq -c 'select(.role == \"gpu\" and .passthrough.viable_once_bound)' | gpu-vfio-bind bind --force -n",
    },
];
