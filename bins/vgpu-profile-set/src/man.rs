//! The manual page beyond the options.

use cli::{Example, ManText};

use crate::cause::CAUSES;

/// The hand-written sections.
pub const MAN: ManText = ManText {
    input: "plan, apply, check and watch take any of three forms and tell them apart themselves. \
        Lines ADDRESS=PROFILE, one virtual function each, with comments from # on. Records: \
        vgpu-assignment, for one function or with count for a GPU, and vgpu, as list prints them, \
        so that what was listed can be put back. The configuration file of NVIDIA's \
        vgpu-device-manager, with --config.

All of it is read and checked before anything is looked at. A line that makes no sense, a function \
        that is not there, a profile that the GPU does not have: exit 2, nothing done.

Profiles are named as the driver names them, with or without what stands before the last word \
        (L40S-24Q, NVIDIA L40S-24Q, A100-1-5CME); none is no profile. The driver's ids are taken \
        too, with a warning: they differ by GPU and change with driver versions.",
    output: "list: one vgpu record for each GPU, virtual function and mediated device; with --types \
        one vgpu-type record for each profile. plan, apply and clear: one change record for each \
        function (property vgpu_type) or mediated device (mdev UUID), before them one for each GPU \
        whose virtual functions (sriov_numvfs) or heterogeneous mode are switched on. check: one \
        check record each. watch: change records of what it changed, and words on standard error. \
        The records are described in pve-gpu-records(5).",
    exit: &[
        (1, "check, --check: something is not as asked."),
        (3, "The driver refused a profile, or did not answer; what was set before it was put back."),
        (4, "It does not fit, or is in use, or Proxmox VE's own; the message says what would do."),
    ],
    files: &[
        ("/sys/bus/pci/devices/ADDRESS/nvidia/current_vgpu_type", "the profile of a virtual function"),
        ("/sys/bus/pci/devices/ADDRESS/nvidia/creatable_vgpu_types", "what it offers now"),
        ("/sys/bus/pci/devices/ADDRESS/mdev_supported_types", "the same on older GPUs and kernels"),
        ("/usr/lib/nvidia/sriov-manage", "switches virtual functions on; NVIDIA's"),
        ("/run/qemu-server/pci-id-reservations", "which running VM of Proxmox VE uses a function"),
        ("/etc/pve/qemu-server", "which VMs let Proxmox VE set profiles (mdev= in hostpci lines)"),
        ("/run/vgpu-profile-set", "names of profiles, which a full GPU does not tell"),
        ("/run/lock/vgpu-profile-set.lock", "held while something is changed"),
    ],
    notes: "Order on each GPU: virtual functions on; profiles that have to go are cleared (0); \
        heterogeneous mode on, which works nowhere else; then each profile, the largest first, with \
        one write and one read. If one is refused, all of this run is taken back, last first.

A GPU takes profiles of one framebuffer size at a time, unless it is in heterogeneous mode; series \
        (Q, B, A, C) may be mixed. sriov_numvfs, profiles and heterogeneous mode are lost at reboot. \
        sriov-manage rebinds the GPU: it ends CUDA on it and wipes MIG instances. For MIG the order \
        is nvidia-smi -mig 1, sriov-manage -e, nvidia-smi mig -cgi ... -C, then profiles.

What is asked for by count (records, vgpu-device-manager) is asked of the whole GPU: other profiles \
        on it are cleared. What is asked for by function leaves the other functions alone. What a \
        VM uses is never touched.

Proxmox VE sets and clears the profile of a function whose hostpci line says mdev=nvidia-ID, at each \
        start and stop of the VM. Such functions are refused here: two masters would undo each \
        other's work. For VMs without mdev=, for libvirt, OpenNebula or KubeVirt, enable \
        vgpu-profile-set.service, which applies /etc/vgpu-profiles before VMs start and watches.

Kubernetes. The manifests in /usr/share/pve-gpu-tools/kubernetes run watch on every node with vGPUs, \
        from an image that holds this tool and nothing else. It has to be the static one ('make \
        static' in the sources); the Containerfile beside the manifests says how the image is made. \
        Its name, vgpu-profile-set:0.2.0, stands in daemonset.yaml.

Mediated devices get UUIDs made from the parent's address and a number, the same after each boot. \
        Others' devices are left alone.

Guests. Profiles say nothing of licences; those are the guest's business, and nothing on the host \
        asks for one. In the guest, nvidia-gridd wants /etc/nvidia/gridd.conf and the client \
        configuration token as a .tok file in /etc/nvidia/ClientConfigToken (mode 0744 after \
        NVIDIA's licensing guide, since the daemon need not run as its owner). In gridd.conf FeatureType=1 lets the driver choose \
        by profile; 2 is a virtual workstation, 4 a compute server, 0 none. ServerAddress and \
        ServerPort are of the old licence server: a token names its own. 'nvidia-smi -q' in the \
        guest then says License Status: Licensed; journalctl _COMM=nvidia-gridd says why not.",
    lists: &[("CAUSES", CAUSES)],
    examples: EXAMPLES,
    see_also: &["gpu-iommu-groups(1)", "gpu-vfio-bind(1)", "pve-gpu-records(5)", "mdevctl(8)"],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example { says: "What is there, and what is set?", command: "vgpu-profile-set list" },
    Example {
        says: "Which profiles do the GPUs offer?",
        command: "vgpu-profile-set list --types | jq -r .profile",
    },
    Example {
        says: "Would two halves fit on the GPU at 41:00.0?",
        command: "echo '{\"type\":\"vgpu-assignment\",\"address\":\"41:00.0\",\"profile\":\"L40S-24Q\",\"count\":2}' | vgpu-profile-set plan",
    },
    Example {
        says: "Two functions get a profile each.",
        command: "printf '41:00.4=L40S-24Q\\n41:00.5=L40S-24A\\n' | vgpu-profile-set apply",
    },
    Example {
        says: "Is everything still set as it was last week?",
        command: "vgpu-profile-set list | vgpu-profile-set check",
    },
];
