//! Tables about versions: CUDA toolkits and the drivers that they need, kernels
//! that a branch does not build for, Xid codes.

use std::cmp::Ordering;

use crate::version::{branch, compare_versions, numbers};

const CUDA: &str = include_str!("../data/cuda.txt");
const KERNELS: &str = include_str!("../data/kernels.txt");
const XIDS: &str = include_str!("../data/xid.txt");

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

/// What a CUDA toolkit needs of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaNeed {
    /// The oldest driver that runs its programs at all.
    pub minimum: &'static str,
    /// The driver that it was made with, where the release is in the table.
    pub bundled: Option<&'static str>,
}

/// What a toolkit of a release (`12.4.1`, `12.4`) needs (NVIDIA's release notes
/// of CUDA, tables 2 and 3). `None`: its major release is not in the table. Before 11 there was no minor-version
/// compatibility: the bundled driver is the minimum.
pub fn cuda_need(release: &str) -> Option<CudaNeed> {
    let find = |kind: &str, wanted: &str| {
        lines(CUDA).find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let same = words.next() == Some(kind) && words.next() == Some(wanted);
            words.next().filter(|_| same)
        })
    };
    let number = numbers(release);
    let (major, minor) = (number.first()?, number.get(1)?);
    let short = format!("{major}.{minor}");
    let bundled = find("bundled", release)
        .or_else(|| find("bundled", &format!("{short}.0")))
        .or_else(|| find("bundled", &short));
    let minimum = find("minimum", &major.to_string()).or(bundled)?;
    Some(CudaNeed { minimum, bundled })
}

/// A kernel from which on a driver's modules are known not to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLimit {
    /// The first kernel series that the driver's modules do not build for.
    pub first_kernel: &'static str,
    /// The last version of the branch that does not; `None`: no version builds.
    pub last: Option<&'static str>,
    /// The report or packaging that this is known from.
    pub source: &'static str,
}

impl KernelLimit {
    /// Whether it concerns a kernel: `6.17.13-2-pve`.
    pub fn reaches(&self, kernel: &str) -> bool {
        numbers(kernel) >= numbers(self.first_kernel)
    }
}

/// The kernels from which on a driver's modules are known not to build.
pub fn kernel_limits(version: &str) -> impl Iterator<Item = KernelLimit> + use<'_> {
    lines(KERNELS).filter_map(move |line| {
        let (of, rest) = line.split_once(' ')?;
        let (last, rest) = rest.trim_start().split_once(' ')?;
        let (first_kernel, source) = rest.trim_start().split_once(' ')?;
        let covered = last == "*" || compare_versions(version, last) != Ordering::Greater;
        let last = (last != "*").then_some(last);
        let limit = KernelLimit { first_kernel, last, source: source.trim() };
        (of == branch(version) && covered).then_some(limit)
    })
}

/// Whether the modules of a driver are known not to build for a kernel.
pub fn kernel_limit(version: &str, kernel: &str) -> Option<KernelLimit> {
    kernel_limits(version).find(|limit| limit.reaches(kernel))
}

/// How severe an Xid is (severities of this project, after NVIDIA's catalogue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XidSeverity {
    /// Worth monitoring.
    Low,
    /// A program or the driver failed.
    Medium,
    /// The GPU failed.
    High,
    /// The hardware failed.
    Critical,
}

/// One Xid code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xid {
    /// NVIDIA's number of the error.
    pub code: u32,
    /// How severe.
    pub severity: XidSeverity,
    /// What it means, for people.
    pub meaning: &'static str,
    /// What to do.
    pub action: &'static str,
}

/// The table's entry of a code.
pub fn xid(code: u32) -> Option<Xid> {
    xids().find(|xid| xid.code == code)
}

/// The whole table.
pub fn xids() -> impl Iterator<Item = Xid> {
    lines(XIDS).filter_map(|line| {
        let mut fields = line.split('|').map(str::trim);
        let code = fields.next()?.parse().ok()?;
        let severity = match fields.next()? {
            "low" => XidSeverity::Low,
            "medium" => XidSeverity::Medium,
            "high" => XidSeverity::High,
            "critical" => XidSeverity::Critical,
            _ => return None,
        };
        Some(Xid { code, severity, meaning: fields.next()?, action: fields.next()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolkits_need_the_minimum_of_their_major_release() {
        let need = |release: &str| cuda_need(release).map(|n| (n.minimum, n.bundled));
        assert_eq!(need("12.4.1"), Some(("525", Some("550.54.15"))));
        assert_eq!(need("12.4"), Some(("525", Some("550.54.14"))));
        assert_eq!(need("13.0.48"), Some(("580", Some("580.65.06"))));
        assert_eq!(need("13.9"), Some(("580", None)));
        assert_eq!(need("10.2.89"), Some(("440.33", Some("440.33"))));
        assert_eq!(need("10.1.243"), Some(("418.39", Some("418.39"))));
        assert_eq!(need("14.0"), None);
        assert_eq!(need("12"), None);
    }

    #[test]
    fn every_line_of_the_tables_is_understood() {
        for line in lines(CUDA) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            assert!(matches!(words[0], "minimum" | "bundled") && words.len() == 3, "{line}");
            assert!(!numbers(words[1]).is_empty() && !numbers(words[2]).is_empty(), "{line}");
        }
        for line in lines(KERNELS) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let version = if words[1] == "*" { format!("{}.1", words[0]) } else { words[1].into() };
            assert!(kernel_limit(&version, words[2]).is_some(), "{line}");
        }
        assert_eq!(xids().count(), lines(XIDS).count());
    }

    /// NVIDIA's catalogue of Xid errors: 63 is a pending remap and 64 its failure.
    #[test]
    fn only_failures_of_the_hardware_ask_for_another_gpu() {
        for (code, severity) in [
            (43, XidSeverity::Low),
            (45, XidSeverity::Low),
            (63, XidSeverity::Medium),
            (64, XidSeverity::Critical),
            (74, XidSeverity::High),
            (119, XidSeverity::High),
            (154, XidSeverity::High),
        ] {
            let xid = xid(code).unwrap();
            assert_eq!(xid.severity, severity, "{code}");
            assert_eq!(xid.action.contains("replace"), code == 64, "{code}");
        }
        assert!(xid(48).unwrap().action.contains("63 or 64"));
    }

    #[test]
    fn a_branch_fails_from_a_kernel_on_until_it_is_fixed() {
        let limit = kernel_limit("550.163.01", "6.17.13-2-pve").unwrap();
        assert_eq!((limit.first_kernel, limit.last), ("6.17", None));
        assert!(limit.source.contains("#1143"), "{}", limit.source);
        assert!(kernel_limit("550.163.01", "6.14.11-4-pve").is_none());
        assert!(kernel_limit("550.163.01", "7.0.1-1-pve").is_some());
        assert!(kernel_limit("530.30.02", "6.3.1").is_some());
        assert!(kernel_limit("530.41.03", "6.3.1").is_none());
        assert!(kernel_limit("580.105.08", "6.17.13-2-pve").is_none());
        assert_eq!(xid(79).unwrap().severity, XidSeverity::Critical);
        assert!(xid(1).is_none());
    }
}
