//! `install`: which of its ways is asked for.

use ::cli::{Exit, Failure, Say, catch_signals, fail, interrupted};
use host::Machine;
use pve::Guest;
use record::RecordWriter;

use crate::cli::{Install, Mode, Options};
use crate::commands::share;
use crate::host::run as on_host;
use crate::install::common::limits;
use crate::install::container::copy_of;
use crate::install::installer_mode;
use crate::install::planned_fetch::{InstallerSource, foretell, source};
use crate::install::unpack_mode::UnpackInstall;
use crate::install::verify::{require_loaded, verify_driver};
use crate::installer::Installer;

pub fn run(
    options: &Options,
    install: &Install,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    require_options_of_one_way(install)?;
    let source = source(options, install, say)?;
    let machine = &options.common.machine()?;
    let guests = guests(machine, install)?;
    let named = match source {
        InstallerSource::File(named) => named,
        InstallerSource::Planned(planned) => {
            return foretell(machine, install, &guests, &planned, say, writer);
        }
    };
    if !install.change.only_look() {
        catch_signals();
    }
    let is_run = install.target.host || install.mode == Mode::Installer;
    let mut installer = match is_run {
        true => {
            let copy = (machine.is_host() && !install.change.only_look()).then_some(machine);
            Installer::for_other_program(&named, copy, say)?
        }
        false => Installer::of_named(&named)?,
    };
    let outcome = match &install.target.share {
        Some(dir) => share::run(machine, install, dir, &mut installer, say, writer),
        None if install.target.host => on_host::run(machine, install, &mut installer, say, writer),
        None => in_containers(machine, install, &guests, &mut installer, say, writer),
    };
    installer.close(say);
    outcome
}

/// The containers that are asked for. Errors: one does not exist.
fn guests(machine: &Machine, install: &Install) -> Result<Vec<Guest>, Failure> {
    let target = &install.target;
    let mut ctids = match target.all_cts {
        true => with_receipt(machine)?,
        false => target.ct.clone(),
    };
    ctids.sort_unstable();
    ctids.dedup();
    ctids.into_iter().map(|ctid| Guest::find(machine, ctid)).collect()
}

/// The containers of this host in which this tool installed a driver. Errors: there is none.
fn with_receipt(machine: &Machine) -> Result<Vec<u32>, Failure> {
    let all = pve::all_guests(machine)?.into_iter();
    let ctids: Vec<u32> = all
        .filter(|guest| machine.exists(&copy_of(guest)))
        .map(|guest| guest.ctid)
        .filter(|ctid| Guest::find(machine, *ctid).is_ok())
        .collect();
    match ctids.is_empty() {
        true => {
            Err(fail(Exit::Usage, "nv-runfile installed a driver in no container of this host")
                .hint("name the containers with --ct"))
        }
        false => Ok(ctids),
    }
}

/// Installs in one container after the other. One that fails does not stop the others.
fn in_containers(
    machine: &Machine,
    install: &Install,
    guests: &[Guest],
    installer: &mut Installer,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    let driver = verify_driver(installer, limits(install), say)?;
    let version = driver.version.as_str();
    require_loaded(machine, version, install.force, say)?;
    let mut exit = Exit::Done;
    for (at, guest) in guests.iter().enumerate() {
        if interrupted() {
            let left: Vec<String> = guests[at..].iter().map(Guest::target).collect();
            let message = format!("interrupted; not installed in {}", left.join(", "));
            return Err(fail(Exit::System, message).into());
        }
        let outcome = match install.mode {
            Mode::Installer => {
                installer_mode::run(machine, guest, install, installer, version, say, writer)
            }
            Mode::Unpack => UnpackInstall { machine, guest, install, version, say }
                .run(installer, &driver, writer),
        };
        match outcome {
            Ok(done) => exit = exit.max(done),
            Err(error) if guests.len() == 1 => return Err(error),
            Err(error) => {
                let failure = error.downcast::<Failure>()?;
                say.failure(&failure);
                exit = exit.max(failure.exit);
            }
        }
    }
    Ok(exit)
}

fn require_options_of_one_way(install: &Install) -> Result<(), Failure> {
    let of_host = [
        ("--dkms", install.dkms),
        ("--no-dkms", install.no_dkms),
        ("--kernel", install.kernel.is_some()),
        ("--signing-key", install.signing_key.is_some()),
    ];
    let wrong = of_host.iter().find(|(_, given)| *given && !install.target.host);
    if let Some((option, _)) = wrong {
        return Err(fail(Exit::Usage, format!("{option} needs --host")));
    }
    if install.purge && install.target.share.is_some() {
        return Err(fail(Exit::Usage, "--purge needs --host or --ct"));
    }
    let in_container = install.target.all_cts || !install.target.ct.is_empty();
    if install.mode == Mode::Installer && !in_container {
        return Err(fail(Exit::Usage, "--mode installer needs --ct"));
    }
    Ok(())
}
