//! One run of a tool at a time.

use std::time::Duration;

use cli::{Exit, Failure, catch_signals, fail, interrupted};
use host::{FileLock, LockError, Machine};

/// How long a run waits for another one of the same tool to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock that keeps a second run of `tool` from changing the same host
/// at the same time. From here on SIGINT, SIGTERM and SIGHUP do not end the
/// process: `cli::interrupted` reports them, and the run rolls back.
///
/// # Errors
/// Another run holds the lock for more than 10 s, a signal arrived while this
/// one waited, or the lock file cannot be made. Nothing was changed then.
pub fn lock_run(machine: &Machine, tool: &str) -> Result<FileLock, Failure> {
    catch_signals();
    machine.lock_tool(tool, PATIENCE, &interrupted).map_err(|error| match error {
        LockError::Busy { .. } if interrupted() => {
            fail(Exit::System, "interrupted; nothing was changed").hint("run the command again")
        }
        LockError::Busy { .. } => {
            let message = format!("another {tool} process is running: {error}");
            fail(Exit::System, message).hint("run the command again when that process has ended")
        }
        LockError::File(_) => fail(Exit::System, format!("{error}; nothing was changed")),
    })
}
