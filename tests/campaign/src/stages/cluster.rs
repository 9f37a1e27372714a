//! `lxc-gpu-conf` on a mounted cluster file system.

use std::ffi::OsString;
use std::path::PathBuf;

use pmxcfs::{Mounted, Pmxcfs, possible};
use testbed::Bed;
use testbed::bed::program;

use super::lxc;
use crate::saved::{Look, Saved};
use crate::stage::Stage;

/// The stage. Each reset is a new file system.
pub struct OnCluster {
    pub args: &'static str,
    // the mount before the directory
    pve: Option<Mounted>,
    bed: Option<Bed>,
}

impl OnCluster {
    pub fn new(args: &'static str) -> OnCluster {
        assert!(possible(), "the campaigns need root and /dev/fuse");
        OnCluster { args, pve: None, bed: None }
    }

    pub fn pve(&self) -> &Mounted {
        self.pve.as_ref().expect("reset comes first")
    }

    fn bed(&self) -> &Bed {
        self.bed.as_ref().expect("reset comes first")
    }
}

const TOOL: &str = "lxc-gpu-conf";

impl Stage for OnCluster {
    fn name(&self) -> String {
        format!("{TOOL} {}, on pmxcfs", self.args)
    }

    fn reset(&mut self) {
        drop(self.pve.take());
        let bed = Bed::of(&testbed::machine::one_gpu());
        let pve = Pmxcfs::over(&bed).unwrap();
        if self.args != lxc::VERBS[0] {
            bed.tool(TOOL).args(lxc::VERBS[0]).run().expect(0);
        }
        if self.args == lxc::VERBS[2] {
            lxc::renumber(&bed);
        }
        pve.clear_log();
        (self.pve, self.bed) = (Some(pve), Some(bed));
    }

    fn command(&self) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![program(TOOL).into(), "--root".into()];
        command.push(self.bed().path().into());
        command.extend(self.args.split_ascii_whitespace().map(OsString::from));
        command
    }

    /// The guests' configurations as the file system itself has them.
    fn look(&self) -> Look {
        let mut look = Saved::of(self.bed().path(), &["var/lib/pve-gpu-tools"]).look();
        for kind in ["nodes/pve1/lxc", "nodes/pve1/qemu-server"] {
            for name in self.pve().names(kind) {
                let path = format!("{kind}/{name}");
                let text = self.pve().get(&path).unwrap_or_default();
                if !name.starts_with(".fuse_hidden") {
                    look.insert(path, String::from_utf8_lossy(&text).into_owned());
                }
            }
        }
        look
    }

    fn log(&self) -> (PathBuf, PathBuf) {
        let path = super::bed::log();
        (path.clone(), path)
    }

    /// Without quorum nothing can be taken away again either.
    fn may_stay(&self, item: &str) -> bool {
        self.is_temporary(item)
    }

    fn may_lag(&self, item: &str) -> bool {
        item.starts_with("var/lib/pve-gpu-tools/")
    }

    fn is_named(&self, item: &str, said: &str) -> bool {
        said.contains("ct 901") || said.contains(item)
    }
}
