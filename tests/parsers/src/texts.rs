//! What people, Proxmox VE, the kernel and other programs write.

use lxc_gpu_conf::config::access::Access;
use pci::{Function, Modalias, ModuleAliases, PciIds};
use pve::{Conf, Section};
use record::{Address, ReadLimits, Slot};
use runfile::{Manifest, SupportedGpus, known_files, sha256_sums};

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub fn guest_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "arch: amd64\ncores: 2\ndev0: /dev/nvidia0,mode=0666,gid=44\nrootfs: tank:subvol-1-disk-0\n\
         unprivileged: 1\nlxc.cgroup2.devices.allow: c 195:* rwm\n\
         lxc.mount.entry: /dev/nvidia0 dev/nvidia0 none bind,optional,create=file 0 0\n\
         lxc.idmap: u 0 100000 65536\n\n[pve:pending]\ndelete: dev0,dev1\ncores: 3\n\n\
         [snap]\nlxc.cgroup2.devices.deny = a\nsnaptime: 1\n",
        "#note\r\narch: amd64\r\nlxc.cgroup.devices.allow: a\n[special:x]\nzzz: ä\n",
    ])
}

pub fn guest_conf(bytes: &[u8]) {
    let conf = Conf::parse(bytes);
    assert_eq!(conf.bytes(), bytes, "a byte is lost");
    let _ = (conf.effective(), conf.invalid(), conf.snapshots(), conf.pending_deletions());
    let access = Access::of(&conf);
    let _ = (access.has_nvidia(), access.open_to_all(), access.discards_dev_rules());
    let _ = pve::id_maps(&conf);
    // a key that comes in stands there once, and goes again to the byte
    let had = conf.keys(&Section::Main).contains_key("dev77");
    let mut with = conf.clone();
    with.insert_key("dev77", "/dev/x");
    assert!(Conf::parse(&with.bytes()).keys(&Section::Main).contains_key("dev77"));
    if !had {
        with.remove_key("dev77");
        let (now, was) = (with.bytes(), bytes);
        // a line that did not end does
        assert!(now == was || now.strip_suffix(b"\n") == Some(was), "{now:?} {was:?}");
    }
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "{\"type\":\"vgpu-assignment\",\"address\":\"0000:41:00.4\",\"profile\":\"L40S-4Q\",\"count\":2}\n\
         {\"type\":\"error\",\"tool\":\"x\",\"message\":\"no\",\"exit\":3}\n",
        "{\"type\":\"change\",\"tool\":\"x\",\"target\":\"y\",\"property\":\"z\",\"from\":null,\
         \"to\":null,\"status\":\"changed\",\"reason\":null,\"hint\":null}\n{\"type\":\"unknown\"}\n",
        "{\"type\":\"check\",\"subject\":\"a\",\"property\":\"b\",\"expected\":null,\"actual\":null,\
         \"status\":\"ok\",\"severity\":null,\"hint\":null}\n",
    ])
}

pub fn records(bytes: &[u8]) {
    let wanted = ["pci-device", "vgpu-assignment", "change", "check", "runfile", "vgpu"];
    let limits = ReadLimits { line: 4096, total: 1 << 16, records: 1000 };
    let mut input = bytes;
    if let Ok(stream) = record::read(&mut input, limits, &wanted) {
        assert!(stream.records.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}

pub fn vgpu_input_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "# by address\n0000:41:00.4=1155\n41:00.5=NVIDIA L40S-24Q\n41:00.6=none\n",
        "version: v1\nvgpu-configs:\n  default:\n  - devices: all\n    vgpu-devices:\n      L40S-4Q: 12\n  \
         mig: &a\n  - {devices: [0, 1], vgpu-devices: {\"DC-1-24Q\": 2}}\n  other: *a\n",
        "{\"type\":\"vgpu-assignment\",\"address\":\"41:00.0\",\"profile\":\"L40S-4Q\",\"count\":2}\n",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  profiles: |\n    0000:41:00.4=1155\n",
    ])
}

pub fn vgpu_input(bytes: &[u8]) {
    use vgpu_profile_set::input::{InputChoice, parse};
    let choice = |config| InputChoice { config, node: "pve1" };
    let _ = parse(bytes, "input", choice(None));
    let _ = parse(bytes, "input", choice(Some("default")));
}

pub fn vgpu_types_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "ID    : vGPU Name\n1147  : NVIDIA L40S-1Q\n1155  : NVIDIA L40S-24Q\n",
        "NVIDIA DC-1-24QGFX",
        "GRID A100X-40C",
    ])
}

/// The driver's list of profiles, and their names.
pub fn vgpu_types(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for offer in nvidia::parse_creatable(&text) {
        assert!(offer.id > 0 && !offer.name.is_empty() && offer.name.trim() == offer.name);
        // what is listed can be written down and read again
        let line = format!("{:<5} : {}\n", offer.id, offer.name);
        assert_eq!(nvidia::parse_creatable(&line), [offer]);
    }
    if let Some(profile) = nvidia::Profile::parse(&text) {
        assert_eq!(nvidia::Profile::parse(profile.short()), Some(profile.clone()));
        assert!(profile.mib() >= 512);
    }
}

pub fn kernel_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "Character devices:\n  1 mem\n195 nvidia\n236 nvidia-caps\n511 nvidia-uvm\n\nBlock devices:\n  7 loop\n",
        "ModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 438\n",
        "Model: \t\t NVIDIA L40S\nIRQ:   \t\t 152\nGPU UUID: \t GPU-00000000-0000-0000-0000-000000000000\n\
         Device Minor: \t 1\nBus Location: \t 0000:2b:00.0\n",
        "alias pci:v000010DEd00001E07sv*sd*bc03sc*i* nvidia\nalias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n",
        "pci:v000010DEd00001E07sv00001458sd000037A9bc03sc00i00",
        "0000:41:00.4",
    ])
}

/// /proc, sysfs and modules.alias.
pub fn kernel_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (nvidia::CharDevices::parse(&text), nvidia::NodeParams::parse(&text));
    let address = Address::from_sysfs("0000:2b:00.0").unwrap();
    let _ = nvidia::GpuInfo::parse(address, &text);
    let aliases = ModuleAliases::parse(bytes, &[0x10de]);
    let vfio = ModuleAliases::parse_vfio(bytes, &[0x10de]);
    if let Some(alias) = Modalias::parse("pci:v000010DEd00001E07sv00001458sd000037A9bc03sc00i00") {
        let _ = (aliases.best(&alias), aliases.modules(&alias), vfio.best(&alias));
    }
    let _ = (Modalias::parse(&text), nvidia::is_version(&text), nvidia::numbers(&text));
    let _ = nvidia::compare_versions(&text, "550.163.01");
    for address in [Address::from_sysfs(&text), text.parse().ok()].into_iter().flatten() {
        assert_eq!(address.to_string().parse::<Address>().ok(), Some(address));
    }
    let _ = text.parse::<Slot>();
}

pub fn pci_ids_seeds() -> Vec<Vec<u8>> {
    seeds(&["# comment\n10de  NVIDIA Corporation\n\t1e07  TU102 [GeForce RTX 2080 Ti]\n\
        \t\t1458 37a9  Gaming OC\nC 03  Display controller\n\t00  VGA compatible controller\n"])
}

pub fn pci_ids(bytes: &[u8]) {
    let mut function = Function::bare(Address::from_sysfs("0000:2b:00.0").unwrap());
    function.vendor = Some(0x10de);
    function.device = Some(0x1e07);
    function.subsystem_vendor = Some(0x1458);
    function.subsystem_device = Some(0x37a9);
    function.class = Some(0x03_0000);
    let ids = PciIds::parse(bytes, std::slice::from_ref(&function));
    let _ = ids.names(&function);
}

pub fn boot_list_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "# Written by gpu-vfio-bind\n0000:2c:00.0 0x10de 0x1e07 0x1458 0x37a9 vfio-pci address\n\
        0000:2c:00.1 0x10de 0x10f7 0x1458 0x37a9 vfio-pci id\n",
    ])
}

/// What is read is written and read again as the same.
pub fn boot_list(bytes: &[u8]) {
    use gpu_vfio_bind::boot::list::{format_list, parse_list};
    let entries = parse_list(&String::from_utf8_lossy(bytes));
    assert_eq!(parse_list(&format_list(&entries)), entries);
}

pub fn digest_seeds() -> Vec<Vec<u8>> {
    let digest = "0123456789abcdef".repeat(4);
    vec![
        format!("{digest}  NVIDIA-Linux-x86_64-550.163.01.run\n{digest} *./x/y.run\n").into(),
        format!("550.163.01 x86_64 307000000 {digest} XFree86/Linux-x86_64/550.163.01\n").into(),
    ]
}

pub fn digest_lists(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (name, digest) in sha256_sums(&text).into_iter().flatten() {
        assert!(digest.len() == 64 && !name.contains('/'), "{name:?} {digest:?}");
    }
    for known in known_files(&text).into_iter().flatten() {
        assert!(known.sha256.len() == 64 && nvidia::is_version(&known.version));
    }
}

pub fn manifest_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "NVIDIA Accelerated Graphics Driver for Linux-x86_64\n550.163.01\n \nnvidia nvidia-uvm\n \n \n \n \n\
        nvidia-smi 0755 UTILITY_BINARY MODULE:nvml\nlibcuda.so.550.163.01 0755 CUDA_LIB NATIVE / MODULE:gpgpu\n\
        libcuda.so.1 0000 CUDA_SYMLINK NATIVE / libcuda.so.550.163.01 MODULE:gpgpu\n\
        nvidia-modprobe 04755 NVIDIA_MODPROBE /usr/bin/ MODULE:installer\n",
    ])
}

pub fn manifest(bytes: &[u8]) {
    if let Some(manifest) = Manifest::parse(bytes) {
        assert!(manifest.entries.iter().all(|entry| !entry.is_link() || entry.target.is_some()));
        assert!(manifest.entries.iter().all(|entry| entry.mode <= 0o777_777));
    }
}

pub fn gpus_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "{\"chips\":[{\"devid\":\"0x1DB6\",\"subdevid\":\"0x124A\",\"subvendorid\":\"0x10DE\",\
        \"name\":\"Tesla V100\",\"features\":[\"kernelopen\"]},{\"devid\":\"0x1E07\",\"name\":\"x\"}]}",
    ])
}

pub fn supported_gpus(bytes: &[u8]) {
    if let Ok(list) = SupportedGpus::parse(bytes) {
        let _ = list.find(0x1db6, Some((0x10de, 1)));
    }
}
