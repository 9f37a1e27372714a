//! Running a command line that may hang, die or talk nonsense.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The memory that a tool is given: one that asks for more is ended by that. The
/// peak that wait4(2) tells would be that of whoever started it.
const MEMORY: u64 = 256 << 20;
/// Longer than any deadline of a tool's own.
pub const LIMIT: Duration = Duration::from_secs(90);

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub hung: bool,
}

fn collect(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Runs it to its end, or until [`LIMIT`].
// waitpid(2) waits: the kill at the limit takes the whole group
#[allow(clippy::zombie_processes)]
pub fn run(words: &[OsString], input: &[u8]) -> Outcome {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("RUST_BACKTRACE", "0");
    let limit = libc::rlimit { rlim_cur: MEMORY, rlim_max: MEMORY };
    // SAFETY: setrlimit(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_DATA, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", words[0]));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let pid = child.id() as libc::pid_t;
    let (start, mut outcome, mut pause) = (Instant::now(), Outcome::default(), 200);
    let status = loop {
        if let Some(status) = child.try_wait().expect("waitpid") {
            break status;
        }
        if start.elapsed() > LIMIT && !outcome.hung {
            outcome.hung = true;
            // SAFETY: takes numbers; the group is the child's own.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_micros(pause));
        pause = (pause * 5 / 4).min(5000);
    };
    (outcome.code, outcome.signal) = (status.code(), status.signal());
    // a child that outlives it keeps its pipes
    let wait = Duration::from_secs(20);
    let both = (stdout.recv_timeout(wait), stderr.recv_timeout(wait));
    let (Ok(stdout), Ok(stderr)) = both else {
        outcome.hung = true;
        // SAFETY: as above.
        unsafe { libc::kill(-pid, libc::SIGKILL) };
        return outcome;
    };
    outcome.stdout = stdout;
    outcome.stderr = String::from_utf8_lossy(&stderr).into_owned();
    outcome
}

impl Outcome {
    /// All that it said.
    pub fn said(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }

    /// What no input and no fault may cause. Without `cut`, the last line is a
    /// whole one.
    pub fn sane(&self, cut: bool) -> Result<(), String> {
        if self.hung {
            return Err(format!("no end within {LIMIT:?}"));
        }
        if self.stderr.contains("panicked at") || self.code == Some(101) {
            return Err(format!("panic: {}", self.stderr));
        }
        if self.stderr.contains("memory allocation of") {
            return Err(format!("more than {} MiB: {}", MEMORY >> 20, self.stderr));
        }
        if self.stderr.bytes().any(|b| b == 0x1b) {
            return Err(format!("control characters: {:?}", self.stderr));
        }
        let text = std::str::from_utf8(&self.stdout).map_err(|_| "output is not UTF-8")?;
        let mut lines: Vec<&str> = text.split('\n').collect();
        let last = lines.pop().unwrap_or("");
        if !last.is_empty() && !cut {
            return Err(format!("its output breaks off: {last}"));
        }
        for line in lines {
            let checked = std::panic::catch_unwind(|| testbed::schema::check_line(line));
            checked.map_err(|_| format!("not a valid record: {line}"))?;
        }
        Ok(())
    }

    /// Its records, as far as they are whole.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8_lossy(&self.stdout).into_owned();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How it ended, in words.
    pub fn end(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit {code}: {}", self.said()),
            (_, Some(signal)) => format!("signal {signal}: {}", self.said()),
            _ => "no end".into(),
        }
    }
}
