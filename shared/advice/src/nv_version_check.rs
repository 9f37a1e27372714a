//! Command lines of `nv-version-check`.

use record::CommandLine;

use crate::command;

/// Checks the driver's version in one container, running or stopped.
pub fn check_container(ctid: u32) -> CommandLine {
    command(&["nv-version-check", "--ct", &ctid.to_string()])
}
