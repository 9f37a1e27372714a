//! The groups of a container, for the owner of DRM nodes.

use std::collections::BTreeMap;

use host::Machine;
use pve::{Conf, Guest, RootFs, root_file_system};

/// Ids of the groups in a container, by name.
#[derive(Debug, Default)]
pub struct ContainerGroups {
    ids: BTreeMap<String, u32>,
    /// Why the groups are not known.
    pub unknown: Option<String>,
}

impl ContainerGroups {
    /// From the container's own /etc/group.
    pub fn of(machine: &Machine, guest: &Guest, conf: &Conf) -> ContainerGroups {
        let unknown = |why: String| ContainerGroups { ids: BTreeMap::new(), unknown: Some(why) };
        let path = match root_file_system(machine, guest.ctid, conf) {
            RootFs::Unknown(why) => return unknown(why),
            RootFs::Running(path) | RootFs::Stopped(path) => path,
        };
        let text =
            machine.container_root(&path).and_then(|root| root.read_text("/etc/group", 1 << 20));
        match text {
            Ok(text) => ContainerGroups { ids: groups(&text), unknown: None },
            Err(error) => unknown(error.to_string()),
        }
    }

    /// The id of a group, where it is known.
    pub fn gid(&self, name: &str) -> Option<u32> {
        self.ids.get(name).copied()
    }
}

/// `video:x:44:user`.
fn groups(text: &str) -> BTreeMap<String, u32> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name.to_string(), fields.nth(1)?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read() {
        let ids = groups("root:x:0:\nvideo:x:44:plex\nrender:x:993:\nbad\n:x:y\n");
        assert_eq!((ids["video"], ids["render"]), (44, 993));
    }
}
