//! The manual page beyond the options.

use ::cli::{Example, ManText};

use crate::cause::CAUSES;

/// The hand-written sections.
pub const MAN: ManText = ManText {
    input: "With --pin - a runfile record, as nv-runfile prints it, or a line with a version. \
        Otherwise standard input is not read.",
    output: "One check record for each comparison: the host first, then its kernels, containers \
        by their number, other root file systems. status is ok, drift or unknown; severity error \
        means that something does not work now, warning that it may stop working, info that it is \
        worth knowing. expected and actual are versions, cause is one of the names below, hint \
        says what to do, and commands are the commands to run, in order. On a terminal a table is \
        printed. pve-gpu-records(5) describes the records.

Everything is compared with one version: with --pin the given one; with --next-boot that of the \
        module which the next boot loads; otherwise that of the loaded module, and where none is \
        loaded that of the module on disk.

Metrics: nvidia_version_info and nvidia_version_expected_info with the version as a label, \
        nvidia_version_drift and nvidia_version_unknown (0 or 1), nvidia_version_drifts (the number \
        of mismatches), the time of this run, and the time and the age of the last run without a \
        problem.",
    exit: &[
        (1, "A version differs, or with --pin no driver is installed."),
        (
            3,
            "Something that was asked for could not be read: its record has the status unknown. A \
                stopped container whose volume cannot be read counts only if --ct names it.",
        ),
    ],
    files: &[
        ("/proc/driver/nvidia/version, /sys/module/nvidia/version", "the loaded module"),
        ("/lib/modules/RELEASE", "modules on disk; .modinfo is read, compressed or not"),
        ("/var/lib/dkms", "what DKMS has built, for which kernel"),
        (
            "/etc/kernel/next-boot-pin, /etc/kernel/proxmox-boot-pin, /etc/default/grub, \
                /boot/grub/grubenv",
            "which kernel boots next; without them the newest of /boot/vmlinuz-*",
        ),
        (
            "/etc/ld.so.cache",
            "which library the dynamic linker loads; without it, the usual directories",
        ),
        ("/var/lib/dpkg/status", "packages of the driver"),
        ("/var/lib/nvidia/log", "the record of an installation by a .run file"),
        (
            "/etc/pve/nodes/*/lxc/*.conf, /proc/PID/root",
            "containers and their root file systems",
        ),
        ("/etc/cdi, /run/cdi", "CDI specifications"),
        ("/lib/firmware/nvidia/VERSION", "GSP firmware"),
        ("/usr/local/cuda*", "CUDA toolkits (--cuda)"),
    ],
    notes: "The kernel module and the libraries must have exactly the same version, in all its \
        numbers. In a container /proc shows the host's module, but a container cannot see what the \
        next boot loads: run this tool on the host.

A container's root file system is treated as hostile. Paths are resolved inside it and links do \
        not lead out; only regular files are read, up to a limit; reading that takes longer than \
        five seconds is given up. Containers are read in parallel. A running container is seen as \
        its own processes see it; a stopped one if its volume is a directory, or after 'pct mount \
        CTID'.

A container that has the libraries but is not given a GPU is compared as well; a mismatch is then a \
        warning.

A libcuda in a directory named compat is for forward compatibility and may differ. Library files \
        that no link leads to are reported as leftovers, not as a mismatch.

The package contains a cron line and a systemd timer (nv-version-check.timer). Both print only \
        problems. It also contains alert rules for Prometheus and a dashboard for Grafana, in \
        /usr/share/pve-gpu-tools/monitoring.",
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
    Example { says: "Check the host, its next boot included.", command: "nv-version-check" },
    Example {
        says: "Show all mismatches and unknown versions, with containers.",
        command: "nv-version-check --all-cts | jq -c 'select(.status != \"ok\")'",
    },
    Example {
        says: "Check that everything has the pinned version; the exit status is the answer.",
        command: "nv-version-check --all-cts --pin 550.163.01",
    },
    Example {
        says: "Print the commands that repair the mismatches.",
        command: "nv-version-check --all-cts | jq -r '.commands[] | @sh'",
    },
    Example {
        says: "Print metrics for Prometheus' node exporter.",
        command: "nv-version-check --all-cts --format prometheus",
    },
];
