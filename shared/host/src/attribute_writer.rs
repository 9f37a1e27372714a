//! One write to a kernel attribute that may block for as long as the kernel
//! likes, in a process that nothing ends.
//!
//! An unbind waits inside the kernel until the driver's own users are gone, in
//! state S or D. A signal that is not ignored makes NVIDIA's driver spin there
//! at 100 % CPU until they are (550.163.01, nv_pci_remove(): its wait returns
//! at once while a signal is pending), and SIGKILL cannot be ignored. So the
//! writer has a session of its own, ignores every signal that can be ignored,
//! does not end with its parent, and is never killed: after the deadline it is
//! left to the kernel, and its parent goes on. A service that starts one needs
//! `KillMode=process`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork, pipe};

use crate::child_read::process_state;
use crate::error::errno_error;
use crate::{FileError, Machine, Written};

/// Start of a writer's command name; the value that it writes follows, as far
/// as the kernel's 15 bytes reach: `w:0000:41:00.0`.
const NAME: &str = "w:";

/// A writer that an earlier run left to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingWriter {
    /// Its process id.
    pub pid: u32,
    /// The attribute that it writes to, below /sys.
    pub path: String,
    /// What it writes, cut at 13 bytes.
    pub value: String,
}

impl Machine {
    /// Writers that wait in the kernel: of this tool or another of ours, of this
    /// run or an earlier one. Errors: /proc cannot be listed.
    pub fn pending_writers(&self) -> Result<Vec<PendingWriter>, FileError> {
        let mut found = Vec::new();
        for name in self.list("/proc")? {
            let Ok(pid) = name.parse::<u32>() else { continue };
            let Ok(comm) = self.attr(&format!("/proc/{pid}/comm")) else { continue };
            let Some(value) = comm.strip_prefix(NAME) else { continue };
            let dir = format!("/proc/{pid}/fd");
            let fds = self.list(&dir).unwrap_or_default();
            let targets = fds.iter().filter_map(|fd| self.read_link(&format!("{dir}/{fd}")).ok());
            // any process may call itself so
            if let Some(path) = targets.into_iter().find(|path| path.starts_with("/sys/")) {
                found.push(PendingWriter { pid, path, value: value.to_string() });
            }
        }
        Ok(found)
    }

    /// [`Machine::write_attr`] in a writer of its own. Errors: those of the
    /// write, or no writer can be started.
    pub(crate) fn write_attr_apart(
        &self,
        path: &str,
        value: &str,
        deadline: Duration,
    ) -> Result<Written, FileError> {
        let failed = |source: io::Error| self.error("write", path, source);
        let (from, to) = pipe().map_err(|errno| failed(errno_error(errno)))?;
        // SAFETY: the child makes system calls and leaves by _exit(2). Our tools
        // have one thread; in tests with more, what the child allocates is
        // allowed after fork by glibc.
        let pid = match unsafe { fork() }.map_err(|errno| failed(errno_error(errno)))? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                let errno = self.write_unattended(path, value, &to);
                let _ = nix::unistd::write(&to, &errno.to_le_bytes());
                // SAFETY: _exit(2) does not return.
                unsafe { libc::_exit(0) }
            }
        };
        drop(to);
        if !answers_within(&from, deadline).map_err(failed)? {
            let state = process_state(pid);
            let pid = u32::try_from(pid.as_raw()).unwrap_or_default();
            return Ok(Written::TimedOut { state, pid });
        }
        let mut errno = [0u8; 4];
        let got = nix::unistd::read(&from, &mut errno).unwrap_or(0);
        let _ = waitpid(pid, Some(WaitPidFlag::empty()));
        match i32::from_le_bytes(errno) {
            0 if got == errno.len() => Ok(Written::Done),
            0 => Err(failed(io::Error::other("no answer"))),
            errno => Err(failed(io::Error::from_raw_os_error(errno))),
        }
    }

    /// The child's part: the error number of the write, 0 for none.
    fn write_unattended(&self, path: &str, value: &str, answer: &OwnedFd) -> i32 {
        detach(value);
        let error = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        if value.is_empty() {
            return libc::EINVAL;
        }
        let fd = match self.open(path, OFlag::O_WRONLY | OFlag::O_NOCTTY, Mode::empty()) {
            Ok(fd) => fd,
            Err(source) => return error(source),
        };
        keep_only(fd.as_raw_fd(), answer.as_raw_fd());
        match nix::unistd::write(&fd, value.as_bytes()) {
            Ok(written) if written == value.len() => 0,
            Ok(_) => libc::EIO,
            Err(errno) => errno as i32,
        }
    }
}

/// A session of its own, a name by which a later run finds it, every signal
/// ignored, the current directory not held.
fn detach(value: &str) {
    let mut name = format!("{NAME}{value}").into_bytes();
    name.retain(|byte| *byte != 0 && *byte != b'\n');
    name.truncate(15);
    name.push(0);
    // SAFETY: system calls with integers and with a string that ends in zero.
    unsafe {
        libc::setsid();
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::chdir(c"/".as_ptr());
    }
}

/// Closes all descriptors but two: whoever reads our output must see its end
/// while the writer still waits.
fn keep_only(attribute: RawFd, answer: RawFd) {
    let (low, high) = (attribute.min(answer), attribute.max(answer));
    let range = |first: RawFd, last: RawFd| {
        if first <= last {
            // SAFETY: the descriptors that are closed belong to the parent's
            // objects, which this process never touches again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    range(0, low - 1);
    range(low + 1, high - 1);
    range(high + 1, RawFd::MAX);
}

/// Whether the writer answers, or ends, within the deadline.
fn answers_within(from: &OwnedFd, deadline: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        let ms = left.as_millis().saturating_add(1).min(i32::MAX as u128) as i32;
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if start.elapsed() >= deadline => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno_error(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A FIFO that nobody reads stands for an attribute that blocks: open(2)
    /// waits. It has a descriptor of the directory open, not of the attribute.
    #[test]
    fn a_writer_that_is_given_up_lives_on_and_ignores_signals() {
        let dir = std::env::temp_dir().join(format!("host-writer-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fifo = dir.join("stuck");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o644)).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        let written =
            machine.write_attr_apart("/stuck", "0000:41:00.0", Duration::from_millis(200));
        let Ok(Written::TimedOut { pid, .. }) = written else { panic!("{written:?}") };
        let stat =
            |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat(pid).contains("(w:0000:41:00.0)"), "{}", stat(pid));
        let process = nix::unistd::Pid::from_raw(pid as i32);
        for signal in
            [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT, nix::sys::signal::SIGHUP]
        {
            nix::sys::signal::kill(process, signal).unwrap();
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(stat(pid).contains("(w:0000:41:00.0)"), "a signal ended it");
        // a session of its own: no terminal's signals reach it
        assert_eq!(nix::unistd::getsid(Some(process)), Ok(process));
        // and it finishes its write once that can be done
        assert_eq!(std::fs::read_to_string(&fifo).unwrap(), "0000:41:00.0");
        waitpid(process, None).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_reads_our_output_sees_its_end_while_the_writer_waits() {
        let (from, to) = pipe().unwrap();
        let kept = pipe().unwrap();
        // SAFETY: as above.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                drop(to);
                let mut byte = [0u8; 1];
                assert_eq!(nix::unistd::read(&from, &mut byte), Ok(0));
                nix::sys::signal::kill(child, nix::sys::signal::SIGKILL).unwrap();
                waitpid(child, None).unwrap();
            }
            ForkResult::Child => {
                keep_only(kept.0.as_raw_fd(), kept.1.as_raw_fd());
                std::thread::sleep(Duration::from_secs(60));
                // SAFETY: _exit(2) does not return.
                unsafe { libc::_exit(0) }
            }
        }
    }
}
