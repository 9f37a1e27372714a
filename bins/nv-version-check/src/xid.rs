//! `--xid`: errors of GPUs that the driver logged since the host booted.

use std::collections::BTreeMap;

use host::{FileError, Machine};
use nvidia::XidSeverity;
use record::{Check, Severity};

use crate::cause::{Cause, Finding};

/// One code of one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    count: usize,
    /// What the driver said the last time.
    last: String,
}

/// Reads this boot's kernel log and decodes it. Errors: it cannot be read.
pub fn checks(machine: &Machine) -> Result<Vec<Check>, FileError> {
    Ok(decode(&machine.kernel_log()?))
}

fn decode(log: &str) -> Vec<Check> {
    let mut seen: BTreeMap<(String, u32), Seen> = BTreeMap::new();
    for line in log.lines() {
        let Some((gpu, code, rest)) = parse(line) else { continue };
        let entry = seen.entry((gpu, code)).or_insert(Seen { count: 0, last: String::new() });
        entry.count += 1;
        entry.last = rest.to_string();
    }
    if seen.is_empty() {
        return vec![Check::ok("host", "xid", None)];
    }
    seen.iter().map(|((gpu, code), seen)| check(gpu, *code, seen)).collect()
}

/// `NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has
/// fallen off the bus.`
fn parse(line: &str) -> Option<(String, u32, &str)> {
    let (_, rest) = line.split_once("NVRM: Xid (")?;
    let (gpu, rest) = rest.split_once("): ")?;
    let gpu = gpu.strip_prefix("PCI:").unwrap_or(gpu);
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let code = rest[..digits].parse().ok()?;
    Some((gpu.to_string(), code, rest[digits..].trim_start_matches([',', ' '])))
}

fn check(gpu: &str, code: u32, seen: &Seen) -> Check {
    let times = if seen.count == 1 { "once".into() } else { format!("{} times", seen.count) };
    let known = nvidia::xid(code);
    let finding = match known.map(|xid| xid.severity) {
        Some(XidSeverity::Low) => Finding::note(Cause::Xid, Severity::Info),
        Some(XidSeverity::Medium) | None => Finding::warning(Cause::Xid),
        Some(XidSeverity::High | XidSeverity::Critical) => Finding::error(Cause::Xid),
    };
    let (meaning, action) = match known {
        Some(xid) => (xid.meaning, xid.action),
        None => ("this code is not in the table", "see NVIDIA's catalogue of Xid errors"),
    };
    finding
        .on(gpu, format!("xid {code}"))
        .found(None, Some(&times))
        .because(format!("{meaning}; last: {}", seen.last))
        .hint(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::CheckStatus;

    #[test]
    fn codes_are_counted_by_gpu_and_decoded() {
        let log = "<6>[    5.1] nvidia: loading out-of-tree module taints kernel.\n\
            <4>[  100.0] NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n\
            <4>[  101.0] NVRM: Xid (PCI:0000:2b:00): 31, pid=1234, name=python, Ch 00000008\n\
            <4>[  102.0] NVRM: Xid (PCI:0000:2b:00): 31, pid=1235, name=python, Ch 00000009\n\
            <4>[  103.0] NVRM: Xid (PCI:0000:2b:00): 94, pid=1, name=x, Contained\n\
            <4>[  104.0] NVRM: Xid (PCI:0000:2b:00): 119, pid=1, Timeout\n\
            <4>[  105.0] NVRM: Xid (broken\n";
        let checks = decode(log);
        let said: Vec<_> = checks
            .iter()
            .map(|c| (c.subject.as_str(), c.property.as_str(), c.status, c.severity))
            .collect();
        assert_eq!(
            said,
            [
                ("0000:2b:00", "xid 31", CheckStatus::Drift, Severity::Warning),
                ("0000:2b:00", "xid 94", CheckStatus::Ok, Severity::Info),
                ("0000:2b:00", "xid 119", CheckStatus::Drift, Severity::Warning),
                ("0000:41:00", "xid 79", CheckStatus::Drift, Severity::Error),
            ]
        );
        assert_eq!(checks[0].actual.as_deref(), Some("2 times"));
        assert!(checks[0].reason.as_deref().unwrap().contains("pid=1235"));
        assert!(checks[3].hint.as_deref().unwrap().contains("reseat"));
        assert_eq!(decode("nothing\n")[0].status, CheckStatus::Ok);
    }
}
