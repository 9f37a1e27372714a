//! Carries steps out, reads back, and undoes everything where one fails.

use std::time::Duration;

use host::{FileError, KernelFiles, Written};
use nvidia::{parse_creatable, short_name};
use record::Address;

use crate::observe::DEVICES;
use crate::plan::{Step, Target, What};

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was so already, or was left alone by plan.
    Unchanged,
    /// Done and read back.
    Changed,
    /// Done, and undone because another failed.
    RolledBack,
    /// Not begun, because another failed.
    NotReached,
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// What it has now, where that is not what it had.
        left: Option<String>,
    },
    /// Another failed, and this one could not be put back.
    NotRestored {
        /// Why.
        why: String,
        /// What it has now.
        left: String,
    },
}

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The function at which it did.
    pub address: Address,
    /// In words.
    pub why: String,
}

/// Where the apply works.
pub struct Kernel<'a> {
    /// sysfs.
    pub files: &'a dyn KernelFiles,
    /// How long the driver may take for one write.
    pub deadline: Duration,
    /// Asked between writes: a signal came in.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// One write that was made, and how to take it back.
#[derive(Clone, Debug)]
enum Done {
    /// A VF's profile was cleared; it had this.
    Cleared(usize, u32),
    /// A VF got this profile.
    Set(usize),
    /// A mediated device was removed; it was of this type.
    Removed(usize, String),
    /// A mediated device was made.
    Made(usize),
    /// `between` was called for a GPU.
    Between(Address),
}

/// What happens on a GPU between what goes away and what comes: called with
/// true, and with false to take it back.
pub type Between<'a> = dyn FnMut(Address, bool) -> Result<(), String> + 'a;

impl Kernel<'_> {
    /// Carries the steps out, GPU by GPU: first all that goes away, then
    /// `between` (heterogeneous mode fits there and nowhere else), then all
    /// that comes, in order. Where one fails, all before it is undone, last
    /// first. Gives what became of each, and why it stopped.
    pub fn apply(&self, steps: &[Step], between: &mut Between<'_>) -> (Vec<Outcome>, Option<Stop>) {
        let mut journal = Vec::new();
        let mut cards: Vec<Address> = steps.iter().map(|step| step.card).collect();
        cards.dedup();
        for card in cards {
            if let Err((at, why)) = self.card(card, steps, between, &mut journal) {
                let address = at.map_or(card, |at| steps[at].address);
                let outcomes = self.give_up(steps, at, &why, journal, between);
                return (outcomes, Some(Stop { address, why }));
            }
        }
        let outcome = |step: &Step| match step.is_change() {
            true => Outcome::Changed,
            false => Outcome::Unchanged,
        };
        (steps.iter().map(outcome).collect(), None)
    }

    fn card(
        &self,
        card: Address,
        steps: &[Step],
        between: &mut Between<'_>,
        journal: &mut Vec<Done>,
    ) -> Result<(), (Option<usize>, String)> {
        let ours: Vec<(usize, &Step)> =
            steps.iter().enumerate().filter(|(_, s)| s.card == card && s.is_change()).collect();
        if ours.is_empty() {
            return Ok(());
        }
        for (at, step) in ours.iter().filter(|(_, step)| step.clears()) {
            self.clear(*at, step, journal).map_err(|why| (Some(*at), why))?;
        }
        between(card, true).map_err(|why| (None, why))?;
        journal.push(Done::Between(card));
        for (at, step) in &ours {
            self.set(*at, step, journal).map_err(|why| (Some(*at), why))?;
        }
        Ok(())
    }

    fn path(&self, address: Address, name: &str) -> String {
        format!("{DEVICES}/{address}/{name}")
    }

    fn current(&self, address: Address) -> Result<u32, String> {
        let path = self.path(address, "nvidia/current_vgpu_type");
        let text = self.files.read_attr(&path).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| format!("'{path}' reads '{}'", text.trim()))
    }

    fn clear(&self, at: usize, step: &Step, journal: &mut Vec<Done>) -> Result<(), String> {
        self.go_on()?;
        match &step.what {
            What::Vendor { from, .. } => {
                let now = self.current(step.address)?;
                if now != *from {
                    return Err(format!("was changed by someone else meanwhile: it reads {now}"));
                }
                self.write_type(step.address, 0, &mut || journal.push(Done::Cleared(at, *from)))
            }
            What::Mdev { uuid, from: Some((dir, _)), .. } => {
                let path = self.path(step.address, &format!("{uuid}/remove"));
                self.write(&path, "1", "remove")?;
                journal.push(Done::Removed(at, dir.clone()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn set(&self, at: usize, step: &Step, journal: &mut Vec<Done>) -> Result<(), String> {
        match &step.what {
            What::Vendor { to: Some(target), .. } => {
                self.go_on()?;
                // what somebody else has set meanwhile the driver itself refuses (EPERM)
                let id = self.offered(step.address, target)?;
                self.write_type(step.address, id, &mut || journal.push(Done::Set(at)))
            }
            What::Mdev { uuid, to: Some((dir, _)), .. } => {
                self.go_on()?;
                self.make(step.address, dir, uuid)?;
                journal.push(Done::Made(at));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn go_on(&self) -> Result<(), String> {
        if (self.interrupted)() { Err("interrupted".into()) } else { Ok(()) }
    }

    /// The id of a profile by the list of this very function, which is the only
    /// one that counts: ids differ by card, and the list shrinks as the card fills.
    fn offered(&self, address: Address, target: &Target) -> Result<u32, String> {
        let path = self.path(address, "nvidia/creatable_vgpu_types");
        let text = self.files.read_attr(&path).map_err(|error| error.to_string())?;
        let offers = parse_creatable(&text);
        let by_id = |id| offers.iter().find(|offer| offer.id == id);
        let found = match target.id {
            Some(id) => by_id(id),
            None => offers.iter().find(|offer| short_name(&offer.name) == target.name),
        };
        match found {
            Some(offer) if target.profile.is_some() && short_name(&offer.name) != target.name => {
                Err(format!("id {} is {} here, not {}", offer.id, offer.name, target.name))
            }
            Some(offer) => Ok(offer.id),
            None => {
                let now: Vec<&str> = offers.iter().map(|offer| short_name(&offer.name)).collect();
                let now = if now.is_empty() { "nothing".into() } else { now.join(" ") };
                Err(format!("does not offer {} now: it offers {now}", target.name))
            }
        }
    }

    /// One write, and what it reads as afterwards. `done` is called once the
    /// driver has taken it, before anything else can fail.
    fn write_type(&self, address: Address, id: u32, done: &mut dyn FnMut()) -> Result<(), String> {
        let path = self.path(address, "nvidia/current_vgpu_type");
        let written = self.files.write_attr_within(&path, &id.to_string(), self.deadline);
        match written {
            Ok(Written::Done) => done(),
            Ok(Written::TimedOut { state, .. }) => {
                // it may still happen: undo looks at what is there
                done();
                return Err(format!(
                    "the driver did not answer within {} s{}",
                    self.deadline.as_secs(),
                    state.map_or(String::new(), |state| format!(
                        " (its writer is in state {state})"
                    ))
                ));
            }
            Err(error) => return Err(explain(id, &error)),
        }
        match self.current(address)? {
            now if now == id => Ok(()),
            now => Err(format!("reads back as {now}, not {id}")),
        }
    }

    fn write(&self, path: &str, value: &str, what: &str) -> Result<(), String> {
        match self.files.write_attr_within(path, value, self.deadline) {
            Ok(Written::Done) => Ok(()),
            Ok(Written::TimedOut { .. }) => {
                Err(format!("{what} did not come back within {} s", self.deadline.as_secs()))
            }
            Err(error) => Err(explain_mdev(what, &error)),
        }
    }

    fn make(&self, parent: Address, dir: &str, uuid: &str) -> Result<(), String> {
        let types = self.path(parent, &format!("mdev_supported_types/{dir}"));
        let left = self.files.read_attr(&format!("{types}/available_instances"));
        if left.is_ok_and(|left| left.trim() == "0") {
            return Err(format!("no more of {dir} can be made (available_instances is 0)"));
        }
        self.write(&format!("{types}/create"), uuid, "create")?;
        if self.files.exists(&self.path(parent, uuid)) {
            return Ok(());
        }
        Err(format!("{uuid} is not there after it was made"))
    }

    /// Undoes the journal, last first, and tells what became of every step.
    fn give_up(
        &self,
        steps: &[Step],
        at: Option<usize>,
        why: &str,
        journal: Vec<Done>,
        between: &mut Between<'_>,
    ) -> Vec<Outcome> {
        let mut touched = vec![false; steps.len()];
        let mut errors: Vec<Option<String>> = vec![None; steps.len()];
        for done in journal.iter().rev() {
            let number = match done {
                Done::Cleared(n, _) | Done::Set(n) | Done::Removed(n, _) | Done::Made(n) => *n,
                Done::Between(card) => {
                    // where it stays on, what goes back fits all the same
                    let _ = between(*card, false);
                    continue;
                }
            };
            touched[number] = true;
            if let Err(error) = self.undo(&steps[number], done) {
                errors[number].get_or_insert(error);
            }
        }
        let mut outcomes = Vec::with_capacity(steps.len());
        for (number, step) in steps.iter().enumerate() {
            let left = self.left(step).filter(|_| touched[number] || at == Some(number));
            outcomes.push(match (&errors[number], left) {
                _ if !step.is_change() => Outcome::Unchanged,
                (error, left) if at == Some(number) => {
                    let why = match (error, &left) {
                        (Some(error), Some(_)) => {
                            format!("{why}; it could not be put back: {error}")
                        }
                        _ => why.to_string(),
                    };
                    Outcome::Failed { why, left }
                }
                (_, None) if touched[number] => Outcome::RolledBack,
                (_, None) => Outcome::NotReached,
                (error, Some(left)) => {
                    let why = error.clone().unwrap_or_else(|| "it does not read as before".into());
                    Outcome::NotRestored { why, left }
                }
            });
        }
        outcomes
    }

    /// What a step's target has now, where that is not what it had before.
    fn left(&self, step: &Step) -> Option<String> {
        match &step.what {
            What::Vendor { from, .. } => match self.current(step.address) {
                Ok(now) if now == *from => None,
                Ok(0) => Some("none".into()),
                Ok(now) => Some(format!("id {now}")),
                Err(why) => Some(format!("unknown ({why})")),
            },
            What::Mdev { uuid, from, .. } => {
                let there =
                    self.files.read_link(&self.path(step.address, &format!("{uuid}/mdev_type")));
                let there = there.ok().and_then(|link| Some(link.rsplit('/').next()?.to_string()));
                if there.as_deref() == from.as_ref().map(|(dir, _)| dir.as_str()) {
                    return None;
                }
                Some(there.unwrap_or_else(|| "none".into()))
            }
            What::LeftAlone { .. } => None,
        }
    }

    fn undo(&self, step: &Step, done: &Done) -> Result<(), String> {
        let nothing = &mut || {};
        match (done, &step.what) {
            (Done::Set(_), _) => match self.current(step.address)? {
                0 => Ok(()),
                _ => self.write_type(step.address, 0, nothing),
            },
            (Done::Cleared(_, old), _) => match self.current(step.address)? {
                now if now == *old => Ok(()),
                0 => self.write_type(step.address, *old, nothing),
                now => Err(format!("it has {now} now")),
            },
            (Done::Made(_), What::Mdev { uuid, .. }) => {
                self.write(&self.path(step.address, &format!("{uuid}/remove")), "1", "remove")
            }
            (Done::Removed(_, dir), What::Mdev { uuid, .. }) => self.make(step.address, dir, uuid),
            _ => Ok(()),
        }
    }
}

/// The driver's answer to a write of current_vgpu_type in words.
fn explain(id: u32, error: &FileError) -> String {
    let meaning = match (error.errno(), id) {
        (libc::EPERM, 0) => "nothing is set on it",
        (libc::EPERM, _) => "a profile is set on it already",
        (libc::EIO, 0) => "the driver cannot take it away: is a VM using it?",
        (libc::EIO, _) => {
            "it does not fit (the kernel log says 'Failed to add vgpu create request: 0x38')"
        }
        (libc::EBUSY, _) => "a VM uses it",
        (libc::ENOSPC, _) => "the GPU is full",
        (libc::ENODEV, _) => "the GPU does not know this profile",
        (libc::EINVAL, _) => {
            "the driver does not know this virtual function any more, or not this profile: \
             switch them off and on (sriov-manage -d, -e)"
        }
        (libc::ENOENT, _) => "it is no longer on nvidia, or not on the vGPU host driver",
        (libc::EACCES | libc::EROFS, _) => "this needs root and a writable /sys",
        _ => return error.to_string(),
    };
    format!("{error}: {meaning}")
}

fn explain_mdev(what: &str, error: &FileError) -> String {
    let meaning = match (what, error.errno()) {
        (_, libc::EEXIST) => "a device with this UUID exists",
        (_, libc::ENOSPC) => "no more of this type fit",
        ("remove", libc::EBUSY) => "a VM uses it",
        ("remove", libc::ENODEV | libc::ENOENT) => "it is gone already",
        _ => return error.to_string(),
    };
    format!("{error}: {meaning}")
}
