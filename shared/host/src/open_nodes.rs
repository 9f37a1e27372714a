//! Which processes have which device nodes open: one scan of /proc/PID/fd.

use crate::{DeviceNumber, FileError, KernelFiles};

/// A device node that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenNode {
    /// Its path as the kernel shows it: that of the process's own mount
    /// namespace, which in a container may be any.
    pub path: String,
    /// Type and device number of the open file; `None` where only the path was
    /// recorded.
    pub device: Option<DeviceNumber>,
}

/// A process that has device nodes open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHolder {
    /// Process id, as the host counts.
    pub pid: u32,
    /// Command name, which the kernel cuts at 15 bytes (`/proc/PID/comm`).
    pub name: String,
    /// The VM whose QEMU process it is: `kvm -id N`, as Proxmox VE starts it.
    pub vm: Option<u32>,
    /// The LXC container whose process it is, by its control group: the CTID on
    /// Proxmox VE, any name elsewhere. The outermost one where containers nest.
    pub container: Option<String>,
    /// The nodes, each once, in the order of the descriptors.
    pub nodes: Vec<OpenNode>,
}

impl NodeHolder {
    /// The container's id, where it is one of Proxmox VE's.
    pub fn ctid(&self) -> Option<u32> {
        self.container.as_deref()?.parse().ok()
    }

    /// The process for a message: `process 4242 (python) of container 901`.
    pub fn describe(&self) -> String {
        let of = match (self.vm, &self.container) {
            (Some(vm), _) => format!(" of VM {vm}"),
            (None, Some(container)) => format!(" of container {container}"),
            (None, None) => String::new(),
        };
        format!("process {} ({}){of}", self.pid, self.name)
    }
}

/// What a scan of all processes found.
#[derive(Debug, Default)]
pub struct OpenNodes {
    /// Processes with a node of interest open, by process id.
    pub holders: Vec<NodeHolder>,
    /// What could not be read. Where this is not empty, a node without a holder
    /// is of unknown use, not unused.
    pub unread: Vec<FileError>,
}

impl OpenNodes {
    /// Looks once at all processes, for the nodes that `of_interest` picks. A
    /// process that ends during the scan has nothing open.
    pub fn scan(files: &dyn KernelFiles, of_interest: &dyn Fn(&OpenNode) -> bool) -> OpenNodes {
        let mut found = OpenNodes::default();
        let mut pids: Vec<u32> = match files.list("/proc") {
            Ok(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
            Err(error) => {
                found.unread.push(error);
                return found;
            }
        };
        pids.sort_unstable();
        for pid in pids {
            let nodes = match open_nodes(files, pid, of_interest) {
                Ok(nodes) => nodes,
                Err(error) if has_ended(&error) => continue,
                Err(error) => {
                    found.unread.push(error);
                    continue;
                }
            };
            if !nodes.is_empty() {
                found.holders.push(holder(files, pid, nodes));
            }
        }
        found
    }

    /// Processes that have the node at a path of this machine open: by device
    /// number, whatever its name in the process's mount namespace, and by path
    /// where one of the two numbers is not known.
    pub fn of_path(&self, files: &dyn KernelFiles, path: &str) -> Vec<&NodeHolder> {
        let device = files.device_number(path).ok().flatten();
        self.with(|node| match (node.device, device) {
            (Some(open), Some(here)) => open == here,
            _ => node.path == path,
        })
    }

    /// Processes that have a device of this number open.
    pub fn of_device(&self, device: DeviceNumber) -> Vec<&NodeHolder> {
        self.with(|node| node.device == Some(device))
    }

    fn with(&self, is_meant: impl Fn(&OpenNode) -> bool) -> Vec<&NodeHolder> {
        self.holders.iter().filter(|holder| holder.nodes.iter().any(&is_meant)).collect()
    }
}

/// ENOENT, or ESRCH from a file of /proc that was open already.
fn has_ended(error: &FileError) -> bool {
    error.is_not_found() || error.errno() == libc::ESRCH
}

fn open_nodes(
    files: &dyn KernelFiles,
    pid: u32,
    of_interest: &dyn Fn(&OpenNode) -> bool,
) -> Result<Vec<OpenNode>, FileError> {
    let dir = format!("/proc/{pid}/fd");
    let mut nodes: Vec<OpenNode> = Vec::new();
    for fd in files.list(&dir)? {
        let at = format!("{dir}/{fd}");
        let read = files.read_link(&at).and_then(|path| {
            // not `socket:[1]`, `pipe:[2]`, `anon_inode:...`, which are most
            let is_file = path.starts_with('/');
            let device = if is_file { files.device_number(&at)? } else { None };
            Ok(is_file.then_some((device, path)))
        });
        let (device, path) = match read {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            // closed since it was listed
            Err(error) if has_ended(&error) => continue,
            Err(error) => return Err(error),
        };
        let node = OpenNode { path, device };
        if of_interest(&node) && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

fn holder(files: &dyn KernelFiles, pid: u32, nodes: Vec<OpenNode>) -> NodeHolder {
    let read = |name: &str| files.read_attr(&format!("/proc/{pid}/{name}")).unwrap_or_default();
    NodeHolder {
        pid,
        name: read("comm").trim().to_string(),
        vm: vm_of(&read("cmdline")),
        container: container_of(&read("cgroup")),
        nodes,
    }
}

/// `/usr/bin/kvm -id 100 ...`, separated by NUL bytes (qemu-server,
/// config_to_command).
fn vm_of(command_line: &str) -> Option<u32> {
    let mut words = command_line.split('\0');
    let program = words.next()?.rsplit('/').next()?;
    if program != "kvm" && !program.starts_with("qemu-system-") {
        return None;
    }
    words.find(|word| *word == "-id")?;
    words.next()?.parse().ok()
}

/// The LXC container that the lines of /proc/PID/cgroup name: pve-container
/// makes `/lxc/901`, LXC itself `/lxc.payload.NAME`, also below a user's slice,
/// and older versions `/lxc.payload/NAME`. `lxc.monitor.NAME` is the process
/// outside the container that watches it.
fn container_of(cgroup: &str) -> Option<String> {
    cgroup.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        while let Some(part) = parts.next() {
            let name = match part {
                "lxc" | "lxc.payload" => parts.next(),
                part => part.strip_prefix("lxc.payload."),
            };
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                return Some(name.to_string());
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Machine;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_process_is_known_by_the_device_number_of_what_it_has_open() {
        let machine = Machine::new(None).unwrap();
        let link = std::env::temp_dir().join(format!("host-open-{}", std::process::id()));
        symlink("/dev/zero", &link).unwrap();
        let open = std::fs::File::open(&link).unwrap();
        let zero = DeviceNumber::character(1, 5);
        let found = OpenNodes::scan(&machine, &|node| node.device == Some(zero));
        let me = std::process::id();
        assert!(found.of_device(zero).iter().any(|holder| holder.pid == me));
        assert!(found.of_path(&machine, "/dev/zero").iter().any(|holder| holder.pid == me));
        assert!(found.of_path(&machine, "/dev/null").is_empty());
        drop(open);
        std::fs::remove_file(link).unwrap();
    }

    #[test]
    fn a_recorded_host_is_matched_by_its_list_or_else_by_path() {
        let dir = std::env::temp_dir().join(format!("host-open-tree-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("dev.list", "c /dev/nvidia0 195:0 0666 0:0\nc /dev/inside 195:0 0666 0:0\n");
        put("proc/40/comm", "python\n");
        put("proc/40/cgroup", "0::/lxc/901/ns/user.slice\n");
        put("proc/50/comm", "kvm\n");
        put("proc/50/cmdline", "/usr/bin/kvm\0-id\x00100\0-name\0x\0");
        for (pid, target) in [("40", "/dev/inside"), ("50", "/dev/vfio/15"), ("50", "socket:[1]")] {
            std::fs::create_dir_all(dir.join(format!("proc/{pid}/fd"))).unwrap();
            symlink(target, dir.join(format!("proc/{pid}/fd/{}", target.len()))).unwrap();
        }
        let machine = Machine::new(Some(&dir)).unwrap();
        let found = OpenNodes::scan(&machine, &|_| true);
        let of = |path: &str| {
            let holders = found.of_path(&machine, path);
            holders.iter().map(|holder| holder.describe()).collect::<Vec<_>>()
        };
        assert_eq!(of("/dev/nvidia0"), ["process 40 (python) of container 901"]);
        assert_eq!(of("/dev/vfio/15"), ["process 50 (kvm) of VM 100"]);
        assert_eq!(found.holders[1].nodes.len(), 1);
        assert!(found.unread.is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn containers_and_vms_are_known_by_their_processes() {
        for (cgroup, name) in [
            ("0::/lxc/901/ns/init.scope\n", Some("901")),
            ("0::/lxc.payload.901/system.slice/x.service\n", Some("901")),
            ("0::/user.slice/user-1000.slice/user@1000.service/lxc.payload.web/x\n", Some("web")),
            ("12:devices:/lxc/902/ns\n0::/\n", Some("902")),
            ("0::/lxc/901/ns/lxc/5/ns\n", Some("901")),
            ("0::/lxc.monitor.901\n", None),
            ("0::/lxc.monitor/901\n", None),
            ("0::/system.slice/lxc.service\n", None),
            ("0::/lxc\n", None),
            ("", None),
        ] {
            assert_eq!(container_of(cgroup).as_deref(), name, "{cgroup}");
        }
        assert_eq!(vm_of("/usr/bin/kvm\0-id\x00100\0"), Some(100));
        assert_eq!(vm_of("qemu-system-x86_64\0-name\0a\0-id\x00101"), Some(101));
        assert_eq!(vm_of("python\0-id\x00100"), None);
        assert_eq!(vm_of("kvm\0-id"), None);
    }
}
