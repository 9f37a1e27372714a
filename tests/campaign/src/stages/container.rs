//! `nv-runfile install --ct` and `uninstall --ct` on a real container.

use std::ffi::OsString;
use std::path::PathBuf;

use lxcbed::debian::small_installer;
use lxcbed::snapshot::quick_tree;
use lxcbed::{Container, Host};
use testbed::bed::program;

use crate::saved::Look;
use crate::stage::Stage;

/// The stage.
pub struct InContainer<'a> {
    host: &'a Host,
    container: Container<'a>,
    installs: bool,
}

const CTID: u32 = 950;
const LOCK: &str = "950.conf, locked";
const LOCKED: &str = "lock: mounted\n";

/// A host with a container that has Debian in it and what installing and
/// taking away again leaves.
pub fn host() -> Host {
    Host::new("pve9-two-gpus")
}

/// The container, running or not.
pub fn container(host: &Host, running: bool) -> Container<'_> {
    let container = host.create_debian(CTID, true);
    container.start();
    container.exec(&["/sbin/ldconfig", "-X"]).expect(0);
    if !running {
        container.stop();
        // the cache as the host's own ldconfig writes it
        host.run(&format!("nv-runfile {}", install())).expect(0);
        host.run("nv-runfile uninstall --ct 950").expect(0);
    }
    container
}

fn install() -> String {
    format!("install {} --ct {CTID} --set compute,utility", small_installer().display())
}

impl<'a> InContainer<'a> {
    pub fn new(host: &'a Host, container: Container<'a>, installs: bool) -> InContainer<'a> {
        InContainer { host, container, installs }
    }

    /// To go on with for the other verb.
    pub fn into_container(self) -> Container<'a> {
        self.container
    }
}

impl Stage for InContainer<'_> {
    fn name(&self) -> String {
        let state = if self.container.running() { "running" } else { "stopped" };
        let verb = if self.installs { "install" } else { "uninstall" };
        format!("nv-runfile {verb} --ct, {state} container")
    }

    fn reset(&mut self) {
        // there is one way back to the start, and it is the tool's own
        self.host.run("nv-runfile uninstall --ct 950").expect(0);
        if !self.installs {
            self.host.run(&format!("nv-runfile {}", install())).expect(0);
        }
    }

    fn prefix(&self) -> Vec<OsString> {
        let (pid, cgroup) = (self.host.pid().into(), self.host.cgroup().into());
        vec![program("lxcbed").into(), "enter".into(), pid, cgroup, "--".into()]
    }

    fn command(&self) -> Vec<OsString> {
        let args = if self.installs { install() } else { format!("uninstall --ct {CTID}") };
        let words = format!("/usr/sbin/nv-runfile {args}");
        words.split_ascii_whitespace().map(OsString::from).collect()
    }

    fn look(&self) -> Look {
        let mut look = quick_tree(&self.container.at("/"));
        // written anew by each ldconfig, and by nobody's doing but its
        look.retain(|item, _| item != "var/cache/ldconfig/aux-cache");
        // pct mount locks the container until pct unmount; the next run takes a left one down
        let conf = self.container.conf();
        if conf.contains(LOCKED) {
            look.insert(LOCK.into(), LOCKED.into());
        }
        look.insert("950.conf".into(), conf.replace(LOCKED, ""));
        // inode and times tell whether a large file was touched; a library that
        // was taken away and put back is another file with the same name
        let untimed = |what: String| match what.contains(" bytes ") && what.contains('.') {
            true => what.split(" bytes ").next().unwrap_or("").to_string(),
            false => what,
        };
        let mut look: Look = look.into_iter().map(|(item, what)| (item, untimed(what))).collect();
        // says when
        for (_, what) in look.iter_mut().filter(|(item, _)| item.contains("pve-gpu-tools")) {
            what.truncate(6);
        }
        look
    }

    fn log(&self) -> (PathBuf, PathBuf) {
        let path = "/run/campaign.strace";
        (path.into(), self.host.at(path))
    }

    fn is_temporary(&self, item: &str) -> bool {
        item == LOCK || item.contains(".nv-runfile-")
    }

    fn may_stay(&self, item: &str) -> bool {
        item.contains("var/lib/pve-gpu-tools")
    }

    fn may_lag(&self, item: &str) -> bool {
        self.may_stay(item)
    }
}
