//! Which paths are guests' configurations, and the list of all guests: an id
//! exists once in the cluster, whatever its node and type.

use std::collections::BTreeMap;

/// `nodes/<node>/<lxc|qemu-server>/<id>.conf`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub id: u32,
    pub node: String,
    /// As .vmlist says it.
    pub kind: &'static str,
}

impl Guest {
    /// memdb.c, path_contain_vm_config(): so 0101.conf, 101.conf.tmp.7 and
    /// 101.conf in another directory are files like any other.
    pub fn of(path: &str) -> Option<Guest> {
        let mut parts = path.split('/');
        let (Some("nodes"), Some(node), Some(dir), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let kind = match dir {
            "lxc" => "lxc",
            "qemu-server" => "qemu",
            _ => return None,
        };
        let digits = name.strip_suffix(".conf")?;
        if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Guest { id: digits.parse().ok()?, node: node.to_string(), kind })
    }
}

#[derive(Debug)]
struct Entry {
    guest: Guest,
    version: u32,
}

/// All guests of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    pub version: u32,
    entries: BTreeMap<u32, Entry>,
}

impl Guests {
    /// Whether the id is taken by another guest.
    pub fn taken(&self, guest: &Guest) -> bool {
        self.entries.get(&guest.id).is_some_and(|entry| entry.guest != *guest)
    }

    pub fn register(&mut self, guest: Guest) {
        self.version += 1;
        let version = self.entries.get(&guest.id).map_or(0, |entry| entry.version) + 1;
        self.entries.insert(guest.id, Entry { guest, version });
    }

    pub fn delete(&mut self, id: u32) {
        self.version += 1;
        self.entries.remove(&id);
    }

    /// `.vmlist`, white space and all (status.c, cfs_create_vmlist_msg()).
    pub fn report(&self) -> String {
        if self.entries.is_empty() {
            return format!("{{\n\"version\": {}\n\n}}\n", self.version);
        }
        let line = |entry: &Entry| {
            let Guest { id, node, kind } = &entry.guest;
            let version = entry.version;
            format!(
                "\"{id}\": {{ \"node\": \"{node}\", \"type\": \"{kind}\", \"version\": {version} }}"
            )
        };
        let lines: Vec<String> = self.entries.values().map(line).collect();
        format!("{{\n\"version\": {},\n\"ids\": {{\n{}}}\n\n}}\n", self.version, lines.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_that_pmxcfs_takes_for_guests_are_guests() {
        let guest = Guest::of("nodes/pve1/qemu-server/100.conf").unwrap();
        assert_eq!((guest.id, guest.node.as_str(), guest.kind), (100, "pve1", "qemu"));
        for path in [
            "nodes/pve1/lxc/0101.conf",
            "nodes/pve1/lxc/101.conf.tmp.7",
            "nodes/pve1/lxc/.conf",
            "nodes/pve1/lxc/+1.conf",
            "nodes/pve1/lxc/4294967296.conf",
            "nodes/pve1/priv/101.conf",
            "nodes/pve1/lxc/a/101.conf",
            "nodes/pve1/101.conf",
            "lxc/101.conf",
        ] {
            assert_eq!(Guest::of(path), None, "{path}");
        }
    }
}
