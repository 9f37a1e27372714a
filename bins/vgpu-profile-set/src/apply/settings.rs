//! Writes settings of whole GPUs with nvidia-smi, and reads each back. Where one fails,
//! those before it are rolled back.

use ::apply::{ApplyStop, StepError, StepOutcome};
use host::command::Ran;
use nvidia::GpuInstance;
use record::Address;

use crate::nvidia_programs::{NvidiaPrograms, last_words};
use crate::observe::gpu_state::{GpuState, StateRead, read_state};
use crate::plan::settings::{SettingChange, SettingStep};

/// Carries the steps out. Gives what became of each, and why it stopped.
pub fn apply(
    programs: &NvidiaPrograms<'_>,
    steps: &[SettingStep],
) -> (Vec<StepOutcome<String>>, Option<ApplyStop>) {
    let mut outcomes: Vec<StepOutcome<String>> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        if !step.change.is_change() {
            outcomes.push(StepOutcome::Unchanged);
            continue;
        }
        let result = match (programs.interrupted)() {
            true => Err(StepError::Interrupted),
            false => write(programs, step.gpu, &step.change).map_err(StepError::Failed),
        };
        let Err(error) = result else {
            outcomes.push(StepOutcome::Changed);
            continue;
        };
        for (done, outcome) in steps[..at].iter().zip(&mut outcomes).rev() {
            if *outcome == StepOutcome::Changed {
                *outcome = undone(programs, done);
            }
        }
        outcomes.push(StepOutcome::Failed { why: error.to_string(), left: None });
        outcomes.resize(steps.len(), StepOutcome::NotReached);
        return (outcomes, Some(ApplyStop { target: step.gpu.to_string(), error }));
    }
    (outcomes, None)
}

fn undone(programs: &NvidiaPrograms<'_>, step: &SettingStep) -> StepOutcome<String> {
    let gpu = step.gpu;
    let result = match &step.change {
        SettingChange::Persistence { from: Some(from), .. } => persistence(programs, gpu, *from),
        SettingChange::Power { from: Some(from), .. } => power(programs, gpu, *from),
        SettingChange::MigMode { from, .. } => mig_mode(programs, gpu, *from),
        SettingChange::Instances { have, .. } => destroy_others(programs, gpu, have),
        _ => Err("its value before is unknown".into()),
    };
    match result {
        Ok(()) => StepOutcome::RolledBack,
        Err(why) => {
            let left = step.change.shown().1.unwrap_or_default();
            StepOutcome::NotRestored { why, left }
        }
    }
}

fn write(
    programs: &NvidiaPrograms<'_>,
    gpu: Address,
    change: &SettingChange,
) -> Result<(), String> {
    match change {
        SettingChange::Persistence { to, .. } => persistence(programs, gpu, *to),
        SettingChange::Power { to, .. } => power(programs, gpu, *to),
        SettingChange::MigMode { to, .. } => mig_mode(programs, gpu, *to),
        SettingChange::Instances { have, to, make } => {
            let result = create(programs, gpu, to, make);
            if let Err(why) = &result {
                return Err(match destroy_others(programs, gpu, have) {
                    Ok(()) => why.clone(),
                    Err(undo) => format!("{why}; cannot roll back: {undo}"),
                });
            }
            Ok(())
        }
        SettingChange::Skip { .. } => Ok(()),
    }
}

fn state(programs: &NvidiaPrograms<'_>, gpu: Address) -> Result<GpuState, String> {
    // instances are expected, so that a list that cannot be read is an error
    match read_state(programs, gpu, 1) {
        StateRead::Known(state) => Ok(state),
        StateRead::NoPrograms => Err("no command is run with --root".into()),
        StateRead::Unknown(why) => Err(why),
    }
}

/// Runs nvidia-smi. It prints its errors on standard output.
fn smi(programs: &NvidiaPrograms<'_>, arguments: &[&str]) -> Result<Ran, String> {
    let ran = programs.nvidia_smi(arguments)?;
    match ran.success() {
        true => Ok(ran),
        false => {
            let words = last_words(&ran).map_or(String::new(), |words| format!(" ({words})"));
            Err(format!("nvidia-smi {}: {}{words}", arguments.join(" "), ran.reason()))
        }
    }
}

fn persistence(programs: &NvidiaPrograms<'_>, gpu: Address, on: bool) -> Result<(), String> {
    smi(programs, &["-i", &gpu.to_string(), "-pm", if on { "1" } else { "0" }])?;
    match state(programs, gpu)?.persistence {
        Some(now) if now == on => Ok(()),
        _ => Err("nvidia-smi does not show the new persistence mode".into()),
    }
}

fn power(programs: &NvidiaPrograms<'_>, gpu: Address, watts: u32) -> Result<(), String> {
    smi(programs, &["-i", &gpu.to_string(), "-pl", &watts.to_string()])?;
    match state(programs, gpu)?.power {
        Some(now) if now == watts => Ok(()),
        Some(now) => Err(format!("nvidia-smi shows a power limit of {now} W after it was set")),
        None => Err("nvidia-smi does not show the new power limit".into()),
    }
}

fn mig_mode(programs: &NvidiaPrograms<'_>, gpu: Address, on: bool) -> Result<(), String> {
    let ran = smi(programs, &["-i", &gpu.to_string(), "-mig", if on { "1" } else { "0" }])?;
    let mode = match read_state(programs, gpu, 0) {
        StateRead::Known(state) => (state.mig, state.mig_pending),
        StateRead::Unknown(why) => return Err(why),
        StateRead::NoPrograms => (None, None),
    };
    match mode {
        (Some(now), _) if now == on => Ok(()),
        (_, Some(pending)) if pending == on => {
            let words = last_words(&ran).map_or(String::new(), |words| format!(" ({words})"));
            Err(format!("MIG mode changes only when the GPU is reset or the host reboots{words}"))
        }
        _ => Err("nvidia-smi does not show the new MIG mode".into()),
    }
}

fn create(
    programs: &NvidiaPrograms<'_>,
    gpu: Address,
    to: &[String],
    make: &[(Option<u32>, String)],
) -> Result<(), String> {
    let before = match read_state(programs, gpu, 0) {
        StateRead::Known(state) => state,
        StateRead::Unknown(why) => return Err(why),
        StateRead::NoPrograms => return Err("no command is run with --root".into()),
    };
    // ids are looked up now: before MIG mode was on there were none
    let id = |(id, name): &(Option<u32>, String)| {
        let listed = before.profiles.iter().find(|profile| profile.name == *name);
        id.or(listed.map(|profile| profile.id)).ok_or_else(|| {
            let names: Vec<&str> = before.profiles.iter().map(|of| of.name.as_str()).collect();
            format!("has no MIG profile {name}, only {}", names.join(" "))
        })
    };
    let ids: Vec<u32> = make.iter().map(id).collect::<Result<_, _>>()?;
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    smi(programs, &["mig", "-i", &gpu.to_string(), "-cgi", &ids.join(","), "-C"])?;
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let now = state(programs, gpu)?.instances.into_iter().map(|of| of.name).collect();
    match sorted(now) == sorted(to.to_vec()) {
        true => Ok(()),
        false => Err("nvidia-smi does not list the new MIG instances".into()),
    }
}

/// Destroys the instances beyond those that there were.
fn destroy_others(
    programs: &NvidiaPrograms<'_>,
    gpu: Address,
    have: &[GpuInstance],
) -> Result<(), String> {
    let now = match read_state(programs, gpu, 0) {
        StateRead::Known(state) => state.instances,
        StateRead::Unknown(why) => return Err(why),
        StateRead::NoPrograms => return Ok(()),
    };
    for instance in now.iter().filter(|instance| !have.contains(instance)) {
        let (gpu, id) = (gpu.to_string(), instance.id.to_string());
        // a GPU instance may have no compute instance yet
        let _ = smi(programs, &["mig", "-i", &gpu, "-dci", "-gi", &id]);
        smi(programs, &["mig", "-i", &gpu, "-dgi", "-gi", &id])?;
    }
    Ok(())
}
