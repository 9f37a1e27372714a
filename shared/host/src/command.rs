//! Running another program: an argument vector, never a shell; a deadline;
//! its output, bounded.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::reason;
use crate::{FileError, Machine};

/// Bytes kept of each stream: the first of stdout, the last of stderr.
const KEPT: usize = 1 << 20;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was ended because its time was up.
    TimedOut,
    /// Its time was up and it did not end even when killed (state D).
    Stuck,
    /// It was ended because the tool was told to end.
    Interrupted,
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub ending: Ending,
    /// The first MiB of its standard output.
    pub stdout: Vec<u8>,
    /// The last MiB of its standard error.
    pub stderr: Vec<u8>,
}

impl Ran {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.ending == Ending::Exited(0)
    }

    /// The last line that is not empty of its standard error.
    pub fn last_stderr_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.stderr);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_string)
    }

    /// How it ended, with its last words: what a record's reason says.
    pub fn reason(&self) -> String {
        let how = match self.ending {
            Ending::Exited(code) => format!("exit status {code}"),
            Ending::Signalled(signal) => format!("killed by signal {signal}"),
            Ending::TimedOut => "did not end in time and was killed".into(),
            Ending::Interrupted => "it was ended by a signal to this tool".into(),
            Ending::Stuck => {
                "did not end in time and cannot be killed (blocked in the kernel)".into()
            }
        };
        match self.last_stderr_line() {
            Some(line) => format!("{how}: {line}"),
            None => how,
        }
    }
}

impl Machine {
    /// Runs `argv` with an empty standard input, `LC_ALL=C` and the system's
    /// own search path, for at most `deadline`. `None` below `--root`: there no
    /// command is run. Errors: it cannot be started.
    pub fn run(&self, argv: &[&str], deadline: Duration) -> Result<Option<Ran>, FileError> {
        let Some(child) = self.spawn(argv)? else { return Ok(None) };
        Ok(Some(attend(child, deadline, &|| false)))
    }

    /// The same for a program that takes long: it and its children are asked to end
    /// (SIGTERM) as soon as `stop` says so, and where this process is killed.
    pub fn run_until(
        &self,
        argv: &[&str],
        deadline: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Ran>, FileError> {
        let Some(child) = self.spawn(argv)? else { return Ok(None) };
        let guard = OrphanGuard::new(Pid::from_raw(child.id() as i32));
        let ran = attend(child, deadline, stop);
        guard.dismiss();
        Ok(Some(ran))
    }

    fn spawn(&self, argv: &[&str]) -> Result<Option<Child>, FileError> {
        if !self.is_host() {
            return Ok(None);
        }
        let Some((program, rest)) = argv.split_first() else {
            return Err(self.error("run", "", std::io::Error::from_raw_os_error(libc::EINVAL)));
        };
        let child = Command::new(program)
            .args(rest)
            .env("LC_ALL", "C")
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // its children go with it when time is up
            .process_group(0)
            .spawn()
            .map_err(|source| FileError { action: "run", path: (*program).into(), source })?;
        Ok(Some(child))
    }
}

/// How often a program that may be stopped is looked after.
const LOOK: Duration = Duration::from_millis(200);
/// How long a program that was asked to end may clean up.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// A process that ends a process group when this one is killed: no process would wait for it
/// any more, and another run would begin beside it.
struct OrphanGuard {
    /// Where it waits for this process to end; `None`: no guard waits.
    alive: Option<File>,
    process: Option<Pid>,
}

impl OrphanGuard {
    /// Where the kernel gives no process the group is not guarded.
    fn new(group: Pid) -> OrphanGuard {
        let none = OrphanGuard { alive: None, process: None };
        let Ok((end, alive)) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) else {
            return none;
        };
        // SAFETY: the child only makes system calls until it ends.
        match unsafe { nix::unistd::fork() } {
            Ok(nix::unistd::ForkResult::Child) => {
                guard(&end, group);
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(0) }
            }
            Ok(nix::unistd::ForkResult::Parent { child }) => {
                OrphanGuard { alive: Some(alive.into()), process: Some(child) }
            }
            Err(_) => none,
        }
    }

    /// Ends the guard and leaves the group alone.
    fn dismiss(mut self) {
        if let Some(mut alive) = self.alive.take() {
            let _ = std::io::Write::write_all(&mut alive, b"!");
        }
        if let Some(process) = self.process.take() {
            let _ = nix::sys::wait::waitpid(process, None);
        }
    }
}

/// In the guard's process: waits for a byte, or for the end of the process that would
/// have written it.
fn guard(end: &OwnedFd, group: Pid) {
    use std::os::fd::AsRawFd;
    let kept = end.as_raw_fd() as u32;
    // SAFETY: system calls on numbers; no memory of the parent is used. Its locks and
    // pipes must not be held open here.
    unsafe {
        libc::setsid();
        if kept > 0 {
            libc::syscall(libc::SYS_close_range, 0, kept - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0);
        let mut byte = 0u8;
        let read = loop {
            let read = libc::read(kept as i32, (&raw mut byte).cast(), 1);
            if read >= 0 || Errno::last() != Errno::EINTR {
                break read;
            }
        };
        if read == 0 {
            libc::killpg(group.as_raw(), libc::SIGTERM);
        }
    }
}

/// Reads both streams until they close, time is up or `stop` says so, then sees it end.
fn attend(mut child: Child, deadline: Duration, stop: &dyn Fn() -> bool) -> Ran {
    let group = Pid::from_raw(child.id() as i32);
    let mut end = Instant::now() + deadline;
    let mut stopped = false;
    let mut asked = |end: &mut Instant| {
        if !stopped && stop() {
            stopped = true;
            let _ = killpg(group, Signal::SIGTERM);
            *end = (*end).min(Instant::now() + CLEAN_UP);
        }
        stopped
    };
    let mut streams = [
        OutputStream { fd: child.stdout.take().map(OwnedFd::from), kept: Vec::new(), last: false },
        OutputStream { fd: child.stderr.take().map(OwnedFd::from), kept: Vec::new(), last: true },
    ];
    let mut timed_out = false;
    while streams.iter().any(|s| s.fd.is_some()) {
        asked(&mut end);
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            timed_out = true;
            break;
        }
        read_ready(&mut streams, left.min(LOOK));
    }
    // it may close its streams and run on
    while !timed_out && !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
        asked(&mut end);
        timed_out = Instant::now() >= end;
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut ending = asked(&mut end).then_some(Ending::Interrupted);
    if timed_out {
        let _ = killpg(group, Signal::SIGKILL);
        let grace = Instant::now() + Duration::from_secs(2);
        while !matches!(child.try_wait(), Ok(Some(_))) && Instant::now() < grace {
            std::thread::sleep(Duration::from_millis(5));
        }
        ending = ending.or(Some(Ending::TimedOut));
    }
    let status = match child.try_wait() {
        Ok(Some(status)) => {
            use std::os::unix::process::ExitStatusExt;
            match (status.code(), status.signal()) {
                (Some(code), _) => Ending::Exited(code),
                (None, signal) => Ending::Signalled(signal.unwrap_or(0)),
            }
        }
        _ => {
            ending = None;
            Ending::Stuck
        }
    };
    let [stdout, stderr] = streams;
    Ran { ending: ending.unwrap_or(status), stdout: stdout.kept, stderr: stderr.kept }
}

struct OutputStream {
    fd: Option<OwnedFd>,
    kept: Vec<u8>,
    /// Keep the end rather than the beginning.
    last: bool,
}

impl OutputStream {
    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > KEPT {
            if self.last {
                self.kept.drain(..self.kept.len() - KEPT);
            } else {
                self.kept.truncate(KEPT);
            }
        }
    }
}

fn read_ready(streams: &mut [OutputStream; 2], left: Duration) {
    let mut fds: Vec<PollFd<'_>> = streams
        .iter()
        .filter_map(|s| s.fd.as_ref())
        .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
        .collect();
    let ms = left.as_millis().saturating_add(1).min(i32::MAX as u128) as i32;
    match poll(&mut fds, PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)) {
        Ok(0) | Err(Errno::EINTR) => return,
        _ => {}
    }
    let ready: Vec<bool> =
        fds.iter().map(|fd| fd.revents().is_some_and(|r| !r.is_empty())).collect();
    drop(fds);
    let open = streams.iter_mut().filter(|s| s.fd.is_some());
    for (stream, _) in open.zip(ready).filter(|(_, ready)| *ready) {
        let Some(fd) = stream.fd.take() else { continue };
        let mut file = File::from(fd);
        let mut chunk = [0u8; 64 << 10];
        match file.read(&mut chunk) {
            Ok(0) => {}
            Ok(n) => {
                stream.keep(&chunk[..n]);
                stream.fd = Some(file.into());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                stream.fd = Some(file.into());
            }
            Err(error) => stream.keep(reason(&error).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(argv: &[&str], deadline: Duration) -> Ran {
        Machine::new(None).unwrap().run(argv, deadline).unwrap().unwrap()
    }

    #[test]
    fn output_and_status_are_told_apart() {
        let ran = run(&["sh", "-c", "echo out; echo one >&2; echo two >&2; exit 3"], LONG);
        assert_eq!(ran.stdout, b"out\n");
        assert_eq!(ran.reason(), "exit status 3: two");
        assert!(run(&["true"], LONG).success());
        assert_eq!(run(&["sh", "-c", "kill -9 $$"], LONG).ending, Ending::Signalled(9));
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn arguments_are_not_read_by_a_shell() {
        let ran = run(&["printf", "%s|%s", "a b", "$HOME; `id`"], LONG);
        assert_eq!(ran.stdout, b"a b|$HOME; `id`");
    }

    #[test]
    fn a_program_and_its_children_end_with_their_time() {
        let start = Instant::now();
        let ran =
            run(&["sh", "-c", "echo begun; sleep 3600 & sleep 3600"], Duration::from_millis(200));
        assert_eq!(ran.ending, Ending::TimedOut);
        assert_eq!(ran.stdout, b"begun\n");
        let ran = run(&["sh", "-c", "exec >&- 2>&-; sleep 3600"], Duration::from_millis(200));
        assert_eq!(ran.ending, Ending::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_that_may_be_stopped_ends_with_its_children() {
        let start = Instant::now();
        let host = Machine::new(None).unwrap();
        let stop = || start.elapsed() > Duration::from_millis(300);
        let argv = ["sh", "-c", "echo begun; sleep 3600 & sleep 3600"];
        let ran = host.run_until(&argv, LONG, &stop).unwrap().unwrap();
        assert_eq!(ran.ending, Ending::Interrupted);
        assert!(start.elapsed() < Duration::from_secs(10));
        // and one that ends by itself is not touched
        let ran = host.run_until(&["sh", "-c", "exit 3"], LONG, &|| false).unwrap().unwrap();
        assert_eq!(ran.ending, Ending::Exited(3));
    }

    #[test]
    fn floods_are_bounded() {
        let ran = run(
            &["sh", "-c", "head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2; echo end >&2"],
            LONG,
        );
        assert!(ran.success());
        assert_eq!(ran.stdout.len(), KEPT);
        assert!(ran.last_stderr_line().unwrap().ends_with("end"));
    }

    #[test]
    fn nothing_is_run_below_a_root() {
        let machine = Machine::new(Some(&std::env::temp_dir())).unwrap();
        assert!(machine.run(&["true"], LONG).unwrap().is_none());
        assert!(Machine::new(None).unwrap().run(&["/none/such"], LONG).is_err());
    }
}
