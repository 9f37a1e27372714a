//! The rivals: Debian's packages.

use std::process::{Command, Stdio};

fn quiet(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The version of a package that is installed.
pub fn version(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Abbrev}${Version}", package]);
    let text = String::from_utf8(query.output().ok()?.stdout).ok()?;
    Some(text.strip_prefix("ii ")?.trim().to_string())
}

/// Whether a package is there, installed now where it was not and root may.
pub fn have(package: &str) -> bool {
    if version(package).is_some() {
        return true;
    }
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let install = ["install", "-y", "-q", "--no-install-recommends", package];
    root && (quiet("apt-get", &install)
        || (quiet("apt-get", &["update", "-q"]) && quiet("apt-get", &install)))
}

/// The name of a rival with the versions of what it is made of.
pub fn named(what: &str, packages: &[&str]) -> String {
    let versions: Vec<String> = packages
        .iter()
        .map(|package| format!("{package} {}", version(package).unwrap_or("?".into())))
        .collect();
    if versions.is_empty() { what.into() } else { format!("{what} ({})", versions.join(", ")) }
}
