//! `lxcbed hold DIR PROGRAM...`: the host's namespaces, for as long as standard
//! input stays open. Prints `CGROUP PID` when the host is ready; PID is the
//! host's first process as seen from here.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, pause, pipe, sethostname};

use crate::mounts;

/// Below the control group of the host: where its own processes are, so that
/// the containers' groups stay empty of them. LXC leaves this name away.
pub const INIT: &str = "init.scope";

pub fn main(dir: &str, programs: &[&str]) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("needs root");
    }
    // before anything is written to it
    if !Path::new(dir).join("dev.list").is_file() {
        bail!("{dir} is no recorded machine: it has no dev.list");
    }
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("private mounts")?;
    let group = Group::new()?;
    let (read, write) = pipe().context("pipe")?;
    // SAFETY: this program has one thread.
    let middle = match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(read);
            let result = middle(&group, Path::new(dir), programs, write);
            std::mem::forget(group);
            return result;
        }
    };
    drop(write);
    let mut said = String::new();
    fs::File::from(read).read_to_string(&mut said).context("the host's first process")?;
    let Ok(init) = said.trim().parse().map(Pid::from_raw) else {
        waitpid(middle, None).context("wait")?;
        bail!("the host did not come up");
    };
    println!("{} {init}", group.path.display());
    std::io::stdout().flush()?;
    // until whoever asked for the host closes its end, or is gone
    let _ = std::io::stdin().read(&mut [0]);
    let _ = kill(init, Signal::SIGKILL);
    waitpid(middle, None).context("wait")?;
    Ok(ExitCode::SUCCESS)
}

/// Between here and the host's first process: a process that is already in
/// the control group when it starts the namespaces.
fn middle(group: &Group, dir: &Path, programs: &[&str], write: OwnedFd) -> Result<ExitCode> {
    die_with_parent();
    group.join("")?;
    unshare(
        CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            // LXC's command sockets are known by name to the whole of it
            | CloneFlags::CLONE_NEWNET,
    )
    .context("unshare")?;
    group.join(INIT)?;
    let (ready, tell) = pipe().context("pipe")?;
    // SAFETY: this program has one thread.
    let init = match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop((ready, write));
            return init(dir, programs, tell);
        }
    };
    drop(tell);
    let mut said = String::new();
    fs::File::from(ready).read_to_string(&mut said)?;
    if said == "ready" {
        write!(fs::File::from(write), "{init}")?;
    }
    match waitpid(init, None).context("wait")? {
        WaitStatus::Exited(_, code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The first process of the host.
fn init(dir: &Path, programs: &[&str], tell: OwnedFd) -> Result<ExitCode> {
    die_with_parent();
    mounts::build(dir, programs)?;
    let node = fs::read_link("/etc/pve/local").unwrap_or_default();
    sethostname(node.file_name().unwrap_or("pve".as_ref())).context("sethostname")?;
    // the host's orphans are reaped by the kernel
    // SAFETY: SIG_IGN is no handler that could run.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.context("SIGCHLD")?;
    write!(fs::File::from(tell), "ready")?;
    loop {
        pause();
    }
}

fn die_with_parent() {
    let kill = libc::SIGKILL;
    // SAFETY: prctl with integer arguments only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, kill, 0, 0, 0) };
}

/// The control group that is the root of the host's hierarchy.
struct Group {
    path: PathBuf,
    tree: PathBuf,
}

impl Group {
    fn new() -> Result<Group> {
        // pure cgroup2, whatever is mounted there: LXC needs it for device control
        let tree = PathBuf::from("/sys/fs/cgroup");
        mount(Some("cgroup2"), &tree, Some("cgroup2"), MsFlags::empty(), None::<&str>)
            .context("mount cgroup2")?;
        sweep(&tree);
        let path = PathBuf::from(format!("lxcbed-{}", getpid()));
        fs::create_dir_all(tree.join(&path).join(INIT)).context("make a control group")?;
        Ok(Group { path, tree })
    }

    fn join(&self, below: &str) -> Result<()> {
        let path = self.tree.join(&self.path).join(below).join("cgroup.procs");
        fs::write(&path, "0").with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let dir = self.tree.join(&self.path);
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        // the kernel lets go of killed processes a little later
        for _ in 0..100 {
            remove(&dir);
            if !dir.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Groups of hosts that were killed before they could clean up.
fn sweep(tree: &Path) {
    for entry in fs::read_dir(tree).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid = name.strip_prefix("lxcbed-").and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&entry.path());
        }
    }
}

fn remove(dir: &Path) {
    let walk = walkdir::WalkDir::new(dir).contents_first(true);
    for entry in walk.into_iter().flatten().filter(|entry| entry.file_type().is_dir()) {
        let _ = fs::remove_dir(entry.path());
    }
}
