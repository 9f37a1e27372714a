//! The store, and what stands between it and a request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::FileAttr;

use crate::attributes::attributes;
use crate::fault::{Effect, Errors, Faults, Logged, Op};
use crate::store::Store;

#[derive(Debug)]
pub(crate) struct State {
    pub store: Store,
    pub quorate: bool,
    pub errors: Errors,
    pub faults: Faults,
    pub log: Vec<Logged>,
    /// How long the kernel may answer from what it was told before.
    pub cache: Duration,
}

impl State {
    pub fn new(store: Store) -> State {
        State {
            store,
            quorate: true,
            errors: Errors::None,
            faults: Faults::default(),
            log: Vec::new(),
            cache: Duration::ZERO,
        }
    }

    /// Whether a request gets through to the store.
    pub fn gate(&mut self, op: Op) -> Result<(), i32> {
        match self.faults.next(op) {
            Some(Effect::Fail(errno) | Effect::FailFrom(errno)) => return Err(errno),
            Some(Effect::LoseQuorum) => self.quorate = false,
            None => {}
        }
        match self.errors {
            Errors::All => Err(libc::EIO),
            _ if op.changes() && !self.quorate => Err(libc::EACCES),
            Errors::Changes if op.changes() => Err(libc::EIO),
            _ => Ok(()),
        }
    }

    pub fn attr(&self, inode: u64) -> Result<FileAttr, i32> {
        attributes(&self.store, inode, self.quorate).ok_or(libc::ENOENT)
    }
}

pub(crate) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
