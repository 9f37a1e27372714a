//! Writes that do not come back: who waits for what, and what ends it.

use record::Address;

use crate::attr::{Attr, Flow, Pending, Waiting};
use crate::fault::{Effect, Fault};
use crate::files::Node;
use crate::state::State;

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The kernel took it.
    Done,
    /// It did not come back. It happens when what holds it up goes away; see
    /// [`crate::ModelKernel::outcome`] for how it ended.
    Blocked(u64),
    /// The writer died at it.
    Died,
}

impl State {
    /// Whether somebody holds the device lock of a function.
    pub fn locked(&self, address: Address) -> bool {
        self.pending.iter().any(|pending| pending.holds() == Some(address))
    }

    /// One write(2) to an attribute, faults included.
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<WriteOutcome, i32> {
        let path = self.files.resolve(path, true)?;
        match self.files.node(&path) {
            Some(Node::Dir(_)) => return Err(libc::EISDIR),
            Some(_) => {}
            None => return Err(libc::ENOENT),
        }
        // kernfs refuses to open for writing what has no store function
        let attr = self.attribute(&path).ok_or(libc::EACCES)?;
        if bytes.is_empty() {
            return Ok(WriteOutcome::Done);
        }
        let short = self.short(&path);
        self.counters.writes += 1;
        *self.counters.writes_by_path.entry(short.clone()).or_default() += 1;
        self.counters.log.push((short, String::from_utf8_lossy(bytes).into_owned()));
        let nth = self.counters.writes;
        let fault = self.faults.iter().copied().find(|fault| fault.nth() == nth);
        let flow = match fault {
            Some(Fault::Errno(_, errno)) => return Err(errno),
            Some(Fault::Block(_)) => Flow::Blocked(Waiting::Test(self.target(&attr, bytes))),
            Some(Fault::Die(_, Effect::None)) => return Ok(WriteOutcome::Died),
            Some(Fault::Die(_, Effect::Happened)) => {
                // whether it failed or blocks, nobody is left to hear of it
                if let Ok(Flow::Blocked(waiting)) = self.store(&attr, bytes, false) {
                    self.wait(attr, bytes, waiting);
                }
                return Ok(WriteOutcome::Died);
            }
            None => self.store(&attr, bytes, false)?,
        };
        match flow {
            Flow::Done => Ok(WriteOutcome::Done),
            Flow::Blocked(waiting) => {
                self.counters.blocked += 1;
                Ok(WriteOutcome::Blocked(self.wait(attr, bytes, waiting)))
            }
        }
    }

    /// The function that a write is about.
    fn target(&self, attr: &Attr, bytes: &[u8]) -> Option<Address> {
        match attr {
            Attr::Bind(_) | Attr::Unbind(_) | Attr::DriversProbe => {
                Address::from_sysfs(String::from_utf8_lossy(bytes).trim_end())
            }
            _ => attr.subject(),
        }
    }

    fn wait(&mut self, attr: Attr, bytes: &[u8], waiting: Waiting) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.pending.push(Pending { ticket, attr, bytes: bytes.to_vec(), waiting });
        ticket
    }

    /// Lets all go on that can, in the order in which they came.
    pub fn settle(&mut self) {
        while let Some(at) = self.pending.iter().position(|pending| self.ready(pending.waiting)) {
            let pending = self.pending.remove(at);
            self.go_on(at, pending);
        }
    }

    /// Lets writes go on that [`Fault::Block`] holds.
    pub fn release_tests(&mut self) {
        let held = |pending: &Pending| matches!(pending.waiting, Waiting::Test(_));
        while let Some(at) = self.pending.iter().position(held) {
            let pending = self.pending.remove(at);
            self.go_on(at, pending);
        }
    }

    fn ready(&self, waiting: Waiting) -> bool {
        match waiting {
            Waiting::Lock(address) => !self.locked(address),
            Waiting::Remove(address) => !self.held_up(address),
            Waiting::Vfs(pf) => !self.vfs_in_use(pf),
            Waiting::Test(_) => false,
        }
    }

    fn go_on(&mut self, at: usize, pending: Pending) {
        let result = match pending.waiting {
            Waiting::Remove(address) => {
                self.detach_end(address);
                Ok(Flow::Done)
            }
            Waiting::Vfs(pf) => {
                self.remove_vfs(pf);
                Ok(Flow::Done)
            }
            // the test held it before it had begun
            Waiting::Test(_) => self.store(&pending.attr, &pending.bytes, false),
            Waiting::Lock(_) => self.store(&pending.attr, &pending.bytes, true),
        };
        match result {
            Ok(Flow::Blocked(waiting)) => self.pending.insert(at, Pending { waiting, ..pending }),
            Ok(Flow::Done) => {
                self.finished.insert(pending.ticket, Ok(()));
            }
            Err(errno) => {
                self.finished.insert(pending.ticket, Err(errno));
            }
        }
    }
}
