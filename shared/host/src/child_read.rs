//! Reading what may block: in child processes, with a deadline.
//!
//! A read of a kernel attribute can wait as long as the kernel likes: some
//! take the device lock (`driver_override` and `sriov_numvfs` on kernels before
//! 2026), which a stuck unbind holds for hours. Such a reader sits in state D,
//! where no signal reaches it, and a process with one stuck thread cannot end.
//! So a child reads and the parent counts the seconds: a child that does not
//! come back is left to the kernel.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};

use crate::error::errno_error;

/// What was read of one item.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ChildRead {
    /// Values by tag, in the order they were read: bytes, or the error number.
    pub values: Vec<(u8, Result<Vec<u8>, i32>)>,
    /// The read of this tag did not come back in time; what would have followed
    /// is missing.
    pub stuck_at: Option<u8>,
}

impl ChildRead {
    /// The bytes read under a tag.
    pub fn bytes(&self, tag: u8) -> Option<&[u8]> {
        self.values.iter().find(|(t, _)| *t == tag).and_then(|(_, v)| v.as_deref().ok())
    }

    /// The error number with which a tag's read failed.
    pub fn errno(&self, tag: u8) -> Option<i32> {
        self.values.iter().find(|(t, _)| *t == tag).and_then(|(_, v)| v.as_ref().err().copied())
    }
}

/// Takes what the child reads.
pub struct ChildPipe {
    pipe: File,
    buffer: Vec<u8>,
    item: u32,
    cautious: bool,
}

const BEGIN: u8 = 0;
const VALUE: u8 = 1;
const ERRNO: u8 = 2;
const DONE: u8 = 3;
/// kind, tag, item, length.
const HEAD: usize = 1 + 1 + 4 + 4;

impl ChildPipe {
    /// Reads one value and passes it on under `tag`.
    pub fn put(&mut self, tag: u8, read: impl FnOnce() -> io::Result<Vec<u8>>) {
        self.put_some(tag, || Some(read()));
    }

    /// The same, where there may be nothing to pass on.
    pub fn put_some(&mut self, tag: u8, read: impl FnOnce() -> Option<io::Result<Vec<u8>>>) {
        if self.cautious {
            self.frame(BEGIN, tag, &[]);
            self.flush();
        }
        match read() {
            None => {}
            Some(Ok(bytes)) => self.frame(VALUE, tag, &bytes),
            Some(Err(error)) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                self.frame(ERRNO, tag, &errno.to_le_bytes());
            }
        }
    }

    fn frame(&mut self, kind: u8, tag: u8, bytes: &[u8]) {
        self.buffer.extend_from_slice(&[kind, tag]);
        self.buffer.extend_from_slice(&self.item.to_le_bytes());
        self.buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        if self.pipe.write_all(&self.buffer).is_err() {
            // the parent is gone: the rest is of no use
            exit_child(1);
        }
        self.buffer.clear();
    }

    fn done(&mut self) {
        self.frame(DONE, 0, &[]);
        if self.cautious || self.buffer.len() > 8 << 10 {
            self.flush();
        }
    }
}

/// Reads `items` items with `read`, in up to `workers` children at once; a
/// child that makes no progress for `deadline` is given up with the item it is
/// at, and the rest continues without it. Gives one answer an item.
///
/// `read` runs in a forked copy of this process: it sees what the caller sees
/// and changes nothing here. The caller has no other threads. Errors: no child
/// can be started.
pub fn read_in_child(
    items: usize,
    workers: usize,
    deadline: Duration,
    read: &dyn Fn(usize, &mut ChildPipe),
) -> io::Result<Vec<ChildRead>> {
    let mut answers = vec![ChildRead::default(); items];
    let workers = workers.clamp(1, items.max(1));
    let mut running = Vec::new();
    for first in 0..workers.min(items) {
        // every so-many-th: items beside each other cost about the same
        let share = (first..items).step_by(workers).collect();
        running.push(Worker::start(share, false, read)?);
    }
    while !running.is_empty() {
        wait_any(&running, deadline)?;
        let mut next = Vec::with_capacity(running.len());
        for mut worker in running {
            match worker.take(&mut answers, deadline)? {
                WorkerProgress::Going => next.push(worker),
                WorkerProgress::Finished => worker.reap(),
                WorkerProgress::Stuck => {
                    if let Some(again) = worker.give_up(&mut answers, read)? {
                        next.push(again);
                    }
                }
            }
        }
        running = next;
    }
    Ok(answers)
}

enum WorkerProgress {
    Going,
    Finished,
    Stuck,
}

struct Worker {
    pid: Pid,
    pipe: OwnedFd,
    /// Its items, and which of them is the first that is not done yet.
    share: Vec<usize>,
    at: usize,
    cautious: bool,
    /// Values of that item, not known to be complete.
    partial: Vec<(u8, Result<Vec<u8>, i32>)>,
    begun: Option<u8>,
    buffer: Vec<u8>,
    heard: Instant,
}

impl Worker {
    fn start(
        share: Vec<usize>,
        cautious: bool,
        read: &dyn Fn(usize, &mut ChildPipe),
    ) -> io::Result<Worker> {
        let (from, to) = pipe().map_err(errno_error)?;
        let pid = in_child(|| {
            let mut pipe =
                ChildPipe { pipe: File::from(to), buffer: Vec::new(), item: 0, cautious };
            for item in &share {
                pipe.item = *item as u32;
                read(*item, &mut pipe);
                pipe.done();
            }
            pipe.flush();
            0
        })?;
        set_nonblocking(&from)?;
        Ok(Worker {
            pid,
            pipe: from,
            share,
            at: 0,
            cautious,
            partial: Vec::new(),
            begun: None,
            buffer: Vec::new(),
            heard: Instant::now(),
        })
    }

    /// Takes what has arrived.
    fn take(
        &mut self,
        answers: &mut [ChildRead],
        deadline: Duration,
    ) -> io::Result<WorkerProgress> {
        let mut chunk = [0u8; 64 << 10];
        loop {
            match nix::unistd::read(self.pipe.as_fd(), &mut chunk) {
                // it ended; early where it was killed or could not go on
                Ok(0) if self.at == self.share.len() => return Ok(WorkerProgress::Finished),
                Ok(0) => return Ok(WorkerProgress::Stuck),
                Ok(n) => {
                    self.heard = Instant::now();
                    self.buffer.extend_from_slice(&chunk[..n]);
                    self.frames(answers);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if self.heard.elapsed() < deadline => {
                    return Ok(WorkerProgress::Going);
                }
                Err(Errno::EAGAIN) => return Ok(WorkerProgress::Stuck),
                Err(errno) => return Err(errno_error(errno)),
            }
        }
    }

    fn frames(&mut self, answers: &mut [ChildRead]) {
        let mut used = 0;
        while let Some(head) = self.buffer.get(used..used + HEAD) {
            let (kind, tag) = (head[0], head[1]);
            let length = u32::from_le_bytes([head[6], head[7], head[8], head[9]]) as usize;
            let start = used + HEAD;
            let Some(bytes) = self.buffer.get(start..start + length) else {
                break;
            };
            match kind {
                BEGIN => self.begun = Some(tag),
                VALUE => self.partial.push((tag, Ok(bytes.to_vec()))),
                ERRNO => {
                    let errno = bytes.try_into().map_or(libc::EIO, i32::from_le_bytes);
                    self.partial.push((tag, Err(errno)));
                }
                _ => {
                    answers[self.share[self.at]].values = std::mem::take(&mut self.partial);
                    self.at += 1;
                    self.begun = None;
                }
            }
            used = start + length;
        }
        self.buffer.drain(..used);
    }

    /// Ends a stuck child as far as the kernel lets us, and starts another for
    /// the rest. The first time, what is left is read again cautiously, value
    /// by value, so that we know which read it is that hangs.
    fn give_up(
        mut self,
        answers: &mut [ChildRead],
        read: &dyn Fn(usize, &mut ChildPipe),
    ) -> io::Result<Option<Worker>> {
        let _ = kill(self.pid, Signal::SIGKILL);
        // not waited for: in state D it ends when the kernel lets it
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
        if self.cautious {
            answers[self.share[self.at]] = ChildRead {
                values: std::mem::take(&mut self.partial),
                stuck_at: Some(self.begun.unwrap_or(u8::MAX)),
            };
            self.at += 1;
        }
        let rest = self.share.split_off(self.at);
        if rest.is_empty() {
            return Ok(None);
        }
        Worker::start(rest, true, read).map(Some)
    }

    fn reap(self) {
        let _ = waitpid(self.pid, None);
    }
}

/// Waits until one of the pipes has something to say, or the deadline passes.
fn wait_any(running: &[Worker], deadline: Duration) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> =
        running.iter().map(|w| PollFd::new(w.pipe.as_fd(), PollFlags::POLLIN)).collect();
    let left = running
        .iter()
        .map(|w| deadline.saturating_sub(w.heard.elapsed()))
        .min()
        .unwrap_or(deadline);
    match poll(&mut fds, timeout(left)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno_error(errno)),
    }
}

/// A poll timeout, a millisecond too long rather than too short.
fn timeout(left: Duration) -> PollTimeout {
    let ms = left.as_millis().saturating_add(1).min(i32::MAX as u128) as i32;
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(errno_error)?;
    Ok(())
}

/// How often a wait asks whether it shall end.
const ASK: Duration = Duration::from_millis(100);

/// Runs `work` in a child and waits at most `wait` for it. True: it came back
/// true in time. A child that does not is killed, as far as the kernel lets us,
/// and so is one that `stop` (asked several times a second) ends the wait for.
/// Errors: no child can be started.
pub fn wait_for(
    wait: Duration,
    stop: &dyn Fn() -> bool,
    work: impl FnOnce() -> bool,
) -> io::Result<bool> {
    let (from, to) = pipe().map_err(errno_error)?;
    let pid = in_child(|| {
        let answer = [u8::from(work())];
        i32::from(File::from(to).write_all(&answer).is_err())
    })?;
    let start = Instant::now();
    loop {
        let left = wait.saturating_sub(start.elapsed()).min(ASK);
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout(left)) {
            Ok(0) if start.elapsed() < wait && !stop() => {}
            Ok(0) => {
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                return Ok(false);
            }
            Ok(_) => {
                let mut answer = Vec::new();
                File::from(from).read_to_end(&mut answer)?;
                let _ = waitpid(pid, None);
                return Ok(answer == [1]);
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno_error(errno)),
        }
    }
}

/// State letter of a process: the field behind the command in parentheses,
/// which may itself hold any character.
pub(crate) fn process_state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Forks; the child runs `work` and ends with its answer, whatever happens.
fn in_child(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    let parent = nix::unistd::getpid();
    // SAFETY: the child runs `work` and leaves by _exit(2). Our tools have one
    // thread; in tests with more, `work` allocates, which glibc allows after
    // fork, and takes no lock of ours.
    match unsafe { fork() }.map_err(errno_error)? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            // A killed tool leaves no reader behind. prctl before the check:
            // the parent may have died in between.
            // SAFETY: prctl with integer arguments.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            if nix::unistd::getppid() != parent {
                exit_child(1);
            }
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            exit_child(code.unwrap_or(101))
        }
    }
}

/// Leaves a forked child without running what belongs to the parent (buffers,
/// exit handlers).
fn exit_child(code: i32) -> ! {
    // SAFETY: _exit(2) does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(150);

    #[test]
    fn values_and_errors_arrive_item_by_item() {
        for workers in [1, 2, 3, 7, 100] {
            let answers = read_in_child(50, workers, Duration::from_secs(10), &|item, pipe| {
                pipe.put(7, || Ok(format!("item {item}").into_bytes()));
                pipe.put(8, || Err(io::Error::from_raw_os_error(libc::ENODEV)));
                pipe.put(9, || Ok(vec![b'x'; item * 1000]));
            })
            .unwrap();
            assert_eq!(answers.len(), 50);
            for (item, answer) in answers.iter().enumerate() {
                assert_eq!(answer.bytes(7).unwrap(), format!("item {item}").as_bytes());
                assert_eq!(answer.errno(8), Some(libc::ENODEV));
                assert_eq!(answer.bytes(9).unwrap().len(), item * 1000);
                assert_eq!(answer.stuck_at, None);
            }
        }
        assert!(read_in_child(0, 4, SHORT, &|_, _| ()).unwrap().is_empty());
    }

    #[test]
    fn one_stuck_read_costs_its_item_the_rest_and_nobody_else_anything() {
        let answers = read_in_child(20, 2, SHORT, &|item, pipe| {
            pipe.put(1, || Ok(b"first".to_vec()));
            pipe.put(2, || {
                if item == 3 || item == 15 || item == 19 {
                    std::thread::sleep(Duration::from_secs(3600));
                }
                Ok(b"second".to_vec())
            });
            pipe.put(3, || Ok(b"third".to_vec()));
        })
        .unwrap();
        for (item, answer) in answers.iter().enumerate() {
            assert_eq!(answer.bytes(1), Some(&b"first"[..]), "{item}");
            let stuck = item == 3 || item == 15 || item == 19;
            assert_eq!(answer.stuck_at, stuck.then_some(2), "{item}");
            assert_eq!(answer.bytes(3).is_some(), !stuck, "{item}");
        }
    }

    #[test]
    fn a_child_that_dies_is_not_waited_for() {
        let answers = read_in_child(4, 1, Duration::from_secs(10), &|item, pipe| {
            pipe.put(1, || Ok(vec![item as u8]));
            if item == 2 {
                exit_child(9);
            }
        })
        .unwrap();
        assert_eq!(answers[3].bytes(1), Some(&[3u8][..]));
        assert!(answers[2].stuck_at.is_some());
    }

    #[test]
    fn waiting_ends_with_the_work_or_with_the_time() {
        let never = || false;
        assert!(wait_for(Duration::from_secs(10), &never, || true).unwrap());
        assert!(!wait_for(Duration::from_secs(10), &never, || false).unwrap());
        let start = Instant::now();
        let sleep = || {
            std::thread::sleep(Duration::from_secs(3600));
            true
        };
        assert!(!wait_for(SHORT, &never, sleep).unwrap());
        assert!(!wait_for(Duration::from_secs(3600), &|| true, sleep).unwrap());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
