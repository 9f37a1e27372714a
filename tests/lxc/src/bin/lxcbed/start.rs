//! From `/etc/pve/lxc/<CTID>.conf` to a running container, in Proxmox VE's order.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use lxcbed::conf::{Conf, Device};
use nix::sys::stat::{major, minor};

use crate::guest::Guest;

const LXC_CONFIG: &str = "/usr/share/lxc/config";

/// A node on the host, as a rule names it.
pub struct Number {
    pub kind: char,
    pub rdev: u64,
}

impl Number {
    pub fn of(path: &str) -> Result<Number> {
        let Ok(meta) = fs::metadata(path) else { bail!("Device {path} does not exist") };
        let kind = match meta.file_type() {
            kind if kind.is_char_device() => 'c',
            kind if kind.is_block_device() => 'b',
            _ => bail!("{path} is not a device"),
        };
        Ok(Number { kind, rdev: meta.rdev() })
    }

    pub fn text(&self, separator: char) -> String {
        let (major, minor) = (major(self.rdev), minor(self.rdev));
        format!("{}{separator}{major}:{minor}", self.kind)
    }
}

/// The file that `lxc-start` reads.
pub fn lxc_config(guest: &Guest, conf: &Conf) -> Result<String> {
    let (ctid, main) = (&guest.ctid, &conf.main);
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} = {value}");
    };
    line("lxc.cgroup.relative", "0");
    line("lxc.cgroup.dir.monitor", &format!("lxc.monitor/{ctid}"));
    line("lxc.cgroup.dir.container", &format!("lxc/{ctid}"));
    line("lxc.cgroup.dir.container.inner", "ns");
    line("lxc.arch", main.get("arch").context("missing 'arch' - internal error")?);
    let os = main.get("ostype").context("missing 'ostype' - internal error")?;
    let include = |kind: &str| {
        let own = format!("{LXC_CONFIG}/{os}.{kind}.conf");
        if Path::new(&own).exists() { own } else { format!("{LXC_CONFIG}/{kind}.conf") }
    };
    line("lxc.include", &include("common"));
    if main.unprivileged() {
        line("lxc.include", &include("userns"));
    }
    // Proxmox VE generates a profile; what is tested here is not AppArmor
    line("lxc.apparmor.profile", "unconfined");
    let features = main.get("features").unwrap_or_default();
    let feature = |name: &str| features.split(',').any(|one| one == format!("{name}=1"));
    if feature("fuse") {
        line("lxc.mount.entry", "/dev/fuse dev/fuse none bind,create=file 0 0");
    }
    if main.unprivileged() && !feature("force_rw_sys") {
        line("lxc.mount.auto", "sys:mixed");
    }
    for (_, device) in devices(conf)? {
        let rule = Number::of(&device.path)?.text(' ');
        if device.deny_write {
            line("lxc.cgroup2.devices.allow", &format!("{rule} r"));
            line("lxc.cgroup2.devices.deny", &format!("{rule} w"));
        } else {
            line("lxc.cgroup2.devices.allow", &format!("{rule} rw"));
        }
    }
    line("lxc.monitor.unshare", "1");
    if main.unprivileged() && !main.custom_idmap() {
        line("lxc.idmap", "u 0 100000 65536");
        line("lxc.idmap", "g 0 100000 65536");
    }
    line("lxc.tty.max", main.get("tty").unwrap_or("2"));
    line("lxc.environment", "TERM=linux");
    line("lxc.uts.name", main.get("hostname").unwrap_or(&format!("CT{ctid}")));
    line("lxc.rootfs.path", &guest.rootfs().to_string_lossy());
    // no bridge here: every container is on its own
    line("lxc.net.0.type", "empty");
    for (key, value) in &main.lxc {
        line(key, value);
    }
    Ok(text)
}

pub fn devices(conf: &Conf) -> Result<Vec<(String, Device)>> {
    conf.main.devices().map_err(anyhow::Error::msg)
}

/// What a container is named by its CTID on the host.
pub fn host_id(conf: &Conf, kind: char, id: u32) -> u32 {
    let mut maps: Vec<[u32; 3]> = Vec::new();
    for (_, value) in conf.main.lxc.iter().filter(|(key, _)| key == "lxc.idmap") {
        let mut words = value.split_whitespace();
        if words.next() == Some(kind.to_string().as_str()) {
            let numbers: Vec<u32> = words.filter_map(|word| word.parse().ok()).collect();
            maps.extend(<[u32; 3]>::try_from(numbers));
        }
    }
    if maps.is_empty() && conf.main.unprivileged() {
        maps.push([0, 100_000, 65_536]);
    }
    let map = maps.iter().find(|[from, _, count]| id >= *from && id - from < *count);
    map.map_or(id, |[from, to, _]| id - from + to)
}

pub fn start(guest: &Guest) -> Result<()> {
    let lock = guest.lock()?;
    let mut conf = guest.load()?;
    guest.check_lock(&conf, Some("mounted"))?;
    if guest.init()?.is_some() {
        bail!("CT {} already running", guest.ctid);
    }
    start_locked(guest, &mut conf)?;
    drop(lock);
    Ok(())
}

pub fn start_locked(guest: &Guest, conf: &mut Conf) -> Result<()> {
    if conf.apply_pending() {
        guest.store(conf)?;
    }
    if conf.main.get("template") == Some("1") {
        bail!("you can't start a CT if it's a template");
    }
    let dir = guest.dir();
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("config"), lxc_config(guest, conf)?)?;
    guest.hookscript(conf, "pre-start")?;
    let log = format!("/var/log/lxc/{}.log", guest.ctid);
    let _ = fs::remove_file(&log);
    let status = Command::new("lxc-start")
        .args(["-d", "-q", "-n", &guest.ctid, "-l", "WARN", "-o", &log])
        .status()
        .context("lxc-start (package lxc)")?;
    if !status.success() {
        for line in fs::read_to_string(&log).unwrap_or_default().lines() {
            if let Some(message) = said(line) {
                eprintln!("{message}");
            }
        }
        guest.hookscript_late(conf, "post-stop");
        bail!("startup for container '{}' failed", guest.ctid);
    }
    guest.hookscript_late(conf, "post-start");
    Ok(())
}

/// A line of LXC's log as a Proxmox VE task shows it: `function: line message`.
fn said(line: &str) -> Option<String> {
    let (_, line) = line.split_once(" ERROR ")?;
    let mut parts = line.trim().splitn(3, " - ");
    let (_, place, message) = (parts.next()?, parts.next()?, parts.next()?);
    let mut place = place.rsplit(':');
    let (number, function) = (place.next()?, place.next()?);
    Some(format!("{function}: {number} {message}"))
}
