//! `lxcbed enter PID CGROUP -- COMMAND...`: runs a command in the host and
//! ends as it ended.

use std::ffi::CString;
use std::fs::{self, File};
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, execvp, fork};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub fn main(pid: &str, cgroup: &str, command: &[&str]) -> Result<ExitCode> {
    let procs = format!("/proc/{pid}/root/sys/fs/cgroup/{}/cgroup.procs", crate::hold::INIT);
    // before the cgroup namespace: it may be a delegation boundary
    fs::write(&procs, "0").with_context(|| format!("join {cgroup}"))?;
    for (name, flag) in [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ] {
        let file = File::open(format!("/proc/{pid}/ns/{name}")).context("the host is gone")?;
        setns(file, flag).with_context(|| format!("setns {name}"))?;
    }
    let words: Vec<CString> =
        command.iter().map(|word| CString::new(*word)).collect::<Result<_, _>>()?;
    let program = words.first().context("no command")?;
    // SAFETY: this program has one thread.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let kill = libc::SIGKILL;
            // SAFETY: prctl with integer arguments only; still one thread.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, kill, 0, 0, 0);
                std::env::set_var("PATH", PATH);
                // a Rust program ignores it, what it starts should not
                signal(Signal::SIGPIPE, SigHandler::SigDfl).context("SIGPIPE")?;
            }
            execvp(program, &words).with_context(|| command[0].to_string())?;
            unreachable!()
        }
        ForkResult::Parent { child } => match waitpid(child, None).context("wait")? {
            WaitStatus::Exited(_, code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
            WaitStatus::Signaled(_, signal, _) => {
                raise(signal).context("raise")?;
                Ok(ExitCode::from(125))
            }
            _ => Ok(ExitCode::from(125)),
        },
    }
}
