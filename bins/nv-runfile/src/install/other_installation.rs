//! A driver that is installed in a root file system by other means than this
//! tool.

use ::cli::{Exit, Failure, fail};
use advice::external::{apt_purge, pct_exec};
use host::Machine;
use nvidia::{DriverPart, RunInstallation, driver_part};
use pve::Packages;

pub enum OtherInstallation {
    /// NVIDIA's installer ran in it.
    Runfile,
    /// The distribution's packages.
    Packages(Vec<String>),
}

impl OtherInstallation {
    /// Why nothing is installed beside it.
    pub fn refusal(&self, name: &str, ctid: u32) -> Failure {
        match self {
            OtherInstallation::Runfile => {
                let what = "a .run installer installed the driver in it";
                fail(Exit::Refused, format!("{name}: {what}"))
                    .hint("run 'nvidia-uninstall' in the container")
            }
            OtherInstallation::Packages(packages) => {
                let names = packages.join(" ");
                fail(Exit::Refused, format!("{name}: driver packages are installed ({names})"))
                    .hint("remove these packages in the container")
                    .run(pct_exec(ctid, apt_purge(packages)))
            }
        }
    }
}

/// The driver that is installed by other means, if there is one.
pub fn other_installation(root: &Machine) -> Result<Option<OtherInstallation>, Failure> {
    match run_installation(root)? {
        Some(_) => Ok(Some(OtherInstallation::Runfile)),
        None => driver_packages(root),
    }
}

/// What NVIDIA's installer installed.
pub fn run_installation(root: &Machine) -> Result<Option<RunInstallation>, Failure> {
    Ok(RunInstallation::read(root)?)
}

/// Packages with the driver's libraries and programs, complete or not.
pub fn driver_packages(root: &Machine) -> Result<Option<OtherInstallation>, Failure> {
    let packages = Packages::read(root)?.unwrap_or_default();
    let names = packages.present().map(|package| package.name.clone());
    let found: Vec<String> =
        names.filter(|name| driver_part(name) == Some(DriverPart::Libraries)).collect();
    Ok((!found.is_empty()).then_some(OtherInstallation::Packages(found)))
}
