//! Hosts whose /etc/pve is mounted.

#![allow(dead_code)]

use std::path::PathBuf;

use pmxcfs::{Logged, Mounted, Op, Pmxcfs, possible};
use testbed::Bed;

/// A recorded host with a cluster file system over its /etc/pve. Fields go away
/// in this order: the mount before the directory.
pub struct Host {
    pub pve: Mounted,
    pub bed: Bed,
}

pub const LXC: &str = "nodes/pve1/lxc";
pub const CONF: &str = "nodes/pve1/lxc/901.conf";

impl Host {
    pub fn new() -> Host {
        Host::of(Bed::new("pve9-two-gpus"))
    }

    pub fn of(bed: Bed) -> Host {
        assert!(possible(), "these tests need root and /dev/fuse");
        let pve = Pmxcfs::over(&bed).expect("mount");
        Host { pve, bed }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.pve.at(path)
    }

    pub fn conf(&self, path: &str) -> String {
        String::from_utf8(self.pve.get(path).expect(path)).expect("UTF-8")
    }

    /// Every file of the cluster and its content.
    pub fn all(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            for name in self.pve.names(&dir) {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                match self.pve.get(&path) {
                    // .version and .vmlist count changes
                    Some(_) if path.starts_with('.') => {}
                    Some(bytes) => found.push((path, bytes)),
                    None => dirs.push(path),
                }
            }
        }
        found.sort();
        found
    }

    /// The requests that a change of a configuration could be made with.
    pub fn changes_of(&self, path: &str) -> Vec<Logged> {
        let mut log = self.pve.log();
        log.retain(|l| {
            (l.op.changes() || l.op == Op::OpenWrite)
                && (l.path == path || l.to.as_deref() == Some(path))
        });
        log
    }
}
