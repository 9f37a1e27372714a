//! Containers of a host: how one is made, and what a process in it is allowed.

use std::path::PathBuf;

use testbed::Ran;

use crate::conf::Conf;
use crate::host::Host;
use crate::rootfs::{self, PROBE};
use crate::{VOLUMES, debian};

/// What open(2) for reading and writing said to a process in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// It opened: there is a driver.
    Ok,
    /// Allowed, but the number has no driver (ENXIO, or ENODEV of some drivers).
    NoDriver,
    /// EPERM: the device cgroup forbids it.
    Denied,
    /// EACCES: mode or owner, or a file system without devices, forbids it.
    NoAccess,
    /// ENOENT.
    Missing,
    /// Not a device at all but a regular file with this mode.
    RegularFile(u32),
    /// Another errno, by name.
    Other(String),
}

impl OpenOutcome {
    /// Whether the container may use the device.
    pub fn allowed(&self) -> bool {
        matches!(self, OpenOutcome::Ok | OpenOutcome::NoDriver)
    }
}

/// What stat(2) said in the container, links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `c`, `b`, `-`, `d` or `?`.
    pub kind: char,
    pub mode: u32,
    /// Owner as the container sees it; 65534 is one that it does not know.
    pub uid: u32,
    pub gid: u32,
    pub major: u32,
    pub minor: u32,
}

/// A container by its id.
pub struct Container<'a> {
    host: &'a Host,
    pub ctid: u32,
}

impl Host {
    /// A new container: a plain configuration and a root file system. Panics
    /// where there is one of this number.
    pub fn create(&self, ctid: u32, unprivileged: bool) -> Container<'_> {
        let more = if unprivileged { "unprivileged: 1\n" } else { "" };
        let conf = format!(
            "arch: amd64\ncores: 2\nhostname: ct{ctid}\nmemory: 512\nostype: debian\n\
             rootfs: local-lvm:vm-{ctid}-disk-0,size=8G\nswap: 512\n{more}"
        );
        self.write(&format!("/etc/pve/lxc/{ctid}.conf"), conf);
        self.adopt(ctid)
    }

    /// A new container with a real Debian in it. Panics where there is one of
    /// this number.
    pub fn create_debian(&self, ctid: u32, unprivileged: bool) -> Container<'_> {
        let container = self.create(ctid, unprivileged);
        let volume = self.at(&format!("{VOLUMES}/{ctid}"));
        std::fs::remove_dir_all(&volume).expect("volume");
        debian::make(&volume, if unprivileged { 100_000 } else { 0 });
        container
    }

    /// A new unprivileged container that has dnf and says that it is of the RHEL
    /// family. Panics where there is one of this number.
    pub fn create_dnf(&self, ctid: u32) -> Container<'_> {
        let container = self.create(ctid, true);
        let volume = self.at(&format!("{VOLUMES}/{ctid}"));
        std::fs::remove_dir_all(&volume).expect("volume");
        std::fs::create_dir(&volume).expect("volume");
        debian::fill_with_dnf(&volume, 100_000);
        container
    }

    /// A container whose configuration the machine has: gives it its root file
    /// system.
    pub fn adopt(&self, ctid: u32) -> Container<'_> {
        let text = self.read(&format!("/etc/pve/lxc/{ctid}.conf"));
        let (conf, _) = Conf::parse(&ctid.to_string(), &text);
        let owner = if conf.main.unprivileged() { 100_000 } else { 0 };
        rootfs::make(&self.at(&format!("{VOLUMES}/{ctid}")), owner);
        Container { host: self, ctid }
    }
}

impl Container<'_> {
    pub fn conf_path(&self) -> String {
        format!("/etc/pve/lxc/{}.conf", self.ctid)
    }

    pub fn conf(&self) -> String {
        self.host.read(&self.conf_path())
    }

    /// Adds lines to the end of the file, which must have no section.
    pub fn append(&self, lines: &str) {
        let conf = self.conf();
        assert!(!conf.contains("\n["), "would go into a section:\n{conf}");
        self.host.write(&self.conf_path(), conf + lines);
    }

    /// A file of its root file system as the test can open it, whether it runs
    /// or not. What is written so belongs to a user that the container may not know.
    pub fn at(&self, path: &str) -> PathBuf {
        self.host.at(&format!("{VOLUMES}/{}{path}", self.ctid))
    }

    /// The configuration that the last start made for LXC.
    pub fn lxc_config(&self) -> String {
        self.host.read(&format!("/var/lib/lxc/{}/config", self.ctid))
    }

    /// What LXC logged at the last start: warnings and errors.
    pub fn log(&self) -> String {
        self.host.read(&format!("/var/log/lxc/{}.log", self.ctid))
    }

    fn pct(&self, verb: &str) -> Ran {
        self.host.pct(&format!("{verb} {}", self.ctid))
    }

    /// Starts it. Panics where it does not start.
    pub fn start(&self) {
        self.pct("start").expect(0);
    }

    /// Tries to start it. Panics where it starts; else what pct said.
    pub fn start_fails(&self) -> String {
        let ran = self.pct("start");
        assert_ne!(ran.code(), 0, "it started:\n{}", self.lxc_config());
        assert!(!self.running(), "it runs although pct start failed");
        ran.stderr
    }

    /// Stops it at once.
    pub fn stop(&self) {
        self.pct("stop").expect(0);
    }

    pub fn restart(&self) {
        self.pct("reboot").expect(0);
    }

    pub fn running(&self) -> bool {
        match self.pct("status").expect(0).stdout.trim() {
            "status: running" => true,
            "status: stopped" => false,
            other => panic!("pct status says: {other}"),
        }
    }

    /// A command inside, by the real lxc-attach.
    pub fn exec(&self, words: &[&str]) -> Ran {
        let ctid = self.ctid.to_string();
        self.host.pct_words(&[&["exec", &ctid, "--"], words].concat())
    }

    fn probe(&self, words: &[&str]) -> String {
        let ran = self.exec(&[&[PROBE], words].concat()).expect(0);
        ran.stdout.trim().to_string()
    }

    /// May a process inside open it for reading and writing?
    pub fn open(&self, path: &str) -> OpenOutcome {
        let said = self.probe(&["open", path]);
        match said.as_str() {
            "OK" => OpenOutcome::Ok,
            "ENXIO" | "ENODEV" => OpenOutcome::NoDriver,
            "EPERM" => OpenOutcome::Denied,
            "EACCES" => OpenOutcome::NoAccess,
            "ENOENT" => OpenOutcome::Missing,
            other => match other.strip_prefix("regular ") {
                Some(mode) => OpenOutcome::RegularFile(u32::from_str_radix(mode, 8).expect("mode")),
                None => OpenOutcome::Other(said),
            },
        }
    }

    /// What is there; `None` where there is nothing.
    pub fn stat(&self, path: &str) -> Option<Seen> {
        let said = self.probe(&["stat", path]);
        if said == "ENOENT" {
            return None;
        }
        let words: Vec<&str> = said.split(' ').collect();
        let number = |word: &str| word.parse().expect("number");
        let [kind, mode, uid, gid, major, minor] = words[..] else { panic!("stat {path}: {said}") };
        Some(Seen {
            kind: kind.chars().next().expect("type"),
            mode: u32::from_str_radix(mode, 8).expect("mode"),
            uid: number(uid),
            gid: number(gid),
            major: number(major),
            minor: number(minor),
        })
    }

    /// Makes a character device inside, by hand. Errors: the errno's name.
    pub fn mknod(&self, path: &str, major: u32, minor: u32) -> Result<(), String> {
        let said = self.probe(&["mknod", path, &major.to_string(), &minor.to_string()]);
        if said == "OK" { Ok(()) } else { Err(said) }
    }
}
