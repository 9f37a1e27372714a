//! The manual page beyond the options.

use cli::{Example, ManText};

use crate::check::finding::CAUSES;

/// The hand-written sections.
pub const MAN: ManText = ManText {
    input: "add without --gpu, --mig or --convert (or with --gpu -) reads all pci-device records \
        before it changes anything. Only the address counts: driver, minor and everything else are \
        looked up on this host. Other functions of a GPU's slot are ignored; GPUs of other vendors \
        and virtual functions are skipped. An empty stream, a line that is not a record, and an \
        error record from the previous tool are failures, and nothing is changed. remove --gpu - \
        reads the same; the other commands do not read standard input.",
    output: "show: one lxc-gpu record for each GPU. check: one check record for each problem, with \
        its cause, and one for each GPU of a container that has no problem. add, remove, sync: one \
        change record for each line of the configuration, with status unchanged, planned, changed, \
        skipped, refused, failed or rolled-back; with --check one check record for each. nodes: one \
        change record for each node. With --restart or --wait also one check record for each node \
        that opens in the container. hook prints no records. On a terminal a table, and for \
        --dry-run a diff. The records are described in pve-gpu-records(5).",
    exit: &[
        (1, "check found a problem; with --check: a change would be made."),
        (2, "Among others: no such container or GPU on this host."),
        (3, "Among others: /etc/pve is not mounted or has no quorum; the configuration's lock was \
             not free within 10 seconds; another process modified the file; a node does not open in \
             the container in time; hook: the container's GPU could not work."),
        (4, "The container has a lock: property; the GPU is bound to vfio-pci or nouveau; a device \
             node is missing on the host; the change would keep the container from starting; hook: \
             the container's driver libraries have another version than the kernel module."),
    ],
    files: &[
        ("/etc/pve/lxc/CTID.conf", "the configuration; only its main section is changed"),
        ("/run/lock/lxc/pve-config-CTID.lock", "Proxmox VE's lock on it, taken with flock(2)"),
        ("/var/lib/pve-gpu-tools/lxc/CTID.json", "the GPUs that add was asked for, by UUID and \
            address, so that sync finds them after their numbers have changed. It belongs to the \
            container with the same root file system volume. Without it sync uses the numbers"),
        ("/proc/devices", "the drivers' major numbers; only 195 is fixed"),
        ("/proc/driver/nvidia/gpus", "minor, UUID and model of the host's GPUs"),
        ("/proc/driver/nvidia/params", "owner and mode of nodes that are created"),
        ("/proc/driver/nvidia-caps/mig-minors", "minor numbers of MIG's capabilities"),
        ("/dev/nvidia*", "the host's device nodes"),
        ("/var/lib/dpkg/status", "the version of pve-container: dev[n] needs 5.0.7, hot-plug needs \
            6.0.4"),
        ("/lib/systemd/system/pve-gpu-nodes.service", "runs nodes and sync --all before containers \
            start; enable it with 'systemctl enable pve-gpu-nodes'"),
        ("/usr/share/pve-gpu-tools/hookscript", "copy it to a storage for snippets"),
    ],
    notes: "Nodes: /dev/nvidia<minor>, nvidiactl and nvidia-uvm, and where the host has them \
        nvidia-uvm-tools and nvidia-modeset; with --graphics the GPU's DRM nodes, with the groups \
        video and render of the container's own /etc/group; with --mig the two capabilities of the \
        instance, readable by all. /dev/nvidia-caps/nvidia-cap1, the right to reconfigure MIG, is \
        never given and never created.

The tool creates only the driver's own nodes in /dev: over nothing, over an older node of the driver, \
        or over the empty file that a failed mount leaves. What a container has under another path \
        is never replaced.

The configuration decides what a container has. sync updates device numbers, device rules and mounted \
        driver libraries; it does not add a node whose line was removed, and does not change owner \
        or mode. It removes a device rule only if the rule is known to be for an NVIDIA driver.

Style dev writes dev[n] with mode=0666, as the nodes are on the host: Proxmox VE creates a new node at \
        each start, so that a changed major number does no harm, but a node that is missing on the \
        host keeps the container from starting; pve-gpu-nodes.service creates the nodes first. \
        Style mount writes optional mount entries; a privileged container also gets exact device \
        rules (in an unprivileged container Proxmox VE allows all devices, so rules that allow one \
        have no effect). The same node is never given both ways: the container would not start.

The minor is neither nvidia-smi's index nor the number of the DRM node; if in doubt, use the address.

A change takes effect the next time the container starts. A new dev[n] is hot-plugged into a running \
        container where pct can do it; for all else use --restart. With --restart or --wait the tool \
        opens the nodes from inside the container's control group and namespaces: that a name exists \
        proves nothing, because a failed mount leaves an empty file. The driver libraries in the \
        container must have exactly the version of the host's kernel module.

The file is replaced atomically: a crash at any moment leaves the old one or the new one. Comments \
        are not used to mark lines, because Proxmox VE moves them.",
    lists: &[("CAUSES", CAUSES), ("RECIPES", RECIPES)],
    examples: EXAMPLES,
    see_also: &[
        "gpu-iommu-groups(1)",
        "gpu-vfio-bind(1)",
        "pve-gpu-records(5)",
        "pct(1)",
        "pct.conf(5)",
        "nvidia-modprobe(1)",
    ],
};

/// What to do in which situation.
const RECIPES: &[(&str, &str)] = &[
    (
        "CUDA or Ollama in an unprivileged container",
        "'lxc-gpu-conf add 901 --gpu 41:00.0 --restart', then install the host's driver version in \
         the container, without its kernel module (nv-runfile(1)).",
    ),
    (
        "Transcoding (Jellyfin, Plex, Frigate)",
        "As above; NVENC needs no DRM node. The default mode 0666 permits programs that run as any \
         user; '--mode 0660 --gid GID' permits only a group, by its number in the container.",
    ),
    ("OpenGL, Vulkan, a desktop", "Use --graphics."),
    (
        "MIG",
        "Create the instance on the host ('nvidia-smi mig -cgi 9 -C'), then run 'lxc-gpu-conf add \
         101 --gpu 41:00.0 --mig 2/0': GPU instance and compute instance as 'nvidia-smi mig -lci' \
         lists them. Instances are lost when the host reboots: create them again before \
         pve-gpu-nodes.service.",
    ),
    (
        "Docker in the container",
        "Set 'features: nesting=1,keyctl=1', add the GPU as above, install NVIDIA's container \
         toolkit in the container, and run there 'nvidia-ctk config --set \
         nvidia-container-cli.no-cgroups=true --in-place': an unprivileged container cannot load \
         device programs of its own.",
    ),
    (
        "A privileged container",
        "As any other. Do not write 'lxc.cgroup2.devices.allow: a' or 'deny: a': if either is the \
         last rule, the container may open every device of the host.",
    ),
    (
        "An application container (OCI image)",
        "As any other. With --libs it needs neither a package manager nor ldconfig: each file of the \
         host's driver is mounted under its own name.",
    ),
    (
        "Many containers with the same driver libraries",
        "Unpack the installer once (nv-runfile(1)), then run 'lxc-gpu-conf add 901 --gpu all \
         --share-driver DIR' for each.",
    ),
    ("Mount entries written by hand", "Run 'lxc-gpu-conf add 902 --convert'."),
];

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Show what would change if container 901 got all NVIDIA GPUs of this host.",
        command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901 --dry-run",
    },
    Example {
        says: "Give it all NVIDIA GPUs of this host.",
        command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901",
    },
    Example {
        says: "Give container 904 the GPU of /dev/nvidia1 only, and restart it if it is running.",
        command: "lxc-gpu-conf add 904 --gpu 1 --restart",
    },
    Example { says: "Remove that GPU again.", command: "lxc-gpu-conf remove 904 --gpu 1" },
    Example {
        says: "Show the GPUs of container 902 and their problems.",
        command: "lxc-gpu-conf show 902",
    },
    Example {
        says: "From cron: check all containers of the cluster.",
        command: "lxc-gpu-conf check --all -q",
    },
    Example {
        says: "Convert mount entries that were written by hand to dev[n].",
        command: "lxc-gpu-conf add 902 --convert",
    },
    Example {
        says: "After a reboot, before containers start: what pve-gpu-nodes.service runs.",
        command: "lxc-gpu-conf nodes && lxc-gpu-conf sync --all",
    },
    Example {
        says: "From a script: check whether a container has all GPUs.",
        command: "lxc-gpu-conf add 901 --gpu all --check",
    },
];
