//! `install --ct --mode installer`: NVIDIA's own installer, run inside a
//! container without its kernel modules.

use std::time::Duration;

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use nvidia::userspace::loaded_version;
use nvidia::{Installation, InstallationKind};
use pve::Guest;
use record::{Change, ChangeStatus, Record, RecordWriter};

use crate::cli::Install;
use crate::install::common::{PROPERTY, failed, put_changes};
use crate::install::container::Container;
use crate::install::other_installation::{
    is_loose, other_installations, refusal, run_installation,
};
use crate::installer::Installer;
use crate::installer::error_log::first_error;
use crate::installer::options::options_for_container;

/// It unpacks itself first, inside.
const INSTALL: Duration = Duration::from_secs(30 * 60);
/// Some hundred megabytes.
const PUSH: Duration = Duration::from_secs(10 * 60);
const SHORT: Duration = Duration::from_secs(30);

/// Programs of the package kmod: the installer needs them although it builds
/// nothing.
const KMOD: [&str; 4] = ["modprobe", "rmmod", "lsmod", "depmod"];

pub fn run(
    machine: &Machine,
    guest: &Guest,
    install: &Install,
    installer: &Installer,
    version: &str,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let only_look = install.change.only_look();
    let target = guest.target();
    let mut change = Change::planned(say.tool(), &target, PROPERTY);
    match run_inside(machine, guest, install, installer, version, say) {
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
            put_changes(vec![change], install.change.check, writer)?;
            Ok(exit)
        }
        Err(failure) => {
            let change = failed(say.tool(), &target, ChangeStatus::Failed, &failure);
            writer.put(Record::Change(change))?;
            Err(failure.into())
        }
    }
}

struct InstallerOutcome {
    from: Option<String>,
    to: String,
    new: bool,
    command: Option<String>,
}

fn run_inside(
    machine: &Machine,
    guest: &Guest,
    install: &Install,
    installer: &Installer,
    version: &str,
    say: &Say,
) -> Result<InstallerOutcome, Failure> {
    let name = guest.target();
    let options = options_for_container(version, &installer.header.stub).ok_or_else(|| {
        let message = format!("'{}' has no option to leave out the kernel modules", installer.path);
        fail(Exit::Refused, message).hint("use --mode unpack")
    })?;
    if machine.is_host() && !pve::is_running(machine, guest.ctid) {
        return Err(fail(Exit::Refused, format!("{name} is not running"))
            .hint("start the container, or use --mode unpack")
            .run(advice::external::pct_start(guest.ctid)));
    }
    let container = Container::open(machine, guest, install.change.only_look(), say)?;
    let from = refuse_others(&container, &name)?;
    let installed = from.as_deref() == Some(version)
        && loaded_version(&container.root).as_deref() == Some(version);
    if installed {
        return Ok(InstallerOutcome { from, to: version.into(), new: false, command: None });
    }
    let missing = KMOD.iter().find(|program| {
        let dirs = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];
        !dirs.iter().any(|dir| container.root.exists(&format!("{dir}/{program}")))
    });
    if let Some(program) = missing {
        let message = format!("{name}: the installer needs {program}, which is not installed");
        return Err(fail(Exit::Refused, message)
            .hint("install the package kmod in the container, or use --mode unpack"));
    }
    let command = format!("sh {} {}", installer.path, options.join(" "));
    if !install.change.only_look() {
        execute(machine, &container, installer, version, &options)?;
        let loaded = loaded_version(&container.root);
        if loaded.as_deref() != Some(version) {
            let loaded = loaded.unwrap_or_else(|| "none".into());
            let message = format!(
                "{name}: the installer succeeded, but programs would load version {loaded}, not {version}"
            );
            return Err(fail(Exit::System, message)
                .hint("look for other driver libraries in the container"));
        }
    }
    Ok(InstallerOutcome { from, to: version.into(), new: true, command: Some(command) })
}

/// Refuses a driver that is installed by other means; returns the version that
/// an installer installed earlier.
fn refuse_others(container: &Container<'_>, name: &str) -> Result<Option<String>, Failure> {
    if container.tree().receipt()?.is_some() || container.tree().is_interrupted()? {
        let message = format!("{name}: a driver was installed with --mode unpack");
        return Err(fail(Exit::Refused, message)
            .hint("uninstall it first")
            .run(advice::nv_runfile::uninstall(container.guest.ctid)));
    }
    let others = other_installations(&container.root, name)?;
    // an installer replaces what an earlier one installed
    let stays = |one: &&Installation| one.kind == InstallationKind::Run || is_loose(one);
    if let Some(other) = others.iter().find(|one| !stays(one)) {
        return Err(refusal(other, name, container.guest.ctid));
    }
    Ok(run_installation(&container.root)?.and_then(|found| found.version))
}

fn run_installer(container: &Container<'_>, argv: &[&str]) -> Result<(), Failure> {
    let name = container.guest.target();
    // a log of an earlier run does not explain this failure
    let before = read_log(container);
    match container.exec(argv, INSTALL)? {
        Some(ran) if ran.success() => Ok(()),
        Some(ran) => {
            let log = read_log(container).filter(|log| Some(log) != before.as_ref());
            let why = log.and_then(|log| first_error(&log)).unwrap_or_else(|| ran.reason());
            Err(fail(Exit::System, format!("{name}: the installer failed: {why}"))
                .hint("see /var/log/nvidia-installer.log in the container"))
        }
        None => Err(fail(Exit::System, format!("{name} is not running"))),
    }
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
    let path = installer.path_for_others();
    let push = ["/usr/sbin/pct", "push", &ctid, &path, &inside, "--perms", "0755"];
    let result = match machine.run(&push, PUSH)? {
        None => Err(fail(Exit::System, "no command is run with --root")),
        Some(ran) if !ran.success() => {
            Err(fail(Exit::System, format!("{name}: pct push: {}", ran.reason())))
        }
        Some(_) => run_installer(container, &[&["sh", inside.as_str()], options].concat()),
    };
    // also after a failure: the file has some hundred megabytes
    let removed = container.exec(&["rm", "-f", &inside], SHORT)?;
    result?;
    match removed {
        Some(ran) if !ran.success() => Err(fail(
            Exit::System,
            format!("{name}: '{inside}' could not be removed: {}", ran.reason()),
        )),
        _ => Ok(()),
    }
}
