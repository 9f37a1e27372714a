//! A container whose files are to be changed from outside, running or stopped.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::{FileLock, Machine, Owner};
use pve::{Conf, Guest, RootFs, Section};

use crate::transition::{Recovered, Tree};

/// Proxmox VE's own tool.
const PCT: &str = "/usr/sbin/pct";
/// `pct mount` may have to activate a volume.
const MOUNT: Duration = Duration::from_secs(120);
/// ldconfig reads some hundred files.
const LDCONFIG: Duration = Duration::from_secs(60);

/// A container that is open.
pub struct Container<'a> {
    machine: &'a Machine,
    /// Which.
    pub guest: &'a Guest,
    /// Its configuration when it was opened.
    pub conf: Conf,
    /// Its root file system.
    pub root: Machine,
    /// Who its root is on the host.
    pub owner: Owner,
    /// It runs.
    pub running: bool,
    name: String,
    say: &'a Say,
    maps: Vec<String>,
    place: Place,
    /// No other run of this tool is at it.
    _lock: Option<FileLock>,
}

enum Place {
    /// There without our doing.
    There(String),
    /// `pct mount` put it there.
    Mounted(String),
}

impl<'a> Container<'a> {
    /// Opens it. One that is stopped is mounted, except where nothing may be
    /// changed. Errors: it is locked, or its files cannot be reached.
    pub fn open(
        machine: &'a Machine,
        guest: &'a Guest,
        only_look: bool,
        say: &'a Say,
    ) -> Result<Container<'a>, Failure> {
        let lock = if only_look { None } else { Some(lock(machine, guest)?) };
        let mut conf = Conf::parse(&guest.read(machine)?);
        if !only_look && take_down(machine, guest, &conf, say)? {
            conf = Conf::parse(&guest.read(machine)?);
        }
        pve::require_unlocked(guest, &conf)?;
        let name = guest.target();
        let bad = |why: String| fail(Exit::System, format!("{name}: {why}"));
        let maps = pve::id_maps(&conf).map_err(bad)?;
        let owner = pve::root_ids(&maps).map_err(bad)?;
        let place = match pve::root_file_system(machine, guest.ctid, &conf) {
            RootFs::Running(path) => (Place::There(path), true),
            RootFs::Stopped(path) if only_look || !machine.is_host() => (Place::There(path), false),
            RootFs::Unknown(why) if only_look || !machine.is_host() => {
                return Err(bad(why).hint("start it, or do without --dry-run and --check"));
            }
            _ => (Place::Mounted(mount(machine, guest)?), false),
        };
        let (place, running) = place;
        let path = match &place {
            Place::There(path) | Place::Mounted(path) => path,
        };
        let root = match machine.container_root(path) {
            Ok(root) if running => root.on_one_mount(),
            Ok(root) => root,
            Err(error) => {
                if let Place::Mounted(_) = place {
                    unmount(machine, guest)?;
                }
                return Err(error.into());
            }
        };
        let maps = maps.iter().map(pve::IdMap::argument).collect();
        let _lock = lock;
        Ok(Container { machine, guest, conf, root, owner, running, name, say, maps, place, _lock })
    }

    /// Its tree, for changes.
    pub fn tree(&self) -> Tree<'_> {
        Tree { root: &self.root, owner: self.owner, name: &self.name, say: self.say }
    }

    /// The copy on the host of what is written down in a container.
    pub fn copy(&self) -> String {
        copy_of(self.guest)
    }

    /// Puts right what a run of before left; where nothing may be changed it only
    /// says so.
    pub fn recover(&self, only_look: bool, say: &Say) -> Result<(), Failure> {
        let tree = self.tree();
        if only_look {
            if tree.is_interrupted()? {
                return Err(fail(
                    Exit::System,
                    format!("{}: a run did not come to its end", tree.name),
                )
                .hint("the next run puts that right: do without --dry-run and --check"));
            }
            return Ok(());
        }
        let recovered = tree.recover()?;
        let what = match recovered {
            Recovered::Clean => return Ok(()),
            Recovered::Undone(_) => "undone",
            Recovered::Finished => "finished",
        };
        say.note(&format!("{}: what a run that did not end left was {what}", tree.name));
        if recovered != Recovered::Undone(false) {
            self.ldconfig()?;
        }
        Ok(())
    }

    /// Undoes a change that failed.
    pub fn undo(&self, failure: Failure) -> Failure {
        let undone = self.tree().recover().and_then(|recovered| match recovered {
            Recovered::Undone(true) => self.ldconfig().map(drop),
            _ => Ok(()),
        });
        match undone {
            Ok(()) => failure,
            Err(error) => {
                let message = format!("{}; and it could not be undone: {error}", failure.message);
                fail(failure.exit.max(Exit::System), message).hint("the next run tries again")
            }
        }
    }

    /// Lets go of it.
    pub fn close(self) -> Result<(), Failure> {
        let Container { machine, guest, root, place, .. } = self;
        // what is open keeps a file system busy
        drop(root);
        match place {
            Place::There(_) => Ok(()),
            Place::Mounted(_) => unmount(machine, guest),
        }
    }

    /// A command inside a running one. `None` below --root and where it does
    /// not run. Errors: pct cannot be run.
    pub fn exec(
        &self,
        words: &[&str],
        deadline: Duration,
    ) -> Result<Option<host::command::Ran>, Failure> {
        if !self.running {
            return Ok(None);
        }
        let ctid = self.guest.ctid.to_string();
        let argv = [&[PCT, "exec", &ctid, "--"], words].concat();
        Ok(self.machine.run(&argv, deadline)?)
    }

    /// Has the loader's cache made anew. `Ok` with why where that was not done:
    /// the loader finds libraries in its own directories without it.
    ///
    /// A running container does it itself. For a stopped one the host's own
    /// ldconfig reads the container's files: nothing of the container is
    /// executed, ldconfig is confined to its tree (-r is chroot(2)), and where
    /// the container's users are not the host's it runs as one of them, in a
    /// user namespace with the container's own map.
    pub fn ldconfig(&self) -> Result<Option<String>, Failure> {
        let Some(program) = ["/sbin/ldconfig", "/usr/sbin/ldconfig"]
            .into_iter()
            .find(|path| self.root.exists(path))
        else {
            return Ok(Some("it has no ldconfig".into()));
        };
        let ran = match (self.running, &self.place) {
            (true, _) => self.exec(&[program, "-X"], LDCONFIG)?,
            (false, Place::There(path) | Place::Mounted(path)) => {
                let mut argv = Vec::new();
                if !self.maps.is_empty() {
                    argv.push("lxc-usernsexec");
                    argv.extend(self.maps.iter().flat_map(|map| ["-m", map.as_str()]));
                    argv.push("--");
                }
                argv.extend(["/sbin/ldconfig", "-X", "-r", path]);
                self.machine.run(&argv, LDCONFIG)?
            }
        };
        match ran {
            None => Ok(Some("no command is run below --root".into())),
            Some(ran) if ran.success() => Ok(None),
            Some(ran) => {
                let message = format!("{}: ldconfig failed: {}", self.name, ran.reason());
                Err(fail(Exit::System, message))
            }
        }
    }
}

/// See [`Container::copy`].
pub fn copy_of(guest: &Guest) -> String {
    format!("/var/lib/pve-gpu-tools/nv-runfile/ct-{}.json", guest.ctid)
}

fn lock(machine: &Machine, guest: &Guest) -> Result<FileLock, Failure> {
    let path = format!("/run/lock/pve-gpu-tools/nv-runfile-{}.lock", guest.ctid);
    machine.lock_file(&path, Duration::from_secs(10), &interrupted).map_err(|error| {
        fail(Exit::Refused, format!("{}: {error}", guest.target()))
            .hint("another nv-runfile is at work on it")
    })
}

/// Where it is written down that it was this tool that mounted a container.
fn marker(guest: &Guest) -> String {
    format!("/var/lib/pve-gpu-tools/nv-runfile/ct-{}.mounted", guest.ctid)
}

fn mount(machine: &Machine, guest: &Guest) -> Result<String, Failure> {
    let ctid = guest.ctid.to_string();
    machine.put(&marker(guest), b"")?;
    let failed = |why: String| {
        let _ = machine.remove(&marker(guest));
        fail(Exit::System, format!("{}: pct mount: {why}", guest.target()))
    };
    match machine.run(&[PCT, "mount", &ctid], MOUNT) {
        Ok(Some(ran)) if ran.success() => {}
        Ok(Some(ran)) => return Err(failed(ran.reason())),
        Ok(None) => return Err(failed("no command is run below --root".into())),
        Err(error) => return Err(failed(error.to_string())),
    }
    Ok(format!("/var/lib/lxc/{ctid}/rootfs"))
}

fn unmount(machine: &Machine, guest: &Guest) -> Result<(), Failure> {
    let ctid = guest.ctid.to_string();
    let ran = machine.run(&[PCT, "unmount", &ctid], MOUNT)?;
    match ran {
        Some(ran) if !ran.success() => {
            let message = format!("{}: pct unmount: {}", guest.target(), ran.reason());
            Err(fail(Exit::System, message).hint(format!("run 'pct unmount {ctid}'")))
        }
        _ => Ok(machine.remove(&marker(guest))?),
    }
}

/// Takes down a mount that a killed run of this tool left. Whether there was one.
fn take_down(machine: &Machine, guest: &Guest, conf: &Conf, say: &Say) -> Result<bool, Failure> {
    let ours = machine.exists(&marker(guest));
    if !ours {
        return Ok(false);
    }
    if conf.keys(&Section::Main).get("lock") != Some(&"mounted") || !machine.is_host() {
        machine.remove(&marker(guest))?;
        return Ok(false);
    }
    say.note(&format!("{}: was left mounted by a run that did not end", guest.target()));
    unmount(machine, guest)?;
    Ok(true)
}
