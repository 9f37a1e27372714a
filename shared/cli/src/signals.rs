//! SIGINT and SIGTERM: a tool in the middle of a change hears of them, undoes
//! what it did and ends; it is not torn out of it.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP only set what [`interrupted`] tells.
/// For tools that change something; a tool that only reads just ends.
pub fn catch_signals() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        // An error is only possible for signals that cannot be caught.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Whether one of them came in.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
