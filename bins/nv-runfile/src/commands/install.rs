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
    let path = match source {
        InstallerSource::File(path) => path,
        InstallerSource::Planned(planned) => {
            return foretell(machine, install, &planned, say, writer);
        }
    };
    let installer = &mut Installer::open(&path)?;
    let guest = install.target.ct.map(|ctid| Guest::find(machine, ctid)).transpose()?;
    if !install.change.only_look() {
        catch_signals();
    }
    match (&guest, &install.target.share) {
        (Some(guest), _) if install.mode == Mode::Installer => {
            installer_mode::run(machine, guest, install, installer, say, writer)
        }
        (Some(guest), _) => UnpackInstall { machine, guest, install, say }.run(installer, writer),
        (None, Some(dir)) => share::run(machine, install, dir, installer, say, writer),
        (None, None) => on_host::run(machine, install, installer, say, writer),
    }
}

fn require_options_of_one_way(install: &Install) -> Result<(), Failure> {
    let of_host =
        [("--purge", install.purge), ("--dkms", install.dkms), ("--no-dkms", install.no_dkms)];
    let wrong = of_host.iter().find(|(_, given)| *given && !install.target.host);
    if let Some((option, _)) = wrong {
        return Err(fail(Exit::Usage, format!("{option} needs --host")));
    }
    if install.mode == Mode::Installer && install.target.ct.is_none() {
        return Err(fail(Exit::Usage, "--mode installer needs --ct"));
    }
    Ok(())
}
