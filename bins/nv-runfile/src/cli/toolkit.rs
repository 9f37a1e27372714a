//! The command line of `toolkit`.

use std::path::PathBuf;

use clap::Args;
use cli::ChangeOptions;

use super::fetch::Patience;
use super::sha256;

/// Options of `toolkit`.
#[derive(Args, Debug)]
pub struct Toolkit {
    /// In this container, which must run
    #[arg(long, value_name = "CTID", value_parser = pve::ctid)]
    pub ct: u32,

    /// Release of CUDA, such as 12-8 or 12.8
    #[arg(
        long,
        value_name = "RELEASE",
        value_parser = release,
        required_unless_present_any = ["runfile", "remove"]
    )]
    pub cuda: Option<Release>,

    /// Run the toolkit part of this CUDA installer
    ///
    /// Inside the container, instead of taking packages from a repository.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["repo_url", "key"])]
    pub runfile: Option<PathBuf>,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256, requires = "runfile")]
    pub sha256: Option<String>,

    /// Repository in place of NVIDIA's
    ///
    /// The one for the container's distribution, as the container reaches it.
    #[arg(long, value_name = "URL")]
    pub repo_url: Option<String>,

    /// The repository's signing key
    ///
    /// By default NVIDIA's is fetched from the repository and held against its
    /// known fingerprint.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Take away what toolkit wrote into it
    ///
    /// Installed packages stay.
    #[arg(long, conflicts_with_all = ["cuda", "runfile", "repo_url", "key"])]
    pub remove: bool,

    /// Go on where a refusal says that --force overrides it
    ///
    /// Install a toolkit that the loaded driver is too old for; replace or remove
    /// files that are not as toolkit wrote them.
    #[arg(long)]
    pub force: bool,

    /// How the network is used.
    #[command(flatten)]
    pub patience: Patience,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// A release of CUDA: packages and directories have no third number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// 12
    pub major: u32,
    /// 8
    pub minor: u32,
}

impl Release {
    /// Of a longer version: 12.8.0.
    pub fn of(version: &str) -> Option<Release> {
        let mut parts = version.split('.').map(|part| part.parse().ok());
        Some(Release { major: parts.next()??, minor: parts.next()?? })
    }

    /// `12.8`, as versions and directories have it.
    pub fn dotted(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// `cuda-toolkit-12-8`.
    pub fn package(self) -> String {
        format!("cuda-toolkit-{}-{}", self.major, self.minor)
    }

    /// Where it is installed.
    pub fn dir(self) -> String {
        format!("/usr/local/cuda-{}", self.dotted())
    }
}

fn release(text: &str) -> Result<Release, String> {
    let digits = |part: &str| {
        let plain = !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| plain)
    };
    let parts = text.split_once(['-', '.']);
    let numbers = parts.and_then(|(major, minor)| digits(major).zip(digits(minor)));
    let (major, minor) = numbers.ok_or("a release of two numbers, such as 12-8 or 12.8")?;
    Ok(Release { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_two_numbers() {
        let wanted = Release { major: 12, minor: 8 };
        assert_eq!(release("12-8"), Ok(wanted));
        assert_eq!(release("12.8"), Ok(wanted));
        assert_eq!(Release::of("12.8.0"), Some(wanted));
        assert_eq!(wanted.package(), "cuda-toolkit-12-8");
        for bad in ["", "12", "12.8.1", "12-", "-8", "+1.2", "12.8 ", "12.8;x", "1234.1"] {
            assert!(release(bad).is_err(), "{bad}");
        }
    }
}
