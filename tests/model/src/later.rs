//! Requests that are answered later: those that the model holds up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fuser::{Errno, ReplyData, ReplyWrite};

use crate::caller::killed;
use crate::fuse::ModelFs;
use crate::inodes::lock;

/// How often a blocked request looks whether its caller was killed. The
/// library does not pass FUSE_INTERRUPT on.
const LOOK: Duration = Duration::from_millis(20);

/// When a caller need not wait any longer, though nothing has happened.
struct Patience {
    pid: u32,
    stop: Arc<AtomicBool>,
    uninterruptible: Arc<AtomicBool>,
}

impl Patience {
    fn over(&self) -> bool {
        let may_die = !self.uninterruptible.load(Ordering::SeqCst);
        self.stop.load(Ordering::SeqCst) || may_die && killed(self.pid)
    }
}

impl ModelFs {
    fn patience(&self, pid: u32) -> Patience {
        let (stop, uninterruptible) = (self.stop.clone(), self.uninterruptible.clone());
        Patience { pid, stop, uninterruptible }
    }

    /// Answers a write that blocked when it ends, or its caller is killed.
    pub fn answer_later(&self, ticket: u64, pid: u32, size: u32, reply: ReplyWrite) {
        let (model, patience) = (self.model.clone(), self.patience(pid));
        thread::spawn(move || {
            loop {
                match model.wait(ticket, LOOK) {
                    Some(Ok(())) => return reply.written(size),
                    Some(Err(errno)) => return reply.error(Errno::from_i32(errno)),
                    None if patience.over() => return reply.error(Errno::EINTR),
                    None => {}
                }
            }
        });
    }

    /// Answers a read that waits for the device lock.
    pub fn read_later(&self, path: String, pid: u32, handle: u64, reply: ReplyData) {
        let (model, open) = (self.model.clone(), self.open.clone());
        let patience = self.patience(pid);
        model.lock().counters.blocked_reads += 1;
        thread::spawn(move || {
            loop {
                match model.try_read(&path) {
                    Ok(Some(bytes)) => {
                        reply.data(&bytes);
                        if let Some(handle) = lock(&open).handles.get_mut(&handle) {
                            handle.content = bytes;
                        }
                        return;
                    }
                    Err(errno) => return reply.error(Errno::from_i32(errno)),
                    Ok(None) if patience.over() => return reply.error(Errno::EINTR),
                    Ok(None) => thread::sleep(LOOK),
                }
            }
        });
    }
}
