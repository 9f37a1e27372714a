//! The hand-written sections of the manual page.

use cli::{Example, ManText};

use crate::cause::CAUSES;

/// The hand-written sections.
pub const MAN: ManText = ManText {
    input: "plan, apply, check, watch and hook read four forms and recognise each by its content. \
        Lines ADDRESS=PROFILE: one virtual function each, with comments after #; lines ADDRESS \
        KEY=VALUE ... for settings of a GPU; and [node NAME], after which lines are for one cluster \
        node only (--node-name; default: this host's name). Records: vgpu-assignment, for one function or \
        with count for a GPU, and vgpu, as list prints them, so that what was listed can be set \
        again. The configuration files of NVIDIA's vgpu-device-manager and mig-parted, with \
        --config.

Settings of a GPU are lost at reboot, as profiles are. persistence=on or off: persistence mode. \
        power=250W: the power limit. mig=3g.20gb,2g.10gb: MIG mode on, with these GPU instances, \
        each with one compute instance; mig=on: MIG mode alone; mig=off. They are planned against \
        the driver's list, set by nvidia-smi and read back, and stand in the same file as the \
        profiles because vGPUs on MIG instances need both, in this order. An instance that is not \
        requested is named and never destroyed: a container may use it.

All input is read and checked before the host is read. An invalid line, a function that does not \
        exist or a profile that the GPU does not have ends the command with exit status 2, and \
        nothing is changed. watch skips lines for GPUs that this host has never had, unless they are \
        in a section for this host. A configuration that selects no GPU of this host is a warning.

Profiles are named as the driver names them, with or without the words before the last one \
        (L40S-24Q, NVIDIA L40S-24Q, A100-1-5CME); none means no profile. The driver's ids are \
        accepted with a warning: they differ by GPU and change with driver versions.",
    output: "list: one vgpu record for each GPU, virtual function and mediated device, with the VMs of \
        Proxmox VE that are given it; with --types one vgpu-type record for each profile, with how \
        many more can be made now. plan, apply and clear: one change record for each setting of a \
        GPU (persistence_mode, power_limit, mig_mode, mig_instances), function (property \
        vgpu_type) or mediated device (mdev UUID), after one for each GPU on which virtual \
        functions are enabled (sriov_numvfs) or heterogeneous mode is turned on. check: one check \
        record each. watch: change records of what it changed, and messages on standard error. hook \
        prints no records, and cloud-init a file for cloud-init. The records are described in \
        pve-gpu-records(5).",
    exit: &[
        (1, "check, --check: a profile is not set as requested."),
        (3, "The driver refused a profile or did not answer; earlier changes were rolled back."),
        (4, "It does not fit, is in use, or is managed by Proxmox VE; the hint says what fits. hook: \
             the VM could not start with its functions as they are."),
    ],
    files: &[
        ("/sys/bus/pci/devices/ADDRESS/nvidia/current_vgpu_type", "the profile of a virtual function"),
        ("/sys/bus/pci/devices/ADDRESS/nvidia/creatable_vgpu_types", "the profiles that it offers now"),
        ("/sys/bus/pci/devices/ADDRESS/mdev_supported_types", "the same on older GPUs and kernels"),
        ("/usr/lib/nvidia/sriov-manage", "NVIDIA's program that enables virtual functions"),
        ("/run/qemu-server/pci-id-reservations", "functions that VMs of Proxmox VE use"),
        ("/etc/pve/qemu-server", "VMs for which Proxmox VE sets profiles (mdev= in hostpci lines)"),
        ("/etc/vgpu-profiles", "profiles and settings for vgpu-profile-set.service and hook"),
        ("/usr/share/pve-gpu-tools/vgpu-hookscript", "copy it to a storage for snippets"),
        ("/run/vgpu-profile-set", "names of profiles, which a full GPU does not list"),
        ("/run/pve-gpu-tools/vgpu-profile-set.lock", "held while the tool changes the host"),
    ],
    notes: "Order on each GPU: virtual functions are enabled; profiles that have to go are cleared; \
        heterogeneous mode is turned on, which works only at this point; then each profile is set, \
        the largest first, with one write and one read. If the driver refuses one, all changes of \
        this run are rolled back, last first.

A GPU takes profiles of one framebuffer size at a time, unless it is in heterogeneous mode; series \
        (Q, B, A, C) can be mixed. sriov_numvfs, profiles and heterogeneous mode are lost at reboot. \
        sriov-manage rebinds the GPU: it ends CUDA programs on it and deletes MIG instances. For \
        MIG the order is nvidia-smi -mig 1, sriov-manage -e, nvidia-smi mig -cgi ... -C, then \
        profiles.

A request by count (records, vgpu-device-manager) is for the whole GPU: other profiles on it are \
        cleared. A request by function leaves the other functions alone. The profile of a function \
        that a VM uses is never changed.

Proxmox VE. What becomes of a profile when a VM starts depends on the VM's hostpci line. With \
        mdev=nvidia-ID, Proxmox VE sets that profile itself: this tool refuses such functions, \
        because each of the two would overwrite the other's profile. With driver=keep (qemu-server \
        9.0.25 and newer, in Proxmox VE 9), Proxmox VE leaves the profile. With neither, it binds the \
        function to vfio-pci and the profile is lost; plan and apply warn of such VMs. In all three \
        cases it clears the profile after the VM has stopped. watch sets it again within its \
        interval, and hook before the VM starts: use driver=keep with the service, with the \
        hookscript, or with both. On Proxmox VE 8, use mdev=. 'list --format qm' prints the lines \
        for qm set. For libvirt, OpenNebula or KubeVirt, enable vgpu-profile-set.service, which \
        applies /etc/vgpu-profiles before VMs start and keeps it applied.

Capacity. The framebuffer of a GPU and how many vGPUs of a profile it takes come from the driver's \
        list while that is complete, from nvidia-smi, from the descriptions of mediated device \
        types, or from NVIDIA's published numbers for the board. Where none of these is known, plan \
        warns that it could not check.

Kubernetes. The manifests in /usr/share/pve-gpu-tools/kubernetes run watch on every node with vGPUs, \
        from an image that holds only this tool. The image needs the static program ('make static' \
        in the sources); the Containerfile beside the manifests describes how it is made. Its name \
        in daemonset.yaml is vgpu-profile-set:0.2.0. kustomization.yaml names what OpenShift, nodes \
        with SELinux and Kubernetes before 1.30 need besides. Without nvidia-smi in the image, \
        heterogeneous mode and settings of GPUs cannot be changed from there.

Mediated devices get UUIDs made from the parent's address and a number, the same after each boot. \
        Devices that another program made are left alone.

Guests. Profiles do not include a licence: the VM requests its own, and the host has no part in \
        it. cloud-init prints a snippet with its files, for 'qm set VMID --cicustom \
        vendor=local:snippets/NAME'. In the guest, nvidia-gridd needs /etc/nvidia/gridd.conf and the client configuration \
        token as a .tok file in /etc/nvidia/ClientConfigToken (mode 0744 according to NVIDIA's \
        licensing guide, because the daemon may run as another user). In gridd.conf, FeatureType=1 \
        lets the driver choose by profile; 2 is a virtual workstation, 4 a compute server, 0 none. \
        ServerAddress and ServerPort belong to the old licence server: a token names its own. \
        'nvidia-smi -q' in the guest then shows License Status: Licensed; if it does not, see \
        journalctl _COMM=nvidia-gridd.",
    lists: &[("CAUSES", CAUSES)],
    examples: EXAMPLES,
    see_also: &["gpu-iommu-groups(1)", "gpu-vfio-bind(1)", "pve-gpu-records(5)", "mdevctl(8)"],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Show GPUs, virtual functions and their profiles.",
        command: "vgpu-profile-set list",
    },
    Example {
        says: "Show the profiles that the GPUs offer.",
        command: "vgpu-profile-set list --types | jq -r .profile",
    },
    Example {
        says: "Check whether two halves fit on the GPU at 41:00.0.",
        command: "echo '{\"type\":\"vgpu-assignment\",\"address\":\"41:00.0\",\"profile\":\"L40S-24Q\",\"count\":2}' | vgpu-profile-set plan",
    },
    Example {
        says: "Set the profiles of two functions.",
        command: "printf '41:00.4=L40S-24Q\\n41:00.5=L40S-24A\\n' | vgpu-profile-set apply",
    },
    Example {
        says: "Print the lines that give VMs of Proxmox VE the functions with profiles.",
        command: "vgpu-profile-set list --format qm",
    },
    Example {
        says: "Compare the host with what list prints (usually a saved list).",
        command: "vgpu-profile-set list | vgpu-profile-set check",
    },
];
