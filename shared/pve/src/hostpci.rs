//! PCI functions that VMs are given: `hostpci[n]`, also through the cluster's
//! resource mappings.

use std::collections::BTreeMap;

use host::{FileError, KernelFiles};
use record::{Address, Slot};

use crate::{Conf, Section};

const MAPPINGS: &str = "/etc/pve/mapping/pci.cfg";
const CONFIGURATIONS: &str = "/etc/pve/qemu-server";

/// A name of PCI functions in Proxmox VE's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPciId {
    /// One function: `0000:41:00.0`, `41:00.0`.
    Function(Address),
    /// All functions of a slot: `0000:41:00`, `41:00`.
    Slot(Slot),
}

impl HostPciId {
    fn parse(text: &str) -> Option<HostPciId> {
        let text = text.trim();
        let function = text.parse().map(HostPciId::Function);
        function.or_else(|_| text.parse().map(HostPciId::Slot)).ok()
    }

    /// Whether it names this function.
    pub fn names(self, address: Address) -> bool {
        match self {
            HostPciId::Function(function) => function == address,
            HostPciId::Slot(slot) => slot == address.slot(),
        }
    }
}

/// One `hostpci[n]` of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPci {
    /// Its key: `hostpci0`.
    pub key: String,
    /// What it names, of a mapping all alternatives that this cluster node has.
    pub ids: Vec<HostPciId>,
    /// The mapping through which it names them.
    pub mapping: Option<String>,
    /// `mdev=`: a vGPU type that Proxmox VE sets at the VM's start and clears
    /// when it stops.
    pub mdev: Option<String>,
    /// `driver=`: `vfio` (the default) or `keep`.
    pub driver: Option<String>,
    /// `x-vga=`: the GPU is the VM's primary display.
    pub x_vga: bool,
    /// The value as it is written.
    pub value: String,
}

/// What Proxmox VE does to a virtual function that has a vGPU profile when it starts a
/// VM with it (qemu-server, PVE/QemuServer/PCI.pm, `prepare_pci_device`). After the VM
/// stops, `cleanup_pci_devices` clears the profile in all three cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPciMode {
    /// `mdev=`: it sets its own profile.
    Mdev,
    /// `driver=keep`: it leaves the driver, and with it the profile.
    Keep,
    /// Neither: it binds the function to vfio-pci, and the profile is lost.
    Vfio,
}

impl HostPciMode {
    /// The word for it in records.
    pub fn as_str(self) -> &'static str {
        match self {
            HostPciMode::Mdev => "mdev",
            HostPciMode::Keep => "keep",
            HostPciMode::Vfio => "vfio",
        }
    }
}

impl HostPci {
    /// Reads a value (qemu-server, PVE/QemuServer/PCI.pm, `$hostpci_fmt`): a
    /// list of properties, of which `host` may be given without its name; an empty
    /// part counts for nothing. A name that is not a PCI address is left out, as
    /// the VM does not start with it.
    pub fn parse(key: &str, value: &str, mappings: &PciMappings) -> HostPci {
        let mut found = HostPci { key: key.into(), value: value.into(), ..HostPci::default() };
        for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=').unwrap_or(("host", part)) {
                ("host", host) => found.ids.extend(ids(host)),
                ("mapping", name) => {
                    found.ids.extend_from_slice(mappings.of(name));
                    found.mapping = Some(name.to_string());
                }
                ("mdev", mdev) => found.mdev = Some(mdev.to_string()),
                ("driver", driver) => found.driver = Some(driver.to_string()),
                ("x-vga", value) => found.x_vga = is_true(value),
                _ => {}
            }
        }
        found
    }

    /// Whether it names this function.
    pub fn names(&self, address: Address) -> bool {
        self.ids.iter().any(|id| id.names(address))
    }

    /// What Proxmox VE does to a virtual function with a vGPU profile.
    pub fn mode(&self) -> HostPciMode {
        match (&self.mdev, self.driver.as_deref()) {
            (Some(_), _) => HostPciMode::Mdev,
            (None, Some("keep")) => HostPciMode::Keep,
            (None, _) => HostPciMode::Vfio,
        }
    }

    /// The value with this property instead of `driver=` and `mdev=`.
    pub fn value_with(&self, property: &str) -> String {
        let of_driver = |part: &&str| !part.starts_with("driver=") && !part.starts_with("mdev=");
        let parts = self.value.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<&str> = parts.filter(of_driver).chain([property]).collect();
        parts.join(",")
    }
}

/// Proxmox VE's booleans (PVE::JSONSchema::parse_boolean).
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn ids(list: &str) -> impl Iterator<Item = HostPciId> {
    list.split(';').filter_map(HostPciId::parse)
}

/// What the cluster's PCI mappings name on this cluster node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PciMappings {
    ids: BTreeMap<String, Vec<HostPciId>>,
}

impl PciMappings {
    /// Reads them; a host without the file has none. Errors: they cannot be
    /// read, or which node of the cluster this is.
    pub fn read(files: &dyn KernelFiles) -> Result<PciMappings, FileError> {
        let text = match files.read_attr(MAPPINGS) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(PciMappings::default()),
            Err(error) => return Err(error),
        };
        let local = files.read_link("/etc/pve/local")?;
        Ok(PciMappings::parse(&text, local.rsplit('/').next().unwrap_or_default()))
    }

    /// Parses the file for a cluster node: a mapping's name at the margin, below
    /// it one line for each alternative,
    /// `map id=10de:26b9,node=host1,path=0000:41:00.4` (PVE/Mapping/PCI.pm).
    pub fn parse(text: &str, node: &str) -> PciMappings {
        let mut mappings = PciMappings::default();
        let mut name = String::new();
        for line in text.lines() {
            if !line.starts_with([' ', '\t']) {
                name = line.trim().trim_end_matches(':').to_string();
                continue;
            }
            let Some(map) = line.trim().strip_prefix("map ") else { continue };
            let field = |key: &str| {
                map.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='))
            };
            if field("node") == Some(node) {
                let own = mappings.ids.entry(name.clone()).or_default();
                own.extend(ids(field("path").unwrap_or_default()));
            }
        }
        mappings
    }

    /// What a mapping names on this node: nothing where it has no line for it,
    /// and then no VM starts with it here.
    pub fn of(&self, name: &str) -> &[HostPciId] {
        self.ids.get(name).map_or(&[], Vec::as_slice)
    }
}

/// A VM of this cluster node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its id.
    pub id: u32,
    /// The process that its file in /run names exists.
    pub running: bool,
    /// Its `hostpci[n]` in force; pending values and snapshots do not count.
    pub hostpci: Vec<HostPci>,
}

/// The VMs of this cluster node.
#[derive(Debug, Default)]
pub struct Vms {
    /// By id.
    pub all: Vec<Vm>,
    /// What could not be read. Where this is not empty, a function that no VM
    /// names may still be in use by one.
    pub unread: Vec<FileError>,
}

impl Vms {
    /// Reads their configurations.
    pub fn read(files: &dyn KernelFiles) -> Vms {
        let mut vms = Vms::default();
        let names = match files.list(CONFIGURATIONS) {
            Ok(names) => names,
            Err(error) => {
                vms.unread.push(error);
                return vms;
            }
        };
        let mappings = PciMappings::read(files).unwrap_or_else(|error| {
            vms.unread.push(error);
            PciMappings::default()
        });
        for name in names {
            let Some(id) = name.strip_suffix(".conf").and_then(|id| id.parse().ok()) else {
                continue;
            };
            match files.read_attr(&format!("{CONFIGURATIONS}/{name}")) {
                Ok(text) => vms.all.push(vm(files, id, &text, &mappings)),
                // destroyed or moved to another node since it was listed
                Err(error) if error.is_not_found() => {}
                Err(error) => vms.unread.push(error),
            }
        }
        vms.all.sort_by_key(|vm| vm.id);
        vms
    }

    /// VMs that are given this function, each with the first key that names it.
    pub fn naming(&self, address: Address) -> impl Iterator<Item = (&Vm, &HostPci)> {
        self.all.iter().filter_map(move |vm| {
            let hostpci = vm.hostpci.iter().find(|hostpci| hostpci.names(address))?;
            Some((vm, hostpci))
        })
    }
}

fn vm(files: &dyn KernelFiles, id: u32, text: &str, mappings: &PciMappings) -> Vm {
    let conf = Conf::parse(format!("{text}\n").as_bytes());
    let keys = conf.keys(&Section::Main);
    let hostpci = keys.iter().filter(|(key, _)| is_hostpci(key));
    let pid = files.read_attr(&format!("/run/qemu-server/{id}.pid")).ok();
    let running = pid.and_then(|pid| pid.trim().parse::<u32>().ok());
    Vm {
        id,
        running: running.is_some_and(|pid| files.exists(&format!("/proc/{pid}/comm"))),
        hostpci: hostpci.map(|(key, value)| HostPci::parse(key, value, mappings)).collect(),
    }
}

fn is_hostpci(key: &str) -> bool {
    let number = key.strip_prefix("hostpci");
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    // a test makes the files of a machine
    #![allow(clippy::disallowed_methods)]

    use super::*;

    #[test]
    fn all_forms_of_a_value_name_functions_and_slots() {
        let mappings = PciMappings::parse(
            "gpu\n\tcomment x\n\tmap id=10de:1,node=a,path=0000:2c:00\n\
             \tmap id=10de:1,node=b,path=0000:2d:00.1\n\nvf\n\
             \tmap path=2c:00.1;2c:00.2, node=a,id=10de:2\n\tmap node=a,path=2e:00.0\n",
            "a",
        );
        let address: Address = "2c:00.1".parse().unwrap();
        for (value, names) in [
            ("0000:2c:00,pcie=1", true),
            ("host=2c:00,pcie=1", true),
            ("pcie=1,host=2c:00", true),
            (",2c:00", true),
            ("0000:2c:00.1", true),
            ("2c:00.0;2c:00.1,x-vga=1", true),
            ("2c:00.0", false),
            ("2C:00.1", true),
            ("10000:2c:00.1", false),
            ("mapping=gpu,pcie=1", true),
            ("mapping=vf,mdev=nvidia-1", true),
            ("mapping=other", false),
            ("", false),
        ] {
            assert_eq!(
                HostPci::parse("hostpci0", value, &mappings).names(address),
                names,
                "{value}"
            );
        }
        let vf =
            HostPci::parse("hostpci1", "mapping=vf,mdev=nvidia-1,x-vga=on,driver=keep", &mappings);
        assert_eq!((vf.ids.len(), vf.mapping.as_deref()), (3, Some("vf")));
        assert_eq!((vf.mdev.as_deref(), vf.driver.as_deref()), (Some("nvidia-1"), Some("keep")));
        assert!(vf.x_vga && is_hostpci("hostpci15") && !is_hostpci("hostpci"));
        assert_eq!(vf.mode(), HostPciMode::Mdev);
        assert_eq!(vf.value_with("driver=keep"), "mapping=vf,x-vga=on,driver=keep");
        let keep = HostPci::parse("hostpci1", "41:00.4,driver=keep", &mappings);
        let vfio = HostPci::parse("hostpci1", "41:00.4,driver=vfio", &mappings);
        assert_eq!((keep.mode(), vfio.mode()), (HostPciMode::Keep, HostPciMode::Vfio));
    }

    #[test]
    fn vms_are_read_with_what_could_not_be() {
        let dir = std::env::temp_dir().join(format!("pve-hostpci-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("etc/pve/qemu-server/100.conf", "hostpci0: mapping=gpu\n[old]\nhostpci1: 2d:00\n");
        put("etc/pve/qemu-server/101.conf", "#hostpci0: 2c:00\nname: x\n");
        put("etc/pve/qemu-server/x.conf", "hostpci0: 2c:00\n");
        put("run/qemu-server/100.pid", "4000\n");
        put("proc/4000/comm", "kvm\n");
        put("etc/pve/mapping/pci.cfg", "gpu\n\tmap node=a,path=2c:00\n");
        let machine = host::Machine::new(Some(&dir)).unwrap();
        let (of, other) = ("2c:00.0".parse().unwrap(), "2d:00.0".parse().unwrap());
        let vms = Vms::read(&machine);
        assert_eq!((vms.unread.len(), vms.naming(of).count()), (1, 0), "no /etc/pve/local");
        std::os::unix::fs::symlink("nodes/a", dir.join("etc/pve/local")).unwrap();
        let vms = Vms::read(&machine);
        let naming: Vec<_> = vms.naming(of).map(|(vm, by)| (vm.id, vm.running, &*by.key)).collect();
        assert_eq!(naming, [(100, true, "hostpci0")]);
        assert_eq!((vms.all.len(), vms.unread.len(), vms.naming(other).count()), (2, 0, 0));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
