//! What has to be done before the first function is bound: drivers are loaded,
//! and NVIDIA's driver is asked.

use std::collections::BTreeSet;
use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use host::{KernelFiles, Machine, Written};
use passthrough::{ObjectionKind, driver_busy};
use record::Address;

use crate::plan::FunctionStep;
use crate::vfio_driver::registered_name;

/// Loads the VFIO drivers that are not loaded yet, and gives the steps with the
/// names that the kernel has for them now.
pub fn load_drivers(
    machine: &Machine,
    steps: &[FunctionStep],
) -> Result<Vec<FunctionStep>, Failure> {
    let drivers: BTreeSet<&str> = steps
        .iter()
        .filter(|step| step.is_change())
        .filter_map(|step| step.after.driver.as_deref())
        .collect();
    let mut renamed = steps.to_vec();
    for driver in drivers {
        match load_driver(machine, driver) {
            Ok(name) if name == driver => {}
            Ok(name) => renamed.iter_mut().for_each(|step| step.rename(driver, &name)),
            Err(why) => {
                let message = format!("driver {driver} is not loaded: {why}; nothing was changed");
                return Err(fail(Exit::System, message).run(advice::external::modprobe(driver)));
            }
        }
    }
    Ok(renamed)
}

/// Loads the module of a driver that is not there, and returns the name under
/// which it is registered. A driver that finds no device of its own may refuse to
/// load: NVIDIA's does while vfio-pci has every GPU.
pub fn load_driver(machine: &Machine, driver: &str) -> Result<String, String> {
    let is_loaded = |driver: &str| machine.exists(&format!("/sys/bus/pci/drivers/{driver}"));
    if is_loaded(driver) {
        return Ok(driver.into());
    }
    let limit = Duration::from_secs(30);
    match machine.run(&["modprobe", driver], limit).map_err(|error| error.to_string())? {
        None => Err("no command is run with --root".into()),
        Some(ran) if ran.success() => {
            let name = registered_name(machine, driver);
            let absent = "the module has no driver of this name";
            Some(name).filter(|name| is_loaded(name)).ok_or_else(|| absent.into())
        }
        Some(ran) => Err(ran.reason()),
    }
}

/// GPUs that NVIDIA's driver opens for nobody, so that the unbind finds no user.
pub struct NvidiaLocks {
    /// Their addresses.
    locked: Vec<Address>,
}

/// How long NVIDIA's driver may take for an answer.
const ANSWER: Duration = Duration::from_secs(2);

fn lock_path(address: Address) -> String {
    format!("/proc/driver/nvidia/gpus/{address}/unbindLock")
}

/// Asks NVIDIA's driver whether it would release the functions at once, and
/// keeps it so. It acts on a "1" when the file is closed, and reads "0" where the
/// GPU has a user. Only the driver of a vGPU host can be asked.
pub fn lock_nvidia(
    machine: &Machine,
    steps: &[FunctionStep],
    say: &Say,
) -> (NvidiaLocks, Vec<::apply::Objection<ObjectionKind>>) {
    let (mut locks, mut objections) = (NvidiaLocks { locked: Vec::new() }, Vec::new());
    for step in steps.iter().filter(|step| step.is_change()) {
        let path = lock_path(step.address);
        if step.before.driver.as_deref() != Some("nvidia") || !machine.exists(&path) {
            continue;
        }
        let answer = match KernelFiles::write_attr_within(machine, &path, "1", ANSWER) {
            Ok(Written::Done) => machine.attr(&path).unwrap_or_default(),
            Ok(Written::TimedOut { .. }) => "0".into(),
            Err(error) => {
                say.detail(&error.to_string());
                continue;
            }
        };
        locks.locked.push(step.address);
        if answer.trim() == "0" {
            objections.push(driver_busy(step.address));
        }
    }
    (locks, objections)
}

impl NvidiaLocks {
    /// Unlocks the GPUs that the driver still has: a removal that waits in the
    /// kernel goes on the sooner the fewer programs open the GPU.
    pub fn release(&self, machine: &Machine) {
        for address in &self.locked {
            let driver = machine.read_link(&format!("/sys/bus/pci/devices/{address}/driver"));
            if driver.is_ok_and(|path| path.ends_with("/nvidia")) {
                let _ = KernelFiles::write_attr_within(machine, &lock_path(*address), "0", ANSWER);
            }
        }
    }
}
