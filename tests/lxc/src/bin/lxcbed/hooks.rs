//! The LXC hooks of Proxmox VE that make the nodes of `dev[n]`. They are run by
//! LXC with its own variables in the environment.

use std::env::var;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lxcbed::conf::{Conf, Device};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::setsid;

use crate::guest::Guest;
use crate::start::{Number, devices, host_id, lxc_config, start};

/// Where the list of nodes is, below [`passthrough`].
const LIST: &str = "devices";

pub fn main(name: &str, hook: fn(&Guest) -> Result<()>) -> ExitCode {
    let run = || hook(&Guest::new(&var("LXC_NAME").context("LXC_NAME")?)?);
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("{name} hook: {error:#}");
    // as Perl's die does: the number of the error is the exit status
    let number = error.downcast_ref::<Errno>().map_or(255, |errno| *errno as i32);
    ExitCode::from(u8::try_from(number).unwrap_or(255))
}

pub fn passthrough(guest: &Guest) -> PathBuf {
    guest.dir().join("passthrough")
}

/// In the monitor's mount namespace: the root file system, and fresh nodes on a
/// file system that goes away with it.
pub fn prestart(guest: &Guest) -> Result<()> {
    guest.mount_volume()?;
    let (conf, dir) = (guest.load()?, passthrough(guest));
    fs::create_dir_all(&dir)?;
    let size = Some("mode=755,size=8k");
    mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), size).context("passthrough")?;
    let mut list = String::new();
    for (_, device) in devices(&conf)? {
        let number = Number::of(&device.path)?;
        make(&dir, &conf, &device, &number)?;
        list += &format!("{}:{}\n", number.text(':'), device.path);
    }
    fs::write(dir.join(LIST), list).context("list of devices")
}

/// A node for the container below `dir`, owned by its ids.
pub fn make(dir: &Path, conf: &Conf, device: &Device, number: &Number) -> Result<PathBuf> {
    let node = dir.join(device.path.trim_start_matches('/'));
    fs::create_dir_all(node.parent().context("no parent")?)?;
    let kind = if number.kind == 'b' { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    mknod(&node, kind, Mode::empty(), number.rdev).context("mknod")?;
    fs::set_permissions(&node, fs::Permissions::from_mode(device.mode))?;
    let (uid, gid) = (host_id(conf, 'u', device.uid), host_id(conf, 'g', device.gid));
    chown(&node, Some(uid), Some(gid)).context("chown")?;
    Ok(node)
}

/// In the container's namespaces, before it has its own root.
pub fn autodev(guest: &Guest) -> Result<()> {
    let root = PathBuf::from(var("LXC_ROOTFS_MOUNT").context("LXC_ROOTFS_MOUNT")?);
    let dir = passthrough(guest);
    let list = match fs::read_to_string(dir.join(LIST)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        list => list.context("list of devices")?,
    };
    for path in list.lines().filter_map(|line| line.splitn(4, ':').nth(3)) {
        let relative = path.trim_start_matches('/');
        // the list holds names without white space only (PVE::LXC::Tools, for_devices)
        if path.contains("..") || path.contains(char::is_whitespace) {
            eprintln!("skipping illegal device node entry: {path}");
            continue;
        }
        let target = root.join(relative);
        stand_in(&target)?;
        let source = dir.join(relative);
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("bind {path}"))?;
    }
    Ok(())
}

/// After the container's last process. A reboot that the guest asked for is not
/// LXC's to do, as it would keep the old rules: the hook fails, which makes LXC
/// stop, and a start is left behind. Where the configuration can't be made
/// there is none.
pub fn poststop(guest: &Guest) -> Result<()> {
    if var("LXC_TARGET").as_deref() != Ok("reboot") {
        return Ok(());
    }
    let mut conf = guest.load()?;
    conf.apply_pending();
    lxc_config(guest, &conf)?;
    let mut again = Command::new("/usr/sbin/pct");
    again.args(["start-again", &guest.ctid]).stdin(Stdio::null());
    again.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("pct")?;
    bail!("start it anew instead")
}

/// What [`poststop`] leaves behind. It comes from the monitor's side.
pub fn start_again(guest: &Guest) -> Result<()> {
    setsid().context("setsid")?;
    fs::write("/sys/fs/cgroup/init.scope/cgroup.procs", "0")
        .context("leave the monitor's cgroup")?;
    setns(fs::File::open("/proc/1/ns/mnt")?, CloneFlags::CLONE_NEWNS).context("host's mounts")?;
    while guest.init()?.is_some() || guest.watched() {
        std::thread::sleep(Duration::from_millis(10));
    }
    start(guest)
}

/// The empty file that a node is mounted on. Fails where there is anything.
pub fn stand_in(target: &Path) -> Result<()> {
    fs::create_dir_all(target.parent().context("no parent")?)?;
    mknod(target, SFlag::S_IFREG, Mode::empty(), 0)
        .with_context(|| format!("Could not create {}", target.display()))
}
