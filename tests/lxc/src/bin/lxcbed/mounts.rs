//! The host's file system: the real one, with the recorded machine's files
//! where the kernel and Proxmox VE have them.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};

/// Where the pristine `/proc` and `/sys` are. A user namespace may mount these
/// only where the mount namespace has them with nothing on top.
const PRISTINE: &str = "/run/lxcbed";

/// The hooks, as Proxmox VE's packages add them to LXC's configuration.
const HOOKS: [&str; 3] = ["lxc-pve-prestart-hook", "lxc-pve-autodev-hook", "lxc-pve-poststop-hook"];

pub fn build(bed: &Path, programs: &[&str]) -> Result<()> {
    umask(Mode::from_bits_truncate(0o022));
    let private = bed.join(".host");
    fs::create_dir(&private).with_context(|| private.display().to_string())?;
    file_system("tmpfs", &private, "mode=755")?;

    // programs first: nothing covers the place that they come from yet
    let own = std::env::current_exe().context("current_exe")?;
    let mut bound = vec![(own.clone(), "/usr/sbin/pct".to_string())];
    bound.extend(HOOKS.map(|hook| (own.clone(), format!("/usr/share/lxc/hooks/{hook}"))));
    for program in programs.iter().map(PathBuf::from) {
        let name = program.file_name().context("no file name")?.to_string_lossy().into_owned();
        bound.push((program, format!("/usr/sbin/{name}")));
    }
    for (number, (program, target)) in bound.iter().enumerate() {
        let held = private.join(number.to_string());
        empty_file(&held)?;
        bind(program, &held)?;
        empty_file(&private.join("upper").join(target.trim_start_matches('/')))?;
    }
    overlays(bed, &private)?;
    for (number, (_, target)) in bound.iter().enumerate() {
        bind(&private.join(number.to_string()), Path::new(target))?;
    }

    if bed.join("etc/pve").exists() {
        bind(&bed.join("etc/pve"), Path::new("/etc/pve"))?;
    }
    file_system("tmpfs", Path::new("/var/lib/lxc"), "mode=755")?;
    file_system("tmpfs", Path::new("/run"), "mode=755")?;
    fs::create_dir_all("/run/lock")?;
    proc_and_sys(bed)?;
    dev(&bed.join("dev.list"), &bed.join("dev"))
}

/// `/etc`, `/usr` and `/var`: the real ones below, the recorded machine's files
/// above, and what is written goes nowhere else.
fn overlays(bed: &Path, private: &Path) -> Result<()> {
    let upper = private.join("upper");
    for dir in ["etc/pve", "usr/lib", "var/lib/lxc", "var/lib/pve-gpu-tools", "var/log/lxc"] {
        fs::create_dir_all(upper.join(dir))?;
    }
    for dir in ["etc", "usr", "var"] {
        copy(&bed.join(dir), &upper.join(dir))?;
    }
    copy(&bed.join("lib"), &upper.join("usr/lib"))?;
    // bound from where the test can see it
    fs::remove_dir_all(upper.join("etc/pve"))
        .and_then(|()| fs::create_dir(upper.join("etc/pve")))?;
    for file in ["etc/subuid", "etc/subgid"] {
        fs::write(upper.join(file), "root:100000:65536\n")?;
    }
    let config = upper.join("usr/share/lxc/config");
    // the last two: every /proc of a real host shows the drivers, and here only the host's does
    for (dir, text) in [
        (
            "common.conf.d",
            "lxc.hook.pre-start = /usr/share/lxc/hooks/lxc-pve-prestart-hook\n\
             lxc.hook.autodev = /usr/share/lxc/hooks/lxc-pve-autodev-hook\n\
             lxc.hook.post-stop = /usr/share/lxc/hooks/lxc-pve-poststop-hook\n\
             lxc.mount.entry = /proc/driver proc/driver none bind 0 0\n\
             lxc.mount.entry = /proc/devices proc/devices none bind 0 0\n",
        ),
        (
            "userns.conf.d",
            "lxc.cgroup2.devices.deny =\n\
             lxc.cgroup2.devices.allow =\n\
             lxc.cgroup2.devices.allow = a\n",
        ),
    ] {
        fs::create_dir_all(config.join(dir))?;
        fs::write(config.join(dir).join("01-pve.conf"), text)?;
    }
    for dir in ["etc", "usr", "var"] {
        let (work, up) = (private.join("work").join(dir), upper.join(dir));
        fs::create_dir_all(&work)?;
        let data = format!("lowerdir=/{dir},upperdir={},workdir={}", up.display(), work.display());
        file_system("overlay", &Path::new("/").join(dir), &data)?;
    }
    Ok(())
}

fn proc_and_sys(bed: &Path) -> Result<()> {
    let (proc, sys) = (Path::new(PRISTINE).join("proc"), Path::new(PRISTINE).join("sys"));
    fs::create_dir_all(&proc)?;
    fs::create_dir_all(&sys)?;
    file_system("sysfs", &sys, "")?;
    file_system("proc", &proc, "")?;
    uncover("/proc");
    file_system("proc", Path::new("/proc"), "")?;
    let recorded = bed.join("proc");
    // a directory that only this machine's drivers would have made
    fs::create_dir_all(recorded.join("driver"))?;
    bind(&recorded.join("driver"), Path::new("/proc/driver"))?;
    let walk = walkdir::WalkDir::new(&recorded).into_iter();
    for entry in walk.filter_entry(|entry| entry.path() != recorded.join("driver")) {
        let entry = entry?;
        let target = Path::new("/proc").join(entry.path().strip_prefix(&recorded)?);
        // a kernel without loadable modules has no /proc/modules to cover
        if entry.file_type().is_file() && target.exists() {
            bind(entry.path(), &target)?;
        }
    }
    let recorded = bed.join("sys");
    fs::create_dir_all(recorded.join("fs/cgroup"))?;
    uncover("/sys");
    bind(&recorded, Path::new("/sys"))?;
    file_system("cgroup2", Path::new("/sys/fs/cgroup"), "")
}

/// A `/dev` of its own: what every host has, and the recorded nodes.
fn dev(list: &Path, extra: &Path) -> Result<()> {
    let list = fs::read_to_string(list).context("dev.list")?;
    // a bed may hold odd things under /dev: regular files where nodes belong
    let mut odd = Vec::new();
    for entry in walkdir::WalkDir::new(extra).min_depth(1).into_iter().flatten() {
        let path = Path::new("/dev").join(entry.path().strip_prefix(extra)?);
        odd.push((path, entry.file_type().is_file().then(|| fs::read(entry.path()))));
    }
    uncover("/dev");
    file_system("tmpfs", Path::new("/dev"), "mode=755")?;
    for dir in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        fs::create_dir(dir)?;
    }
    file_system("devpts", Path::new("/dev/pts"), "newinstance,ptmxmode=666,mode=620,gid=5")?;
    file_system("tmpfs", Path::new("/dev/shm"), "mode=1777")?;
    file_system("mqueue", Path::new("/dev/mqueue"), "")?;
    for (link, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, Path::new("/dev").join(link))?;
    }
    for line in [
        "c /dev/null 1:3 0666 0:0",
        "c /dev/zero 1:5 0666 0:0",
        "c /dev/full 1:7 0666 0:0",
        "c /dev/random 1:8 0666 0:0",
        "c /dev/urandom 1:9 0666 0:0",
        "c /dev/tty 5:0 0666 0:5",
        "c /dev/console 5:1 0600 0:5",
    ] {
        node(line)?;
    }
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        node(line).with_context(|| format!("dev.list: {line}"))?;
    }
    for (path, content) in odd {
        match content {
            Some(bytes) => fs::write(&path, bytes?)?,
            None => fs::create_dir_all(&path)?,
        }
    }
    Ok(())
}

/// `c PATH MAJOR:MINOR MODE UID:GID` or `l PATH TARGET`.
fn node(line: &str) -> Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let path = Path::new(words.get(1).context("no path")?);
    fs::create_dir_all(path.parent().context("no parent")?)?;
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path)?;
    }
    match words[..] {
        ["l", _, target] => symlink(target, path)?,
        [kind @ ("c" | "b"), _, numbers, mode, owner] => {
            let (major, minor) = pair(numbers)?;
            let (uid, gid) = pair(owner)?;
            let kind = if kind == "c" { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
            mknod(path, kind, Mode::empty(), makedev(major.into(), minor.into()))?;
            chown(path, Some(uid), Some(gid))?;
            let mode = u32::from_str_radix(mode, 8)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        _ => bail!("not a node"),
    }
    Ok(())
}

fn pair(text: &str) -> Result<(u32, u32)> {
    let (a, b) = text.split_once(':').context("no colon")?;
    Ok((a.parse()?, b.parse()?))
}

/// Takes the real machine's mounts away, so that the host's list of mounts holds
/// one of each.
fn uncover(path: &str) {
    while umount2(path, MntFlags::MNT_DETACH).is_ok() {}
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    let source = from.join(".");
    let status = Command::new("cp").arg("-a").arg(source).arg(to).status().context("cp")?;
    if !status.success() {
        bail!("cannot copy {}", from.display());
    }
    Ok(())
}

fn empty_file(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(path).map(drop).with_context(|| path.display().to_string())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("bind {} on {}", from.display(), to.display()))
}

fn file_system(kind: &str, at: &Path, data: &str) -> Result<()> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(data))
        .with_context(|| format!("mount {kind} on {}", at.display()))
}
