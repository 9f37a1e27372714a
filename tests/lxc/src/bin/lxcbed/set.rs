//! `pct set`: edits the file the way Proxmox VE does, and puts a new `dev[n]`
//! into a container that runs.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use lxcbed::conf::{Conf, Device};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{setfsgid, setfsuid};

use crate::guest::{Guest, Status};
use crate::hooks::{make, passthrough, stand_in};
use crate::start::{Number, devices, host_id};

/// Keys that may be set here; others are no part of any test.
const KEYS: [&str; 13] = [
    "arch",
    "cores",
    "description",
    "features",
    "hookscript",
    "hostname",
    "lock",
    "memory",
    "onboot",
    "ostype",
    "swap",
    "tags",
    "unprivileged",
];

pub fn set(guest: &Guest, options: &[&str]) -> Result<()> {
    let Asked { changes, deletes, digest } = parse(options)?;
    let _lock = guest.lock()?;
    let mut conf = guest.load()?;
    if digest.is_some_and(|digest| guest.digest().is_ok_and(|now| now != digest)) {
        bail!("detected modified configuration - file changed by other user? Try again.");
    }
    guest.check_lock(&conf, None)?;
    let init = guest.init()?;
    let mut added = Vec::new();
    for (key, value) in &changes {
        if let Some(device) = device(key, value)? {
            Number::of(&device.path)?;
            if init.is_some() && conf.main.get(key) != Some(value) {
                if conf.main.keys.contains_key(key) {
                    conf.pending.keys.insert(key.clone(), value.clone());
                    continue;
                }
                added.push(device);
            }
        }
        conf.main.keys.insert(key.clone(), value.clone());
    }
    for key in &deletes {
        let device = key.starts_with("dev") && conf.main.keys.contains_key(key);
        if init.is_some() && device {
            conf.delete_later(key);
        } else {
            conf.main.keys.remove(key);
        }
        // a deletion undoes a change that waits
        conf.pending.keys.remove(key);
    }
    guest.store(&conf)?;
    // the file is written: a device that is gone is an error all the same
    for (_, device) in devices(&conf)? {
        Number::of(&device.path)?;
    }
    for device in &added {
        hot_add(guest, &conf, device, init.context("not running")?)?;
    }
    Ok(())
}

/// What the options ask for.
#[derive(Default)]
struct Asked {
    changes: Vec<(String, String)>,
    deletes: Vec<String>,
    /// The file must still be this one.
    digest: Option<String>,
}

fn parse(options: &[&str]) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix('-') else {
            return Err(Status(255, "400 too many arguments".into()).into());
        };
        let name = name.trim_start_matches('-');
        let (key, value) = match name.split_once('=') {
            Some((key, value)) => (key, value),
            None => (name, *words.next().with_context(|| format!("no value for --{name}"))?),
        };
        let index = key.strip_prefix("dev").and_then(|index| index.parse::<u32>().ok());
        if key == "delete" || key == "delet" {
            asked.deletes.extend(value.split(',').map(str::to_string));
        } else if key == "digest" {
            asked.digest = Some(value.to_string());
        } else if index.is_some_and(|index| index < 256) || KEYS.contains(&key) {
            asked.changes.push((key.to_string(), value.to_string()));
        } else {
            return Err(
                Status(255, format!("Unknown option: {key}\n400 unable to parse option")).into()
            );
        }
    }
    if asked.changes.is_empty() && asked.deletes.is_empty() {
        bail!("no options specified");
    }
    Ok(asked)
}

fn device(key: &str, value: &str) -> Result<Option<Device>> {
    if key.strip_prefix("dev").is_none_or(|index| index.parse::<u32>().is_err()) {
        return Ok(None);
    }
    Device::parse(key, value)
        .map(Some)
        .map_err(|error| Status(255, format!("400 Parameter verification failed.\n{error}")).into())
}

/// A new node in a running container: made beside those that it started with,
/// and mounted where the container has its own.
fn hot_add(guest: &Guest, conf: &Conf, device: &Device, init: i32) -> Result<()> {
    let number = Number::of(&device.path)?;
    let rights = if device.deny_write { "r" } else { "rw" };
    if !conf.main.unprivileged() {
        let rule = format!("{} {rights}", number.text(' '));
        let status = Command::new("lxc-cgroup")
            .args(["-n", &guest.ctid, "devices.allow", &rule])
            .status()
            .context("lxc-cgroup")?;
        if !status.success() {
            bail!("could not allow {rule}");
        }
    }
    let monitor = guest.monitor(init)?;
    let (monitor, container) = (mount_namespace(monitor)?, mount_namespace(init)?);
    let ours = File::open("/proc/self/ns/mnt")?;
    setns(monitor, CloneFlags::CLONE_NEWNS).context("monitor's mount namespace")?;
    let node = make(&passthrough(guest), conf, device, &number)?;
    let tree = open_tree(&node)?;
    setns(container, CloneFlags::CLONE_NEWNS).context("container's mount namespace")?;
    // the file system there knows the container's ids only
    let (uid, gid) = (host_id(conf, 'u', 0), host_id(conf, 'g', 0));
    let (old_uid, old_gid) = (setfsuid(uid.into()), setfsgid(gid.into()));
    let placed = stand_in(Path::new(&device.path));
    let _ = (setfsuid(old_uid), setfsgid(old_gid));
    let placed = placed.and_then(|()| move_mount(&tree, Path::new(&device.path)));
    setns(ours, CloneFlags::CLONE_NEWNS).context("back to the host")?;
    placed
}

fn mount_namespace(pid: i32) -> Result<File> {
    File::open(format!("/proc/{pid}/ns/mnt")).context("mount namespace")
}

fn open_tree(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.to_string_lossy().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error).context("open_tree")?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn move_mount(tree: &OwnedFd, target: &Path) -> Result<()> {
    const F_EMPTY_PATH: u32 = 4;
    let target = CString::new(target.to_string_lossy().as_bytes())?;
    // SAFETY: both paths are C strings that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            F_EMPTY_PATH,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()).context("move_mount") } else { Ok(()) }
}
