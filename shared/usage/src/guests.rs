//! Guests of Proxmox VE that are given a function.

use std::collections::BTreeSet;

use host::{FileError, Machine};
use pci::{Function, NVIDIA};
use pve::{Conf, Packages, Reservations, Section, Vms};

use crate::nodes::FunctionNode;
use crate::{Usage, User, UserKind};

/// Proxmox VE's own limit for a configuration (memdb.c, MEMDB_MAX_FILE_SIZE).
const MOST: usize = 1 << 20;

/// The guests of this cluster node.
pub(crate) struct Guests {
    vms: Vms,
    reservations: Reservations,
    containers: Vec<Container>,
    unknown: Vec<String>,
}

struct Container {
    id: u32,
    conf: Conf,
    is_running: bool,
}

impl Guests {
    /// Reads their configurations.
    pub fn read(machine: &Machine) -> Guests {
        let mut unknown = Vec::new();
        if machine.is_absent("/etc/pve/local") && is_proxmox(machine) {
            // a plain directory: pmxcfs is not mounted, and what it has is not known
            unknown.push(
                "which containers and VMs have it: /etc/pve is not mounted (is pve-cluster running?)".into(),
            );
        }
        let vms = Vms::read(machine);
        let reservations = Reservations::read(machine).unwrap_or_else(|error| {
            unknown.push(error.to_string());
            Reservations::default()
        });
        unknown.extend(vms.unread.iter().map(ToString::to_string));
        let mut containers = Vec::new();
        let dir = "/etc/pve/lxc";
        let names = machine.list(dir).unwrap_or_else(|error| {
            unknown.push(error.to_string());
            Vec::new()
        });
        for name in names {
            let Some(id) = name.strip_suffix(".conf").and_then(|id| id.parse().ok()) else {
                continue;
            };
            match machine.read(&format!("{dir}/{name}"), MOST) {
                Ok(bytes) => containers.push(Container {
                    id,
                    conf: Conf::parse(&bytes),
                    is_running: is_running(machine, id),
                }),
                Err(error) if error.is_not_found() => {}
                Err(error) => unknown.push(error.to_string()),
            }
        }
        Guests { vms, reservations, containers, unknown }
    }

    /// Adds the guests that are given a function or one of its nodes.
    pub fn of(
        &self,
        machine: &Machine,
        function: &Function,
        nodes: &BTreeSet<FunctionNode>,
        usage: &mut Usage,
    ) {
        usage.unknown.extend(self.unknown.iter().cloned());
        self.vms(function, usage);
        // containers are given nodes of a driver of the host's
        if nodes.is_empty() || function.on_vfio() {
            return;
        }
        for container in &self.containers {
            match given(machine, &container.conf, function, nodes) {
                Given::Yes(by) => usage.users.push(User {
                    kind: UserKind::Container {
                        ctid: container.id,
                        is_running: container.is_running,
                    },
                    name: format!("container {}", container.id),
                    what: by,
                }),
                Given::Unknown(why) => {
                    usage.unknown.push(format!("whether container {} has it: {why}", container.id));
                }
                Given::No => {}
            }
        }
    }

    fn vms(&self, function: &Function, usage: &mut Usage) {
        let functions: Vec<_> = std::iter::once(&function.address).chain(&function.vfs).collect();
        for vm in &self.vms.all {
            let named = functions.iter().find_map(|address| {
                let by = vm.hostpci.iter().find(|by| by.names(**address))?;
                Some((**address, by))
            });
            let Some((address, by)) = named else { continue };
            let through =
                by.mapping.as_ref().map_or(String::new(), |name| format!(" (mapping {name})"));
            let whom =
                if address == function.address { String::new() } else { format!(" {address}") };
            usage.users.push(User {
                kind: UserKind::Vm { vmid: vm.id, is_running: vm.running },
                name: format!("VM {}", vm.id),
                what: format!("has it as {}{through}{whom}", by.key),
            });
        }
        for address in functions {
            let Some(vmid) = self.reservations.vm_of(*address) else { continue };
            if usage.users.iter().any(|user| matches!(user.kind, UserKind::Vm { vmid: id, is_running: true } if id == vmid)) {
                continue;
            }
            usage.users.push(User {
                kind: UserKind::Vm { vmid, is_running: true },
                name: format!("VM {vmid}"),
                what: format!("has reserved {address}"),
            });
        }
    }
}

fn is_proxmox(machine: &Machine) -> bool {
    let installed =
        |packages: &Packages| packages.get("pve-manager").is_some_and(|p| !p.state.is_absent());
    // a package list that cannot be read does not prove that it is not
    Packages::read(machine).is_ok_and(|packages| packages.as_ref().is_some_and(installed))
        || machine.exists("/usr/bin/pveversion")
}

/// LXC makes a control group for each container that runs, on cgroup v2 and
/// below `lxc.monitor` for its monitor.
fn is_running(machine: &Machine, id: u32) -> bool {
    ["/sys/fs/cgroup/lxc", "/sys/fs/cgroup/lxc.monitor"]
        .iter()
        .any(|dir| machine.exists(&format!("{dir}/{id}")))
}

enum Given {
    No,
    Yes(String),
    Unknown(String),
}

/// Whether a container is given one of the nodes: now, or from its next start
/// on (pending values). Snapshots do not count.
fn given(
    machine: &Machine,
    conf: &Conf,
    function: &Function,
    nodes: &BTreeSet<FunctionNode>,
) -> Given {
    let effective = conf.effective();
    let main = conf.keys(&Section::Main);
    for (key, value) in main.iter().chain(effective.iter()) {
        let node = dev_path(key, value).and_then(|path| named(machine, path, nodes));
        if let Some(node) = node {
            return Given::Yes(format!("is given {} ({key})", node.path));
        }
    }
    let mut unknown = None;
    for (key, value) in conf.lxc().chain(conf.lxc_in(&Section::Pending)) {
        match lxc_line(machine, key, value, function, nodes) {
            Given::No => {}
            Given::Unknown(why) => unknown = Some(why),
            yes => return yes,
        }
    }
    unknown.map_or(Given::No, Given::Unknown)
}

fn lxc_line(
    machine: &Machine,
    key: &str,
    value: &str,
    function: &Function,
    nodes: &BTreeSet<FunctionNode>,
) -> Given {
    match key {
        "lxc.mount.entry" => {
            let source = value.split_ascii_whitespace().next().unwrap_or_default();
            match named(machine, source, nodes) {
                Some(node) => Given::Yes(format!("is given {} (mount entry)", node.path)),
                None => Given::No,
            }
        }
        // LXC's own hook calls nvidia-container-cli, which gives what
        // NVIDIA_VISIBLE_DEVICES says: any GPU, where the driver has it
        "lxc.hook.mount" if value.contains("nvidia") && function.vendor == Some(NVIDIA) => {
            Given::Yes("has NVIDIA's hook (lxc.hook.mount)".into())
        }
        "lxc.include" => match included(machine, value) {
            Ok(text) => lines(&text)
                .map(|(key, value)| lxc_line_of_include(machine, key, value, function, nodes))
                .find(|given| matches!(given, Given::Yes(_)))
                .unwrap_or(Given::No),
            Err(error) => Given::Unknown(error.to_string()),
        },
        _ => Given::No,
    }
}

/// An include in an include is not followed: LXC's own are such, and none of
/// them gives a device.
fn lxc_line_of_include(
    machine: &Machine,
    key: &str,
    value: &str,
    function: &Function,
    nodes: &BTreeSet<FunctionNode>,
) -> Given {
    match key {
        "lxc.include" => Given::No,
        key => lxc_line(machine, key, value, function, nodes),
    }
}

fn included(machine: &Machine, path: &str) -> Result<String, FileError> {
    if machine.dir(path).is_err() {
        return machine.read_text(path, MOST);
    }
    let mut all = String::new();
    for name in machine.list(path)?.iter().filter(|name| name.ends_with(".conf")) {
        all.push_str(&machine.read_text(&format!("{path}/{name}"), MOST)?);
        all.push('\n');
    }
    Ok(all)
}

fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim()))
}

/// The path of a `dev[n]` value: `/dev/x,mode=0666` or `mode=0666,path=/dev/x`.
fn dev_path<'a>(key: &str, value: &'a str) -> Option<&'a str> {
    let number = key.strip_prefix("dev")?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let parts = value.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).find_map(|part| match part.split_once('=') {
        None => Some(part),
        Some(("path", path)) => Some(path),
        Some(_) => None,
    })
}

/// The node that a path names: by its own path, by a directory above it, or by
/// the device behind another name of it (`/dev/dri/by-path/...`).
fn named<'a>(
    machine: &Machine,
    path: &str,
    nodes: &'a BTreeSet<FunctionNode>,
) -> Option<&'a FunctionNode> {
    let path = path.trim_end_matches('/');
    if !path.starts_with("/dev") {
        let device = machine.node(path).ok().flatten()?.device()?;
        return nodes.iter().find(|node| node.device == Some(device));
    }
    let holds = |node: &&FunctionNode| {
        node.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    nodes.iter().find(holds).or_else(|| {
        let device = machine.node(path).ok().flatten()?.device()?;
        nodes.iter().find(|node| node.device == Some(device))
    })
}
