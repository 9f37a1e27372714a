//! One container as `pct` deals with it: its file, its lock, its processes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lxcbed::conf::Conf;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use sha1::{Digest, Sha1};

const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A failure with an exit status other than the usual one.
#[derive(Debug)]
pub struct Status(pub u8, pub String);

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Status {}

/// A container that has a file on this node.
pub struct Guest {
    pub ctid: String,
}

impl Guest {
    pub fn new(ctid: &str) -> Result<Guest> {
        let number = ctid.parse::<u32>().ok().filter(|n| (100..1_000_000_000).contains(n));
        if number.is_none() {
            let why = "type check ('integer') failed or value out of range";
            let message = format!("400 Parameter verification failed.\nvmid: {why}");
            return Err(Status(255, message).into());
        }
        Ok(Guest { ctid: ctid.to_string() })
    }

    fn file(&self) -> String {
        format!("/etc/pve/lxc/{}.conf", self.ctid)
    }

    /// The configuration; what Proxmox VE warns of goes to standard error.
    pub fn load(&self) -> Result<Conf> {
        let node = fs::read_link("/etc/pve/local").context("/etc/pve/local")?;
        let Ok(bytes) = fs::read(self.file()) else {
            let path = format!("{}/lxc/{}.conf", node.display(), self.ctid);
            let message = format!("Configuration file '{path}' does not exist");
            return Err(Status(2, message).into());
        };
        let (conf, warnings) = Conf::parse(&self.ctid, &String::from_utf8_lossy(&bytes));
        for warning in warnings {
            eprintln!("{warning}");
        }
        Ok(conf)
    }

    /// SHA-1 of the file as it is, which Proxmox VE calls its digest.
    pub fn digest(&self) -> Result<String> {
        let bytes = fs::read(self.file()).context("digest")?;
        Ok(hex::encode(Sha1::digest(bytes)))
    }

    pub fn store(&self, conf: &Conf) -> Result<()> {
        let file = self.file();
        let new = format!("{file}.tmp.{}", std::process::id());
        fs::write(&new, conf.write()).and_then(|()| fs::rename(&new, &file)).context(file)
    }

    /// The lock that Proxmox VE and whoever else edits the file hold.
    pub fn lock(&self) -> Result<Flock<File>> {
        fs::create_dir_all("/run/lock/lxc")?;
        let path = format!("/run/lock/lxc/pve-config-{}.lock", self.ctid);
        let mut file = File::options().append(true).create(true).open(&path).context("lock")?;
        let (start, mut told) = (Instant::now(), false);
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, error)) => bail!("can't lock file '{path}' - {error}"),
            }
            if !told {
                eprintln!("trying to acquire lock...");
                told = true;
            }
            if start.elapsed() > LOCK_WAIT {
                bail!("can't lock file '{path}' - got timeout");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Refuses what a `lock:` key forbids.
    pub fn check_lock(&self, conf: &Conf, tolerated: Option<&str>) -> Result<()> {
        match conf.main.get("lock") {
            Some(lock) if Some(lock) != tolerated => bail!("CT is locked ({lock})"),
            _ => Ok(()),
        }
    }

    /// Its first process, where it runs.
    pub fn init(&self) -> Result<Option<i32>> {
        let output = Command::new("lxc-info").args(["-n", &self.ctid, "-p", "-H"]).output();
        let output = output.context("lxc-info (package lxc)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.trim().parse().ok().filter(|pid| *pid > 0))
    }

    /// Whether its monitor is there still, though the container may be gone.
    pub fn watched(&self) -> bool {
        let name = format!("@/var/lib/lxc/{}/command", self.ctid);
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        sockets.lines().any(|line| line.ends_with(&name))
    }

    pub fn need_running(&self) -> Result<i32> {
        self.init()?.with_context(|| format!("CT {} not running", self.ctid))
    }

    /// The process that LXC left behind to watch the container: the parent of
    /// its first.
    pub fn monitor(&self, init: i32) -> Result<i32> {
        let status = fs::read_to_string(format!("/proc/{init}/status"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.and_then(|pid| pid.trim().parse().ok()).context("no parent")
    }

    pub fn dir(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/lxc/{}", self.ctid))
    }

    /// Where its root file system is kept. As on Proxmox VE it is at
    /// [`Guest::rootfs`] only in the monitor's mount namespace, or while
    /// `pct mount` has it there.
    pub fn volume(&self) -> PathBuf {
        PathBuf::from(format!("{}/{}", lxcbed::VOLUMES, self.ctid))
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir().join("rootfs")
    }

    pub fn mount_volume(&self) -> Result<()> {
        fs::create_dir_all(self.rootfs())?;
        let (from, to) = (self.volume(), self.rootfs());
        mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("can't mount {}", from.display()))
    }

    /// Runs the hookscript, where the configuration has one.
    pub fn hookscript(&self, conf: &Conf, phase: &str) -> Result<()> {
        let Some(value) = conf.main.get("hookscript") else { return Ok(()) };
        let path = match value.split_once(":snippets/") {
            Some(("local", name)) => format!("/var/lib/vz/snippets/{name}"),
            Some((storage, _)) => bail!("storage '{storage}' does not exist"),
            None => value.to_string(),
        };
        if !fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
            bail!("hookscript '{path}' does not exist");
        }
        let run = Command::new(&path).args([&self.ctid, phase]).status();
        match run {
            Ok(status) if status.success() => Ok(()),
            failed => {
                let how = match failed {
                    Ok(status) => status
                        .code()
                        .map_or("got signal".into(), |code| format!("exit code {code}")),
                    Err(error) => format!("failed to execute: {error}"),
                };
                let command = format!("command '{path} {} {phase}' failed: {how}", self.ctid);
                bail!("hookscript error for {} on {phase}: {command}", self.ctid)
            }
        }
    }

    /// As [`Guest::hookscript`], in the phases in which a failure changes nothing.
    pub fn hookscript_late(&self, conf: &Conf, phase: &str) {
        if let Err(error) = self.hookscript(conf, phase) {
            eprintln!("{error:#}");
        }
    }
}
