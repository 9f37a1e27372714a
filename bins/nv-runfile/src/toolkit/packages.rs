//! The container's own package manager.

use std::time::Duration;

use ::cli::{Exit, Failure, fail, interrupted};
use host::command::Ran;
use nvidia::driver_part;
use pve::Packages;

use crate::install::container::Container;
use crate::toolkit::files::SOURCES;
use crate::toolkit::release::CudaRelease;
use crate::toolkit::repository::PackageManager;

const SHORT: Duration = Duration::from_secs(60);
/// Downloading the lists of a distribution.
const UPDATE: Duration = Duration::from_secs(10 * 60);
/// A toolkit has some gigabytes.
const INSTALL: Duration = Duration::from_secs(2 * 3600);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a command in the container with a time limit. timeout(1) enforces it there
/// too: killing pct on the host does not end the command.
pub fn exec(container: &Container<'_>, words: &[&str], limit: Duration) -> Result<Ran, Failure> {
    let seconds = limit.as_secs().to_string();
    let before = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", PATH];
    let argv = [&before, ["timeout", "-k", "30", seconds.as_str()].as_slice(), words].concat();
    let ran = container.exec(&argv, limit + Duration::from_secs(60))?;
    if interrupted() {
        return Err(fail(Exit::System, "interrupted"));
    }
    ran.ok_or_else(|| fail(Exit::System, format!("{} is not running", container.guest.target())))
}

/// Whether a package is installed.
pub fn is_installed(
    container: &Container<'_>,
    manager: PackageManager,
    package: &str,
) -> Result<bool, Failure> {
    match manager {
        PackageManager::Apt => {
            let packages = Packages::read(&container.root)?.unwrap_or_default();
            Ok(packages.get(package).is_some_and(|package| package.state.is_complete()))
        }
        // with --root no command is run
        PackageManager::Dnf if !container.running => Ok(false),
        PackageManager::Dnf => Ok(exec(container, &["rpm", "-q", package], SHORT)?.success()),
    }
}

/// Installs the toolkit.
pub fn install(
    container: &Container<'_>,
    manager: PackageManager,
    release: CudaRelease,
) -> Result<(), Failure> {
    match manager {
        PackageManager::Apt => with_apt(container, &release.package()),
        PackageManager::Dnf => with_dnf(container, &release.package()),
    }
}

fn with_apt(container: &Container<'_>, package: &str) -> Result<(), Failure> {
    let apt = |words: &[&str], limit| {
        let lock = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"];
        exec(container, &[&lock, words].concat(), limit)
    };
    // only this repository: failures of others do not matter here
    let list = format!("Dir::Etc::sourcelist={SOURCES}");
    let only = ["-o", list.as_str(), "-o", "Dir::Etc::sourceparts=-"];
    let strict = ["-o", "APT::Get::List-Cleanup=0", "-o", "APT::Update::Error-Mode=any"];
    let ran = apt(&[&only, strict.as_slice(), &["update"]].concat(), UPDATE)?;
    if !ran.success() {
        return Err(failed(container, "apt-get update", &ran));
    }
    let install = ["--no-install-recommends", "--no-remove", "install", package];
    let simulate = || apt(&[&["-s"], install.as_slice()].concat(), UPDATE);
    let mut simulated = simulate()?;
    if !simulated.success() {
        // it needs packages of the distribution, whose lists may be missing
        apt(&["update"], UPDATE)?;
        simulated = simulate()?;
    }
    if !simulated.success() {
        return Err(failed(container, &format!("apt-get install {package}"), &simulated));
    }
    let said = String::from_utf8_lossy(&simulated.stdout);
    let comes = said.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    if let Some(driver) = comes.into_iter().find(|package| driver_part(package).is_some()) {
        let name = container.guest.target();
        let message = format!("{name}: {package} would install {driver}, a package of the driver");
        return Err(fail(Exit::Refused, message)
            .hint("install the host's driver in the container instead, with nv-runfile install"));
    }
    let conf =
        ["-y", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"];
    let ran = apt(&[&conf, install.as_slice()].concat(), INSTALL)?;
    match ran.success() {
        true => Ok(()),
        false => Err(failed(container, &format!("apt-get install {package}"), &ran)),
    }
}

fn with_dnf(container: &Container<'_>, package: &str) -> Result<(), Failure> {
    let words = ["dnf", "-y", "--setopt=install_weak_deps=False", "install", package];
    let ran = exec(container, &words, INSTALL)?;
    match ran.success() {
        true => Ok(()),
        false => Err(failed(container, &format!("dnf install {package}"), &ran)),
    }
}

/// The failure of a package manager, with the first error that it printed.
fn failed(container: &Container<'_>, what: &str, ran: &Ran) -> Failure {
    let name = container.guest.target();
    let said = String::from_utf8_lossy(&ran.stderr);
    let error = said.lines().find(|line| line.starts_with("E: ") || line.starts_with("Error: "));
    // apt warns about the signature before the error
    let why = said.lines().find(|line| line.starts_with("W: GPG error"));
    let words = match (error, why) {
        (Some(error), Some(why)) => format!("{error} ({})", why.trim_start_matches("W: ")),
        (Some(error), None) => error.to_string(),
        (None, _) => ran.reason(),
    };
    fail(Exit::System, format!("{name}: {what}: {words}"))
}
