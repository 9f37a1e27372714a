//! Releases of CUDA, and whether the loaded driver is new enough for one.

use std::cmp::Ordering;

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use nvidia::{compare_versions, cuda_need};

/// A release of CUDA. Packages and directories have no third number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaRelease {
    pub major: u32,
    pub minor: u32,
}

impl CudaRelease {
    /// The release of a longer version such as 12.8.0.
    pub fn of(version: &str) -> Option<CudaRelease> {
        let mut parts = version.split('.').map(|part| part.parse().ok());
        Some(CudaRelease { major: parts.next()??, minor: parts.next()?? })
    }

    /// `12.8`, as in versions and directories.
    pub fn dotted(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// `cuda-toolkit-12-8`.
    pub fn package(self) -> String {
        format!("cuda-toolkit-{}-{}", self.major, self.minor)
    }

    /// The directory of its installation.
    pub fn dir(self) -> String {
        format!("/usr/local/cuda-{}", self.dotted())
    }
}

pub fn cuda_release(text: &str) -> Result<CudaRelease, String> {
    let digits = |part: &str| {
        let plain = !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| plain)
    };
    let parts = text.split_once(['-', '.']);
    let numbers = parts.and_then(|(major, minor)| digits(major).zip(digits(minor)));
    let (major, minor) = numbers.ok_or("expected a release of two numbers such as 12-8 or 12.8")?;
    Ok(CudaRelease { major, minor })
}

/// Refuses a toolkit whose programs the loaded driver cannot run; warns about a
/// driver that is older than the one of the toolkit.
pub fn require_driver_for(
    machine: &Machine,
    release: CudaRelease,
    force: bool,
    say: &Say,
) -> Result<(), Failure> {
    let release = release.dotted();
    let Some(need) = cuda_need(&release) else {
        say.warn(&format!("the driver version that CUDA {release} needs is not known"));
        return Ok(());
    };
    let Some(loaded) = nvidia::module_version(machine) else {
        say.warn(&format!(
            "no NVIDIA kernel module is loaded; programs of CUDA {release} need {} or newer",
            need.minimum
        ));
        return Ok(());
    };
    let older = |than: &str| compare_versions(&loaded, than) == Ordering::Less;
    if older(need.minimum) {
        let message = format!(
            "the loaded kernel module is {loaded}; programs of CUDA {release} need {} or newer",
            need.minimum
        );
        if force {
            say.warn(&message);
            return Ok(());
        }
        let hint = "install a newer driver on the host, or choose an older toolkit";
        return Err(fail(Exit::Refused, message).hint(hint));
    }
    if let Some(bundled) = need.bundled.filter(|bundled| older(bundled)) {
        say.warn(&format!(
            "the loaded kernel module {loaded} is older than {bundled}, the driver of CUDA \
             {release}: new features and PTX of its compiler may not work"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_two_numbers() {
        let wanted = CudaRelease { major: 12, minor: 8 };
        assert_eq!(cuda_release("12-8"), Ok(wanted));
        assert_eq!(cuda_release("12.8"), Ok(wanted));
        assert_eq!(CudaRelease::of("12.8.0"), Some(wanted));
        assert_eq!(wanted.package(), "cuda-toolkit-12-8");
        for bad in ["", "12", "12.8.1", "12-", "-8", "+1.2", "12.8 ", "12.8;x", "1234.1"] {
            assert!(cuda_release(bad).is_err(), "{bad}");
        }
    }
}
