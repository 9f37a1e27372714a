//! The table.

/// One mistake: what is typed behind the tool's name (`BED` is where files of
/// the machine are), what is piped into it, its exit code, and what the last line
/// on standard error must say.
pub type Mistake = (&'static str, Option<&'static str>, i32, &'static [&'static str]);

pub const LISTER: &[Mistake] = &[
    ("list", None, 2, &["'list' is neither a function", "'gpu-iommu-groups' shows them"]),
    ("--vednor 10de", None, 2, &["unknown option '--vednor'", "did you mean '--vendor'?"]),
    ("0000:2b:00:0", None, 2, &["'0000:2b:00:0' is neither", "did you mean 0000:2b:00.0?"]),
    ("2b:00.9", None, 2, &["'2b:00.9' is neither", "0000:2b:00 has functions 0 to 7, not 9"]),
    ("99:00.0", None, 2, &["no function 0000:99:00.0", "its GPUs: ", "0000:2b:00.0"]),
    ("pci_0000_2b_00_0", None, 2, &["did you mean 0000:2b:00.0?"]),
    ("GPU-1234", None, 2, &["'GPU-1234' is neither", "by address", "gpu-iommu-groups"]),
    ("2b:00.0,2c:00.0", None, 2, &["is neither", "with spaces, not with commas"]),
    ("--vendor nvidia", None, 2, &["'nvidia'", "--vendor", "like 10de"]),
    ("--class vga", None, 2, &["'vga'", "--class", "like 03"]),
    ("-o json", None, 2, &["'json'", "did you mean 'jsonl'?"]),
    ("--json", None, 2, &["unknown option '--json'", "--output jsonl"]),
    ("--driver nvidea", None, 0, &["no function is selected", "--all"]),
    ("2b:00.0 --all", None, 2, &["cannot be used with '--all'", "--help"]),
];

pub const BIND: &[Mistake] = &[
    ("", None, 2, &["a command is missing", "bind, release"]),
    ("2b:00.0", None, 2, &["unknown command '2b:00.0'", "did you mean 'bind 2b:00.0'?"]),
    ("unbind 2b:00.0", None, 2, &["unknown command 'unbind'", "did you mean 'release'?"]),
    ("bnid 2b:00.0", None, 2, &["unknown command 'bnid'", "did you mean 'bind'?"]),
    ("bind", None, 2, &["standard input is empty", "gpu-iommu-groups ... |", "name functions"]),
    ("bind", Some("2b:00.0\n"), 2, &["line 1", "an address, not a record", "command line"]),
    ("bind", Some("ADDRESS GROUP ROLE\n"), 2, &["line 1", "is not a record", "--output jsonl"]),
    ("bind 28", None, 2, &["'28' is the number of an IOMMU group", "41:00.0", "gpu-iommu-groups"]),
    ("bind GPU-1234", None, 2, &["'GPU-1234'", "by address"]),
    ("bind 99:00.0", None, 2, &["no function 0000:99:00.0", "its GPUs: "]),
    ("bind 2c:00.0 --driver nvidia", None, 2, &["'nvidia' is not a VFIO driver", "vfio-pci"]),
    (
        "release 2c:00.0 --driver nvidia",
        None,
        2,
        &["unknown option '--driver' for 'release'", "--to DRIVER"],
    ),
    ("bind --all", None, 2, &["unknown option '--all' for 'bind'", "gpu-vfio-bind bind --help"]),
    (
        "bind 2b:00.0",
        None,
        4,
        &["0000:2b:00.0", "container 902 is given /dev/nvidia0", "lxc-gpu-conf remove 902"],
    ),
];

pub const CONTAINERS: &[Mistake] = &[
    ("list 901", None, 2, &["unknown command 'list'", "did you mean 'show'?"]),
    ("ad 901 --gpu all", None, 2, &["unknown command 'ad'", "did you mean 'add'?"]),
    ("add web --gpu all", None, 2, &["'web'", "by its CTID", "pct list"]),
    ("add 100 --gpu all", None, 2, &["100 is a VM, not a container", "gpu-vfio-bind"]),
    ("add 999 --gpu all", None, 2, &["container 999 does not exist", "pct list"]),
    ("add --gpu all", None, 2, &["missing: <CTID>", "lxc-gpu-conf add --help"]),
    ("add 901", None, 2, &["standard input is empty", "gpu-iommu-groups", "--gpu"]),
    ("add 901 2b:00.0", None, 2, &["unknown operand '2b:00.0' for 'add'", "--gpu 2b:00.0"]),
    ("add 901 --gpu 2b:00", None, 2, &["0000:2b:00 is a slot", "did you mean 0000:2b:00.0?"]),
    (
        "add 901 --gpu 2b:00:0",
        None,
        2,
        &["'2b:00:0' is not an address", "did you mean 0000:2b:00.0?"],
    ),
    ("add 901 --gpu /dev/nvidia0", None, 2, &["'/dev/nvidia0' is not an address", "--gpu 0"]),
    ("add 901 --gpu 7", None, 2, &["no GPU with minor 7", "(minor 0)", "nvidia-smi's index"]),
    ("add 901 --gpu RTX", None, 2, &["'RTX' is not an address", "0000:2b:00.0 (minor 0)"]),
    ("add 901 --gpu all --libs compute", None, 2, &["'compute'", "--libs=compute"]),
    ("add 901 --gpu all --mode 666", None, 2, &["'666'", "0660"]),
    ("sync", None, 2, &["no container is selected", "--all"]),
];

pub const RUNFILE: &[Mistake] = &[
    (
        "unpack BED/files/other.run x",
        None,
        2,
        &["unknown command 'unpack'", "did you mean 'extract'?"],
    ),
    ("inof BED/files/other.run", None, 2, &["unknown command 'inof'", "did you mean 'info'?"]),
    ("info BED/files/none.run", None, 2, &["none.run': no such file or directory"]),
    ("info BED/files/other.run", None, 2, &["not a .run installer", "it is a web page"]),
    ("info BED/files/empty.run", None, 2, &["it is empty", "download it again"]),
    ("info BED/files/dir.run", None, 2, &["dir.run' is a directory"]),
    ("info", None, 2, &["standard input is empty", "nv-runfile fetch VERSION | ..."]),
    ("install 550.163.01 --ct 901", None, 2, &["no such file", "nv-runfile fetch 550.163.01"]),
    (
        "install BED/files/NVIDIA-Linux-x86_64-550.163.01.run",
        None,
        2,
        &["missing: ", "--ct <CTID>", "--host"],
    ),
    (
        "install BED/files/NVIDIA-Linux-x86_64-550.163.01.run --ct web",
        None,
        2,
        &["'web'", "by its CTID", "pct list"],
    ),
    (
        "install BED/files/NVIDIA-Linux-x86_64-550.163.01.run --ct 100",
        None,
        2,
        &["100 is a VM, not a container"],
    ),
    ("fetch v550.163.01", None, 2, &["'v550.163.01'", "did you mean 550.163.01?"]),
    ("fetch example.com/a.run", None, 2, &["did you mean https://example.com/a.run?"]),
    ("fetch 550.163.01 --sha256 abc", None, 2, &["'abc'", "64 hexadecimal digits"]),
    ("uninstall 901", None, 2, &["unknown operand '901' for 'uninstall'", "--ct 901"]),
    ("prune 2", None, 2, &["unknown operand '2' for 'prune'", "--keep 2"]),
    ("toolkit --ct 901 --cuda 12", None, 2, &["'12'", "such as 12-8"]),
];

pub const CHECK: &[Mistake] = &[
    ("901", None, 2, &["unknown operand '901'", "--ct 901"]),
    ("--all", None, 2, &["unknown option '--all'", "--all-cts"]),
    ("--ct web", None, 2, &["'web'", "by its CTID", "pct list"]),
    ("--ct 100", None, 2, &["100 is a VM, not a container"]),
    ("--ct 999", None, 2, &["container 999 does not exist", "pct list"]),
    ("--pin v550.163.01", None, 2, &["did you mean 550.163.01?"]),
    ("--pin 550", None, 2, &["550 is a branch", "550.163.01"]),
    ("--pin latest", None, 2, &["'latest'", "like 550.163.01"]),
    ("--pin -", None, 2, &["no runfile record and no version", "pipe a runfile record"]),
    ("--pin -", Some("=550.163.01\n"), 2, &["line 1", "did you mean 550.163.01?"]),
    ("-o json", None, 2, &["'json'", "did you mean 'jsonl'?"]),
    ("check", None, 2, &["unknown operand 'check'", "nv-version-check --help"]),
    (
        "--prometheus-file BED/no/x.prom",
        None,
        2,
        &["directory 'BED/no' does not exist", "textfile collector"],
    ),
];

pub const VGPU: &[Mistake] = &[
    ("set 41:00.5=L40S-24Q", None, 2, &["unknown command 'set'", "did you mean 'apply'?"]),
    ("lst", None, 2, &["unknown command 'lst'", "did you mean 'list'?"]),
    ("list L40S", None, 2, &["'L40S' is not a PCI address", "vgpu-profile-set list"]),
    ("list 99:00.0", None, 2, &["at 0000:99:00.0", "NVIDIA GPUs of this host: 0000:41:00.0"]),
    ("plan", Some("41:00.5=L40S-24X\n"), 2, &["line 1", "not a vGPU profile", "list --types"]),
    ("plan", Some("41:00.5=L40S-24q\n"), 2, &["line 1", "not a vGPU profile", "a capital"]),
    (
        "plan",
        Some("41:00.5=NVIDIA-L40S-24Q\n"),
        4,
        &["does not offer", "the driver offers L40S-24Q"],
    ),
    ("plan", Some("41:00.0=L40S-24Q\n"), 2, &["0000:41:00.0 is a GPU", "virtual functions"]),
    ("plan", Some("41:00:5=L40S-24Q\n"), 2, &["line 1", "did you mean 0000:41:00.5?"]),
    ("plan", Some("41:00.5 L40S-24Q\n"), 2, &["is not ADDRESS=PROFILE", "like 0000:41:00.4="]),
    ("apply", None, 2, &["assigns no profile", "0000:41:00.4=L40S-24Q"]),
    ("apply BED/files/none", None, 2, &["none': no such file"]),
    ("apply", Some("41:00.4=L40S-24A\n"), 4, &["belongs to VM 200", "leave it out"]),
    ("clear", None, 2, &["no virtual function is named", "--all", "vgpu-profile-set list"]),
];
