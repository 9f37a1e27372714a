//! The record that NVIDIA's installer keeps of what it installed:
//! /var/lib/nvidia/log (backup.c of nvidia-installer). It exists where a `.run`
//! file installed the driver, and `nvidia-uninstall` removes it.

use host::{FileError, Machine};

use crate::version::is_version;

/// Path of the record.
pub const INSTALLER_RECORD: &str = "/var/lib/nvidia/log";

/// Bytes of a record: one line a file, a thousand lines for a driver of 2025.
const MOST: usize = 16 << 20;

/// An installation by a `.run` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInstallation {
    /// The driver's version. `None` where the first line has neither of the known
    /// forms: something is installed, and which version is unknown.
    pub version: Option<String>,
}

impl RunInstallation {
    /// Reads the record of a root file system. `None`: there is no record, so no
    /// `.run` file installed a driver. Errors: the record exists and cannot be
    /// read.
    pub fn read(root: &Machine) -> Result<Option<RunInstallation>, FileError> {
        match root.read_text(INSTALLER_RECORD, MOST) {
            Ok(text) => Ok(Some(RunInstallation { version: version_in(&text) })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The version that a record's first line says. Every nvidia-installer from 390
/// to 590 writes `1.0-55016301 (550.163.01)`, a form that older ones understand
/// (`create_backwards_compatible_version_string`); other tools that make such a
/// record write the version alone.
fn version_in(record: &str) -> Option<String> {
    let line = record.lines().next()?.trim();
    let bracketed = line.strip_suffix(')').and_then(|rest| Some(rest.rsplit_once('(')?.1));
    let version = bracketed.unwrap_or(line);
    is_version(version).then(|| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installers_own_first_line_gives_the_version_in_its_parentheses() {
        for (line, version) in [
            ("1.0-55016301 (550.163.01)\nNVIDIA Accelerated Graphics Driver\n", "550.163.01"),
            ("1.0-5904801 (590.48.01)\n", "590.48.01"),
            ("1.0-550120 (550.120)", "550.120"),
        ] {
            assert_eq!(version_in(line).as_deref(), Some(version), "{line}");
        }
    }

    #[test]
    fn a_bare_version_is_a_version_too() {
        assert_eq!(version_in("550.163.01\nNVIDIA\n").as_deref(), Some("550.163.01"));
        assert_eq!(version_in(" 590.48.01 ").as_deref(), Some("590.48.01"));
    }

    #[test]
    fn any_other_first_line_gives_no_version() {
        for line in ["", "\n550.163.01\n", "1.0-55016301", "1.0-55016301 (beta)", "(550.163.01) x"]
        {
            assert_eq!(version_in(line), None, "{line}");
        }
    }
}
