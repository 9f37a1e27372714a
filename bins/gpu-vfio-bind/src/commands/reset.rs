//! `reset`: functions that hang after a VM.

use std::time::Duration;

use ::apply::{ApplyStop, StepError, StepOutcome, conclude, lock_run, write_within};
use ::cli::{Exit, interrupted};
use advice::gpu_vfio_bind::reset;
use host::Machine;
use passthrough::{Judge, ObjectionKind, TakenWhen};
use pci::Function;
use record::{Change, ChangeStatus, Hint};
use usage::Users;

use crate::cli::Reset;
use crate::report::Report;
use crate::select::{Reach, functions, select};

pub fn run(options: &Reset, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let (system, addresses) = select(&options.named, Reach::Slots, machine, report.say)?;
    let functions = functions(&system, &addresses);
    let named = system.names(&functions);
    let users = Users::new(machine);
    let retry = |_| reset(&named);
    let judge = Judge { system: &system, users: &users, retry: &retry, when: TakenWhen::Now };
    // the group and the IOMMU matter to a VM, not to a reset
    let mut objections: Vec<_> = judge.bind(&functions);
    objections.retain(|objection| is_use(objection.kind));
    objections.extend(functions.iter().filter_map(|f| host_driver(f)));
    report.refuse(objections, &[])?;
    if options.change.only_look() {
        for function in &functions {
            report.put_change(change(machine, function, report))?;
        }
        return Ok(Exit::Done);
    }
    let _lock = lock_run(machine, report.say.tool())?;
    let deadline = Duration::from_secs(options.wait.timeout);
    let mut outcomes: Vec<StepOutcome<String>> = Vec::new();
    let mut stop = None;
    for function in &functions {
        let mut change = change(machine, function, report);
        if change.status != ChangeStatus::Skipped {
            let outcome = match stop {
                Some(_) => StepOutcome::NotReached,
                None => match write(machine, function, deadline) {
                    Ok(()) => StepOutcome::Changed,
                    Err(error) => {
                        let outcome = StepOutcome::failed(&error, None);
                        stop = Some(ApplyStop { target: function.address.to_string(), error });
                        outcome
                    }
                },
            };
            outcome.report(&mut change, stop.as_ref());
            outcomes.push(outcome);
        }
        report.put_change(change)?;
    }
    conclude(&outcomes, stop)
}

/// Whether an objection says that someone uses the function.
fn is_use(kind: ObjectionKind) -> bool {
    matches!(
        kind,
        ObjectionKind::RunningVm
            | ObjectionKind::OpenNode
            | ObjectionKind::Removal
            | ObjectionKind::MediatedDevice
            | ObjectionKind::BlockDevice
            | ObjectionKind::Unknown
            | ObjectionKind::Network
            | ObjectionKind::VirtualFunctions
            | ObjectionKind::DriverBusy
    )
}

/// A driver of the host would find its device in another state than it left it.
fn host_driver(function: &Function) -> Option<::apply::Objection<ObjectionKind>> {
    let driver = function.driver.as_ref().filter(|_| !function.on_vfio())?;
    Some(::apply::Objection {
        target: function.address.to_string(),
        kind: ObjectionKind::DriverBusy,
        why: format!("is bound to {driver}, which does not expect a reset"),
        // a command to bind it would often be refused: this is also what the host's own display gets
        hint: Hint::words("only a function that vfio-pci has is reset"),
        overridable: false,
    })
}

/// The record of a function: by which method it is reset. The kernel tries its
/// methods in order (drivers/pci/pci.c, __pci_reset_function_locked()).
fn change(machine: &Machine, function: &Function, report: &Report<'_>) -> Change {
    let mut change = report.change(&function.address.to_string(), "reset");
    let can_reset = machine.exists(&reset_path(function));
    match function.reset_methods.first() {
        Some(method) if can_reset => change.to = Some(method.clone()),
        // kernels before 5.15 do not say which
        None if can_reset => change.to = Some("reset".into()),
        _ => {
            change.status = ChangeStatus::Skipped;
            change.reason = Some("the kernel has no method to reset it".into());
        }
    }
    change
}

fn reset_path(function: &Function) -> String {
    format!("/sys/bus/pci/devices/{}/reset", function.address)
}

fn write(machine: &Machine, function: &Function, deadline: Duration) -> Result<(), StepError> {
    if interrupted() {
        return Err(StepError::Interrupted);
    }
    write_within(machine, &reset_path(function), "1", deadline, "reset", |error| {
        match error.errno() {
            libc::ENOTTY => format!("{error}: the kernel has no method to reset it"),
            libc::EAGAIN => format!("{error}: another device of the same bus is in use"),
            _ => error.to_string(),
        }
    })
}
