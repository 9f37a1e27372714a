//! A container's first process and its root file system.

use host::{FileError, FileKind, Machine};

use crate::{Conf, Section, storage};

/// Where a container's root file system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFs {
    /// The container runs: what its processes see.
    Running(String),
    /// It is stopped, and its volume is a directory.
    Stopped(String),
    /// It cannot be looked at from here, and why.
    Unknown(String),
}

impl RootFs {
    /// Its directory.
    pub fn path(&self) -> Option<&str> {
        match self {
            RootFs::Running(path) | RootFs::Stopped(path) => Some(path),
            RootFs::Unknown(_) => None,
        }
    }
}

/// Whether a container runs: it has a control group (pve-container names it
/// lxc/<CTID>).
pub fn is_running(machine: &Machine, ctid: u32) -> bool {
    machine.exists(&format!("/sys/fs/cgroup/lxc/{ctid}")) && init_pid(machine, ctid).is_some()
}

/// Process id of a running container's first process, as this host sees it.
///
/// It is the process in the container's control groups that is number 1 in its
/// own pid namespace. systemd sits in a group of its own below the first.
pub fn init_pid(machine: &Machine, ctid: u32) -> Option<i32> {
    let top = format!("/sys/fs/cgroup/lxc/{ctid}");
    let mut open = vec![(top, 0)];
    while let Some((dir, depth)) = open.pop() {
        let procs = machine.attr(&format!("{dir}/cgroup.procs")).unwrap_or_default();
        let found = procs.lines().filter_map(|line| line.trim().parse().ok());
        if let Some(pid) = found.into_iter().find(|pid| is_first(machine, *pid)) {
            return Some(pid);
        }
        if depth < 3 {
            let names = machine.list(&dir).unwrap_or_default();
            // the usual places last: they are looked at first
            let mut below: Vec<String> = names
                .into_iter()
                .filter(|name| !name.contains('.') || name == "init.scope")
                .collect();
            below.sort_by_key(|name| (name == "ns", name == "init.scope"));
            open.extend(below.into_iter().map(|name| (format!("{dir}/{name}"), depth + 1)));
        }
    }
    None
}

/// `NSpid: 4242 1`: number 1 of a pid namespace right below ours. That of a
/// container in the container is one further down: `4711 230 1`.
fn is_first(machine: &Machine, pid: i32) -> bool {
    is_first_by(&machine.attr(&format!("/proc/{pid}/status")).unwrap_or_default())
}

fn is_first_by(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let ids: Vec<&str> = ids.unwrap_or_default().split_ascii_whitespace().collect();
    ids.len() == 2 && ids[1] == "1"
}

/// The root file system of a running container, opened through its first process: what
/// it is is asked of the process that was opened, so that another one which has its number
/// by then is not taken for it. Errors: the container does not run; the kernel's.
pub fn running_root(machine: &Machine, ctid: u32) -> Result<Machine, FileError> {
    let pid = init_pid(machine, ctid).ok_or_else(|| FileError {
        action: "open",
        path: format!("/sys/fs/cgroup/lxc/{ctid}"),
        source: std::io::Error::other("it has no first process"),
    })?;
    let group = format!("/lxc/{ctid}");
    machine.process_root(pid, &|process| {
        let text = |name: &str| {
            let bytes = process.attr(name).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // a tree below --root records no control groups of processes
        let in_group = !machine.is_host()
            || text("cgroup").lines().any(|line| {
                let rest = line.split_once(&group).map(|(_, rest)| rest);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        in_group && is_first_by(&text("status"))
    })
}

/// Where a container's root file system is now.
pub fn root_file_system(machine: &Machine, ctid: u32, conf: &Conf) -> RootFs {
    if let Some(pid) = init_pid(machine, ctid) {
        return RootFs::Running(format!("/proc/{pid}/root"));
    }
    let keys = conf.keys(&Section::Main);
    let Some(value) = keys.get("rootfs") else {
        return RootFs::Unknown("its configuration names no rootfs".into());
    };
    let first = value.split(',').next().unwrap_or_default();
    let volume = first.strip_prefix("volume=").unwrap_or(first);
    let path = match storage::directory(machine, volume) {
        Ok(path) => path,
        Err(why) => return RootFs::Unknown(format!("it is stopped and {why}")),
    };
    match machine.lstat(&path) {
        Ok(stat) if stat.kind == FileKind::Dir => match machine.exists(&format!("{path}/etc")) {
            true => RootFs::Stopped(path),
            false => RootFs::Unknown(format!("it is stopped and '{path}' is not mounted")),
        },
        _ => RootFs::Unknown(format!("it is stopped and '{path}' does not exist")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    #[test]
    fn a_container_in_the_container_is_not_taken_for_it() {
        let dir = std::env::temp_dir().join(format!("pve-rootfs-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let top = "sys/fs/cgroup/lxc/101";
        put(&format!("{top}/cgroup.procs"), "");
        put(&format!("{top}/ns/cgroup.procs"), "");
        // Docker's, which is found before the init of a container without systemd
        put(&format!("{top}/ns/docker/abc/cgroup.procs"), "4711\n");
        put("proc/4711/status", "Name:\tcuda\nNSpid:\t4711\t230\t1\n");
        let machine = Machine::new(Some(&dir)).unwrap();
        assert_eq!(init_pid(&machine, 101), None);
        put(&format!("{top}/ns/boot/cgroup.procs"), "4242\n4243\n");
        put("proc/4243/status", "Name:\tinit\nNSpid:\t4243\t1\n");
        put("proc/4242/status", "Name:\tsh\nNSpid:\t4242\t7\n");
        assert_eq!(init_pid(&machine, 101), Some(4243));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
