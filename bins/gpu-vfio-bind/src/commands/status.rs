//! `status`: which driver functions have, against the one they were moved to.

use std::collections::BTreeSet;

use ::cli::{Exit, Say, fail};
use host::Machine;
use pci::Function;
use record::{Address, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::boot_files::Entry;
use crate::choose::scan;
use crate::cli::Status;
use crate::memory;
use crate::persist;

/// The verb.
pub fn run(
    options: &Status,
    machine: &Machine,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let system = scan(machine, say)?;
    let mut addresses: BTreeSet<Address> = BTreeSet::new();
    for operand in &options.operands {
        let found = system.named(operand);
        addresses.extend(found.map_err(|error| fail(Exit::Usage, error.to_string()))?);
    }
    if options.operands.is_empty() {
        for gpu in system.functions.values().filter(|f| f.is_gpu()) {
            addresses.extend(system.slot(gpu).map(|f| f.address));
        }
    }
    let mut exit = Exit::Done;
    let entries = persist::list(machine)?;
    let mut later = Vec::new();
    for function in addresses.iter().filter_map(|address| system.functions.get(address)) {
        let memory = memory::recall(machine, function.address);
        // moved: it should still be there; not moved: whatever it has is right
        let expected = match &memory {
            Some(memory) => Some(memory.moved_to.clone()),
            None => function.driver_override.clone().or_else(|| function.driver.clone()),
        };
        let same = expected == function.driver;
        if !same {
            exit = Exit::Difference;
        }
        let hint = match (&memory, same) {
            (_, true) => None,
            (Some(_), false) => Some(format!("gpu-vfio-bind bind {}", function.address.slot())),
            (None, false) => Some(format!("gpu-vfio-bind release {}", function.address.slot())),
        };
        if let Some(check) = at_boot(&entries, function) {
            if check.status != CheckStatus::Ok {
                exit = Exit::Difference;
            }
            later.push(check);
        }
        writer.put(Record::Check(Check {
            commands: Vec::new(),
            subject: function.address.to_string(),
            property: "driver".into(),
            expected,
            actual: function.driver.clone(),
            status: if same { CheckStatus::Ok } else { CheckStatus::Drift },
            severity: if same { Severity::Info } else { Severity::Warning },
            cause: None,
            reason: None,
            hint,
        }))?;
    }
    for check in later {
        writer.put(Record::Check(check))?;
    }
    Ok(exit)
}

/// What the files say of a function, against what it is; `None` where they say
/// nothing of it.
fn at_boot(entries: &[Entry], function: &Function) -> Option<Check> {
    let slot = function.address.slot();
    let (expected, status, hint) = if persist::moved_away(entries, function) {
        let hint =
            format!("another function is there now: 'gpu-vfio-bind persist {slot}' if it is meant");
        (None, CheckStatus::Drift, Some(hint))
    } else {
        let driver = persist::next_boot(entries, function)?;
        let same = function.driver.as_deref() == Some(driver.as_str());
        let hint = format!("reboot, or 'gpu-vfio-bind bind {slot}'");
        let status = if same { CheckStatus::Ok } else { CheckStatus::Drift };
        (Some(driver), status, (!same).then_some(hint))
    };
    Some(Check {
        commands: Vec::new(),
        subject: function.address.to_string(),
        property: "driver_at_boot".into(),
        expected,
        actual: function.driver.clone(),
        status,
        severity: if status == CheckStatus::Ok { Severity::Info } else { Severity::Warning },
        cause: None,
        reason: None,
        hint,
    })
}
