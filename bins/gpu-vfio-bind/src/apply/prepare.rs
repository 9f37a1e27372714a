//! What has to be done before the first function is bound: drivers are loaded,
//! and NVIDIA's driver is asked.

use std::collections::BTreeSet;
use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use host::{KernelFiles, Machine, Written};
use passthrough::{ObjectionKind, driver_busy};

use crate::plan::FunctionStep;

/// Loads the VFIO drivers that are not loaded yet.
pub fn load_drivers(machine: &Machine, steps: &[FunctionStep]) -> Result<(), Failure> {
    let drivers: BTreeSet<&str> = steps
        .iter()
        .filter(|step| step.is_change())
        .filter_map(|step| step.after.driver.as_deref())
        .collect();
    for driver in drivers {
        if let Err(why) = load_driver(machine, driver) {
            let message = format!("driver {driver} is not loaded: {why}; nothing was changed");
            return Err(fail(Exit::System, message).run(advice::external::modprobe(driver)));
        }
    }
    Ok(())
}

/// Loads the module of a driver that is not there. A driver that finds no device
/// of its own may refuse to load: NVIDIA's does while vfio-pci has every GPU.
pub fn load_driver(machine: &Machine, driver: &str) -> Result<(), String> {
    let dir = format!("/sys/bus/pci/drivers/{driver}");
    if machine.exists(&dir) {
        return Ok(());
    }
    let limit = Duration::from_secs(30);
    match machine.run(&["modprobe", driver], limit).map_err(|error| error.to_string())? {
        None => Err("no command is run with --root".into()),
        Some(ran) if ran.success() && machine.exists(&dir) => Ok(()),
        Some(ran) if ran.success() => Err("the module has no driver of this name".into()),
        Some(ran) => Err(ran.reason()),
    }
}

/// Asks NVIDIA's driver whether it would release the functions at once. It
/// answers a "1" when the file is closed, and "0" withdraws the question.
pub fn ask_nvidia(
    machine: &Machine,
    steps: &[FunctionStep],
    say: &Say,
) -> Vec<::apply::Objection<ObjectionKind>> {
    let mut objections = Vec::new();
    for step in steps.iter().filter(|step| step.is_change()) {
        let path = format!("/proc/driver/nvidia/gpus/{}/unbindLock", step.address);
        if step.before.driver.as_deref() != Some("nvidia") || !machine.exists(&path) {
            continue;
        }
        let second = Duration::from_secs(2);
        let write = |value| KernelFiles::write_attr_within(machine, &path, value, second);
        let answer = match write("1") {
            Ok(Written::Done) => machine.attr(&path).unwrap_or_default(),
            Ok(Written::TimedOut { .. }) => "0".into(),
            Err(error) => {
                say.detail(&error.to_string());
                continue;
            }
        };
        let _ = write("0");
        if answer.trim() == "0" {
            objections.push(driver_busy(step.address));
        }
    }
    objections
}
