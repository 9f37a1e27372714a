//! The health file: `watch` writes it, `check --health-file` reads it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::cli::{Exit, Failure, fail};
use host::Machine;

use crate::input::read_file;

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Writes the state, which is valid for three intervals and a little more.
pub(crate) fn write(
    path: &Path,
    healthy: bool,
    interval: Duration,
    status: &str,
) -> Result<(), Failure> {
    let word = if healthy { "healthy" } else { "unhealthy" };
    let until = now() + (3 * interval + Duration::from_secs(30)).as_secs();
    write_text(path, &format!("{word}\nuntil {until}\n{status}\n"))
}

/// Writes that `watch` has ended.
pub(crate) fn write_end(path: &Path) -> Result<(), Failure> {
    write_text(path, "ended\n")
}

fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    let path = std::path::absolute(path).map_err(|error| fail(Exit::Usage, error.to_string()))?;
    Ok(Machine::new(None)?.put(&path.display().to_string(), text.as_bytes())?)
}

/// The exit status for probes. With `alive`, a `watch` that still writes the file
/// is enough, in whatever state the host is.
pub(crate) fn check(path: &Path, alive: bool) -> anyhow::Result<Exit> {
    let text = read_file(path)?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let healthy = lines.next() == Some("healthy");
    let until = lines.next().and_then(|line| line.strip_prefix("until ")?.parse::<u64>().ok());
    let fresh = until.is_some_and(|until| now() <= until);
    Ok(if (healthy || alive) && fresh { Exit::Done } else { Exit::Difference })
}
