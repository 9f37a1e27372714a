//! The manual page beyond the options.

use cli::{Example, ManText};

pub const MAN: ManText = ManText {
    input: "None: standard input is not read.",
    output: "One pci-device record for each function, in the order of their addresses; with \
        --groups one iommu-group record for each group; with --check one check record for each \
        slot. On a terminal a table. The records are described in pve-gpu-records(5).

The verdict in tables and trees is one of: ready (the slot can be passed through as it is), bindable \
        (gpu-vfio-bind bind makes it so), in use (USED BY names the user), shared group (a device \
        of the host would have to be passed through to the same VM), blocked (the kernel refuses \
        it, or it has virtual functions or no vGPU profile), no IOMMU, unknown (its users cannot be \
        found out), and unproven (an ACS override makes groups meaningless, or a bridge's driver \
        is unknown to this tool). gpu-vfio-bind bind refuses for the same reasons.

--check also says what does not prevent passing a slot through and should be known: no reset method, \
        no other display, an NVLink fabric, another function of the group that has to go to the \
        same VM. The display of a server's management controller (role bmc-display) is checked \
        only where it is named.

The messages of the kernel and of QEMU for a group that is not viable (\"Please ensure all devices \
        within the iommu_group are bound to their vfio bus driver\") do not name the device; the \
        blockers of the record do.",
    exit: &[(1, "With --check: a selected GPU cannot be passed through, or no GPU is selected.")],
    files: &[
        ("/sys/bus/pci/devices", "the functions and their attributes"),
        ("/sys/kernel/iommu_groups", "the groups, their other members and reserved regions"),
        (
            "/sys/class/iommu",
            "the IOMMU: it is off if this is empty, whatever the kernel command line says",
        ),
        ("/proc/driver/nvidia/gpus", "minor, UUID and model of the GPUs that are bound to nvidia"),
        ("/proc/interrupts", "whether interrupts are remapped"),
        (
            "/lib/modules/RELEASE/modules.alias.bin",
            "which modules claim a function; modules.alias where it is missing",
        ),
        ("/usr/share/misc/pci.ids", "names (package pci.ids)"),
    ],
    notes: "This tool changes nothing and needs no privileges. Attributes that only root can read \
        are null for other users, and only root sees all users of a function: USED BY shows a \
        question mark where they could not be found out.

A read that blocks in the kernel, as some do during a blocked unbind, is given up after three \
        seconds: the function's remaining fields are null, and a warning names the read.

A group number may change at each boot. Where pcie_acs_override= is on the kernel command line, \
        groups look smaller than they are: their devices may still reach each other's memory.",
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
        says: "Show the GPUs of this host and all functions that share a slot or group with them.",
        command: "gpu-iommu-groups",
    },
    Example { says: "Show the PCI topology around them.", command: "gpu-iommu-groups -o tree" },
    Example {
        says: "Give all NVIDIA GPUs to container 901.",
        command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901",
    },
    Example {
        says: "Check by the exit status whether the GPU of a slot can be passed through.",
        command: "gpu-iommu-groups --check 2b:00",
    },
    Example {
        says: "Show groups that other devices than bridges share with a GPU.",
        command: "gpu-iommu-groups --groups | jq -c 'select(.isolated == false)'",
    },
];
