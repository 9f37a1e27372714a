//! The command line of `fetch` and `prune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cli::ChangeOptions;

use crate::cli::values::sha256;

/// Operands and options of `fetch`.
#[derive(Args, Debug)]
pub struct Fetch {
    /// Version (550.163.01), branch (550), 'latest' or URL (https, file)
    #[arg(value_name = "VERSION|BRANCH|URL")]
    pub what: String,

    /// Architecture, if not this machine's
    ///
    /// x86_64, aarch64, ppc64le or x86.
    #[arg(long, value_name = "ARCH", hide_possible_values = true, value_parser = ["x86_64", "aarch64", "ppc64le", "x86"])]
    pub arch: Option<String>,

    /// The installer without 32-bit libraries
    ///
    /// Where NVIDIA publishes one.
    #[arg(long, hide_short_help = true)]
    pub no_compat32: bool,

    /// Look below this URL instead of NVIDIA's servers
    ///
    /// May be repeated, and then in this order. https, http or file. Below it is looked for NVIDIA's own directories,
    /// for VERSION/FILE and for FILE. What comes over http needs a digest from
    /// elsewhere.
    #[arg(long = "mirror", value_name = "URL")]
    pub mirrors: Vec<String>,

    /// Get the version from exactly this URL
    #[arg(long, value_name = "URL", conflicts_with = "mirrors")]
    pub url: Option<String>,

    /// Directory of the cache
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// SHA-256 that the file must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// File of SHA-256 that must name it
    ///
    /// In the form of sha256sum(1).
    #[arg(long, alias = "pin", value_name = "FILE", hide_short_help = true)]
    pub sha256sums: Option<PathBuf>,

    /// Keep it although no SHA-256 is known
    ///
    /// Only the digests that it carries vouch for it.
    #[arg(long)]
    pub unverified: bool,

    /// Compute a cached file's digest anew
    #[arg(long)]
    pub verify: bool,

    /// Touch no network
    #[arg(long)]
    pub offline: bool,

    /// How the network is used.
    #[command(flatten)]
    pub patience: Patience,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// How long and how often a server is asked.
#[derive(Args, Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts after one that brought nothing
    #[arg(long, value_name = "NUMBER", default_value_t = 5, hide_short_help = true)]
    pub retries: u32,

    /// Pause before the first, then twice as long
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, hide_short_help = true)]
    pub retry_delay: Duration,

    /// Give up connecting after this time
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, hide_short_help = true)]
    pub connect_timeout: Duration,

    /// Give up below 1 kB/s for this time
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, hide_short_help = true)]
    pub stall_timeout: Duration,
}

/// Options of `prune`.
#[derive(Args, Debug)]
pub struct Prune {
    /// Remove all but the newest NUMBER versions
    ///
    /// Of each kind and architecture.
    #[arg(long, value_name = "NUMBER")]
    pub keep: Option<usize>,

    /// Keep this version whatever else is said
    ///
    /// May be repeated.
    #[arg(long = "keep-version", value_name = "VERSION", value_parser = version)]
    pub keep_versions: Vec<String>,

    /// Remove what was fetched more than DAYS ago
    ///
    /// With --keep only of what that would remove.
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u32>,

    /// Leave downloads that were broken off
    ///
    /// fetch goes on with them.
    #[arg(long, hide_short_help = true)]
    pub keep_partial: bool,

    /// Directory of the cache
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Options of tools that change something.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Up to a day; fractions are understood, zero is not.
fn seconds(text: &str) -> Result<Duration, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number =
        text.parse::<f64>().ok().filter(|number| plain && (0.001..=86_400.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| "seconds, such as 30 or 0.5".into())
}

fn version(text: &str) -> Result<String, String> {
    match runfile::is_version(text) {
        true => Ok(text.into()),
        false => Err("a version, such as 550.163.01".into()),
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
