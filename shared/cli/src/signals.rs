//! SIGINT and SIGTERM: a tool in the middle of a change notices them, rolls back
//! what it did and ends.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Where the handler writes, so that a poll(2) ends; -1: nowhere.
static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    let pipe = PIPE.load(Ordering::Relaxed);
    if pipe >= 0 {
        // SAFETY: write(2) is async-signal-safe; the pipe is never closed.
        unsafe { libc::write(pipe, b"!".as_ptr().cast(), 1) };
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP only set what [`interrupted`] returns.
/// For tools that change something; a tool that only reads just ends. In the same way a
/// reader of the records that goes away no longer ends the work.
pub fn catch_signals() {
    record::outlive_reader();
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic and writes to a pipe.
        // An error is only possible for signals that cannot be caught.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// A file that grows beyond the limit of this process (`ulimit -f`) is an error of the
/// write, which a tool reports and rolls back, and not the end of the process.
pub(crate) fn report_file_limits() {
    // SAFETY: no handler is installed, and an error is only possible for signals that
    // cannot be ignored.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Whether one of them came in.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// [`catch_signals`], and a descriptor that can be read as soon as one comes in:
/// a poll(2) on it misses none. To be called once. Errors: no more descriptors.
pub fn signal_descriptor() -> io::Result<OwnedFd> {
    let mut ends = [-1; 2];
    // SAFETY: pipe2(2) writes two descriptors to an array of two.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are new and owned by nothing else.
    let (from, to) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    PIPE.store(to.into_raw_fd(), Ordering::Relaxed);
    catch_signals();
    Ok(from)
}
