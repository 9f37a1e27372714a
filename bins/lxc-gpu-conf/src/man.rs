//! The manual page beyond the options.

use cli::{Example, ManText};

use crate::check::finding::CAUSES;

/// The hand-written sections.
pub const MAN: ManText = ManText {
    input: "add without --gpu, --mig or --convert (or with --gpu -) reads pci-device records, all of \
        them before it does anything. Only the address counts: driver, minor and everything else are \
        looked up on this host. Functions that only accompany a GPU are not asked for, GPUs of other \
        vendors and virtual functions are skipped. An empty stream, a line that is no record, and an \
        error record from the tool before are failures, and nothing is changed. remove --gpu - reads \
        the same; the other commands do not look at standard input.",
    output: "show: one lxc-gpu record for each GPU. check: one check record for each thing that is \
        wrong, with its cause, and one for each GPU of a container with which nothing is. add, \
        remove, sync: one change record for each line of the configuration, with status unchanged, \
        planned, changed, skipped, refused, failed or rolled-back; with --check one check record \
        each. nodes: one change record for each node. With --restart or --wait also one check record \
        for each node as it opens inside. hook prints no records. On a terminal a table, and for \
        --dry-run a diff. The records are described in pve-gpu-records(5).",
    exit: &[
        (1, "check found something; with --check: a change would be made."),
        (2, "Among others: no such container or GPU on this host."),
        (3, "Among others: /etc/pve is not mounted or has no quorum; the configuration's lock was \
             not free within 10 seconds; someone else changed the file meanwhile; a node does not \
             open inside in time; hook: the container's GPU could not work."),
        (4, "The container has a lock: property; the GPU is bound to vfio-pci or nouveau; a device \
             node is missing on the host; the change would keep the container from starting; hook: \
             the container's userspace is of another version than the kernel module."),
    ],
    files: &[
        ("/etc/pve/lxc/CTID.conf", "the configuration; only its main section is changed"),
        ("/run/lock/lxc/pve-config-CTID.lock", "Proxmox VE's lock on it, taken with flock(2)"),
        ("/var/lib/pve-gpu-tools/lxc/CTID.json", "what add was asked for, by GPU and not by number: \
            what sync brings back. Not needed: without it sync goes by the numbers"),
        ("/proc/devices", "the drivers' major numbers; only 195 is fixed"),
        ("/proc/driver/nvidia/gpus", "minor, UUID and model of the host's GPUs"),
        ("/proc/driver/nvidia/params", "owner and mode of nodes that are made"),
        ("/proc/driver/nvidia-caps/mig-minors", "numbers of MIG's capabilities"),
        ("/dev/nvidia*", "the host's device nodes"),
        ("/var/lib/dpkg/status", "the version of pve-container: dev[n] came with 5.0.7, handing it \
            to a running container with 6.0.4"),
        ("/lib/systemd/system/pve-gpu-nodes.service", "nodes and sync --all before containers start; \
            'systemctl enable pve-gpu-nodes'"),
        ("/usr/share/pve-gpu-tools/hookscript", "copy it to a storage for snippets"),
    ],
    notes: "Nodes: /dev/nvidia<minor>, nvidiactl and nvidia-uvm, and where the host has them \
        nvidia-uvm-tools and nvidia-modeset; with --graphics the GPU's DRM nodes, with the groups \
        video and render of the container's own /etc/group; with --mig the two capabilities of the \
        instance, readable by all. /dev/nvidia-caps/nvidia-cap1, the right to reconfigure MIG, is \
        never given.

Style dev writes dev[n] with mode=0666, as the nodes are on the host: Proxmox VE makes a fresh node \
        at each start, so that a major number that moved does no harm, but a node that is missing \
        on the host keeps the container from starting; pve-gpu-nodes.service makes them before. \
        Style mount writes optional mount entries; a privileged container also gets exact device \
        rules (an unprivileged one has no list of allowed devices in Proxmox VE, so rules would do \
        nothing there). The same node is never given both ways: the container would not start.

The minor is neither nvidia-smi's index nor the number of its DRM node; where in doubt use the \
        address.

A stopped container has the change at its next start. A running one gets a new dev[n] at once where \
        pct can hand it over, and all else at its next start: --restart does that. Whether it really \
        works is found out by opening the nodes inside the container's control group and namespaces; \
        that a name exists says nothing, since a failed mount leaves an empty file. Inside, the \
        userspace driver must have exactly the version of the host's kernel module.

The file is replaced atomically: a crash at any moment leaves the old one or the new one. Comments \
        are not used to mark lines, since Proxmox VE moves them.",
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
        "'lxc-gpu-conf add 901 --gpu 41:00.0 --restart', then the host's driver version inside, \
         without its kernel module (nv-runfile(1)).",
    ),
    (
        "Transcoding (Jellyfin, Plex, Frigate)",
        "The same; NVENC needs no DRM node. The default mode 0666 lets a program in that runs as a \
         user of its own; '--mode 0660 --gid GID' only a group, by its number inside.",
    ),
    ("OpenGL, Vulkan, a desktop", "--graphics."),
    (
        "MIG",
        "Make the instance on the host ('nvidia-smi mig -cgi 9 -C'), then 'lxc-gpu-conf add 101 \
         --gpu 41:00.0 --mig 2/0': GPU instance and compute instance as 'nvidia-smi mig -lci' lists \
         them. They do not outlive a reboot of the host by themselves: make them again before \
         pve-gpu-nodes.service.",
    ),
    (
        "Docker in the container",
        "'features: nesting=1,keyctl=1', add as above, NVIDIA's container toolkit inside, and there \
         'nvidia-ctk config --set nvidia-container-cli.no-cgroups=true --in-place': an unprivileged \
         container may not load device programs of its own.",
    ),
    (
        "A privileged container",
        "As any other. Do not write 'lxc.cgroup2.devices.allow: a' or 'deny: a': with either as the \
         last rule the container may open every device of the host.",
    ),
    (
        "An application container (OCI image)",
        "As any other. With --libs it needs neither a package manager nor ldconfig: each file of the \
         host's driver is mounted under its own name.",
    ),
    (
        "Many containers with one userspace",
        "Unpack the installer once (nv-runfile(1)), then 'lxc-gpu-conf add 901 --gpu all \
         --share-driver DIR' for each.",
    ),
    ("An old hand-made block", "'lxc-gpu-conf add 902 --convert'."),
];

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Give all NVIDIA GPUs of this host to container 901, but only show what would change.",
        command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901 --dry-run",
    },
    Example { says: "Do it.", command: "gpu-iommu-groups --vendor 10de | lxc-gpu-conf add 901" },
    Example {
        says: "Give it the GPU of /dev/nvidia1 only, and restart it if it runs.",
        command: "lxc-gpu-conf add 904 --gpu 1 --restart",
    },
    Example { says: "Take that one away again.", command: "lxc-gpu-conf remove 904 --gpu 1" },
    Example {
        says: "What does container 902 have, and is anything wrong with it?",
        command: "lxc-gpu-conf show 902",
    },
    Example {
        says: "From cron: is anything wrong with any container of the cluster?",
        command: "lxc-gpu-conf check --all -q",
    },
    Example {
        says: "Make dev[n] of lines that somebody once wrote by hand.",
        command: "lxc-gpu-conf add 902 --convert",
    },
    Example {
        says: "After a reboot, before containers start: what pve-gpu-nodes.service runs.",
        command: "lxc-gpu-conf nodes && lxc-gpu-conf sync --all",
    },
    Example {
        says: "From a script: is everything in place?",
        command: "lxc-gpu-conf add 901 --gpu all --check",
    },
];
