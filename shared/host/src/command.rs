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
        Ok(Some(attend(child, deadline)))
    }
}

/// Reads both streams until they close or time is up, then sees it end.
fn attend(mut child: Child, deadline: Duration) -> Ran {
    let group = Pid::from_raw(child.id() as i32);
    let end = Instant::now() + deadline;
    let mut streams = [
        OutputStream { fd: child.stdout.take().map(OwnedFd::from), kept: Vec::new(), last: false },
        OutputStream { fd: child.stderr.take().map(OwnedFd::from), kept: Vec::new(), last: true },
    ];
    let mut timed_out = false;
    while streams.iter().any(|s| s.fd.is_some()) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            timed_out = true;
            break;
        }
        read_ready(&mut streams, left);
    }
    // it may close its streams and run on
    while !timed_out && !matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
        timed_out = Instant::now() >= end;
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut ending = None;
    if timed_out {
        let _ = killpg(group, Signal::SIGKILL);
        let grace = Instant::now() + Duration::from_secs(2);
        while !matches!(child.try_wait(), Ok(Some(_))) && Instant::now() < grace {
            std::thread::sleep(Duration::from_millis(5));
        }
        ending = Some(Ending::TimedOut);
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
