//! Who uses a function: processes, VMs, containers, mounts, routes. Reads only.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use ::cli::Say;
use host::{Dir, Machine, NodeHolder, OpenNodes};
use nvidia::GpuInfo;
use pci::Function;
use pve::{Conf, Reservations, Section, Vms};
use record::Address;

/// A process that has one of a function's nodes open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUse {
    pub process: NodeHolder,
    pub node: String,
}

impl NodeUse {
    pub fn describe(&self) -> String {
        format!("{} has {} open", self.process.describe(), self.node)
    }

    /// Whether it is nvidia-persistenced, whose name the kernel cuts at 15 bytes.
    pub fn is_persistenced(&self) -> bool {
        matches!(self.process.name.as_str(), "nvidia-persiste" | "nvidia-persistenced")
    }
}

/// A container whose configuration names a function's node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUse {
    pub ctid: u32,
    pub running: bool,
}

/// A VM whose configuration names a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmUse {
    pub vmid: u32,
    pub running: bool,
    /// `hostpci0`.
    pub key: String,
}

/// What is known of the use of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionUse {
    pub processes: Vec<NodeUse>,
    pub containers: Vec<ContainerUse>,
    pub vms: Vec<VmUse>,
    /// The VM for which Proxmox VE has it reserved.
    pub reserved_by: Option<u32>,
    /// A block device behind it that is in use, and what for.
    pub block: Option<String>,
    /// A network interface behind it that carries the default route, or is a
    /// port of a bridge.
    pub network: Option<String>,
    /// A text console is drawn by it.
    pub console: bool,
}

/// Reads the host once, as far as it is asked, and answers for each function.
pub struct Observer<'a> {
    machine: &'a Machine,
    nodes: FunctionNodes<'a>,
    open: OpenNodes,
    reservations: Reservations,
    mounts: OnceCell<String>,
    routes: OnceCell<String>,
    vms: OnceCell<Vms>,
    containers: OnceCell<Vec<(u32, Conf)>>,
    /// What could not be read, so that a use may be missing.
    unread: Vec<String>,
}

/// No such file of the kernel or of Proxmox VE is larger.
const MOST: usize = 16 << 20;

impl<'a> Observer<'a> {
    pub fn new(machine: &'a Machine) -> Observer<'a> {
        let open = OpenNodes::scan(machine, &|node| node.device.is_some() || is_dev(&node.path));
        let mut unread: Vec<String> = open.unread.iter().map(ToString::to_string).collect();
        let reservations = Reservations::read(machine).unwrap_or_else(|error| {
            unread.push(error.to_string());
            Reservations::default()
        });
        Observer {
            machine,
            nodes: FunctionNodes::new(machine),
            open,
            reservations,
            mounts: OnceCell::new(),
            routes: OnceCell::new(),
            vms: OnceCell::new(),
            containers: OnceCell::new(),
            unread,
        }
    }

    /// Says what could not be read: a use may be missing then.
    pub fn warn(&self, say: &Say) {
        if let Some(first) = self.unread.first() {
            let more = match self.unread.len() {
                1 => String::new(),
                n => format!(" (and {} more files)", n - 1),
            };
            say.warn(&format!("cannot see every user of the GPUs: {first}{more}"));
        }
    }

    /// What uses a function.
    pub fn of(&self, function: &Function) -> FunctionUse {
        let dir = self.machine.dir(&path_of(function)).ok();
        let dir = dir.as_ref();
        FunctionUse {
            containers: self.containers(function),
            vms: self.vms(function),
            block: dir.and_then(|dir| self.block(dir)),
            network: dir.and_then(|dir| self.network(dir)),
            console: dir.is_some_and(|dir| self.console(dir)),
            ..self.open_or_reserved(function)
        }
    }

    /// Only who has it open or reserved.
    pub fn open_or_reserved(&self, function: &Function) -> FunctionUse {
        let processes = open_by(self.machine, &self.open, &self.nodes.of(function));
        let reserved_by = self.reservations.vm_of(function.address);
        FunctionUse { processes, reserved_by, ..FunctionUse::default() }
    }

    /// VMs of this cluster node whose configuration names the function.
    fn vms(&self, function: &Function) -> Vec<VmUse> {
        let vms = self.vms.get_or_init(|| Vms::read(self.machine));
        let used = vms.naming(function.address);
        used.map(|(vm, hostpci)| VmUse {
            vmid: vm.id,
            running: vm.running,
            key: hostpci.key.clone(),
        })
        .collect()
    }

    /// Containers of this cluster node whose configuration names the function.
    pub fn containers(&self, function: &Function) -> Vec<ContainerUse> {
        let Some(minor) = self.nodes.minor(function) else { return Vec::new() };
        let node = format!("/dev/nvidia{minor}");
        let containers =
            self.containers.get_or_init(|| configurations(self.machine, "/etc/pve/lxc"));
        let named = containers.iter().filter(|(_, conf)| names_node(conf, &node));
        named
            .map(|(ctid, _)| {
                let cgroups = ["/sys/fs/cgroup/lxc", "/sys/fs/cgroup/lxc.monitor"];
                let exists = |dir: &&str| self.machine.exists(&format!("{dir}/{ctid}"));
                ContainerUse { ctid: *ctid, running: cgroups.iter().any(|dir| exists(&dir)) }
            })
            .collect()
    }

    fn text<'b>(&self, cell: &'b OnceCell<String>, path: &str) -> &'b str {
        cell.get_or_init(|| self.machine.read_text(path, MOST).unwrap_or_default())
    }

    /// A disk behind the function that is mounted or part of another device.
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

    /// Whether a bound virtual console draws on a frame buffer of the function.
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

fn path_of(function: &Function) -> String {
    format!("/sys/bus/pci/devices/{}", function.address)
}

/// The nodes by which processes use functions.
pub struct FunctionNodes<'a> {
    machine: &'a Machine,
    gpus: BTreeMap<Address, GpuInfo>,
}

impl<'a> FunctionNodes<'a> {
    pub fn new(machine: &'a Machine) -> FunctionNodes<'a> {
        FunctionNodes { machine, gpus: nvidia::read_gpus(machine).0 }
    }

    fn minor(&self, function: &Function) -> Option<u32> {
        self.gpus.get(&function.address)?.minor
    }

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

fn configurations(machine: &Machine, dir: &str) -> Vec<(u32, Conf)> {
    let names = machine.list(dir).unwrap_or_default();
    let ids = names.iter().filter_map(|n| n.strip_suffix(".conf")?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let bytes = machine.read(&format!("{dir}/{id}.conf"), 1 << 20).ok()?;
        Some((id, Conf::parse(&bytes)))
    })
    .collect()
}

/// Names in a directory of a function; a missing directory has none.
fn below(dir: &Dir<'_>, name: &str) -> Vec<String> {
    dir.list_below(name).unwrap_or_default()
}

/// Whether a container's configuration in force names this node, and not one
/// whose name is longer (/dev/nvidia1 in /dev/nvidia10). Snapshots and pending
/// changes do not count.
fn names_node(conf: &Conf, node: &str) -> bool {
    let keys = conf.keys(&Section::Main);
    let devs = keys.iter().filter(|(key, _)| key.starts_with("dev")).map(|(_, value)| *value);
    devs.chain(conf.lxc().map(|(_, value)| value)).any(|value| {
        value.match_indices(node).any(|(at, _)| {
            !value[at + node.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
        })
    })
}

fn is_dev(path: &str) -> bool {
    path.starts_with("/dev/")
}

fn open_by(machine: &Machine, open: &OpenNodes, nodes: &BTreeSet<String>) -> Vec<NodeUse> {
    let mut uses = Vec::new();
    for node in nodes {
        let holders = open.of_path(machine, node).into_iter().cloned();
        uses.extend(holders.map(|process| NodeUse { process, node: node.clone() }));
    }
    uses
}

/// Who has one of these nodes open now.
pub fn open_now(machine: &Machine, nodes: &BTreeSet<String>) -> Vec<NodeUse> {
    open_by(machine, &OpenNodes::scan(machine, &|node| is_dev(&node.path)), nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
