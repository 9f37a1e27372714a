//! `status`: which driver functions have now and after the next boot, against
//! the one that they should have.

use std::collections::BTreeSet;

use ::cli::{Exit, fail};
use advice::gpu_vfio_bind::{bind, persist, release};
use host::Machine;
use pci::{Function, System};
use record::{Address, Check, CheckStatus, Hint, Severity};

use crate::boot::list::{BootEntry, is_replaced, next_boot_driver};
use crate::boot::observe::read_list;
use crate::cli::Status;
use crate::previous_driver;
use crate::report::{Report, drift};
use crate::select::scan;

pub fn run(options: &Status, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let system = scan(machine, report.say)?;
    let entries = read_list(machine).map_err(::cli::Failure::from)?;
    let addresses = addresses(&system, &options.operands)?;
    let functions = || addresses.iter().filter_map(|address| system.functions.get(address));
    let now = functions().map(|function| driver_now(machine, &entries, function));
    let at_boot = functions().filter_map(|function| driver_at_boot(&entries, function));
    let mut exit = Exit::Done;
    for check in now.chain(at_boot) {
        if check.status != CheckStatus::Ok {
            exit = Exit::Difference;
        }
        report.put_check(check)?;
    }
    Ok(exit)
}

/// The functions that are named, else the slots of all GPUs.
fn addresses(system: &System, operands: &[String]) -> anyhow::Result<BTreeSet<Address>> {
    let mut addresses = BTreeSet::new();
    for operand in operands {
        let found = system.named(operand);
        addresses.extend(found.map_err(|error| fail(Exit::Usage, error.to_string()))?);
    }
    if operands.is_empty() {
        for gpu in system.functions.values().filter(|f| f.is_gpu()) {
            addresses.extend(system.slot(gpu).map(|f| f.address));
        }
    }
    Ok(addresses)
}

/// A function that was bound, or will be at the next boot, should be bound; any
/// other has the driver of its override, or whichever it has. An override that
/// is left over is cleared by a release, which unbinds nothing.
fn driver_now(machine: &Machine, entries: &[BootEntry], function: &Function) -> Check {
    let slot = function.address.slot();
    let (expected, command) = match previous_driver::recall(machine, function.address) {
        Some(previous) => (Some(previous.moved_to), bind(slot)),
        None => {
            let expected = function.driver_override.clone().or_else(|| function.driver.clone());
            let is_meant = next_boot_driver(entries, function) == expected;
            (expected, if is_meant { bind(slot) } else { release(slot) })
        }
    };
    let check = Check::ok(&function.address.to_string(), "driver", function.driver.clone());
    if expected == function.driver {
        return check;
    }
    drift(check, expected, Severity::Warning, Hint::command(command))
}

/// `None` where the list does not name the function.
fn driver_at_boot(entries: &[BootEntry], function: &Function) -> Option<Check> {
    let slot = function.address.slot();
    let name = function.address.to_string();
    let check = Check::ok(&name, "driver_at_boot", function.driver.clone());
    if is_replaced(entries, function) {
        let command = persist(&[slot.to_string()], &Default::default());
        let hint = Hint::command(command)
            .because("another function is at this address now; persist it if it is meant");
        return Some(drift(check, None, Severity::Warning, hint));
    }
    let driver = next_boot_driver(entries, function)?;
    if function.driver.as_ref() == Some(&driver) {
        return Some(check);
    }
    let hint = Hint::command(bind(slot)).because("reboot, or bind it now");
    Some(drift(check, Some(driver), Severity::Warning, hint))
}
