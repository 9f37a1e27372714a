//! The manual page beyond the options.

use cli::{Example, ManText};

use crate::host::preflight::CAUSES;

/// The hand-written sections.
pub const MAN: ManText = ManText {
    input: "info, verify, list and install without a FILE read runfile records. info --for - reads \
        pci-device records; only the address is used, ids are looked up on this host. All input is \
        read before anything else is done. An empty stream, a line that is not a record and an \
        error record of an earlier tool are failures. The sha256 of a runfile record counts as \
        --sha256 does: the file must have it. fetch and prune read nothing.",
    output: "info and verify print one runfile record for each installer; info --for prints two check \
        records for each GPU, driver and kernel_module. list prints runfile-entry records. extract \
        prints one change record, with --check one check record. install and uninstall print one \
        change record for each path and one for the whole (property userspace), with --check check \
        records; after an install check records of the libraries that programs in the container load \
        and of nvidia-smi follow. toolkit prints the same with the property toolkit, then a check \
        record of nvcc. fetch prints one change record, and if the file is in the cache its runfile \
        record, for verify and other commands to read. prune prints one change record for each file \
        in the cache. With --check fetch and prune print check records. The records are described in \
        pve-gpu-records(5).",
    exit: &[
        (1, "verify: a checksum is wrong, or the file has none. info --for: a GPU is not supported. \
             extract --check: it would be extracted. install, uninstall, toolkit --check: something \
             would change. fetch --check: the file is missing in the cache, or not the right one. \
             prune --check: something would be removed."),
        (2, "Among others: the file does not exist, is not a .run installer, or is too damaged to be \
             unpacked."),
        (3, "Among others: the file cannot be read to its end, the disk is full, the run was \
             interrupted, pct or ldconfig failed. install, uninstall: the change is rolled back. Also: \
             nvidia-smi fails in a container that has a GPU. toolkit: the key cannot be downloaded; \
             apt, dnf or the CUDA installer failed, and the files are rolled back; nvcc is of another \
             release. fetch: no server has the file, or each has another file or does not answer; the \
             part that was downloaded is kept, and the next fetch resumes it."),
        (4, "install: the version differs from the loaded kernel module's; a driver installed by other \
             means, or files of other programs, are in the way; the container is locked or has no \
             glibc. toolkit: the loaded driver is too old; the container is not running, or no \
             repository is known for its distribution; the key has another fingerprint; a package of \
             the driver would be installed; files of other programs are in the way. extract: DIR \
             already exists; a checksum is wrong; a member of the archive leads out of DIR or is a \
             device; there are more bytes or members than allowed. fetch: no trusted SHA-256 is known; \
             two sources state different SHA-256; other users can write in the cache."),
    ],
    files: &[
        ("DIR/../.DIR.tmp.PID", "what extract fills before it becomes DIR; the next run removes one that a killed run left"),
        ("/var/cache/pve-gpu-tools/runfiles", "the cache, unless --cache names another"),
        ("NAME.json", "in the cache: who stated the SHA-256 of NAME, and where it was downloaded"),
        ("NAME.part, NAME.part.json", "in the cache: a download that is not complete, and where it comes from"),
        ("NAME.lock", "in the cache: locked by the process that works on NAME; never removed"),
        ("/etc/pve-gpu-tools/runfiles", "more rows for the table of known SHA-256: version, architecture, size or '-', SHA-256, directory on NVIDIA's servers or '-'"),
        ("/sys/module/nvidia/version", "version of the loaded kernel module, otherwise /proc/driver/nvidia/version; prune keeps its installer"),
        ("/sys/bus/pci/devices", "ids of the functions that --for names"),
        ("/var/lib/pve-gpu-tools/nv-runfile.json", "in a container: the receipt of install, with a SHA-256 for each file"),
        ("/var/lib/pve-gpu-tools/nv-runfile.next.json", "in a container: what a run is about to do; the next run completes a run that was killed"),
        ("/var/lib/pve-gpu-tools/nv-runfile/ct-CTID.json", "on the host: a copy of the receipt, in case the one in the container is lost"),
        ("/var/lib/pve-gpu-tools/nv-runfile/ct-CTID.mounted", "on the host: exists while this tool has the container mounted"),
        ("/run/pve-gpu-tools/nv-runfile-CTID.lock", "one run at a time"),
        ("/etc/apt/sources.list.d/pve-gpu-tools-cuda.sources, /etc/apt/preferences.d/pve-gpu-tools-cuda.pref, /etc/apt/keyrings/pve-gpu-tools-cuda.gpg", "in a container: the CUDA repository for apt, its excluded packages, its key"),
        ("/etc/yum.repos.d/pve-gpu-tools-cuda.repo, /etc/pki/rpm-gpg/RPM-GPG-KEY-pve-gpu-tools-cuda", "in a container: the same for dnf"),
        ("/etc/profile.d/cuda.sh", "in a container: PATH and CUDA_HOME of login shells"),
        ("/var/lib/pve-gpu-tools/nv-runfile-toolkit.json", "in a container: the receipt of toolkit"),
        ("/var/cache/pve-gpu-tools/verified", "root's own copy of an installer that others can change, while it is run"),
        ("DIR/nv-runfile.json", "with --share: the receipt of the directory"),
        ("/var/lib/nvidia/log, /var/log/nvidia-installer.log", "what NVIDIA's installer installed, and its log"),
    ],
    notes: "Embedded checksums. A driver's installer has a POSIX checksum and an MD5 of everything \
        after its third line. Upstream makeself has those and since 2.4.0 optionally a SHA-256 of the \
        payload only, so a change in its stub is not noticed. Anyone who changes a file can write new \
        checksums: 'intact' means that a download is complete, not who made it. Only a SHA-256 from \
        another source proves that: --sha256 makes it 'pinned'. verify always computes the SHA-256, \
        so that it can be written down.

The first bytes of the payload show the compression. Archives that are encrypted or compressed by other \
        programs can be verified but not extracted.

If --for finds a GPU in the installer's own list, the second record says which types of kernel modules \
        support it (expected) and which the installer has (actual). Drivers before 450 have no list, so \
        the answer is unknown.

extract makes the same files as the installer's own -x (upstream: --noexec --target), except that \
        set-id and sticky bits are removed unless --umask keeps them. Memory depends on the compression: \
        10 to 30 MB for NVIDIA's installers, more for xz -9.

Trusted SHA-256. fetch compares a download with a SHA-256: that of --sha256, otherwise of --sha256sums, \
        otherwise of the table of known installers, otherwise of the .run.sha256sum beside the file. The \
        first three must agree. The last is used over https and from a file: mirror only. vouched_by in \
        the record names the source. Without any of them a download is refused; --unverified accepts it \
        if all embedded checksums are right.

Servers. fetch asks us.download.nvidia.com, then download.nvidia.com: in the directory that the table \
        names, then XFree86/, then tesla/. Below each --mirror it tries the same directories, then \
        VERSION/FILE and FILE. 'latest' is the version in latest.txt. A branch is the newest version that \
        the server (or the mirror's directory) lists, or if none lists any, the newest in the table. A \
        redirect never leads from https to http.

Downloads. A download that broke off is resumed if the server still has the same file (If-Range), or if \
        a trusted SHA-256 will show whether the parts fit. The existing part is read again. An attempt \
        that got 64 KiB does not count as failed. Two fetches of one file download it once: the second \
        waits. The variables https_proxy, http_proxy, all_proxy and no_proxy are used (CONNECT proxies, \
        not SOCKS); SSL_CERT_FILE and SSL_CERT_DIR replace the system's certificate authorities.

A cached file is used as it is if its size and time are those in its note; --verify reads it. A file \
        that is not the right one is removed and downloaded again. A file that was not modified, but for \
        which another source states another SHA-256, is kept and refused.

prune without options removes incomplete downloads and leftovers only. Files that are being downloaded, \
        files that a process has open, and the installer of the loaded kernel module are kept.

install --ct verifies the whole file first. Then it writes the selected files of the manifest into the \
        container's root file system from the host: 64-bit libraries to the library directory of the \
        container's distribution, programs to /usr/bin, with the links of the manifest and the sonames of \
        the libraries, owned by the container's root whatever its id map is. Firmware, kernel sources, \
        32-bit libraries, libglvnd, the OpenCL loader and X modules are left out; the distribution has \
        its own (libgl1, libegl1, ocl-icd-libopencl1). Every path is resolved inside the container's \
        root, never across a mount point, with the rights of the container's root and no others (setfsuid(2)): \
        what the host shares with the container is neither written nor removed. The receipt in the \
        container is a hint: what uninstall removes must be a path that install places, and the host's \
        copy of the same run counts more. The change takes effect as a whole or not at all.

A running container updates its own ld.so.cache (ldconfig through pct exec). A stopped one is mounted \
        with pct mount; the host's ldconfig then reads its libraries, confined to that tree, and for an \
        unprivileged container as one of its users in a user namespace (lxc-usernsexec). No program of \
        the container is executed on the host. ldconfig writes /var/cache/ldconfig/aux-cache, which \
        uninstall does not remove.

An installer is read twice, to verify it and to unpack it, and is digested both times. Where another \
        program reads it by its name (--host, --mode installer, toolkit --runfile), a file that others can \
        change, or that is in a directory that others can write in, is copied to a directory of root's \
        first: the copy is verified, used and removed. The file or directory is named in a warning.

Another version than the loaded kernel module's does not work and is refused; use --force before the \
        other module is loaded. Driver packages of the distribution, an installer that was run in the \
        container, and files mounted by lxc-gpu-conf --libs exclude each other: each is refused with a \
        hint. If the driver in the container has the right version already, the record says unchanged \
        and who installed it. --purge removes it first: packages by the container's own package manager, \
        what a .run installer installed by nvidia-uninstall. An upgrade is the same command with the new \
        installer, and --all-cts does it in all containers that have a driver from this tool. A FILE may \
        be a version that fetch has downloaded into the cache.

install --share unpacks once into a directory of the host, for 'lxc-gpu-conf add --share-driver DIR'. \
        An existing directory is never changed: containers may have its files mounted.

install --mode installer copies the file into the running container and runs it there without kernel \
        modules. The options are those in the installer's own list (-A) if its stub has one. It needs \
        kmod in the container, and more than 500 MB of space.

toolkit writes the repository for the container's distribution and architecture, its signing key, a list \
        of excluded driver packages (apt: a priority of -1; dnf: excludepkgs) and /etc/profile.d/cuda.sh. \
        Then the container's apt-get or dnf installs cuda-toolkit-MAJOR-MINOR without recommended \
        packages, for at most two hours. The key is downloaded from the repository and must have the \
        known fingerprint; if none is known, --key is required. With --key the file itself is trusted. \
        Before anything is installed apt simulates it: a package of the driver is a refusal, whatever \
        repository it is from. If a step fails, the files are rolled back; packages that were installed \
        before, lists that apt downloaded and a key that rpm imported are kept. An installed toolkit is \
        left alone, and without a change the network is not used.

A driver older than the minimum of a CUDA release (11: 450, 12: 525, 13: 580) cannot run its programs, \
        so the toolkit is refused. A driver older than the one of the release is a warning. If no driver \
        is loaded, a warning names the version that is needed. --repo-url is the URL of the repository \
        itself, as the container reaches it; the host downloads the key from there, unless --key is given.

toolkit --runfile verifies the file, copies it to /var/tmp in the container and runs it there with \
        --silent --toolkit --override, never with --driver. It needs space there for its unpacked files. \
        toolkit --remove removes the files that this command wrote, not what was installed.

install --host makes a pre-flight check first: kernel headers (of the running kernel and of the \
        next-boot kernel), compiler, kernels for which the driver does not build, nouveau, drivers \
        installed by other means, the loaded module and its users, a running X server, free space, Secure \
        Boot, whether the host gives vGPUs to VMs, the type of kernel modules that supports all GPUs that are not on VFIO, running VMs with PCI functions. Each is a \
        check record; one of severity error is a refusal. --purge removes drivers installed by other \
        means. If the installer fails, this tool rolls nothing back: the installer has its own roll-back \
        and log; the cause in the log is the reason in the record. It is asked to end when this tool is. \
        Afterwards the libraries that programs load are compared, since the installer also succeeds where \
        it could not write. If another module stays loaded, the check reboot_required says so. If the \
        version is installed and loaded, nothing is done; where the next-boot kernel has no module, the \
        check next_boot_module names the command with --kernel, which builds the module of that kernel \
        alone. With Secure Boot the modules must be signed with a key that the firmware knows: that of \
        DKMS if it is enrolled, or that of --signing-key and --signing-cert.",
    lists: &[("CAUSES", CAUSES)],
    examples: EXAMPLES,
    see_also: &["gpu-iommu-groups(1)", "lxc-gpu-conf(1)", "pve-gpu-records(5)", "sha256sum(1)", "cksum(1)"],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "Show what a file is.",
        command: "nv-runfile info -o table NVIDIA-Linux-x86_64-550.163.01.run",
    },
    Example {
        says: "Show what would be downloaded, and from where.",
        command: "nv-runfile fetch 550.163.01 --dry-run",
    },
    Example {
        says: "Check that it is in the cache and not damaged.",
        command: "nv-runfile fetch 550.163.01 --check --verify",
    },
    Example {
        says: "Remove all but the two newest, if they were downloaded more than 90 days ago.",
        command: "nv-runfile prune --keep 2 --older-than 90",
    },
    Example {
        says: "Verify the embedded checksums.",
        command: "nv-runfile verify NVIDIA-Linux-x86_64-550.163.01.run",
    },
    Example {
        says: "Show whether it supports the GPUs of this host, and with which kernel modules.",
        command: "gpu-iommu-groups --vendor 10de | nv-runfile info --for - NVIDIA-Linux-x86_64-550.163.01.run",
    },
    Example {
        says: "List the CUDA libraries that it installs.",
        command: "nv-runfile list NVIDIA-Linux-x86_64-550.163.01.run | jq -r 'select(.manifest.kind == \"CUDA_LIB\") | .path'",
    },
    Example {
        says: "Show whether this installer has an option.",
        command: "nv-runfile info NVIDIA-Linux-x86_64-550.163.01.run | jq '.options | index(\"--no-kernel-modules\") != null'",
    },
    Example {
        says: "Install the driver libraries and nvidia-smi in a container.",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --ct 901",
    },
    Example {
        says: "Check whether that would change anything.",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --ct 901 --check",
    },
    Example {
        says: "Unpack a driver once, to be mounted in several containers.",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --share driver-550.163.01",
    },
    Example {
        says: "Check whether the host is ready for an installation.",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --host --purge --check",
    },
    Example {
        says: "Remove the driver from the container.",
        command: "nv-runfile uninstall --ct 901",
    },
    Example {
        says: "Show what installing the toolkit of CUDA 12.4 in a container would change.",
        command: "nv-runfile toolkit --ct 901 --cuda 12-4 --dry-run",
    },
    Example {
        says: "Extract it.",
        command: "nv-runfile extract NVIDIA-Linux-x86_64-550.163.01.run driver",
    },
];
