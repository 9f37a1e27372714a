//! A driver that is installed in a root file system by other means than this
//! tool.

use ::cli::{Exit, Failure, fail};
use advice::external::pct_exec;
use host::Machine;
use nvidia::{Installation, InstallationKind, Installations, RunInstallation};
use record::CommandLine;

/// The drivers in a container that this tool did not install. Errors: it is unknown which
/// there are.
pub fn other_installations(root: &Machine, name: &str) -> Result<Vec<Installation>, Failure> {
    let found = Installations::read(root);
    if let Some(why) = &found.unread {
        let message = format!("{name}: cannot determine which drivers are installed: {why}");
        return Err(fail(Exit::Refused, message));
    }
    // a kernel module's packages are nothing to a container
    Ok(found.by_other_means().filter(|one| one.has_libraries()).cloned().collect())
}

/// Whether files of an installation are replaced or refused one by one: nothing says that
/// they belong together.
pub fn is_loose(other: &Installation) -> bool {
    matches!(other.kind, InstallationKind::Unowned)
}

/// What an installation is, for messages.
pub fn words(other: &Installation) -> String {
    let names = || {
        let names: Vec<&str> = other.packages.iter().map(|p| p.name.as_str()).collect();
        names.join(" ")
    };
    let library = other.library.as_deref().unwrap_or("a library");
    match other.kind {
        InstallationKind::Receipt => "nv-runfile installed the driver in it".into(),
        InstallationKind::Run => "a .run installer installed the driver in it".into(),
        InstallationKind::Rpm => format!("driver packages are installed ({library})"),
        InstallationKind::Unowned => format!("driver libraries are in it ({library})"),
        _ => format!("driver packages are installed ({})", names()),
    }
}

/// Why nothing is installed beside it.
pub fn refusal(other: &Installation, name: &str, ctid: u32) -> Failure {
    let refused = fail(Exit::Refused, format!("{name}: {}", words(other)));
    match other.removal() {
        Some(command) => refused
            .hint("remove it in the container, or use --purge to have it removed")
            .run(pct_exec(ctid, command)),
        None => refused.hint("remove it in the container"),
    }
}

/// The command that removes it without a question, inside the container.
pub fn removal(other: &Installation) -> Option<CommandLine> {
    let mut command = other.removal()?;
    let answer = match command.first().map(String::as_str) {
        Some("apt-get" | "dnf") => "-y",
        Some("pacman") => "--noconfirm",
        _ => return Some(command),
    };
    command.insert(1, answer.into());
    Some(command)
}

/// What NVIDIA's installer installed.
pub fn run_installation(root: &Machine) -> Result<Option<RunInstallation>, Failure> {
    Ok(RunInstallation::read(root)?)
}
