//! Writes drivers and overrides, reads them back, and rolls everything back where
//! one step fails.

use std::time::{Duration, Instant};

use ::apply::{ApplyStop, StepError, StepOutcome, write_within};
use host::{FileError, KernelFiles, Written};
use pci::is_vfio_driver as is_vfio;
use record::Address;

use crate::plan::{DriverAction, DriverState, FunctionStep};

/// How long a write may take that the kernel is not known to block: long
/// enough for any, short enough to keep the promise of `--timeout` plus 2 s.
const SHORT: Duration = Duration::from_secs(1);

/// What became of one step; `left` is driver and override.
pub type FunctionOutcome = StepOutcome<DriverState>;

/// Changes drivers and overrides in sysfs.
pub struct DriverWriter<'a> {
    pub files: &'a dyn KernelFiles,
    /// How long one unbind or bind may take.
    pub deadline: Duration,
    /// Asked between writes.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Loads a driver that is not there.
    pub load: &'a dyn Fn(&str) -> Result<(), String>,
}

impl DriverWriter<'_> {
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

    pub fn state(&self, address: Address) -> Result<DriverState, FileError> {
        let driver = self.driver(address)?;
        let text = self.files.read_attr(&self.device(address, "driver_override"))?;
        let driver_override = Some(text).filter(|t| !t.is_empty() && t != "(null)");
        Ok(DriverState { driver, driver_override })
    }

    /// Carries the steps out in order. Where one fails, those before it are
    /// rolled back, last first.
    pub fn apply(&self, steps: &[FunctionStep]) -> (Vec<FunctionOutcome>, Option<ApplyStop>) {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            if !step.is_change() {
                outcomes.push(StepOutcome::Unchanged);
                continue;
            }
            match self.carry_out(step) {
                Ok(()) => outcomes.push(StepOutcome::Changed),
                Err(error) => {
                    outcomes.push(self.give_up(step, &error));
                    self.roll_back(steps, &mut outcomes);
                    outcomes.resize(steps.len(), StepOutcome::NotReached);
                    let target = step.address.to_string();
                    return (outcomes, Some(ApplyStop { target, error }));
                }
            }
        }
        (outcomes, None)
    }

    /// Rolls back all steps that `outcomes` calls changed, last first.
    pub fn roll_back(&self, steps: &[FunctionStep], outcomes: &mut [FunctionOutcome]) {
        for (step, outcome) in steps.iter().zip(outcomes.iter_mut()).rev() {
            if *outcome == StepOutcome::Changed {
                *outcome = match self.restore(step.address, &step.before) {
                    Ok(()) => StepOutcome::RolledBack,
                    Err(why) => match self.state(step.address) {
                        Ok(left) if left == step.before => StepOutcome::RolledBack,
                        Ok(left) => StepOutcome::NotRestored { why, left },
                        Err(_) => StepOutcome::NotRestored { why, left: step.after.clone() },
                    },
                };
            }
        }
    }

    fn carry_out(&self, step: &FunctionStep) -> Result<(), StepError> {
        for action in &step.actions {
            if (self.interrupted)() {
                return Err(StepError::Interrupted);
            }
            if let DriverAction::Bind(driver) = action {
                if self.load_for(step.address, driver)? {
                    continue;
                }
            }
            self.act(step.address, action)?;
        }
        let probed = step.actions.last() == Some(&DriverAction::Probe);
        let mut now = self.state(step.address)?;
        if let Some(driver) = now.driver.clone().filter(|driver| probed && is_vfio(driver)) {
            self.drop_dynamic_id(step.address, &driver)?;
            now = self.state(step.address)?;
            if now.driver.as_deref().is_some_and(is_vfio) {
                return Err(StepError::Failed(format!(
                    "{driver} takes it again, because of ids= or an alias"
                )));
            }
        }
        let driver_right = probed || now.driver == step.after.driver;
        if driver_right && now.driver_override == step.after.driver_override {
            return Ok(());
        }
        Err(StepError::Failed(format!("reads back as {}, not {}", shown(&now), shown(&step.after))))
    }

    /// Loads the driver that a function is about to be bound to, if it is not
    /// there. Only now: NVIDIA's driver does not load while vfio-pci has every
    /// GPU. Whether its registration has bound the function.
    fn load_for(&self, address: Address, driver: &str) -> Result<bool, StepError> {
        if self.files.exists(&format!("/sys/bus/pci/drivers/{driver}")) {
            return Ok(false);
        }
        let why = |why| StepError::Failed(format!("driver {driver} is not loaded: {why}"));
        (self.load)(driver).map_err(why)?;
        Ok(self.driver(address)?.as_deref() == Some(driver))
    }

    /// Proxmox VE binds by new_id and never removes the id: vfio-pci then takes
    /// every identical GPU that has no driver. Removes the id and lets the
    /// kernel look for a driver again.
    fn drop_dynamic_id(&self, address: Address, driver: &str) -> Result<(), StepError> {
        let id = |name: &str| {
            let text = self.files.read_attr(&self.device(address, name));
            Ok::<_, StepError>(text?.trim_start_matches("0x").to_string())
        };
        let ids = format!("{} {}", id("vendor")?, id("device")?);
        let path = format!("/sys/bus/pci/drivers/{driver}/remove_id");
        if let Err(error) = self.files.write_attr_within(&path, &ids, SHORT) {
            let why = format!("{driver} takes it again, and not because of new_id: {error}");
            return Err(StepError::Failed(why));
        }
        self.act(address, &DriverAction::Unbind(driver.to_string()))?;
        self.act(address, &DriverAction::Probe)
    }

    fn act(&self, address: Address, action: &DriverAction) -> Result<(), StepError> {
        let full = address.to_string();
        let (path, value, deadline, what) = match action {
            DriverAction::Override(driver) => {
                // a newline clears it; an empty write would never reach the kernel
                let value = driver.clone().unwrap_or_else(|| "\n".into());
                (self.device(address, "driver_override"), value, SHORT, "driver_override")
            }
            DriverAction::Unbind(driver) => {
                (format!("/sys/bus/pci/drivers/{driver}/unbind"), full, self.deadline, "unbind")
            }
            DriverAction::Bind(driver) => {
                (format!("/sys/bus/pci/drivers/{driver}/bind"), full, self.deadline, "bind")
            }
            DriverAction::Probe => {
                ("/sys/bus/pci/drivers_probe".into(), full, self.deadline, "drivers_probe")
            }
        };
        let explain = |error: &FileError| explain(action, error);
        write_within(self.files, &path, &value, deadline, what, explain)
    }

    /// After a failed step: restores the function, unless the kernel still holds
    /// its lock.
    fn give_up(&self, step: &FunctionStep, error: &StepError) -> FunctionOutcome {
        if matches!(error, StepError::Pending(_)) {
            return StepOutcome::failed(error, Some(self.after_pending(step)));
        }
        let restored = self.restore(step.address, &step.before);
        let left = match self.state(step.address) {
            Ok(now) if now == step.before => None,
            Ok(now) => Some(now),
            Err(_) => Some(step.after.clone()),
        };
        let why = match restored {
            Err(undo) if left.is_some() => format!("{error}; cannot roll back: {undo}"),
            _ => error.to_string(),
        };
        StepOutcome::Failed { why, left }
    }

    /// What a function has while a write is pending. The kernel holds its device
    /// lock: only the override can be restored, and on kernels that take the
    /// lock for it, not even that.
    fn after_pending(&self, step: &FunctionStep) -> DriverState {
        let path = self.device(step.address, "driver_override");
        let value = step.before.driver_override.clone().unwrap_or_else(|| "\n".into());
        let restored = self.files.write_attr_within(&path, &value, SHORT);
        let driver_override = match restored {
            Ok(Written::Done) => step.before.driver_override.clone(),
            _ => step.after.driver_override.clone(),
        };
        // links are read without any lock
        DriverState { driver: self.driver(step.address).unwrap_or(None), driver_override }
    }

    /// Restores a state from any other. Continues after a write that fails: each
    /// one that succeeds leaves less to repair.
    fn restore(&self, address: Address, to: &DriverState) -> Result<(), String> {
        let mut first: Option<String> = None;
        let start = Instant::now();
        let mut attempt = |action: DriverAction| {
            if start.elapsed() > self.deadline {
                first.get_or_insert_with(|| "took too long".into());
                return;
            }
            match self.act(address, &action) {
                Ok(()) => {}
                Err(error) => {
                    first.get_or_insert(error.to_string());
                }
            }
        };
        let now = self.state(address).map_err(|error| error.to_string())?;
        if now.driver != to.driver {
            if let Some(driver) = now.driver {
                attempt(DriverAction::Unbind(driver));
            }
            if let Some(driver) = &to.driver {
                // the override must allow the old driver
                attempt(DriverAction::Override(Some(driver.clone())));
                attempt(DriverAction::Bind(driver.clone()));
            }
        }
        attempt(DriverAction::Override(to.driver_override.clone()));
        let now = self.state(address).map_err(|error| error.to_string())?;
        if now == *to {
            return Ok(());
        }
        Err(first.unwrap_or_else(|| "it reads back as something else".into()))
    }
}

fn shown(state: &DriverState) -> String {
    let name = |of: &Option<String>| of.clone().unwrap_or_else(|| "none".into());
    format!("driver {}, override {}", name(&state.driver), name(&state.driver_override))
}

/// What each error number means for these writes (drivers/base/bus.c, the probe
/// function of vfio-pci).
fn explain(action: &DriverAction, error: &FileError) -> String {
    let meaning = match (action, error.errno()) {
        (DriverAction::Bind(driver), libc::ENODEV) => {
            format!("{driver} does not support it, or the function does not exist")
        }
        (DriverAction::Bind(driver), libc::ENOENT) => format!("driver {driver} is not loaded"),
        (DriverAction::Bind(_), libc::EBUSY) => {
            "it is bound already, or its group belongs to a VM".into()
        }
        (DriverAction::Bind(_), libc::EAGAIN) => "its driver defers the probe".into(),
        (DriverAction::Bind(driver), libc::EINVAL) if is_vfio(driver) => {
            "VFIO rejects it: it has no IOMMU group, or is on the deny list of VFIO".into()
        }
        (DriverAction::Unbind(driver), libc::ENODEV) => {
            format!("it is no longer bound to {driver}")
        }
        _ => return error.to_string(),
    };
    format!("{error}: {meaning}")
}
