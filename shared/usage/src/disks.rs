//! Block devices: which of them hang below a function, and what uses them.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use host::{Claim, Machine, NodeKind};

use crate::sysfs::{ClassDevice, Subtree, class_devices, link_path};
use crate::{Usage, User, UserKind};

/// No table of the kernel that is read here is larger.
const MOST: usize = 16 << 20;
/// Levels of device mapper, md and the like above a partition.
const MOST_LEVELS: usize = 16;

/// The block devices of the machine, and what uses them once that is asked.
#[derive(Debug, Default)]
pub(crate) struct Disks {
    devices: Vec<ClassDevice>,
    unlisted: Option<String>,
    uses: OnceCell<DiskUses>,
}

/// What is mounted, swapped to and imported, by block device.
#[derive(Debug, Default)]
struct DiskUses {
    /// Uses of a device by its name in /sys/class/block, in words.
    uses: BTreeMap<String, Vec<String>>,
    /// Pools of ZFS that are imported and whose members are not known.
    pools: BTreeSet<String>,
    unknown: Vec<String>,
}

impl Disks {
    /// Lists the machine's block devices.
    pub fn read(machine: &Machine) -> Disks {
        match class_devices(machine, "block") {
            Ok(devices) => Disks { devices, ..Disks::default() },
            Err(why) => Disks { unlisted: Some(why), ..Disks::default() },
        }
    }

    /// Adds what uses the disks below a function.
    pub fn below(&self, machine: &Machine, below: &Subtree, usage: &mut Usage) {
        usage.unknown.extend(self.unlisted.clone());
        let own: Vec<&str> = self
            .devices
            .iter()
            .filter(|device| is_below(machine, below, &device.path))
            .map(|device| device.name.as_str())
            .collect();
        let Some(disk) = own.first() else { return };
        let uses = self.uses.get_or_init(|| DiskUses::read(machine, &self.devices));
        usage.unknown.extend(uses.unknown.iter().cloned());
        let paths: Vec<String> = own.iter().map(|name| format!("/dev/{name}")).collect();
        let claims = machine.claims(&paths);
        let before = usage.users.len();
        for (at, name) in own.iter().enumerate() {
            let mut whats = Vec::new();
            uses.of(machine, name, 0, &mut whats);
            match claims.as_ref().map(|claims| &claims[at]) {
                Some(Claim::Held) if whats.is_empty() => {
                    whats.push("is held by a file system, a pool or another driver".into());
                }
                Some(Claim::Unknown(why)) if whats.is_empty() => {
                    usage.unknown.push(format!("whether {} is in use: {why}", paths[at]));
                }
                _ => {}
            }
            usage.users.extend(whats.into_iter().map(|what| User {
                kind: UserKind::Disk,
                name: paths[at].clone(),
                what,
            }));
        }
        // the kernel's own answer is better than none found in the tables
        if claims.is_none() && usage.users.len() == before && !uses.pools.is_empty() {
            let pools = uses.pools.iter().cloned().collect::<Vec<_>>().join(", ");
            let what = format!("whether /dev/{disk} belongs to the imported ZFS pool {pools}");
            usage.unknown.push(what);
        }
    }
}

impl DiskUses {
    fn read(machine: &Machine, devices: &[ClassDevice]) -> DiskUses {
        let mut uses = DiskUses::default();
        let names = Names::read(machine, devices);
        uses.mounts(machine, &names);
        uses.swaps(machine, &names);
        uses.pools(machine, &names);
        uses.btrfs(machine);
        uses
    }

    fn add(&mut self, device: &str, what: String) {
        let uses = self.uses.entry(device.to_string()).or_default();
        if !uses.contains(&what) {
            uses.push(what);
        }
    }

    fn mounts(&mut self, machine: &Machine, names: &Names) {
        let text = match machine.read_text("/proc/mounts", MOST) {
            Ok(text) => text,
            Err(error) => return self.unknown.push(error.to_string()),
        };
        for line in text.lines() {
            let mut words = line.split(' ').map(unescaped);
            let (Some(source), Some(at)) = (words.next(), words.next()) else { continue };
            if words.next().as_deref() == Some("zfs") {
                let pool = source.split('/').next().unwrap_or_default();
                self.pools.insert(pool.to_string());
            } else if let Some(device) = names.device(machine, &source) {
                self.add(&device, format!("is mounted on {at}"));
            }
        }
    }

    fn swaps(&mut self, machine: &Machine, names: &Names) {
        let text = match machine.read_text("/proc/swaps", MOST) {
            Ok(text) => text,
            // a kernel without swap has no such file
            Err(error) if error.is_not_found() => return,
            Err(error) => return self.unknown.push(error.to_string()),
        };
        for line in text.lines().skip(1) {
            let source = line.split_ascii_whitespace().next().map(unescaped).unwrap_or_default();
            if let Some(device) = names.device(machine, &source) {
                self.add(&device, "is swap space".into());
            }
        }
    }

    /// Which devices a pool is made of stands in no file of the kernel's; ZFS's
    /// own cache file names them. A pool of which nothing is found there may
    /// have any disk.
    fn pools(&mut self, machine: &Machine, names: &Names) {
        let kstat = "/proc/spl/kstat/zfs";
        let listed = machine.list(kstat).unwrap_or_default();
        let imported =
            listed.into_iter().filter(|name| machine.dir(&format!("{kstat}/{name}")).is_ok());
        self.pools.extend(imported);
        if self.pools.is_empty() {
            return;
        }
        let cache = machine.read("/etc/zfs/zpool.cache", MOST).unwrap_or_default();
        let members: BTreeSet<String> =
            paths_in(&cache).iter().filter_map(|path| names.device(machine, path)).collect();
        if members.is_empty() {
            return;
        }
        // the cache tells neither which of its pools are imported nor, in a
        // reading of its strings, whose member is whose: all of them count
        let pools = std::mem::take(&mut self.pools).into_iter().collect::<Vec<_>>().join(", ");
        for device in members {
            self.add(&device, format!("is a member of the ZFS pool {pools}"));
        }
    }

    /// A file system of several devices is mounted from one of them.
    fn btrfs(&mut self, machine: &Machine) {
        for id in machine.list("/sys/fs/btrfs").unwrap_or_default() {
            for device in machine.list(&format!("/sys/fs/btrfs/{id}/devices")).unwrap_or_default() {
                self.add(&device, "is part of a mounted btrfs file system".into());
            }
        }
    }

    /// Uses of a device, and of everything that is built on it.
    fn of(&self, machine: &Machine, name: &str, level: usize, uses: &mut Vec<String>) {
        uses.extend(self.uses.get(name).into_iter().flatten().cloned());
        if level == MOST_LEVELS {
            return;
        }
        let dir = format!("/sys/class/block/{name}/holders");
        for holder in machine.list(&dir).unwrap_or_default() {
            let mut above = Vec::new();
            self.of(machine, &holder, level + 1, &mut above);
            match above.is_empty() {
                true => uses.push(format!("is part of {holder}")),
                false => uses.extend(
                    above.into_iter().map(|what| format!("is part of {holder}, which {what}")),
                ),
            }
        }
    }
}

/// A namespace of NVMe with multipath support hangs below a subsystem that is
/// a virtual device; the subsystem links to its controllers.
fn is_below(machine: &Machine, below: &Subtree, path: &str) -> bool {
    if below.holds(path) {
        return true;
    }
    let Some((_, rest)) = path.split_once("/virtual/nvme-subsystem/") else { return false };
    let subsystem = rest.split('/').next().unwrap_or_default();
    let dir = format!("/sys/devices/virtual/nvme-subsystem/{subsystem}");
    let names = machine.list(&dir).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| link_path(machine, &dir, name))
        .any(|controller| below.holds(&controller))
}

/// How programs name block devices.
struct Names {
    /// Names in /sys/class/block.
    kernel: BTreeSet<String>,
    /// Device mapper's names, `pve-root` to `dm-1`.
    mapper: BTreeMap<String, String>,
    /// Names by device number.
    numbers: BTreeMap<(u32, u32), String>,
}

impl Names {
    fn read(machine: &Machine, devices: &[ClassDevice]) -> Names {
        let kernel: BTreeSet<String> = devices.iter().map(|device| device.name.clone()).collect();
        let mapper = kernel.iter().filter(|name| name.starts_with("dm-")).filter_map(|name| {
            let mapped = machine.attr(&format!("/sys/class/block/{name}/dm/name")).ok()?;
            Some((mapped, name.clone()))
        });
        let mapper = mapper.collect();
        let numbers = kernel.iter().filter_map(|name| {
            let text = machine.attr(&format!("/sys/class/block/{name}/dev")).ok()?;
            let (major, minor) = text.split_once(':')?;
            Some(((major.parse().ok()?, minor.parse().ok()?), name.clone()))
        });
        let numbers = numbers.collect();
        Names { kernel, mapper, numbers }
    }

    /// The kernel's name for a path in /dev; `None` where it is not a block
    /// device of this machine (`tmpfs`, `host:/export`).
    fn device(&self, machine: &Machine, path: &str) -> Option<String> {
        let name = path.strip_prefix("/dev/")?;
        if self.kernel.contains(name) {
            return Some(name.to_string());
        }
        let mapped = name.strip_prefix("mapper/").and_then(|name| self.mapper.get(name));
        // any other name is a link, or a node that somebody made
        let node = || machine.node(path).ok().flatten().filter(|node| node.kind == NodeKind::Block);
        let numbered = || node().and_then(|node| self.numbers.get(&(node.major, node.minor)));
        mapped.or_else(numbered).cloned()
    }
}

/// `/proc/mounts` writes white space and backslashes as three octal digits
/// (fs/proc_namespace.c, mangle()).
fn unescaped(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

/// Paths of device nodes among the strings of ZFS's cache file (an XDR nvlist:
/// strings are stored as they are, padded with zero bytes).
fn paths_in(cache: &[u8]) -> BTreeSet<String> {
    cache
        .split(|byte| !byte.is_ascii_graphic())
        .filter(|string| string.starts_with(b"/dev/"))
        .map(|string| String::from_utf8_lossy(string).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_in_a_mount_point_is_octal() {
        assert_eq!(unescaped(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(unescaped(r"/mnt/\x"), r"/mnt/\x");
    }

    #[test]
    fn paths_are_found_between_zero_bytes() {
        let cache = b"\0\0\0\x04path\0\0\0\x1f/dev/disk/by-id/nvme-X-part3\0\0/usr/x\0";
        assert_eq!(paths_in(cache), ["/dev/disk/by-id/nvme-X-part3".to_string()].into());
    }
}
