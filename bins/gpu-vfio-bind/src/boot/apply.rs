//! Writes what a boot plan says, and rolls everything back where a step fails.

use ::apply::{ApplyStop, StepError, StepOutcome};
use ::cli::interrupted;
use host::{FileError, Machine};

use super::images::{Runner, rebuild};
use super::observe::read_existing;
use super::plan::BootStep;

/// What became of one step; `left` says in words what was not restored.
pub type BootOutcome = StepOutcome<String>;

/// Carries the steps out in order. Where one fails, those before it are rolled
/// back, last first; images that may have been built with the files are rebuilt
/// without them.
pub fn apply(
    machine: &Machine,
    run: &Runner<'_>,
    steps: &[BootStep],
) -> (Vec<BootOutcome>, Option<ApplyStop>) {
    let mut outcomes = Vec::with_capacity(steps.len());
    for step in steps {
        if !step.is_change() {
            outcomes.push(StepOutcome::Unchanged);
            continue;
        }
        let result =
            if interrupted() { Err(StepError::Interrupted) } else { write(machine, run, step) };
        let Err(error) = result else {
            outcomes.push(StepOutcome::Changed);
            continue;
        };
        let left = match error {
            StepError::Interrupted => None,
            _ => put_back(machine, step).err(),
        };
        let at = outcomes.len();
        outcomes.push(StepOutcome::failed(&error, left));
        roll_back(machine, run, steps, &mut outcomes);
        if error != StepError::Interrupted {
            if let Err(why) = rebuild_without(machine, run, step) {
                outcomes[at] = StepOutcome::failed(&error, Some(why));
            }
        }
        outcomes.resize(steps.len(), StepOutcome::NotReached);
        let target = step.name().0.to_string();
        return (outcomes, Some(ApplyStop { target, error }));
    }
    (outcomes, None)
}

fn roll_back(
    machine: &Machine,
    run: &Runner<'_>,
    steps: &[BootStep],
    outcomes: &mut [BootOutcome],
) {
    for (step, outcome) in steps.iter().zip(outcomes).rev() {
        if *outcome == StepOutcome::Changed {
            *outcome = match put_back(machine, step).and_then(|()| take_up_again(run, step)) {
                Ok(()) => StepOutcome::RolledBack,
                Err(why) => StepOutcome::NotRestored { left: why.clone(), why },
            };
        }
    }
}

/// Some images may have been built before another one failed, and would bind
/// the functions at boot.
fn rebuild_without(machine: &Machine, run: &Runner<'_>, step: &BootStep) -> Result<(), String> {
    let BootStep::Images { initramfs, before, .. } = step else { return Ok(()) };
    rebuild(machine, run, *initramfs, before).map_err(|why| {
        format!("images may contain the files that were rolled back, rebuilding them failed: {why}")
    })
}

/// The first file that is not as it was when the plan was made.
pub fn modified_since(machine: &Machine, steps: &[BootStep]) -> Result<Option<String>, FileError> {
    for step in steps {
        let (path, planned) = match step {
            BootStep::CommandLine { edit, .. } => (edit.path.as_str(), Some(&edit.before)),
            BootStep::File { path, before, .. } => (*path, before.as_ref()),
            BootStep::Images { .. } => continue,
        };
        if read_existing(machine, path)?.as_ref() != planned {
            return Ok(Some(path.to_string()));
        }
    }
    Ok(None)
}

fn write(machine: &Machine, run: &Runner<'_>, step: &BootStep) -> Result<(), StepError> {
    let failed = |why: String| StepError::Failed(why);
    match step {
        BootStep::CommandLine { edit, commands, .. } => {
            replace(machine, &edit.path, &edit.before, &edit.after).map_err(failed)?;
            take_up(run, commands).map_err(failed)
        }
        BootStep::File { path, mode, after, .. } => {
            Ok(put(machine, path, after.as_deref(), *mode)?)
        }
        BootStep::Images { initramfs, contents, .. } => {
            rebuild(machine, run, *initramfs, contents).map_err(failed)
        }
    }
}

/// Restores a file; the error says what is left.
fn put_back(machine: &Machine, step: &BootStep) -> Result<(), String> {
    match step {
        BootStep::CommandLine { edit, .. } => match read_existing(machine, &edit.path) {
            Ok(now) if now.as_ref() == Some(&edit.before) => Ok(()),
            _ => replace(machine, &edit.path, &edit.after, &edit.before),
        },
        BootStep::File { path, mode, before, .. } => {
            put(machine, path, before.as_deref(), *mode).map_err(|error| error.to_string())
        }
        // once all files are restored
        BootStep::Images { .. } => Ok(()),
    }
}

/// The boot loader has read a command line that was restored since.
fn take_up_again(run: &Runner<'_>, step: &BootStep) -> Result<(), String> {
    match step {
        BootStep::CommandLine { commands, .. } => take_up(run, commands),
        BootStep::File { .. } | BootStep::Images { .. } => Ok(()),
    }
}

fn replace(machine: &Machine, path: &str, old: &str, new: &str) -> Result<(), String> {
    let ready = || true;
    let replaced = machine.replace(path, old.as_bytes(), new.as_bytes(), &ready);
    replaced.map_err(|error| error.to_string())
}

/// Runs what makes the boot loader read the file.
fn take_up(run: &Runner<'_>, commands: &[&[&str]]) -> Result<(), String> {
    commands.iter().try_for_each(|command| run(command).map(|_| ()))
}

fn put(machine: &Machine, path: &str, text: Option<&str>, mode: u32) -> Result<(), FileError> {
    match text {
        Some(text) => machine.put_mode(path, text.as_bytes(), mode),
        None => machine.remove(path),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::boot::files::Initramfs;
    use crate::boot::images::ImageContents;
    use crate::boot::list::example;

    const LIST: &str = "etc/gpu-vfio-bind.list\nusr/lib/modules/6.8/vfio-pci.ko.zst\n";

    /// Runs a plan of a file and the images on a host with these files in /boot.
    /// `images` answers the n-th rebuild, `listing` what an image contains.
    fn run(
        files: &[&str],
        initramfs: Initramfs,
        images: &dyn Fn(usize) -> bool,
        listing: &str,
    ) -> (Vec<BootOutcome>, Vec<String>, bool) {
        let root = tempfile(files);
        let machine = Machine::new(Some(&root)).unwrap();
        let (rebuilds, log) = (Cell::new(0), RefCell::new(Vec::new()));
        let runner = |argv: &[&str]| {
            log.borrow_mut().push(argv.join(" "));
            if argv[0].starts_with("ls") {
                return Ok(Some(listing.as_bytes().to_vec()));
            }
            rebuilds.set(rebuilds.get() + 1);
            match images(rebuilds.get()) {
                true => Ok(Some(Vec::new())),
                false => Err(format!("{} failed: exit status 1", argv[0])),
            }
        };
        let path = "/etc/gpu-vfio-bind.list";
        let steps = [
            BootStep::File { path, mode: 0o644, before: None, after: Some("x\n".into()) },
            BootStep::Images {
                initramfs,
                contents: ImageContents::of(&[example("2b:00.0", "0x1e07")]),
                before: ImageContents::default(),
            },
        ];
        let (outcomes, _) = apply(&machine, &runner, &steps);
        let has_file = machine.exists(path);
        std::fs::remove_dir_all(root).unwrap();
        (outcomes, log.into_inner(), has_file)
    }

    fn tempfile(files: &[&str]) -> std::path::PathBuf {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("vfio-boot-{}-{n}", std::process::id()));
        for file in ["etc/x", "lib/modules/6.8/modules.builtin"].iter().chain(files) {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    const KERNEL: &[&str] = &["boot/vmlinuz-6.8", "boot/initrd.img-6.8"];

    #[test]
    fn images_of_a_failed_run_are_rebuilt_without_its_files() {
        // update-initramfs fails at the second of two kernels
        let (outcomes, log, has_file) =
            run(KERNEL, Initramfs::InitramfsTools, &|nth| nth > 1, LIST);
        assert_eq!(outcomes[0], StepOutcome::RolledBack);
        assert_eq!(outcomes[1].left(), None, "{outcomes:?}");
        assert_eq!(log, ["update-initramfs -u -k all", "update-initramfs -u -k all"]);
        assert!(!has_file);
    }

    #[test]
    fn images_that_cannot_be_rebuilt_are_named() {
        let (outcomes, _, has_file) = run(KERNEL, Initramfs::InitramfsTools, &|_| false, LIST);
        let left = outcomes[1].left().unwrap();
        assert!(left.starts_with("images may contain the files"), "{left}");
        assert!(!has_file);
    }

    #[test]
    fn images_of_installed_kernels_only_are_looked_into() {
        let files = [KERNEL, &["boot/initrd.img-6.5.old-dkms", "boot/vmlinuz-6.5.old"]].concat();
        let (outcomes, log, _) = run(&files, Initramfs::InitramfsTools, &|_| true, LIST);
        assert_eq!(outcomes[1], StepOutcome::Changed, "{outcomes:?}");
        assert_eq!(log[1..], ["lsinitramfs /boot/initrd.img-6.8"]);
        // Debian's dracut uses the names of initramfs-tools
        let (outcomes, log, _) = run(KERNEL, Initramfs::Dracut, &|_| true, LIST);
        assert_eq!(outcomes[1], StepOutcome::Changed);
        assert_eq!(log[1..], ["lsinitrd /boot/initrd.img-6.8"]);
        let (outcomes, ..) = run(KERNEL, Initramfs::Dracut, &|_| true, "etc/passwd\n");
        assert!(matches!(outcomes[1], StepOutcome::Failed { .. }));
    }

    #[test]
    fn no_image_to_look_into_is_not_a_success() {
        let (outcomes, ..) = run(&[], Initramfs::InitramfsTools, &|_| true, LIST);
        let StepOutcome::Failed { why, .. } = &outcomes[1] else { panic!("{outcomes:?}") };
        assert!(why.contains("unknown"), "{why}");
    }
}
