//! The command line.

mod fetch;
mod toolkit;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cli::{ChangeOptions, Chosen, Common, CommonOptions, Example, ManText, OutputChoice};
use nvidia::userspace::Set;

use crate::on_host::cause::CAUSES;

pub use fetch::{Fetch, Patience, Prune};
pub use toolkit::{Release, Toolkit};

/// Fetch, look into, verify, unpack and install NVIDIA .run installers
///
/// A .run file is a shell script with an archive behind it. This tool reads it
/// as a file: nothing of it is executed, except where --mode installer or --host
/// ask for that. It knows the dialect of the driver's installers and upstream
/// makeself's, which CUDA uses.
#[derive(Parser, Debug)]
#[command(name = "nv-runfile", version, max_term_width = 100)]
pub struct Options {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,

    /// How to print
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Common options"
    )]
    pub output: OutputChoice,

    /// Common options.
    #[command(flatten)]
    pub common: CommonOptions,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Show what an installer is
    ///
    /// Version, architecture, flavour, sizes, compression, the digests that it
    /// carries and the options that it understands, all from its head. With
    /// --contents also what only decompressing it tells. With --for: does it
    /// drive this GPU?
    Info(Info),
    /// Compute every digest that an installer carries, and compare
    ///
    /// Reads the file once. Exit status 0 means that all digests are right and
    /// that there is one.
    Verify(Verify),
    /// List what an installer holds
    ///
    /// Members of its archive in their order, then the links that only its
    /// manifest knows.
    List(List),
    /// Unpack an installer into a directory that is not there yet
    ///
    /// The directory appears complete and verified, or not at all. What would
    /// lead out of it, devices and the like are refused.
    Extract(Extract),
    /// Install a driver: into a container, for containers, or on the host
    ///
    /// Into a container only the files that programs need are placed, from
    /// outside: no kernel module, no compiler, no network, and nothing of the
    /// installer is executed (--mode installer does execute it, inside). On the
    /// host it is executed, with the options that its version understands.
    Install(Install),
    /// Take away what install placed into a container
    ///
    /// Exactly the files that were placed, and nothing else. What somebody
    /// changed since stays, and is told.
    Uninstall(Uninstall),
    /// Have CUDA's toolkit installed in a container
    ///
    /// Gives a running container of Debian, Ubuntu, Fedora or the RHEL family
    /// NVIDIA's repository, held to its signing key and pinned so that no driver
    /// comes from it, and has the container's own package manager install
    /// cuda-toolkit from there; or runs the toolkit part of a CUDA .run inside.
    /// Never the driver: that is for install.
    Toolkit(Toolkit),
    /// Bring an installer into the cache: found, downloaded, verified
    ///
    /// Goes on where an earlier download broke off. The final name is only ever
    /// that of a complete file that somebody vouches for with a SHA-256. A file
    /// that is there and untouched costs no network.
    Fetch(Fetch),
    /// Take installers out of the cache
    ///
    /// Without options only broken-off downloads and leftovers go. Nothing goes
    /// that is in use.
    Prune(Prune),
}

/// Where a driver goes.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// Into this container, running or stopped
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: Option<u32>,

    /// Into a new directory, for all containers
    ///
    /// For 'lxc-gpu-conf add --share-driver DIR'.
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,

    /// On this host, after a pre-flight
    ///
    /// Runs the installer.
    #[arg(long)]
    pub host: bool,
}

/// How a driver gets into a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Place the files of its manifest from outside
    #[default]
    Unpack,
    /// Run the installer inside, without kernel modules
    Installer,
}

/// What programs in a container are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SetChoice {
    /// CUDA and OpenCL
    Compute,
    /// nvidia-smi and NVML
    Utility,
    /// Encoding and decoding
    Video,
    /// OpenGL, Vulkan, ray tracing
    Graphics,
}

impl SetChoice {
    /// The set.
    pub fn set(self) -> Set {
        match self {
            SetChoice::Compute => Set::Compute,
            SetChoice::Utility => Set::Utility,
            SetChoice::Video => Set::Video,
            SetChoice::Graphics => Set::Graphics,
        }
    }
}

/// Operands and options of `install`.
#[derive(Args, Debug)]
pub struct Install {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// Where it goes.
    #[command(flatten)]
    pub target: Target,

    /// How it gets into a container
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub mode: Mode,

    /// What is installed
    ///
    /// By what programs in the container are to do.
    #[arg(
        long,
        value_enum,
        value_name = "SET",
        value_delimiter = ',',
        default_value = "compute,utility,video"
    )]
    pub set: Vec<SetChoice>,

    /// With --host: remove other packagings first
    ///
    /// Packages and DKMS modules of another packaging; --dry-run shows which.
    #[arg(long)]
    pub purge: bool,

    /// With --host: build the modules with DKMS
    ///
    /// So that new kernels get them; the default where dkms is installed.
    #[arg(long, conflicts_with = "no_dkms")]
    pub dkms: bool,

    /// With --host: for the running kernel only
    #[arg(long)]
    pub no_dkms: bool,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// How much it may hold.
    #[command(flatten)]
    pub caps: Caps,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Install a version other than the loaded kernel module's; replace files of
    /// ours that were changed; run the installer on a host that is not ready.
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Options of `uninstall`.
#[derive(Args, Debug)]
pub struct Uninstall {
    /// From this container, running or stopped
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: u32,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Remove files of ours that were changed since, too.
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Installers by name.
#[derive(Args, Debug)]
pub struct Files {
    /// Installers; none: piped runfile records
    ///
    /// Without one runfile records are read from standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Caps on what is unpacked.
#[derive(Args, Debug)]
pub struct Caps {
    /// Refuse more bytes in all (K, M, G, T)
    #[arg(long, value_name = "SIZE", default_value = "32G", value_parser = size, hide_short_help = true)]
    pub max_size: u64,

    /// Refuse more members
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000, hide_short_help = true)]
    pub max_entries: u64,
}

/// Operands and options of `info`.
#[derive(Args, Debug)]
pub struct Info {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// Look inside as well
    ///
    /// Manifest, types of kernel modules, GPUs, nested installers.
    #[arg(short, long, conflicts_with = "functions")]
    pub contents: bool,

    /// Does it drive this function (41:00.0)?
    ///
    /// Or slot, or IOMMU group. '-' reads pci-device records from standard input.
    #[arg(long = "for", value_name = "FUNCTION", value_delimiter = ',')]
    pub functions: Vec<String>,
}

/// Operands and options of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,
}

/// Operands and options of `list`.
#[derive(Args, Debug)]
pub struct List {
    /// What is named.
    #[command(flatten)]
    pub named: Files,

    /// How much it may hold.
    #[command(flatten)]
    pub caps: Caps,
}

/// Operands and options of `extract`.
#[derive(Args, Debug)]
pub struct Extract {
    /// The installer
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The directory to make; the one above it must be there
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// Owner of what is unpacked
    ///
    /// Numbers, or 'archive' for what the archive says; by default whoever runs
    /// this.
    #[arg(long, value_name = "UID[:GID]|archive", value_parser = owner)]
    pub owner: Option<Owner>,

    /// Permissions to take away
    ///
    /// In octal; the default takes set-id and sticky bits, 0 nothing.
    #[arg(long, value_name = "OCTAL", default_value = "7000", value_parser = octal, hide_short_help = true)]
    pub umask: u32,

    /// How much it may hold.
    #[command(flatten)]
    pub caps: Caps,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Unpack it although a digest is wrong.
    #[arg(long)]
    pub force: bool,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Who owns what is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// What the archive says.
    Archive,
    /// User and group.
    Ids(u32, u32),
}

impl Common for Options {
    const INSTEAD: &'static [cli::Instead] = &[
        ("unpack", "extract"),
        ("download", "fetch"),
        ("get", "fetch"),
        ("show", "info"),
        ("check", "verify"),
        ("prune <number>", "--keep {}"),
        ("remove", "uninstall"),
        ("clean", "prune"),
        ("cuda", "toolkit"),
        ("--container", "--ct"),
        (cli::NUMBER, "--ct {}"),
    ];

    fn common(&self) -> Chosen {
        Chosen { verbose: self.common.verbose, quiet: self.common.quiet, output: self.output }
    }
}

fn sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a SHA-256 has 64 hexadecimal digits".into()),
    }
}

fn owner(text: &str) -> Result<Owner, String> {
    // the highest number means "leave it" to chown(2)
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let ids = match text.split_once(':') {
        _ if text == "archive" => return Ok(Owner::Archive),
        Some((user, group)) => id(user).zip(id(group)),
        None => id(text).map(|user| (user, user)),
    };
    let (user, group) = ids.ok_or("neither UID, nor UID:GID, nor 'archive'")?;
    Ok(Owner::Ids(user, group))
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask @ 0..=0o7777) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(mask),
        _ => Err("an octal number up to 7777".into()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("a number of bytes, such as 512M".into()),
    };
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    number
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or_else(|| "a number of bytes, such as 512M".into())
}

/// The manual page beyond the options.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_owners_and_masks_are_read_strictly() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "G", "1GG", "1g", "-1", "+1", "99999999T", "1.5G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(owner("100000"), Ok(Owner::Ids(100_000, 100_000)));
        assert_eq!(owner("1:2"), Ok(Owner::Ids(1, 2)));
        for bad in ["", "root", "1:", ":1", "4294967295", "1:2:3"] {
            assert!(owner(bad).is_err(), "{bad}");
        }
        assert_eq!(octal("022"), Ok(0o22));
        for bad in ["", "8", "17777", "+7", "-1"] {
            assert!(octal(bad).is_err(), "{bad}");
        }
        assert!(sha256(&"A".repeat(64)).is_ok_and(|hex| hex == "a".repeat(64)));
        assert!(sha256(&"g".repeat(64)).is_err());
    }
}
