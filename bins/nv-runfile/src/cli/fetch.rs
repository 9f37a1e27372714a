//! The command line of `fetch` and `prune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cli::ChangeOptions;

use super::sha256;

/// Operands and options of `fetch`.
#[derive(Args, Debug)]
pub struct Fetch {
    /// A version (550.163.01), a branch (550), 'latest', or the URL of an
    /// installer (https, file)
    #[arg(value_name = "VERSION|URL|latest|BRANCH")]
    pub what: String,

    /// Architecture; by default this machine's
    #[arg(long, value_name = "ARCH", value_parser = ["x86_64", "aarch64", "ppc64le", "x86"])]
    pub arch: Option<String>,

    /// The installer without 32-bit libraries, where NVIDIA publishes one
    #[arg(long)]
    pub no_compat32: bool,

    /// Look below this URL instead of NVIDIA's servers; more than one in this
    /// order
    ///
    /// https, http or file. Below it is looked for NVIDIA's own directories,
    /// for VERSION/FILE and for FILE. What comes over http needs a digest from
    /// elsewhere.
    #[arg(long = "mirror", value_name = "URL")]
    pub mirrors: Vec<String>,

    /// Get the version from exactly this URL
    #[arg(long, value_name = "URL", conflicts_with = "mirrors")]
    pub url: Option<String>,

    /// Where it is kept
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// What SHA-256 it must have
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub sha256: Option<String>,

    /// A file of SHA-256 in the form of sha256sum(1), which must name it
    #[arg(long, value_name = "FILE")]
    pub pin: Option<PathBuf>,

    /// Keep it although no SHA-256 is known: only its own digests vouch for it
    #[arg(long)]
    pub unverified: bool,

    /// Compute the digest of a cached file anew
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
    /// Try again this often after an attempt that brought nothing
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub retries: u32,

    /// Wait this long before the first of them, then twice as long each time
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub retry_delay: Duration,

    /// Give a connection this long to come about
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub connect_timeout: Duration,

    /// Break off where this long less than 1 kB/s comes in
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub stall_timeout: Duration,
}

/// Options of `prune`.
#[derive(Args, Debug)]
pub struct Prune {
    /// Keep the newest NUMBER versions of each kind and architecture, remove
    /// older ones
    #[arg(long, value_name = "NUMBER")]
    pub keep: Option<usize>,

    /// Keep this version whatever else is said; more than one
    #[arg(long = "keep-version", value_name = "VERSION", value_parser = version)]
    pub keep_versions: Vec<String>,

    /// Remove what was fetched more than DAYS ago; with --keep only of what
    /// that would remove
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u32>,

    /// Leave downloads that were broken off: fetch goes on with them
    #[arg(long)]
    pub keep_partial: bool,

    /// Where they are kept
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
