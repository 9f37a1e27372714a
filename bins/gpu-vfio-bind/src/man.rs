//! The manual page beyond the options.

use cli::{Example, ManText};

pub const MAN: ManText = ManText {
    input: "bind, release, persist and unpersist without operands read pci-device records, all of \
        them before anything is changed. Only the address is used; everything else is read from \
        this host. Each record selects its function and those that go along with it, except \
        that of a virtual function, which selects only itself.",
    output: "bind and release: one change record for each function (property driver) with status \
        unchanged, planned, changed, refused, failed, rolled-back or skipped, and one for the \
        device node of each IOMMU group (property vfio_group). persist and unpersist: one for each \
        file, one for the images, and last one whose property is reboot_required. status: one \
        check record for each function that compares its driver with the one that it was bound to, \
        and one (driver_at_boot) that compares its driver with the one that it will have after the \
        next boot, where something says so: the list of persist, driverctl, or ids= of vfio-pci in \
        modprobe's configuration or on the kernel command line. Its status is unknown where \
        another module may be loaded first. reset: one change record for each function (property \
        reset) with the kernel's method. The records are described in pve-gpu-records(5).",
    exit: &[
        (
            1,
            "With --check: a change would be made. status: a function does not have the driver \
             that it was bound to.",
        ),
        (3, "The kernel refused, or did not answer in time. What could be rolled back was."),
        (4, "A device is in use, or the kernel could hang. The message names the user."),
    ],
    files: &[
        ("/sys/bus/pci/devices", "functions, drivers, overrides"),
        (
            "/proc/driver/nvidia/gpus/ADDRESS/unbindLock",
            "whether NVIDIA's driver would release the GPU at once",
        ),
        ("/etc/gpu-vfio-bind.list", "the functions that are bound at boot, one a line"),
        ("/etc/modprobe.d/gpu-vfio-bind.conf", "softdeps, ids= for --by id, blacklisted modules"),
        ("/etc/modules-load.d/gpu-vfio-bind.conf", "VFIO drivers, for the real root"),
        ("/etc/modprobe.d, /etc/driverctl.d, /proc/cmdline", "what else binds functions at boot"),
        ("/etc/default/grub, /etc/kernel/cmdline", "the kernel command line, with --cmdline only"),
        ("/etc/initramfs-tools/hooks/gpu-vfio-bind", "adds the list and VFIO drivers to the image"),
        (
            "/etc/initramfs-tools/scripts/init-top/gpu-vfio-bind",
            "sets driver_override before udev starts; dracut has a module of the same name",
        ),
        ("/run/gpu-vfio-bind/ADDRESS", "the driver that a function had before bind"),
        (
            "/run/qemu-server/pci-id-reservations",
            "which running VM of Proxmox VE has a function reserved",
        ),
        ("/run/pve-gpu-tools/gpu-vfio-bind.lock", "held while a change is made"),
    ],
    notes: "Order for each function: driver_override is set, the old driver is unbound, the new \
        one is bound by name so that the kernel's own error is reported, and all is read back. \
        When one function fails, those before it get their old driver and override again, the last \
        one first.

The kernel cannot refuse an unbind: a driver in use makes it wait, and nothing ends that wait, not \
        even kill -9. A child process therefore writes the unbind. After --timeout seconds the \
        tool reports it and returns. The kernel completes the unbind as soon as the last user \
        closes the device. NVIDIA's driver is asked first, through unbindLock.

--force KIND overrides refusals of the kinds that are named, and no others: display (the local \
        console goes dark), network (the connection is cut), container (a container that is given \
        the GPU loses it), group (other devices of the IOMMU group stay with the host) and, for \
        persist, no-gpu (a slot without a GPU). A refusal names the kinds that it needs. No kind \
        is a disk that is in use, a process, a running VM, a user that could not be looked up, a \
        PF with VFs, a virtual function of NVIDIA's vGPU, or an IOMMU that is off: nothing \
        overrides these.

The functions of a slot that go along with a GPU are those that share its IOMMU group, and the \
        audio, USB and USB-C functions of its own vendor. An APU's slot also has USB and audio of \
        the board and a security processor: name such a function to bind it alone.

persist makes the same checks as bind, but ignores running processes and VMs, because they end \
        before the boot.

hook is what a hookscript of a VM runs; /usr/share/pve-gpu-tools/vm-hookscript is one to copy. \
        With it a GPU serves containers while the VM is stopped: pre-start binds the GPUs that the \
        VM is given as hostpci[n] and is refused while a program uses one, post-stop releases what \
        pre-start has bound. Containers that are given the GPU need lxc-gpu-conf's hook with \
        --warn-only to start without it, and --force container in the copy for the bind. A mapping \
        with several devices is left to Proxmox VE, which chooses one when the VM starts.

--cmdline changes the file that the boot loader reads which started this host, as the running system \
        tells it, not each file that exists.

bind lasts until the next boot; persist takes effect at the next boot. By address, the script in \
        the initramfs binds a function only if its vendor, device and both subsystem ids are the \
        ones in the list. Another function at that address is left alone, and the kernel log says \
        so. A list by id is refused if an identical GPU is not named.",
    lists: &[],
    examples: EXAMPLES,
    see_also: &[
        "gpu-iommu-groups(1)",
        "lxc-gpu-conf(1)",
        "vgpu-profile-set(1)",
        "pve-gpu-records(5)",
        "pve-gpu-groups(7)",
        "driverctl(8)",
    ],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Show what binding the GPU at 2c:00 would change.",
        command: "gpu-vfio-bind bind 2c:00 --dry-run",
    },
    Example { says: "Show the drivers of all GPUs of this host.", command: "gpu-vfio-bind status" },
    Example {
        says: "Show what is written to bind it at every boot.",
        command: "gpu-vfio-bind persist 2c:00 --dry-run",
    },
    Example {
        says: "Plan a bind of every NVIDIA slot that can be passed through once it is bound.",
        command: "gpu-iommu-groups --vendor 10de | jq -c 'select(.role == \"gpu\" and .passthrough.viable_once_bound)' | gpu-vfio-bind bind --force display,container,group -n",
    },
];
