//! Metrics in the text format of node_exporter's textfile collector.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use host::{FileError, Machine};
use record::{Check, CheckStatus};

const GOOD: &str = "nvidia_version_check_last_good_timestamp_seconds";

/// Bytes of a metrics file; a larger one is not from this tool.
const MOST: usize = 16 << 20;

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// When a run last found no problem, from the existing file.
pub fn last_good(machine: &Machine, file: &str) -> Option<u64> {
    let text = machine.read_text(file, MOST).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(GOOD)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Replaces the file as a whole, so that the collector never reads half of it.
pub fn write(machine: &Machine, file: &str, text: &str) -> Result<(), FileError> {
    machine.put(file, text.as_bytes())
}

/// The metrics of a run at `now`; `good`: the time of the last run without a
/// problem. Both in seconds since 1970.
pub fn render(checks: &[&Check], now: u64, good: Option<u64>) -> String {
    let mut text = String::new();
    let drifted = |check: &Check| check.status == CheckStatus::Drift;
    metric(
        &mut text,
        "nvidia_version_info",
        "Versions as found; the value is always 1.",
        checks
            .iter()
            .filter_map(|check| Some((check, version(check.actual.as_deref())?)))
            .map(|(check, actual)| (labels(check, &[("version", actual)]), 1)),
    );
    metric(
        &mut text,
        "nvidia_version_expected_info",
        "Versions as required; the value is always 1.",
        checks
            .iter()
            .filter_map(|check| Some((check, version(check.expected.as_deref())?)))
            .map(|(check, expected)| (labels(check, &[("version", expected)]), 1)),
    );
    metric(
        &mut text,
        "nvidia_version_drift",
        "1 if the version differs from the required one.",
        checks.iter().filter(|check| check.status != CheckStatus::Unknown).map(|check| {
            let cause = check.cause.as_deref().filter(|_| drifted(check)).unwrap_or("");
            (labels(check, &[("cause", cause)]), u64::from(drifted(check)))
        }),
    );
    metric(
        &mut text,
        "nvidia_version_unknown",
        "1 if the version could not be determined.",
        checks
            .iter()
            .map(|check| (labels(check, &[]), u64::from(check.status == CheckStatus::Unknown))),
    );
    let count = |status| checks.iter().filter(|check| check.status == status).count() as u64;
    let single = [(String::new(), count(CheckStatus::Drift))];
    metric(&mut text, "nvidia_version_drifts", "Number of versions that differ.", single);
    let single = [(String::new(), now)];
    let name = "nvidia_version_check_last_run_timestamp_seconds";
    metric(&mut text, name, "When this run was, in seconds since 1970.", single);
    if let Some(good) = good {
        let help = "When a run last found no difference and read everything.";
        metric(&mut text, GOOD, help, [(String::new(), good)]);
        let name = "nvidia_version_check_last_good_age_seconds";
        let help = "How long before this run that was, in seconds.";
        metric(&mut text, name, help, [(String::new(), now.saturating_sub(good))]);
    }
    text
}

/// A value that is a version: others, such as `no-cgroups = true`, are no label of
/// a metric about versions.
fn version(value: Option<&str>) -> Option<&str> {
    value.filter(|value| nvidia::is_version(value))
}

/// One metric. Two series with the same labels would make the whole file invalid,
/// so only the first is written.
fn metric(
    text: &mut String,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (String, u64)>,
) {
    let mut seen: Vec<String> = Vec::new();
    let mut lines = String::new();
    for (labels, value) in series {
        if !seen.contains(&labels) {
            let _ = writeln!(lines, "{name}{labels} {value}");
            seen.push(labels);
        }
    }
    if !lines.is_empty() {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{lines}");
    }
}

fn labels(check: &Check, more: &[(&str, &str)]) -> String {
    let own = [("subject", check.subject.as_str()), ("property", check.property.as_str())];
    let pairs: Vec<String> = own
        .iter()
        .chain(more)
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Backslash, quote and newline are escaped; other control characters, which
/// only a hostile name has, are shown.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::check::Finding;

    #[test]
    fn versions_are_labels_and_drift_is_a_number() {
        let findings = [
            Finding::ok("host", "module", Some("550.163.01")),
            Finding::error(Cause::ContainerBehind)
                .on("ct 901", "userspace")
                .found(Some("550.163.01"), Some("550.54.14")),
            Finding::unknown(Cause::Unreadable).on("rootfs /a\"b\\c\n", "userspace"),
        ];
        let checks: Vec<&Check> = findings.iter().map(Finding::check).collect();
        let text = render(&checks, 1000, Some(400));
        for line in [
            "nvidia_version_info{subject=\"host\",property=\"module\",version=\"550.163.01\"} 1",
            "nvidia_version_drift{subject=\"host\",property=\"module\",cause=\"\"} 0",
            "nvidia_version_drift{subject=\"ct 901\",property=\"userspace\",cause=\"container-behind\"} 1",
            "nvidia_version_unknown{subject=\"rootfs /a\\\"b\\\\c\\n\",property=\"userspace\"} 1",
            "nvidia_version_drifts 1",
            "nvidia_version_check_last_good_timestamp_seconds 400",
            "nvidia_version_check_last_good_age_seconds 600",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!render(&checks, 1000, None).contains("last_good"));
    }
}
