//! Writes what a boot plan says, and rolls everything back where a step fails.

use ::apply::{ApplyStop, StepError, StepOutcome};
use ::cli::interrupted;
use host::{FileError, Machine};

use super::command_line::Loader;
use super::images::{PATIENCE, rebuild};
use super::observe::read_existing;
use super::plan::BootStep;

/// What became of one step; `left` says in words what was not restored.
pub type BootOutcome = StepOutcome<String>;

/// Carries the steps out in order. Where one fails, those before it are rolled
/// back, last first.
pub fn apply(machine: &Machine, steps: &[BootStep]) -> (Vec<BootOutcome>, Option<ApplyStop>) {
    let mut outcomes = Vec::with_capacity(steps.len());
    for step in steps {
        if !step.is_change() {
            outcomes.push(StepOutcome::Unchanged);
            continue;
        }
        let result = if interrupted() { Err(StepError::Interrupted) } else { write(machine, step) };
        let Err(error) = result else {
            outcomes.push(StepOutcome::Changed);
            continue;
        };
        let left = match error {
            StepError::Interrupted => None,
            _ => put_back(machine, step).err(),
        };
        outcomes.push(StepOutcome::failed(&error, left));
        for (step, outcome) in steps.iter().zip(&mut outcomes).rev() {
            if *outcome == StepOutcome::Changed {
                *outcome = match put_back(machine, step).and_then(|()| take_up_again(machine, step))
                {
                    Ok(()) => StepOutcome::RolledBack,
                    Err(why) => StepOutcome::NotRestored { left: why.clone(), why },
                };
            }
        }
        outcomes.resize(steps.len(), StepOutcome::NotReached);
        let target = step.name().0.to_string();
        return (outcomes, Some(ApplyStop { target, error }));
    }
    (outcomes, None)
}

/// The first file that is not as it was when the plan was made.
pub fn modified_since(machine: &Machine, steps: &[BootStep]) -> Result<Option<String>, FileError> {
    for step in steps {
        let (path, planned) = match step {
            BootStep::CommandLine { loader, before, .. } => (loader.path(), Some(before)),
            BootStep::File { path, before, .. } => (*path, before.as_ref()),
            BootStep::Images { .. } => continue,
        };
        if read_existing(machine, path)?.as_ref() != planned {
            return Ok(Some(path.to_string()));
        }
    }
    Ok(None)
}

fn write(machine: &Machine, step: &BootStep) -> Result<(), StepError> {
    let failed = |why: String| StepError::Failed(why);
    match step {
        BootStep::CommandLine { loader, before, after, .. } => {
            replace(machine, *loader, before, after).map_err(failed)?;
            take_up(machine, *loader).map_err(failed)
        }
        BootStep::File { path, mode, after, .. } => {
            Ok(put(machine, path, after.as_deref(), *mode)?)
        }
        BootStep::Images { initramfs, with_list } => {
            rebuild(machine, *initramfs, *with_list).map_err(failed)
        }
    }
}

/// Restores a file; the error says what is left.
fn put_back(machine: &Machine, step: &BootStep) -> Result<(), String> {
    match step {
        BootStep::CommandLine { loader, before, after, .. } => {
            match read_existing(machine, loader.path()) {
                Ok(now) if now.as_ref() == Some(before) => Ok(()),
                _ => replace(machine, *loader, after, before),
            }
        }
        BootStep::File { path, mode, before, .. } => {
            put(machine, path, before.as_deref(), *mode).map_err(|error| error.to_string())
        }
        BootStep::Images { .. } => Err("images may contain the files that were rolled back".into()),
    }
}

/// The boot loader has read a command line that was restored since.
fn take_up_again(machine: &Machine, step: &BootStep) -> Result<(), String> {
    match step {
        BootStep::CommandLine { loader, .. } => take_up(machine, *loader),
        BootStep::File { .. } | BootStep::Images { .. } => Ok(()),
    }
}

fn replace(machine: &Machine, loader: Loader, old: &str, new: &str) -> Result<(), String> {
    let ready = || true;
    let replaced = machine.replace(loader.path(), old.as_bytes(), new.as_bytes(), &ready);
    replaced.map_err(|error| error.to_string())
}

/// Runs what makes the boot loader read the file. With --root nothing is run.
fn take_up(machine: &Machine, loader: Loader) -> Result<(), String> {
    let failed = |why: String| Err(format!("{} failed: {why}", loader.command().join(" ")));
    match machine.run(loader.command(), PATIENCE) {
        Ok(Some(ran)) if !ran.success() => failed(ran.reason()),
        Err(error) => failed(error.to_string()),
        Ok(_) => Ok(()),
    }
}

fn put(machine: &Machine, path: &str, text: Option<&str>, mode: u32) -> Result<(), FileError> {
    match text {
        Some(text) => machine.put_mode(path, text.as_bytes(), mode),
        None => machine.remove(path),
    }
}
