//! Carries moves out, reads back, and undoes everything where one step fails.

use std::time::{Duration, Instant};

use host::{FileError, KernelFiles, Written};
use pci::is_vfio_driver as is_vfio;
use record::Address;

use crate::plan::{Action, Move, State};

/// How long a write may take that the kernel is not known to block: long
/// enough for any, short enough to keep the promise of `--timeout` plus 2 s.
const SHORT: Duration = Duration::from_secs(1);

/// What became of one move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was so already.
    Unchanged,
    /// Done and read back.
    Changed,
    /// Done and undone, or not begun, because another failed.
    RolledBack,
    /// Not begun, because another failed.
    NotReached,
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// What it is now, where that is not what it was before.
        left: Option<State>,
    },
    /// Another failed, and this one could not be put back.
    NotRestored {
        /// Why.
        why: String,
        /// What it is now.
        left: State,
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
    /// How long unbind and bind may take.
    pub deadline: Duration,
    /// Asked between steps: a signal came in.
    pub interrupted: &'a dyn Fn() -> bool,
}

enum Failed {
    /// The kernel said no.
    Refused(String),
    /// It did not answer: what it was asked may still happen.
    Pending(String),
}

impl Kernel<'_> {
    fn device(&self, address: Address, name: &str) -> String {
        format!("/sys/bus/pci/devices/{address}/{name}")
    }

    fn driver(&self, address: Address) -> Result<Option<String>, FileError> {
        match self.files.read_link(&self.device(address, "driver")) {
            Ok(target) => Ok(target.rsplit('/').next().map(str::to_string)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Driver and override of a function now.
    pub fn state(&self, address: Address) -> Result<State, FileError> {
        let driver = self.driver(address)?;
        let text = self.files.read_attr(&self.device(address, "driver_override"))?;
        let driver_override = Some(text).filter(|t| !t.is_empty() && t != "(null)");
        Ok(State { driver, driver_override })
    }

    /// Carries the moves out in order. Where one fails, those before it are
    /// undone, last first. Gives what became of each, and why it stopped.
    pub fn apply(&self, moves: &[Move]) -> (Vec<Outcome>, Option<Stop>) {
        let mut outcomes = Vec::with_capacity(moves.len());
        for step in moves {
            if step.actions.is_empty() {
                outcomes.push(Outcome::Unchanged);
                continue;
            }
            match self.carry_out(step) {
                Ok(()) => outcomes.push(Outcome::Changed),
                Err(failed) => {
                    let (why, outcome) = self.give_up(step, failed);
                    outcomes.push(outcome);
                    self.roll_back(moves, &mut outcomes);
                    outcomes.resize(moves.len(), Outcome::NotReached);
                    return (outcomes, Some(Stop { address: step.address, why }));
                }
            }
        }
        (outcomes, None)
    }

    /// Undoes all moves that `outcomes` calls changed, last first.
    pub fn roll_back(&self, moves: &[Move], outcomes: &mut [Outcome]) {
        for (step, outcome) in moves.iter().zip(outcomes.iter_mut()).rev() {
            if *outcome == Outcome::Changed {
                *outcome = match self.restore(step.address, &step.before) {
                    Ok(()) => Outcome::RolledBack,
                    Err(why) => match self.state(step.address) {
                        Ok(left) if left == step.before => Outcome::RolledBack,
                        Ok(left) => Outcome::NotRestored { why, left },
                        Err(_) => Outcome::NotRestored { why, left: step.after.clone() },
                    },
                };
            }
        }
    }

    fn carry_out(&self, step: &Move) -> Result<(), Failed> {
        for action in &step.actions {
            if (self.interrupted)() {
                return Err(Failed::Refused("interrupted".into()));
            }
            self.act(step.address, action)?;
        }
        let probed = step.actions.last() == Some(&Action::Probe);
        let mut now = self.state(step.address).map_err(|e| Failed::Refused(e.to_string()))?;
        if let Some(driver) = now.driver.clone().filter(|driver| probed && is_vfio(driver)) {
            self.drop_dynamic_id(step.address, &driver)?;
            now = self.state(step.address).map_err(|e| Failed::Refused(e.to_string()))?;
            if now.driver.as_deref().is_some_and(is_vfio) {
                return Err(Failed::Refused(format!(
                    "{driver} takes it again: by ids= or an alias?"
                )));
            }
        }
        let driver_right = probed || now.driver == step.after.driver;
        if driver_right && now.driver_override == step.after.driver_override {
            return Ok(());
        }
        let said = |state: &State| {
            format!(
                "driver {}, override {}",
                state.driver.as_deref().unwrap_or("none"),
                state.driver_override.as_deref().unwrap_or("none")
            )
        };
        Err(Failed::Refused(format!("reads back as {}, not {}", said(&now), said(&step.after))))
    }

    /// Proxmox VE binds by new_id and never takes the id back: vfio-pci then
    /// grabs every identical card that has no driver. Takes it back and lets
    /// the kernel look again.
    fn drop_dynamic_id(&self, address: Address, driver: &str) -> Result<(), Failed> {
        let id = |name: &str| {
            let text = self.files.read_attr(&self.device(address, name));
            let text = text.map_err(|error| Failed::Refused(error.to_string()))?;
            Ok(text.trim_start_matches("0x").to_string())
        };
        let ids = format!("{} {}", id("vendor")?, id("device")?);
        let path = format!("/sys/bus/pci/drivers/{driver}/remove_id");
        if let Err(error) = self.files.write_attr_within(&path, &ids, SHORT) {
            return Err(Failed::Refused(format!(
                "{driver} takes it again, not by new_id: {error}"
            )));
        }
        self.act(address, &Action::Unbind(driver.to_string()))?;
        self.act(address, &Action::Probe)
    }

    fn act(&self, address: Address, action: &Action) -> Result<(), Failed> {
        let full = address.to_string();
        let (path, value, deadline, what) = match action {
            Action::Override(driver) => {
                // a newline clears it; an empty write would never reach the kernel
                let value = driver.clone().unwrap_or_else(|| "\n".into());
                (self.device(address, "driver_override"), value, SHORT, "driver_override")
            }
            Action::Unbind(driver) => {
                (format!("/sys/bus/pci/drivers/{driver}/unbind"), full, self.deadline, "unbind")
            }
            Action::Bind(driver) => {
                (format!("/sys/bus/pci/drivers/{driver}/bind"), full, self.deadline, "bind")
            }
            Action::Probe => {
                ("/sys/bus/pci/drivers_probe".into(), full, self.deadline, "drivers_probe")
            }
        };
        match self.files.write_attr_within(&path, &value, deadline) {
            Ok(Written::Done) => Ok(()),
            Ok(Written::TimedOut { state }) => Err(Failed::Pending(format!(
                "{what} did not come back within {} s: the kernel is still at it{}",
                deadline.as_secs(),
                state.map_or(String::new(), |state| format!(" (its writer is in state {state})"))
            ))),
            Err(error) => Err(Failed::Refused(explain(action, &error))),
        }
    }

    /// After a failed move: puts the function back, unless the kernel is still
    /// busy with it. Gives why, and what to tell of it.
    fn give_up(&self, step: &Move, failed: Failed) -> (String, Outcome) {
        let why = match failed {
            Failed::Pending(why) => {
                // Its device lock is held: all we can try is the override, and
                // on kernels that lock for it not even that.
                let path = self.device(step.address, "driver_override");
                let value = step.before.driver_override.clone().unwrap_or_else(|| "\n".into());
                let restored = self.files.write_attr_within(&path, &value, SHORT);
                // links are read without any lock; what the kernel is still at
                // may change this yet
                let driver = self.driver(step.address).unwrap_or(None);
                let driver_override = match restored {
                    Ok(Written::Done) => step.before.driver_override.clone(),
                    _ => step.after.driver_override.clone(),
                };
                let left = State { driver, driver_override };
                return (why.clone(), Outcome::Failed { why, left: Some(left) });
            }
            Failed::Refused(why) => why,
        };
        let restored = self.restore(step.address, &step.before);
        let left = match self.state(step.address) {
            Ok(now) if now == step.before => None,
            Ok(now) => Some(now),
            Err(_) => Some(step.after.clone()),
        };
        let told = match restored {
            Err(undo) if left.is_some() => format!("{why}; it could not be put back: {undo}"),
            _ => why.clone(),
        };
        (why, Outcome::Failed { why: told, left })
    }

    /// Puts a function back into a state, whatever it is in now. Goes on after
    /// a step that fails: each that works leaves less undone.
    fn restore(&self, address: Address, to: &State) -> Result<(), String> {
        let mut first: Option<String> = None;
        let start = Instant::now();
        let mut attempt = |action: Action| {
            if start.elapsed() > self.deadline {
                first.get_or_insert_with(|| "took too long".into());
                return;
            }
            match self.act(address, &action) {
                Ok(()) => {}
                Err(Failed::Refused(why) | Failed::Pending(why)) => {
                    first.get_or_insert(why);
                }
            }
        };
        let now = self.state(address).map_err(|error| error.to_string())?;
        if now.driver != to.driver {
            if let Some(driver) = now.driver {
                attempt(Action::Unbind(driver));
            }
            if let Some(driver) = &to.driver {
                // the override must not stand in the way of the old driver
                attempt(Action::Override(Some(driver.clone())));
                attempt(Action::Bind(driver.clone()));
            }
        }
        attempt(Action::Override(to.driver_override.clone()));
        let now = self.state(address).map_err(|error| error.to_string())?;
        if now == *to {
            return Ok(());
        }
        Err(first.unwrap_or_else(|| "it does not read back as it was".into()))
    }
}

/// The kernel's answer in words: each error number means one thing here
/// (drivers/base/bus.c, vfio-pci's probe).
fn explain(action: &Action, error: &FileError) -> String {
    let meaning = match (action, error.errno()) {
        (Action::Bind(driver), libc::ENODEV) => {
            format!("{driver} does not take it (no such function, or no match)")
        }
        (Action::Bind(driver), libc::ENOENT) => {
            format!("no driver {driver} is loaded ('modprobe {driver}')")
        }
        (Action::Bind(_), libc::EBUSY) => {
            "it is bound already, or its group belongs to a VM".into()
        }
        (Action::Bind(_), libc::EAGAIN) => "its driver waits for something else (deferred)".into(),
        (Action::Bind(driver), libc::EINVAL) if is_vfio(driver) => {
            "VFIO does not take it: no IOMMU group, or on its deny list".into()
        }
        (Action::Unbind(driver), libc::ENODEV) => format!("it is no longer bound to {driver}"),
        _ => return error.to_string(),
    };
    format!("{error}: {meaning}")
}
