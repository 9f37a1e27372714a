//! Tables about versions: CUDA toolkits and the drivers that they need, kernels
//! that a branch does not build for, Xid codes.

use std::cmp::Ordering;

use crate::version::{branch, compare_versions, numbers};

const CUDA: &str = include_str!("../data/cuda.txt");
const KERNELS: &str = include_str!("../data/kernels.txt");
const UNPUBLISHED: &str = include_str!("../data/unpublished.txt");
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
    /// The release is newer than the table, of this newest release of it and the
    /// driver that was made for that: a lower bound of what it needs.
    pub after: Option<(&'static str, &'static str)>,
}

/// What a toolkit of a release (`12.4.1`, `12.4`) needs (NVIDIA's release notes
/// of CUDA, tables 2 and 3). `None`: it is older than the table.
/// Before 11 there was no minor-version compatibility: the bundled driver is the
/// minimum.
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
    let newest = lines(CUDA).find_map(|line| line.strip_prefix("bundled ")?.split_once(' '));
    let newest = newest.filter(|(known, _)| number[..2] > numbers(known)[..2]);
    let minimum = find("minimum", &major.to_string()).or(bundled);
    let after = newest.filter(|_| bundled.is_none());
    let minimum = minimum.or(after.map(|(_, driver)| driver))?;
    Some(CudaNeed { minimum, bundled, after })
}

/// Who packaged the source that a driver's modules are built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildSource<'a> {
    /// NVIDIA's own source.
    Nvidia,
    /// Debian's packages, of this version with its revision: they are patched.
    Debian(&'a str),
    /// Another distribution's packages: no row of the table is about them.
    Other,
}

/// A driver whose modules are to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverBuild<'a> {
    /// Its version.
    pub version: &'a str,
    /// Whose source it is.
    pub source: BuildSource<'a>,
    /// Open or proprietary modules; `None`: not known.
    pub open: Option<bool>,
}

impl<'a> DriverBuild<'a> {
    /// A version of NVIDIA's own source, of either type.
    pub fn of_nvidia(version: &'a str) -> DriverBuild<'a> {
        DriverBuild { version, source: BuildSource::Nvidia, open: None }
    }
}

/// Kernels that a driver's modules are known not to build for: one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelLimit {
    /// The first kernel that fails, and `+` where only its series is meant.
    pub from: &'static str,
    /// The last version of the branch that does; `None`: no version builds.
    pub last: Option<&'static str>,
    /// When it was reported: `2026-05-13`.
    pub date: &'static str,
    /// The report or packaging that this is known from.
    pub source: &'static str,
}

impl KernelLimit {
    /// Whether it concerns a kernel: `6.17.13-2-pve`.
    pub fn reaches(&self, kernel: &str) -> bool {
        let kernel = numbers(kernel);
        let Some(series) = self.from.strip_suffix('+') else {
            return kernel >= numbers(self.from);
        };
        let from = numbers(series);
        // 6.1.0-18 is Debian's number of the ABI, and no patch level follows 6.1.0
        let by_abi = |numbers: &[u64]| numbers.get(2) == Some(&0);
        let same_form = by_abi(&kernel) == by_abi(&from);
        kernel.starts_with(&from[..2]) && same_form && kernel >= from
    }

    /// The report or packaging, for people: the table abbreviates the project where
    /// most reports are.
    pub fn report(&self) -> String {
        self.source.replace("ogkm#", "NVIDIA/open-gpu-kernel-modules#")
    }

    /// The kernels, for people: `6.17 and newer`, `6.12.97 and newer 6.12`.
    pub fn kernels(&self) -> String {
        match self.from.strip_suffix('+') {
            None => format!("{} and newer", self.from),
            Some(from) => {
                let series: Vec<&str> = from.split('.').take(2).collect();
                format!("{from} and newer {}", series.join("."))
            }
        }
    }
}

/// The rows about a driver.
pub fn kernel_limits<'a>(build: DriverBuild<'a>) -> impl Iterator<Item = KernelLimit> + use<'a> {
    lines(KERNELS).filter_map(move |line| {
        let (row, limit) = kernel_row(line)?;
        let version = match (row.source, build.source) {
            ("nvidia", BuildSource::Nvidia) => build.version,
            ("debian", BuildSource::Debian(version)) => version,
            _ => return None,
        };
        let modules = match row.modules {
            "open" => build.open == Some(true),
            "proprietary" => build.open == Some(false),
            _ => true,
        };
        let covered =
            limit.last.is_none_or(|last| compare_versions(version, last) != Ordering::Greater);
        (row.branch == branch(build.version) && modules && covered).then_some(limit)
    })
}

struct KernelRow {
    source: &'static str,
    branch: &'static str,
    modules: &'static str,
}

fn kernel_row(line: &'static str) -> Option<(KernelRow, KernelLimit)> {
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after.trim_start();
        Some(word)
    };
    let (source, branch, last) = (word()?, word()?, word()?);
    let (modules, from, date) = (word()?, word()?, word()?);
    let last = (last != "*").then_some(last);
    Some((KernelRow { source, branch, modules }, KernelLimit { from, last, date, source: rest }))
}

/// Whether the modules of a driver are known not to build for a kernel. `None`:
/// it was not reported, which does not mean that they build.
pub fn kernel_limit(build: DriverBuild<'_>, kernel: &str) -> Option<KernelLimit> {
    kernel_limits(build).find(|limit| limit.reaches(kernel))
}

/// Where a version is that NVIDIA's public servers have no installer of, in words
/// that follow a colon. `None`: the table does not have it, so it may be there.
pub fn unpublished(version: &str) -> Option<&'static str> {
    lines(UNPUBLISHED).find_map(|line| {
        let (of, place) = line.split_once(' ')?;
        (of == version).then(|| place.trim())
    })
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
        // past the table's end the newest release is a lower bound
        let after = |release: &str| cuda_need(release).and_then(|need| need.after);
        assert_eq!(after("13.9"), Some(("13.2.2", "595.71.05")));
        assert_eq!(need("14.0"), Some(("595.71.05", None)));
        assert_eq!(after("13.2.2"), None);
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
            let (row, limit) = kernel_row(line).unwrap();
            assert!(["nvidia", "debian"].contains(&row.source), "{line}");
            assert!(["any", "open", "proprietary"].contains(&row.modules), "{line}");
            assert!(numbers(limit.from).len() >= 2 && !limit.source.is_empty(), "{line}");
            let date = limit.date.as_bytes();
            assert!(date.len() == 10 && date[4] == b'-' && limit.date.starts_with("20"), "{line}");
            assert!(limit.last.is_none_or(|last| branch(last) == row.branch), "{line}");
        }
        for line in lines(UNPUBLISHED) {
            let version = line.split_ascii_whitespace().next().unwrap();
            let place = unpublished(version).unwrap();
            assert!(crate::is_version(version) && place.starts_with("it is "), "{line}");
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
        let limit = |version, kernel| kernel_limit(DriverBuild::of_nvidia(version), kernel);
        let found = limit("550.163.01", "6.17.13-2-pve").unwrap();
        assert_eq!((found.from, found.last), ("6.17", None));
        assert!(found.source.contains("ogkm#1143"), "{}", found.source);
        assert!(limit("550.163.01", "6.14.11-4-pve").is_none());
        assert!(limit("550.163.01", "7.0.1-1-pve").is_some());
        assert!(limit("530.30.02", "6.3.1").is_some());
        assert!(limit("530.41.03", "6.3.1").is_none());
        assert!(limit("580.105.08", "6.17.13-2-pve").is_none());
        assert_eq!(xid(79).unwrap().severity, XidSeverity::Critical);
        assert!(xid(1).is_none());
    }

    /// The breakages of public reports, each named in the table.
    #[test]
    fn known_breakages_are_named_and_their_fixes_are_not() {
        let limit = |version, kernel| kernel_limit(DriverBuild::of_nvidia(version), kernel);
        for (version, kernel) in [
            ("470.256.02", "6.14.0-1-pve"),
            ("525.125.06", "6.1.0-18-amd64"),
            ("535.154.05", "6.8.4-2-pve"),
            ("535.216.03", "6.12.22-amd64"),
            ("550.163.01", "6.12.97+deb13-amd64"),
            ("550.163.01", "6.12.117+deb13-amd64"),
            ("565.77", "6.13.6"),
            ("580.126.09", "6.19.0"),
            ("580.126.20", "7.0.9-1-pve"),
            ("590.48.01", "7.0.0-1-pve"),
            ("390.157", "6.8.12-4-pve"),
            ("340.108", "6.8.12-4-pve"),
        ] {
            assert!(limit(version, kernel).is_some(), "{version} on {kernel}");
        }
        for (version, kernel) in [
            ("525.125.06", "6.1.0-17-amd64"),
            ("525.125.06", "6.2.16-3-pve"),
            ("550.163.01", "6.12.96+deb13-amd64"),
            ("550.163.01", "6.14.11-4-pve"),
            ("580.126.18", "6.19.0"),
            ("580.173.02", "7.1.0"),
        ] {
            assert!(limit(version, kernel).is_none(), "{version} on {kernel}");
        }
    }

    #[test]
    fn only_the_type_of_module_that_fails_is_named() {
        for version in ["570.153.02", "575.57.08"] {
            let limit = |open| {
                let build = DriverBuild { open, ..DriverBuild::of_nvidia(version) };
                kernel_limit(build, "6.15.0-1-pve")
            };
            assert!(limit(Some(false)).is_some() && limit(Some(true)).is_none(), "{version}");
        }
    }

    /// Debian bug 1130057: 550.163.01-4 is patched for 6.17 and fails from 6.19 on.
    #[test]
    fn limits_of_nvidias_source_do_not_judge_patched_packages() {
        let limit = |package, kernel| {
            let source = BuildSource::Debian(package);
            kernel_limit(DriverBuild { source, ..DriverBuild::of_nvidia("550.163.01") }, kernel)
        };
        assert!(limit("550.163.01-4", "6.17.13-2-pve").is_none());
        assert!(limit("550.163.01-2", "6.17.13-2-pve").is_some());
        assert!(limit("550.163.01-4", "6.19.6+deb14-amd64").is_some());
        let ubuntu =
            DriverBuild { source: BuildSource::Other, ..DriverBuild::of_nvidia("550.163.01") };
        assert!(kernel_limit(ubuntu, "6.17.0-5-generic").is_none());
    }
}
