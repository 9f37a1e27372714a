//! The command line of `fetch` and `prune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cli::ChangeOptions;

use crate::cli::values::sha256;

#[derive(Args, Debug)]
pub struct Fetch {
    /// Version (550.163.01), branch (550), 'latest' or URL (https, file)
    #[arg(value_name = "VERSION|BRANCH|URL")]
    pub what: String,

    /// Architecture [default: the host's]
    ///
    /// x86_64, aarch64, ppc64le or x86.
    #[arg(long, value_name = "ARCH", hide_possible_values = true, value_parser = ["x86_64", "aarch64", "ppc64le", "x86"])]
    pub arch: Option<String>,

    /// Download the installer without 32-bit libraries
    ///
    /// NVIDIA publishes one for some versions only.
    #[arg(long, hide_short_help = true)]
    pub no_compat32: bool,

    /// Download from below this URL, not from NVIDIA
    ///
    /// https, http or file. Several mirrors are tried in their order. Below each,
    /// NVIDIA's own directories, VERSION/FILE and FILE are tried. A file that is
    /// downloaded over http needs a SHA-256 from another source.
    #[arg(long = "mirror", value_name = "URL")]
    pub mirrors: Vec<String>,

    /// Download the version from exactly this URL
    #[arg(long, value_name = "URL", conflicts_with = "mirrors")]
    pub url: Option<String>,

    /// Use this directory as the cache
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Require this SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// Require the SHA-256 in this list
    ///
    /// The list has the format of sha256sum(1) and must name the file.
    #[arg(long, alias = "pin", value_name = "FILE", hide_short_help = true)]
    pub sha256sums: Option<PathBuf>,

    /// Accept a download without a known SHA-256
    ///
    /// Only its embedded checksums are verified.
    #[arg(long)]
    pub unverified: bool,

    /// Read a cached file again and compare its SHA-256
    #[arg(long)]
    pub verify: bool,

    /// Use only cached files
    #[arg(long)]
    pub offline: bool,

    #[command(flatten)]
    pub patience: Patience,

    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Time limits and attempts.
#[derive(Args, Clone, Copy, Debug)]
pub struct Patience {
    /// Retry a failed download this often
    #[arg(long, value_name = "NUMBER", default_value_t = 5, hide_short_help = true)]
    pub retries: u32,

    /// Wait before the first retry, then twice as long
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, hide_short_help = true)]
    pub retry_delay: Duration,

    /// Give up connecting after this time
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, hide_short_help = true)]
    pub connect_timeout: Duration,

    /// Give up after this time below 1 kB/s
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, hide_short_help = true)]
    pub stall_timeout: Duration,
}

#[derive(Args, Debug)]
pub struct Prune {
    /// Remove all but the newest NUMBER versions
    ///
    /// Versions are counted for each kind and architecture.
    #[arg(long, value_name = "NUMBER")]
    pub keep: Option<usize>,

    /// Always keep this version
    ///
    /// Can be given several times.
    #[arg(long = "keep-version", value_name = "VERSION", value_parser = version)]
    pub keep_versions: Vec<String>,

    /// Remove what was downloaded more than DAYS ago
    ///
    /// With --keep only installers that match both options are removed.
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u32>,

    /// Keep incomplete downloads
    ///
    /// fetch can resume them.
    #[arg(long, hide_short_help = true)]
    pub keep_partial: bool,

    /// Use this directory as the cache
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Up to a day. Fractions are accepted, zero is not.
fn seconds(text: &str) -> Result<Duration, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number =
        text.parse::<f64>().ok().filter(|number| plain && (0.001..=86_400.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds such as 30 or 0.5".into())
}

fn version(text: &str) -> Result<String, String> {
    match runfile::is_version(text) {
        true => Ok(text.into()),
        false => Err("expected a version such as 550.163.01".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_strictly() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["", "0", "-1", "1e3", "inf", "NaN", "90000", "1s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
