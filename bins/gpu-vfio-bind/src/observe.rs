//! Who uses a function: processes, VMs, containers, mounts, routes. Reads only.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use host::{Dir, Machine};
use nvidia::GpuInfo;
use pci::Function;
use pve::{Conf, Section};
use record::Address;

/// A process that has one of a function's nodes open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// The node.
    pub node: String,
}

impl Holder {
    /// Whether it is nvidia-persistenced, whose name the kernel cuts at 15 bytes.
    pub fn is_persistenced(&self) -> bool {
        self.command == "nvidia-persiste" || self.command == "nvidia-persistenced"
    }
}

/// A guest of Proxmox VE whose configuration names a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its id.
    pub id: u32,
    /// It is a VM rather than a container.
    pub vm: bool,
    /// It runs now.
    pub running: bool,
}

/// What is known of the use of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Processes with a node open.
    pub holders: Vec<Holder>,
    /// Guests that name it.
    pub guests: Vec<Guest>,
    /// Reserved by a VM that Proxmox VE started.
    pub reserved_by: Option<u32>,
    /// A block device behind it that is in use: what for.
    pub block: Option<String>,
    /// A network interface behind it that carries the default route or a bridge.
    pub network: Option<String>,
    /// A text console is drawn by it.
    pub console: bool,
}

/// Looks at the machine once, at what is asked for, and answers for each
/// function.
pub struct Observer<'a> {
    machine: &'a Machine,
    nodes: Nodes<'a>,
    open: BTreeMap<String, Vec<Holder>>,
    reservations: BTreeMap<Address, u32>,
    mounts: OnceCell<String>,
    routes: OnceCell<String>,
    vms: OnceCell<Vec<(u32, Conf)>>,
    containers: OnceCell<Vec<(u32, Conf)>>,
}

/// No such file of the kernel or of Proxmox VE is larger.
const MOST: usize = 16 << 20;

impl<'a> Observer<'a> {
    /// Looks.
    pub fn new(machine: &'a Machine) -> Observer<'a> {
        let reserved = machine.read_text("/run/qemu-server/pci-id-reservations", MOST);
        Observer {
            machine,
            nodes: Nodes::new(machine),
            open: open_nodes(machine),
            reservations: reservations(&reserved.unwrap_or_default()),
            mounts: OnceCell::new(),
            routes: OnceCell::new(),
            vms: OnceCell::new(),
            containers: OnceCell::new(),
        }
    }

    /// What uses a function.
    pub fn of(&self, function: &Function) -> Use {
        let path = path_of(function);
        let dir = self.machine.dir(&path).ok();
        let dir = dir.as_ref();
        Use {
            guests: self.guests(function),
            block: dir.and_then(|dir| self.block(dir)),
            network: dir.and_then(|dir| self.network(dir)),
            console: dir.is_some_and(|dir| self.console(dir)),
            ..self.holders_of(function)
        }
    }

    /// Of that only who has it open or reserved.
    pub fn holders_of(&self, function: &Function) -> Use {
        let nodes = self.nodes.of(function);
        let holders =
            nodes.iter().filter_map(|node| self.open.get(node)).flatten().cloned().collect();
        let reserved_by = self.reservations.get(&function.address).copied();
        Use { holders, reserved_by, ..Use::default() }
    }

    /// Guests of this node whose configuration names the function.
    pub fn guests(&self, function: &Function) -> Vec<Guest> {
        let mut guests = Vec::new();
        let vms = self.vms.get_or_init(|| configurations(self.machine, "/etc/pve/qemu-server"));
        for (id, conf) in vms {
            if names_function(conf, function.address) {
                guests.push(Guest { id: *id, vm: true, running: self.vm_runs(*id) });
            }
        }
        let Some(minor) = self.nodes.minor(function) else { return guests };
        let node = format!("/dev/nvidia{minor}");
        let containers =
            self.containers.get_or_init(|| configurations(self.machine, "/etc/pve/lxc"));
        for (id, conf) in containers {
            if names_node(conf, &node) {
                let cgroups = ["/sys/fs/cgroup/lxc", "/sys/fs/cgroup/lxc.monitor"];
                let running = cgroups.iter().any(|dir| self.machine.exists(&format!("{dir}/{id}")));
                guests.push(Guest { id: *id, vm: false, running });
            }
        }
        guests
    }

    fn text<'b>(&self, cell: &'b OnceCell<String>, path: &str) -> &'b str {
        cell.get_or_init(|| self.machine.read_text(path, MOST).unwrap_or_default())
    }

    fn vm_runs(&self, id: u32) -> bool {
        let pid = self.machine.read_text(&format!("/run/qemu-server/{id}.pid"), 64);
        pid.is_ok_and(|pid| self.machine.exists(&format!("/proc/{}/comm", pid.trim())))
    }

    /// A disk behind the function that something is mounted from or built on.
    fn block(&self, dir: &Dir<'_>) -> Option<String> {
        let mut disks = below(dir, "block");
        for controller in below(dir, "nvme") {
            let names = below(dir, &format!("nvme/{controller}"));
            disks.extend(names.into_iter().filter(|name| name.starts_with("nvme")));
        }
        disks.into_iter().find_map(|disk| {
            let mounted = self.text(&self.mounts, "/proc/mounts").lines().find(|line| {
                line.strip_prefix("/dev/").is_some_and(|rest| {
                    let device = rest.split(' ').next().unwrap_or("");
                    device.strip_prefix(disk.as_str()).is_some_and(|tail| {
                        tail.is_empty()
                            || tail.trim_start_matches('p').bytes().all(|b| b.is_ascii_digit())
                    })
                })
            });
            if let Some(line) = mounted {
                return Some(format!("/dev/{disk} is mounted on {}", line.split(' ').nth(1)?));
            }
            let holders = self.machine.list(&format!("/sys/class/block/{disk}/holders"));
            let holder = holders.unwrap_or_default().into_iter().next()?;
            Some(format!("/dev/{disk} is part of {holder}"))
        })
    }

    fn network(&self, dir: &Dir<'_>) -> Option<String> {
        below(dir, "net").into_iter().find_map(|name| {
            let default = self.text(&self.routes, "/proc/net/route").lines().skip(1).any(|line| {
                let mut words = line.split_ascii_whitespace();
                words.next() == Some(name.as_str()) && words.next() == Some("00000000")
            });
            if default {
                return Some(format!("{name} carries the default route"));
            }
            let master = format!("{}/net/{name}/master", dir.path());
            let master = self.machine.read_link(&master).ok()?;
            let master = master.rsplit('/').next().unwrap_or_default().to_string();
            Some(format!("{name} is a port of {master}"))
        })
    }

    /// A frame buffer of the function that a bound virtual console draws on.
    fn console(&self, dir: &Dir<'_>) -> bool {
        if below(dir, "graphics").is_empty() {
            return false;
        }
        let consoles = self.machine.list("/sys/class/vtconsole").unwrap_or_default();
        consoles.iter().any(|console| {
            let attr =
                |name: &str| self.machine.attr(&format!("/sys/class/vtconsole/{console}/{name}"));
            attr("name").is_ok_and(|name| name.contains("frame buffer"))
                && attr("bind").is_ok_and(|bind| bind == "1")
        })
    }
}

/// Where sysfs has a function.
fn path_of(function: &Function) -> String {
    format!("/sys/bus/pci/devices/{}", function.address)
}

/// The nodes by which processes use functions.
pub struct Nodes<'a> {
    machine: &'a Machine,
    gpus: BTreeMap<Address, GpuInfo>,
}

impl<'a> Nodes<'a> {
    /// Asks NVIDIA's driver for its GPUs' numbers.
    pub fn new(machine: &'a Machine) -> Nodes<'a> {
        Nodes { machine, gpus: nvidia::read_gpus(machine).0 }
    }

    /// The number that NVIDIA's driver gave it.
    fn minor(&self, function: &Function) -> Option<u32> {
        self.gpus.get(&function.address)?.minor
    }

    /// The nodes of a function.
    pub fn of(&self, function: &Function) -> BTreeSet<String> {
        let mut nodes: BTreeSet<String> =
            function.drm.iter().map(|name| format!("/dev/dri/{name}")).collect();
        if let Some(minor) = self.minor(function) {
            nodes.insert(format!("/dev/nvidia{minor}"));
        }
        let sound = self.machine.list(&format!("{}/sound", path_of(function)));
        for card in sound.unwrap_or_default() {
            let Some(number) = card.strip_prefix("card") else { continue };
            for name in self.machine.nodes_in("/dev/snd").unwrap_or_default() {
                // controlC1, pcmC1D3p, hwC1D0
                let of_card = name.split_once('C').is_some_and(|(_, rest)| {
                    rest.split(|c: char| !c.is_ascii_digit()).next() == Some(number)
                });
                if of_card {
                    nodes.insert(format!("/dev/snd/{name}"));
                }
            }
        }
        if function.on_vfio() {
            nodes.extend(function.group.map(|group| format!("/dev/vfio/{group}")));
            nodes.extend(function.vfio_device.iter().map(|n| format!("/dev/vfio/devices/{n}")));
        }
        nodes
    }
}

/// All guests' configurations in a directory.
fn configurations(machine: &Machine, dir: &str) -> Vec<(u32, Conf)> {
    let names = machine.list(dir).unwrap_or_default();
    let ids = names.iter().filter_map(|n| n.strip_suffix(".conf")?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let bytes = machine.read(&format!("{dir}/{id}.conf"), 1 << 20).ok()?;
        Some((id, Conf::parse(&bytes)))
    })
    .collect()
}

/// Names in a directory below a function's; an absent one has none.
fn below(dir: &Dir<'_>, name: &str) -> Vec<String> {
    dir.list_below(name).unwrap_or_default()
}

/// `BDF VMID time:EPOCH` or `BDF VMID pid:PID` (qemu-server, PCI.pm).
fn reservations(text: &str) -> BTreeMap<Address, u32> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect()
}

/// `hostpci0: 0000:41:00.0,pcie=1`, `hostpci1: host=41:00` (a whole slot),
/// several separated by semicolons.
fn names_function(conf: &Conf, address: Address) -> bool {
    let keys = conf.keys(&Section::Main);
    keys.iter().filter(|(key, _)| key.starts_with("hostpci")).any(|(_, value)| {
        let host = value.split(',').find_map(|part| match part.split_once('=') {
            None => Some(part),
            Some(("host", host)) => Some(host),
            Some(_) => None,
        });
        host.unwrap_or_default().split(';').any(|name| match name.trim().parse::<Address>() {
            Ok(one) => one == address,
            Err(_) => name.trim().parse().is_ok_and(|slot: record::Slot| slot == address.slot()),
        })
    })
}

/// Whether a container's configuration names a node, and not one that only
/// begins so (/dev/nvidia1 in /dev/nvidia10). What a snapshot or a pending
/// change says is not in force.
fn names_node(conf: &Conf, node: &str) -> bool {
    let keys = conf.keys(&Section::Main);
    let devs = keys.iter().filter(|(key, _)| key.starts_with("dev")).map(|(_, value)| *value);
    devs.chain(conf.lxc().map(|(_, value)| value)).any(|value| {
        value.match_indices(node).any(|(at, _)| {
            !value[at + node.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
        })
    })
}

/// The GPU's node that an open file is, by its device number: a node may stand
/// anywhere under any name.
fn gpu_by_number(machine: &Machine, path: &str) -> Option<String> {
    let node: host::Node = machine.stat(path).ok()?.into();
    let gpu = node.is_char() && node.major == nvidia::GPU_MAJOR && node.minor < 254;
    gpu.then(|| format!("/dev/nvidia{}", node.minor))
}

/// Who has one of these nodes open now, in words.
pub fn holders_now(machine: &Machine, nodes: &BTreeSet<String>) -> Vec<String> {
    let open = open_nodes(machine);
    nodes
        .iter()
        .filter_map(|node| open.get(node))
        .flatten()
        .map(|h| format!("process {} ({}) has {} open", h.pid, h.command, h.node))
        .collect()
}

/// Every node of interest that any process has open.
fn open_nodes(machine: &Machine) -> BTreeMap<String, Vec<Holder>> {
    let mut open: BTreeMap<String, Vec<Holder>> = BTreeMap::new();
    for name in machine.list("/proc").unwrap_or_default() {
        let Ok(pid) = name.parse::<u32>() else { continue };
        let mut seen = BTreeSet::new();
        // a process may end while we look: then it holds nothing
        for fd in machine.list(&format!("/proc/{pid}/fd")).unwrap_or_default() {
            let path = format!("/proc/{pid}/fd/{fd}");
            let Ok(target) = machine.read_link(&path) else { continue };
            let wanted = ["/dev/nvidia", "/dev/dri/", "/dev/snd/", "/dev/vfio/"];
            let node = if wanted.iter().any(|prefix| target.starts_with(prefix)) {
                Some(target)
            } else if target.starts_with('/') {
                gpu_by_number(machine, &path)
            } else {
                None
            };
            if let Some(node) = node.filter(|node| seen.insert(node.clone())) {
                let command = machine.attr(&format!("/proc/{pid}/comm")).unwrap_or_default();
                open.entry(node.clone()).or_default().push(Holder { pid, command, node });
            }
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_name_functions_and_slots() {
        let address: Address = "2c:00.1".parse().unwrap();
        for (line, names) in [
            ("hostpci0: 0000:2c:00,pcie=1", true),
            ("hostpci0: host=2c:00,pcie=1", true),
            ("hostpci3: 0000:2c:00.1", true),
            ("hostpci3: 2c:00.0;2c:00.1,x-vga=1", true),
            ("hostpci3: 2c:00.0", false),
            ("hostpci0: mapping=gpu", false),
            ("#hostpci0: 2c:00", false),
        ] {
            assert_eq!(names_function(&Conf::parse(line.as_bytes()), address), names, "{line}");
        }
    }

    #[test]
    fn a_node_is_named_whole_and_in_force() {
        let names = |text: &str| names_node(&Conf::parse(text.as_bytes()), "/dev/nvidia1");
        assert!(names("dev0: /dev/nvidia1,mode=0666\n"));
        assert!(names("lxc.mount.entry: /dev/nvidia1 dev/nvidia1 none bind\n"));
        assert!(!names("dev0: /dev/nvidia10\n#/dev/nvidia1\n"));
        assert!(!names("arch: amd64\n[snap]\ndev0: /dev/nvidia1\n"));
        // a line in brackets that is no header does not end the main section
        assert!(names("arch: amd64\n[special:x]\ndev0: /dev/nvidia1\n"));
    }

    #[test]
    fn reservations_are_read() {
        let map = reservations("0000:41:00.0 100 pid:123\n0000:42:00.0 101 time:5\nx\n");
        assert_eq!(map.len(), 2);
        assert_eq!(map[&"41:00.0".parse().unwrap()], 100);
    }
}
