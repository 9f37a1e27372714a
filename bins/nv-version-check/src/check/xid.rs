//! Decodes the errors of GPUs that the driver logged.

use nvidia::XidSeverity;
use record::{Hint, Severity};

use crate::cause::Cause;
use crate::check::finding::Finding;
use crate::collect::xid::XidCount;

/// One finding for each code of each GPU, or one that all is well.
pub fn findings(counts: &[XidCount]) -> Vec<Finding> {
    match counts.is_empty() {
        true => vec![Finding::ok("host", "xid", None)],
        false => counts.iter().map(finding).collect(),
    }
}

fn finding(xid: &XidCount) -> Finding {
    let times = if xid.count == 1 { "once".into() } else { format!("{} times", xid.count) };
    let known = nvidia::xid(xid.code);
    let finding = match known.map(|known| known.severity) {
        Some(XidSeverity::Low) => Finding::note(Cause::Xid, Severity::Info),
        Some(XidSeverity::Medium) | None => Finding::warning(Cause::Xid),
        Some(XidSeverity::High | XidSeverity::Critical) => Finding::error(Cause::Xid),
    };
    let (meaning, action) = match known {
        Some(known) => (known.meaning, known.action),
        None => ("this code is not in the table", "see NVIDIA's catalogue of Xid errors"),
    };
    finding
        .on(&xid.gpu, format!("xid {}", xid.code))
        .found(None, Some(&times))
        .because(format!("{meaning}; last: {}", xid.last))
        .hint(Hint::words(action))
}

#[cfg(test)]
mod tests {
    use record::{CheckStatus, Severity};

    use super::*;
    use crate::collect::xid::count;

    #[test]
    fn codes_are_counted_by_gpu_and_decoded() {
        let log = "<6>[    5.1] nvidia: loading out-of-tree module taints kernel.\n\
            <4>[  100.0] NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n\
            <4>[  101.0] NVRM: Xid (PCI:0000:2b:00): 31, pid=1234, name=python, Ch 00000008\n\
            <4>[  102.0] NVRM: Xid (PCI:0000:2b:00): 31, pid=1235, name=python, Ch 00000009\n\
            <4>[  103.0] NVRM: Xid (PCI:0000:2b:00): 94, pid=1, name=x, Contained\n\
            <4>[  104.0] NVRM: Xid (PCI:0000:2b:00): 777, pid=1, Timeout\n\
            <4>[  105.0] NVRM: Xid (broken\n";
        let found = findings(&count(log));
        let checks: Vec<_> = found.iter().map(|finding| finding.check()).collect();
        let said: Vec<_> = checks
            .iter()
            .map(|c| (c.subject.as_str(), c.property.as_str(), c.status, c.severity))
            .collect();
        assert_eq!(
            said,
            [
                ("0000:2b:00", "xid 31", CheckStatus::Drift, Severity::Warning),
                ("0000:2b:00", "xid 94", CheckStatus::Ok, Severity::Info),
                ("0000:2b:00", "xid 777", CheckStatus::Drift, Severity::Warning),
                ("0000:41:00", "xid 79", CheckStatus::Drift, Severity::Error),
            ]
        );
        assert_eq!(checks[0].actual.as_deref(), Some("2 times"));
        assert!(checks[0].reason.as_deref().unwrap().contains("pid=1235"));
        assert!(checks[3].hint.as_deref().unwrap().contains("reseat"));
        assert_eq!(findings(&count("nothing\n"))[0].check().status, CheckStatus::Ok);
    }
}
