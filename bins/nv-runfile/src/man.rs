//! The manual page beyond the options.

use cli::{Example, ManText};

use crate::host::cause::CAUSES;

/// The hand-written sections.
pub const MAN: ManText = ManText {
    input: "info, verify, list and install without a FILE read runfile records. info --for - reads \
        pci-device records; only the address counts, ids are looked up on this machine. All input \
        is read before anything else happens. An empty stream, a line that is no record, and an \
        error record from the tool before are failures. fetch and prune read nothing.",
    output: "info, verify: one runfile record for each installer; info --for: two check records for \
        each GPU, driver and kernel_module. list: runfile-entry records. extract: one change \
        record, with --check one check record. install, uninstall: one change record for each path \
        and one for the whole (property userspace), or check records with --check; after an install \
        check records of what the container loads now (libraries) and of nvidia-smi. toolkit: the same \
        with property toolkit, then a check record of nvcc. fetch: one \
        change record, and where the file is there its runfile record, for verify and the like to \
        read. prune: one change record for everything in the cache; both with --check check records. \
        The records are described in pve-gpu-records(5).",
    exit: &[
        (1, "verify: a digest is wrong, or there is none. info --for: a GPU is not driven. extract \
             --check: it would be unpacked. install, uninstall, toolkit --check: something would change. \
             fetch --check: it is not in the cache, or not right. prune --check: something would go."),
        (2, "Among others: no such file; not a .run installer; damaged so that it cannot be \
             unpacked."),
        (3, "Among others: the file cannot be read to its end; a full disk; interrupted; pct or \
             ldconfig failed. install, uninstall: what was placed or taken away is undone. Also: \
             nvidia-smi fails in a container that is given a GPU. toolkit: the key is not to be had; \
             apt, dnf or CUDA's installer failed, and the files are undone; nvcc is not of the release. fetch: no server has it, what they \
             have is not it, or none answers; what came in is kept, and the next fetch goes on there."),
        (4, "install: not the version of the loaded kernel module; another packaging of the driver, \
             or files that are not ours, are in the way; the container is locked; it has no glibc. \
             toolkit: the loaded driver is too old for it; the container does not run, or its distribution \
             has no known repository; another key than the known one; a package of the driver would come with \
             it; files that are not ours are in the way. \
             extract: DIR is there already; a digest is wrong; something in the archive leads out \
             of DIR, or is a device; more bytes or members than allowed. fetch: nobody vouches for \
             it; two sources state different SHA-256; others can write in the cache."),
    ],
    files: &[
        ("DIR/../.DIR.tmp.PID", "what extract fills before it becomes DIR; one that a killed run left is removed by the next"),
        ("/var/cache/pve-gpu-tools/runfiles", "the cache, unless --cache names another"),
        ("NAME.json", "in it: who vouched for NAME, when, and where it came from"),
        ("NAME.part, NAME.part.json", "in it: a download that is not complete, and where it comes from"),
        ("NAME.lock", "in it: held by whoever works on NAME; it stays"),
        ("/etc/pve-gpu-tools/runfiles", "more rows for the table of known SHA-256: version, architecture, size or '-', SHA-256, directory on NVIDIA's servers or '-'"),
        ("/sys/module/nvidia/version", "prune keeps the installer of the loaded module"),
        ("/sys/bus/pci/devices", "ids of the functions that --for names"),
        ("/sys/module/nvidia/version", "version of the loaded kernel module; else /proc/driver/nvidia/version"),
        ("/var/lib/pve-gpu-tools/nv-runfile.json", "inside a container: what was placed, with a SHA-256 for each file"),
        ("/var/lib/pve-gpu-tools/nv-runfile.next.json", "inside a container: what a run is about to do; one that a killed run left is made good by the next"),
        ("/var/lib/pve-gpu-tools/nv-runfile/ct-CTID.json", "on the host: a copy of the first, for when that is lost"),
        ("/var/lib/pve-gpu-tools/nv-runfile/ct-CTID.mounted", "on the host: this tool mounted the container and has not unmounted it yet"),
        ("/run/lock/pve-gpu-tools/nv-runfile-CTID.lock", "one run at a time"),
        ("/etc/apt/sources.list.d/pve-gpu-tools-cuda.sources, /etc/apt/preferences.d/pve-gpu-tools-cuda.pref, /etc/apt/keyrings/pve-gpu-tools-cuda.gpg", "inside a container: the CUDA repository for apt, what must not come from it, its key"),
        ("/etc/yum.repos.d/pve-gpu-tools-cuda.repo, /etc/pki/rpm-gpg/RPM-GPG-KEY-pve-gpu-tools-cuda", "inside a container: the same for dnf"),
        ("/etc/profile.d/cuda.sh", "inside a container: PATH and CUDA_HOME of login shells"),
        ("/var/lib/pve-gpu-tools/nv-runfile-toolkit.json", "inside a container: what toolkit wrote"),
        ("DIR/nv-runfile.json", "with --share: what the directory holds"),
        ("/var/lib/nvidia/log, /var/log/nvidia-installer.log", "what NVIDIA's installer installed, and how that went"),
    ],
    notes: "Digests. A driver's installer carries a POSIX checksum and an MD5 of everything behind \
        its third line; upstream makeself carries those and since 2.4.0 perhaps a SHA-256 of the \
        payload only, so that a change in its stub goes unnoticed. Whoever changes a file can write \
        them anew: 'intact' says that a download is whole, not who made it. That takes a SHA-256 \
        from elsewhere: --sha256 makes it 'pinned'. verify always computes one, to be noted down.

Compression is told by the payload's first bytes. Archives that are encrypted or packed with other \
        programs can be verified, not unpacked.

Where --for finds a GPU in the installer's own list, the second record says which types of kernel \
        modules drive it (expected) and which the installer can build (actual). Drivers before 450 \
        have no list: the answer is unknown then.

extract gives what the installer's own -x (upstream: --noexec --target) gives, except that set-id and \
        sticky bits are taken away unless --umask says otherwise. Memory is bounded by what the \
        compression itself asks for: 10 to 30 MB for what NVIDIA publishes, more for xz -9.

Who vouches. fetch holds a download against a SHA-256: that of --sha256, else of --sha256sums, else of the \
        table of known installers, else what the .run.sha256sum beside the file says. Those of the \
        first three must agree. The last counts over https and from a file: mirror only. \
        vouched_by in the record says which it was. Without any of them a download is refused; \
        --unverified takes it if all digests that it carries are right.

Where is looked. On us.download.nvidia.com, then download.nvidia.com: in the directory that the table \
        names, then XFree86/, then tesla/; below each --mirror in the same directories, then for \
        VERSION/FILE and FILE. 'latest' is what latest.txt there says. A branch is the newest \
        version that the server (or the mirror's directory) lists; where none lists any, the newest \
        of the table. A redirect never leads from https to http.

Downloads. What broke off is gone on with if the server still has the same file (If-Range), or if a \
        SHA-256 will tell; what is there already is read and digested again. An attempt that brought \
        64 KiB counts as none that failed. Two fetches of one file download it once: the second \
        waits. The environment's https_proxy, http_proxy, all_proxy and no_proxy count (CONNECT \
        proxies, no SOCKS), SSL_CERT_FILE and SSL_CERT_DIR stand in for the system's authorities.

A cached file is taken as it is if size and time are those that were noted; --verify reads it. One that \
        is not what it should be is removed and fetched anew; one that is as it was noted and now \
        disputed by another SHA-256 is kept and refused.

prune without options removes parts and leftovers only. What is being fetched, what a process has \
        open, and the installer of the loaded kernel module stay.

install --ct verifies the whole file first. Then it writes the chosen files of the manifest into the \
        container's root file system from outside: 64-bit libraries to where the container's \
        distribution has them, programs to /usr/bin, with the links of the manifest and the names that \
        the libraries give themselves, owned by the container's root whatever its id map. Firmware, \
        kernel sources, 32-bit libraries, libglvnd, the OpenCL loader and X's modules are left out; \
        the distribution has its own (libgl1, libegl1, ocl-icd-libopencl1). Every path is resolved \
        inside the container's root, in a running one never over a mount point. All of it takes effect, or \
        nothing.

A running container makes its loader's cache itself (ldconfig through pct exec). A stopped one is \
        mounted with pct mount; the host's own ldconfig then reads its libraries, confined to that tree, \
        and for an unprivileged container as one of its users in a user namespace (lxc-usernsexec): no \
        program of the container is executed on the host. ldconfig writes notes of its own to \
        /var/cache/ldconfig/aux-cache, which uninstall does not take back.

Another version than the loaded kernel module's does not work: it is refused, and --force is for those \
        who are about to load the other module. The driver's packages of the distribution, an installer \
        that was run inside, and files mounted by lxc-gpu-conf --libs exclude each other: each is \
        refused with the way out. An upgrade is the same command with the new installer.

install --share unpacks once into a directory of the host, for 'lxc-gpu-conf add --share-driver DIR'. \
        A directory that is there is never changed: containers may have its files mounted.

install --mode installer copies the file into the running container and runs it there without kernel \
        modules, spelling each option as this version does, by its own list (-A) where its stub has one. It \
        wants kmod inside, and takes more than 500 MB there.

toolkit writes the repository of the container's distribution and architecture, its signing key, what \
        keeps the driver's packages of the repository away (apt: a priority of -1; dnf: excludepkgs), and \
        /etc/profile.d/cuda.sh. Then the container's apt-get or dnf installs cuda-toolkit-MAJOR-MINOR \
        without recommended packages, for at most two hours. The key comes from the repository and must \
        have the fingerprint that this tool knows; where it knows none, --key is wanted. With --key the \
        file itself is what is trusted. Before anything is installed apt is asked what would come: a \
        package of the driver is a refusal, whatever repository it is from. If a step fails, the files \
        are as they were; packages that were installed by then, lists that apt downloaded, and a key that rpm took, stay. A \
        toolkit that is installed is left alone, and without a change no network is touched.

A driver older than the minimum of a CUDA release (11: 450, 12: 525, 13: 580) cannot run its programs: \
        that is refused. One older than the release was made with is a warning. Where no driver is loaded, \
        a warning says what will be needed. --repo-url names the very directory that is the repository, \
        as the container reaches it; the key is fetched from there by the host, unless --key is given.

toolkit --runfile verifies the file, copies it to the container's /var/tmp and runs it there with \
        --silent --toolkit --override, never with --driver. It needs room there for what it unpacks. \
        toolkit --remove takes away the files that this command wrote, not what was installed.

install --host looks first: kernel headers (of the running kernel, and of the one that boots next), \
        compiler, kernels that this driver is known to fail on, nouveau, other packagings, the loaded module and who uses it, Secure Boot, which type of \
        kernel modules drives all GPUs that are not on VFIO, running VMs with PCI functions. Each is a check \
        record; one of severity error is a refusal. --purge removes other packagings. Nothing of that is \
        undone where the installer fails: its own undo, and its log, are what there is; the first error of \
        the log is the reason told. Where another module stays loaded, the check reboot_required says so. \
        Where the wanted version is installed and loaded, nothing is done.",
    lists: &[("CAUSES", CAUSES)],
    examples: EXAMPLES,
    see_also: &["gpu-iommu-groups(1)", "lxc-gpu-conf(1)", "pve-gpu-records(5)", "sha256sum(1)", "cksum(1)"],
};

/// Commands that the manual page shows; tests run them.
pub const EXAMPLES: &[Example] = &[
    Example {
        says: "What is this file?",
        command: "nv-runfile info -o table NVIDIA-Linux-x86_64-550.163.01.run",
    },
    Example {
        says: "What would be fetched, and from where?",
        command: "nv-runfile fetch 550.163.01 --dry-run",
    },
    Example {
        says: "Is it in the cache, every byte of it right?",
        command: "nv-runfile fetch 550.163.01 --check --verify",
    },
    Example {
        says: "Remove all but the two newest, as far as they were fetched more than 90 days ago.",
        command: "nv-runfile prune --keep 2 --older-than 90",
    },
    Example {
        says: "Is the download whole?",
        command: "nv-runfile verify NVIDIA-Linux-x86_64-550.163.01.run",
    },
    Example {
        says: "Does it drive the GPUs of this machine, and with which kernel modules?",
        command: "gpu-iommu-groups --vendor 10de | nv-runfile info --for - NVIDIA-Linux-x86_64-550.163.01.run",
    },
    Example {
        says: "Which files does it want to install as libraries of CUDA?",
        command: "nv-runfile list NVIDIA-Linux-x86_64-550.163.01.run | jq -r 'select(.manifest.kind == \"CUDA_LIB\") | .path'",
    },
    Example {
        says: "Does this installer understand an option?",
        command: "nv-runfile info NVIDIA-Linux-x86_64-550.163.01.run | jq '.options | index(\"--no-kernel-modules\") != null'",
    },
    Example {
        says: "Give a container the driver's libraries and nvidia-smi, of the host's version.",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --ct 901",
    },
    Example {
        says: "Would that change anything?",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --ct 901 --check",
    },
    Example {
        says: "Unpack a driver once for all containers that get it mounted.",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --share driver-550.163.01",
    },
    Example {
        says: "What would installing it on the host take, and is the host ready?",
        command: "nv-runfile install NVIDIA-Linux-x86_64-550.163.01.run --host --purge --check",
    },
    Example {
        says: "Take it out of the container again.",
        command: "nv-runfile uninstall --ct 901",
    },
    Example {
        says: "What would installing CUDA 12.4's toolkit in a container take?",
        command: "nv-runfile toolkit --ct 901 --cuda 12-4 --dry-run",
    },
    Example {
        says: "Unpack it.",
        command: "nv-runfile extract NVIDIA-Linux-x86_64-550.163.01.run driver",
    },
];
