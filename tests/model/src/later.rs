//! Requests that are answered later: those that the model holds up.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use fuser::{Errno, ReplyData, ReplyWrite};

use crate::caller::killed;
use crate::fuse::ModelFs;
use crate::inodes::lock;

/// How often a blocked request looks whether its caller was killed. The
/// library does not pass FUSE_INTERRUPT on.
const LOOK: Duration = Duration::from_millis(20);

impl ModelFs {
    /// Answers a write that blocked when it ends, or its caller is killed.
    pub fn answer_later(&self, ticket: u64, pid: u32, size: u32, reply: ReplyWrite) {
        let (model, stop) = (self.model.clone(), self.stop.clone());
        thread::spawn(move || {
            loop {
                match model.wait(ticket, LOOK) {
                    Some(Ok(())) => return reply.written(size),
                    Some(Err(errno)) => return reply.error(Errno::from_i32(errno)),
                    None if stop.load(Ordering::SeqCst) || killed(pid) => {
                        return reply.error(Errno::EINTR);
                    }
                    None => {}
                }
            }
        });
    }

    /// Answers a read that waits for the device lock.
    pub fn read_later(&self, path: String, pid: u32, handle: u64, reply: ReplyData) {
        let (model, stop, open) = (self.model.clone(), self.stop.clone(), self.open.clone());
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
                    Ok(None) if stop.load(Ordering::SeqCst) || killed(pid) => {
                        return reply.error(Errno::EINTR);
                    }
                    Ok(None) => thread::sleep(LOOK),
                }
            }
        });
    }
}
