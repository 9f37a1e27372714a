//! `install`: which of its ways is asked for.

use ::cli::{Exit, Failure, Say, catch_signals, fail};
use pve::Guest;
use record::RecordWriter;

use crate::cli::{Install, Mode, Options};
use crate::commands::share;
use crate::host::run as on_host;
use crate::install::installer_mode;
use crate::install::planned_fetch::{InstallerSource, foretell, source};
use crate::install::unpack_mode::UnpackInstall;
use crate::installer::Installer;

pub fn run(
    options: &Options,
    install: &Install,
    say: &Say,
    writer: &mut RecordWriter,
) -> anyhow::Result<Exit> {
    require_options_of_one_way(install)?;
    let source = source(install, say)?;
    let machine = &options.common.machine()?;
    let named = match source {
        InstallerSource::File(named) => named,
        InstallerSource::Planned(planned) => {
            return foretell(machine, install, &planned, say, writer);
        }
    };
    let guest = install.target.ct.map(|ctid| Guest::find(machine, ctid)).transpose()?;
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
    let outcome = match (&guest, &install.target.share) {
        (Some(guest), _) if install.mode == Mode::Installer => {
            installer_mode::run(machine, guest, install, &mut installer, say, writer)
        }
        (Some(guest), _) => {
            UnpackInstall { machine, guest, install, say }.run(&mut installer, writer)
        }
        (None, Some(dir)) => share::run(machine, install, dir, &mut installer, say, writer),
        (None, None) => on_host::run(machine, install, &mut installer, say, writer),
    };
    installer.close(say);
    outcome
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
    if install.mode == Mode::Installer && install.target.ct.is_none() {
        return Err(fail(Exit::Usage, "--mode installer needs --ct"));
    }
    Ok(())
}
