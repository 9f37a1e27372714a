//! `install --ct --mode installer`: NVIDIA's own installer, run inside a
//! container without its kernel modules.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, catch_signals, fail};
use host::Machine;
use nvidia::userspace::loaded_version;
use pve::Guest;
use record::{Change, ChangeStatus, Record, RecordWriter};

use crate::cli::Install;
use crate::container::Container;
use crate::distribution::{driver_packages, run_install};
use crate::install::{check_of, failed, limits};
use crate::installer::Installer;
use crate::log::cause;
use crate::spelling::in_container;
use crate::study::{require_loaded, study};

/// It unpacks itself first, inside.
const INSTALL: Duration = Duration::from_secs(30 * 60);
/// Some hundred megabytes.
const PUSH: Duration = Duration::from_secs(10 * 60);
const SHORT: Duration = Duration::from_secs(30);

/// Programs that the installer wants although it builds nothing, and their
/// package.
const KMOD: [&str; 4] = ["modprobe", "rmmod", "lsmod", "depmod"];

/// The verb.
pub fn run(
    machine: &Machine,
    guest: &Guest,
    install: &Install,
    installer: &mut Installer,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let only_look = install.change.only_look();
    if !only_look {
        catch_signals();
    }
    let target = guest.target();
    let mut change = Change::planned(say.tool(), &target, "userspace");
    let outcome = run_inside(machine, guest, install, installer, say);
    match outcome {
        Ok(done) => {
            change.from = done.from;
            change.to = Some(done.to);
            change.status = match (done.new, only_look) {
                (false, _) => ChangeStatus::Unchanged,
                (true, true) => ChangeStatus::Planned,
                (true, false) => ChangeStatus::Changed,
            };
            change.reason = done.command;
            let exit = match done.new && install.change.check {
                true => Exit::Difference,
                false => Exit::Done,
            };
            writer.put(match install.change.check {
                true => Record::Check(check_of(change)),
                false => Record::Change(change),
            })?;
            Ok(exit)
        }
        Err(failure) => {
            let change = failed(say.tool(), &target, ChangeStatus::Failed, &failure);
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

struct Done {
    from: Option<String>,
    to: String,
    new: bool,
    command: Option<String>,
}

fn run_inside(
    machine: &Machine,
    guest: &Guest,
    install: &Install,
    installer: &mut Installer,
    say: &Say,
) -> Result<Done, Failure> {
    let name = guest.target();
    let version = study(installer, install.sha256.as_deref(), limits(install), say)?.version;
    require_loaded(machine, &version, install.force, say)?;
    let options = in_container(&version, &installer.header.stub).ok_or_else(|| {
        let message = format!("'{}' knows no way to leave its kernel modules out", installer.path);
        fail(Exit::Refused, message).hint("do without --mode installer")
    })?;
    if machine.is_host() && !pve::is_running(machine, guest.ctid) {
        return Err(fail(Exit::Refused, format!("{name} does not run: nothing can be run inside"))
            .hint(format!("'pct start {}', or do without --mode installer", guest.ctid)));
    }
    let container = Container::open(machine, guest, install.change.only_look(), say)?;
    let from = refuse_others(&container, &name)?;
    let installed = from.as_deref() == Some(version.as_str())
        && loaded_version(&container.root).as_deref() == Some(version.as_str());
    if installed {
        return Ok(Done { from, to: version, new: false, command: None });
    }
    let missing = KMOD.iter().find(|program| {
        let dirs = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];
        !dirs.iter().any(|dir| container.root.exists(&format!("{dir}/{program}")))
    });
    if let Some(program) = missing {
        let message = format!("{name}: the installer wants {program}, which is not in it");
        return Err(fail(Exit::Refused, message)
            .hint("install kmod inside, or do without --mode installer"));
    }
    let command = format!("sh {} {}", installer.path, options.join(" "));
    if !install.change.only_look() {
        execute(machine, &container, installer, &version, &options)?;
        match loaded_version(&container.root) {
            Some(loaded) if loaded == version => {}
            other => {
                let other = other.unwrap_or_else(|| "none".into());
                let message = format!(
                    "{name}: the installer succeeded, but programs in it would load {other}, not {version}"
                );
                return Err(fail(Exit::System, message));
            }
        }
    }
    Ok(Done { from, to: version, new: true, command: Some(command) })
}

/// Refuses other packagings; gives the version that an installer put there before.
fn refuse_others(container: &Container<'_>, name: &str) -> Result<Option<String>, Failure> {
    if container.tree().ledger()?.is_some() || container.tree().is_interrupted()? {
        let message = format!("{name}: the driver was unpacked into it by this tool");
        let hint = format!("'nv-runfile uninstall --ct {}' first", container.guest.ctid);
        return Err(fail(Exit::Refused, message).hint(hint));
    }
    if let Some((what, hint)) = driver_packages(&container.root) {
        return Err(fail(Exit::Refused, format!("{name}: {what}")).hint(hint));
    }
    Ok(run_install(&container.root))
}

fn read_log(container: &Container<'_>) -> Option<String> {
    container.root.read_text("/var/log/nvidia-installer.log", 16 << 20).ok()
}

fn execute(
    machine: &Machine,
    container: &Container<'_>,
    installer: &Installer,
    version: &str,
    options: &[&str],
) -> Result<(), Failure> {
    let (name, ctid) = (container.guest.target(), container.guest.ctid.to_string());
    let inside = format!("/root/nv-runfile-{version}.run");
    let path = std::path::absolute(&installer.path);
    let path = path.map_or_else(|_| installer.path.clone(), |path| path.display().to_string());
    let push = ["/usr/sbin/pct", "push", &ctid, &path, &inside, "--perms", "0755"];
    let pushed = machine.run(&push, PUSH)?;
    let result = match pushed {
        None => Err(fail(Exit::System, "no command is run below --root")),
        Some(ran) if !ran.success() => {
            Err(fail(Exit::System, format!("{name}: pct push: {}", ran.reason())))
        }
        Some(_) => {
            let argv = [&["sh", inside.as_str()], options].concat();
            // one of before says nothing of this run
            let before = read_log(container);
            match container.exec(&argv, INSTALL)? {
                Some(ran) if ran.success() => Ok(()),
                Some(ran) => {
                    let log = read_log(container).filter(|log| Some(log) != before.as_ref());
                    let why = log.and_then(|log| cause(&log)).unwrap_or_else(|| ran.reason());
                    Err(fail(Exit::System, format!("{name}: the installer failed: {why}"))
                        .hint("see /var/log/nvidia-installer.log inside"))
                }
                None => Err(fail(Exit::System, format!("{name} does not run"))),
            }
        }
    };
    // whatever came of it, some hundred megabytes do not stay
    let removed = container.exec(&["rm", "-f", &inside], SHORT)?;
    result?;
    match removed {
        Some(ran) if !ran.success() => {
            Err(fail(Exit::System, format!("{name}: '{inside}' is left over: {}", ran.reason())))
        }
        _ => Ok(()),
    }
}
