//! A container, running or stopped, whose files are changed from the host.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail, interrupted};
use host::{FileLock, LockError, Machine, Owner};
use pve::{Conf, Guest, RootFs, Section};

use crate::install::receipt::{Receipt, read_copy};
use crate::install::transaction::{Recovered, RootTree};

/// Proxmox VE's own tool.
const PCT: &str = "/usr/sbin/pct";
/// `pct mount` may have to activate a volume.
const MOUNT: Duration = Duration::from_secs(120);
/// ldconfig reads some hundred files.
const LDCONFIG: Duration = Duration::from_secs(60);

/// A container that is open.
pub struct Container<'a> {
    machine: &'a Machine,
    pub guest: &'a Guest,
    /// Its configuration when it was opened.
    pub conf: Conf,
    /// Its root file system.
    pub root: Machine,
    /// The container's root user, by its numbers on the host.
    pub owner: Owner,
    pub running: bool,
    name: String,
    say: &'a Say,
    maps: Vec<String>,
    origin: RootOrigin,
    /// Excludes other runs of this tool on the same container.
    _lock: Option<FileLock>,
}

/// Where the root file system is reached, by its path on the host.
enum RootOrigin {
    /// It was reachable.
    Existing(String),
    /// This tool called `pct mount`.
    Mounted(String),
}

impl<'a> Container<'a> {
    /// Opens a container. A stopped one is mounted, unless nothing may be changed.
    /// Errors: the container is locked, or its files cannot be reached.
    pub fn open(
        machine: &'a Machine,
        guest: &'a Guest,
        only_look: bool,
        say: &'a Say,
    ) -> Result<Container<'a>, Failure> {
        let lock = if only_look { None } else { Some(lock(machine, guest)?) };
        let mut conf = Conf::parse(&guest.read(machine)?);
        if !only_look && unmount_leftover(machine, guest, &conf, say)? {
            conf = Conf::parse(&guest.read(machine)?);
        }
        pve::require_unlocked(guest, &conf)?;
        let name = guest.target();
        let bad = |why: String| fail(Exit::System, format!("{name}: {why}"));
        let maps = pve::id_maps(&conf).map_err(bad)?;
        let owner = pve::root_ids(&maps).map_err(bad)?;
        let (origin, running) = match pve::root_file_system(machine, guest.ctid, &conf) {
            RootFs::Running(path) => (RootOrigin::Existing(path), true),
            RootFs::Stopped(path) if only_look || !machine.is_host() => {
                (RootOrigin::Existing(path), false)
            }
            RootFs::Unknown(why) if only_look || !machine.is_host() => {
                let hint = "start the container, or run without --dry-run and --check";
                return Err(bad(why).hint(hint).run(advice::external::pct_start(guest.ctid)));
            }
            _ => (RootOrigin::Mounted(mount(machine, guest)?), false),
        };
        let path = match &origin {
            RootOrigin::Existing(path) | RootOrigin::Mounted(path) => path,
        };
        let opened = match running {
            true => pve::running_root(machine, guest.ctid),
            false => machine.container_root(path),
        };
        // the container decides what is mounted in it, and a stopped one has its mount
        // points too: none of them is its own file system
        let root = match opened.map(Machine::on_one_mount) {
            Ok(root) if machine.is_host() => root.with_rights_of(owner),
            Ok(root) => root,
            Err(error) => {
                if let RootOrigin::Mounted(_) = origin {
                    unmount(machine, guest)?;
                }
                return Err(error.into());
            }
        };
        let maps = maps.iter().map(pve::IdMap::argument).collect();
        let _lock = lock;
        Ok(Container { machine, guest, conf, root, owner, running, name, say, maps, origin, _lock })
    }

    /// Its root file system, to be changed.
    pub fn tree(&self) -> RootTree<'_> {
        let (root, owner, name, say) = (&self.root, self.owner, &self.name, self.say);
        let copy = read_copy(self.machine, &self.copy());
        RootTree { root, owner, name, say, copy }
    }

    /// The receipt that this host keeps, in case the container has lost its own.
    pub fn kept_receipt(&self) -> Option<Receipt> {
        read_copy(self.machine, &self.copy())
    }

    /// The path of the receipt's copy on the host.
    pub fn copy(&self) -> String {
        copy_of(self.guest)
    }

    /// Completes an earlier run that did not end. Errors: there was one, and nothing
    /// may be changed.
    pub fn recover(&self, only_look: bool, say: &Say) -> Result<(), Failure> {
        let tree = self.tree();
        if only_look {
            if tree.is_interrupted()? {
                let message = format!("{}: an earlier run did not end", tree.name);
                return Err(fail(Exit::System, message)
                    .hint("run without --dry-run and --check to complete it"));
            }
            return Ok(());
        }
        let recovered = tree.recover()?;
        let what = match recovered {
            Recovered::Clean => return Ok(()),
            Recovered::RolledBack(_) => "rolled back",
            Recovered::Finished => "finished",
        };
        say.note(&format!("{}: an earlier run that did not end was {what}", tree.name));
        if recovered != Recovered::RolledBack(false) {
            self.ldconfig()?;
        }
        Ok(())
    }

    /// Rolls back a change that failed; returns the failure.
    pub fn roll_back(&self, failure: Failure) -> Failure {
        let undone = self.tree().recover().and_then(|recovered| match recovered {
            Recovered::RolledBack(true) => self.ldconfig().map(drop),
            _ => Ok(()),
        });
        match undone {
            Ok(()) => failure,
            Err(error) => {
                let message =
                    format!("{}; the change could not be rolled back: {error}", failure.message);
                fail(failure.exit.max(Exit::System), message)
                    .hint("the next run tries again to roll it back")
            }
        }
    }

    /// Unmounts a container that was mounted by [`Container::open`].
    pub fn close(self) -> Result<(), Failure> {
        let Container { machine, guest, root, origin, .. } = self;
        // an open file keeps a file system busy
        drop(root);
        match origin {
            RootOrigin::Existing(_) => Ok(()),
            RootOrigin::Mounted(_) => unmount(machine, guest),
        }
    }

    /// Runs a command in the container. `None` with --root, and if the container is
    /// not running.
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
        Ok(self.machine.run_until(&argv, deadline, &interrupted)?)
    }

    /// Updates ld.so.cache. Returns why it was not updated, which is not a failure: the
    /// loader finds libraries in its own directories without the cache.
    ///
    /// A running container runs its own ldconfig. For a stopped one the host's
    /// ldconfig reads the container's files: nothing of the container is
    /// executed, ldconfig is confined to its tree (-r is chroot(2)), and if the
    /// container is unprivileged it runs in a user namespace with the
    /// container's own map.
    pub fn ldconfig(&self) -> Result<Option<String>, Failure> {
        let Some(program) = ["/sbin/ldconfig", "/usr/sbin/ldconfig"]
            .into_iter()
            .find(|path| self.root.exists(path))
        else {
            return Ok(Some("no ldconfig in the container".into()));
        };
        let ran = match (self.running, &self.origin) {
            (true, _) => self.exec(&[program, "-X"], LDCONFIG)?,
            (false, RootOrigin::Existing(path) | RootOrigin::Mounted(path)) => {
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
            None => Ok(Some("no command is run with --root".into())),
            Some(ran) if ran.success() => Ok(None),
            Some(ran) => {
                let message = format!("{}: ldconfig failed: {}", self.name, ran.reason());
                Err(fail(Exit::System, message))
            }
        }
    }
}

/// Why a container's files cannot be read without changing anything: it is
/// stopped, and its volume is not mounted. Errors: the container is locked.
pub fn unreachable_files(machine: &Machine, guest: &Guest) -> Result<Option<String>, Failure> {
    let conf = Conf::parse(&guest.read(machine)?);
    pve::require_unlocked(guest, &conf)?;
    Ok(match pve::root_file_system(machine, guest.ctid, &conf) {
        RootFs::Unknown(why) => Some(why),
        RootFs::Running(_) | RootFs::Stopped(_) => None,
    })
}

/// See [`Container::copy`].
pub fn copy_of(guest: &Guest) -> String {
    format!("/var/lib/pve-gpu-tools/nv-runfile/ct-{}.json", guest.ctid)
}

fn lock(machine: &Machine, guest: &Guest) -> Result<FileLock, Failure> {
    let name = format!("nv-runfile-{}", guest.ctid);
    machine.lock_tool(&name, Duration::from_secs(10), &interrupted).map_err(|error| {
        let message = format!("{}: {error}", guest.target());
        match error {
            LockError::Busy { .. } => fail(Exit::Refused, message)
                .hint("another nv-runfile process is working on this container; try again later"),
            LockError::File(_) => fail(Exit::System, message),
        }
    })
}

/// The file that exists while a container is mounted by this tool.
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
        Ok(None) => return Err(failed("no command is run with --root".into())),
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
            Err(fail(Exit::System, message).run(advice::external::pct_unmount(guest.ctid)))
        }
        _ => Ok(machine.remove(&marker(guest))?),
    }
}

/// Unmounts a container that a killed run of this tool left mounted. Returns
/// whether it did.
fn unmount_leftover(
    machine: &Machine,
    guest: &Guest,
    conf: &Conf,
    say: &Say,
) -> Result<bool, Failure> {
    if !machine.exists(&marker(guest)) {
        return Ok(false);
    }
    if conf.keys(&Section::Main).get("lock") != Some(&"mounted") || !machine.is_host() {
        machine.remove(&marker(guest))?;
        return Ok(false);
    }
    say.note(&format!(
        "{}: an earlier run that did not end left it mounted; it is unmounted",
        guest.target()
    ));
    unmount(machine, guest)?;
    Ok(true)
}
