//! The CUDA repository for a container, by its os-release and architecture.

use ::cli::{Exit, Failure, fail};
use host::Machine;

use crate::fetch::request::checked_url;

const REPOSITORIES: &str = include_str!("../../data/cuda-repositories.txt");
/// NVIDIA's server.
const BASE: &str = "https://developer.download.nvidia.com/compute/cuda/repos";
/// Distributions that use the packages for Red Hat Enterprise Linux.
const RHEL: [&str; 5] = ["rhel", "rocky", "almalinux", "centos", "ol"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageManager {
    /// Debian and Ubuntu.
    Apt,
    /// Fedora and the RHEL family.
    Dnf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaRepository {
    /// Name and version of the distribution.
    pub distribution: String,
    pub manager: PackageManager,
    /// Ends in a slash.
    pub url: String,
    /// The key's file in the repository and its fingerprint, if both are known.
    pub key: Option<(&'static str, &'static str)>,
}

/// Finds the repository. `architecture` is the container's, as Proxmox VE names
/// it. Errors: no repository is known for the distribution.
pub fn repository(
    root: &Machine,
    name: &str,
    architecture: &str,
    url: Option<&str>,
) -> Result<CudaRepository, Failure> {
    let refuse = |what: String| fail(Exit::Refused, format!("{name}: {what}"));
    let text = root.read_text("/etc/os-release", 64 << 10);
    let text = text.or_else(|_| root.read_text("/usr/lib/os-release", 64 << 10));
    let text = text
        .map_err(|_| refuse("its distribution is not known: it has no os-release file".into()))?;
    let id = field(&text, "ID").unwrap_or_else(|| "linux".into());
    let version = field(&text, "VERSION_ID").unwrap_or_default();
    let distribution = format!("{id} {version}").trim().to_string();
    let (family, version) = match RHEL.contains(&id.as_str()) {
        true => ("rhel", version.split('.').next().unwrap_or_default()),
        false => (id.as_str(), version.as_str()),
    };
    let manager = match family {
        "debian" | "ubuntu" => PackageManager::Apt,
        "rhel" | "fedora" => PackageManager::Dnf,
        _ => {
            let what = format!("no CUDA repository is known for its distribution ({distribution})");
            return Err(
                refuse(what).hint("use a container of Debian, Ubuntu, Fedora or the RHEL family")
            );
        }
    };
    let row = rows().find(|row| row[0] == family && row[1] == version);
    let key = row.and_then(|row| (row[3] != "-" && row[4] != "-").then_some((row[3], row[4])));
    let url = match (url, row) {
        (Some(url), _) => format!("{}/", checked_url(url)?.trim_end_matches('/')),
        (None, Some(row)) => {
            let arch = match architecture {
                "amd64" => "x86_64",
                "arm64" => "sbsa",
                other => return Err(refuse(format!("NVIDIA has no CUDA toolkit for {other}"))),
            };
            format!("{BASE}/{}/{arch}/", row[2])
        }
        (None, None) => {
            let known: Vec<&str> = rows().filter(|row| row[0] == family).map(|r| r[1]).collect();
            let what = format!("no CUDA repository is known for {distribution}");
            let hint =
                format!("use {family} {}, or name a repository with --repo-url", known.join(", "));
            return Err(refuse(what).hint(hint));
        }
    };
    Ok(CudaRepository { distribution, manager, url, key })
}

fn rows() -> impl Iterator<Item = [&'static str; 5]> {
    let lines = REPOSITORIES.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let row = [words.next()?, words.next()?, words.next()?, words.next()?, words.next()?];
        words.next().is_none().then_some(row)
    })
}

/// A value of os-release(5), without quotes. Only plain characters are accepted:
/// the container can write anything into this file.
fn field(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?.trim();
    let value = value.trim_matches(['"', '\'']);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (!value.is_empty() && value.len() <= 32 && value.bytes().all(plain)).then(|| value.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    fn of(release: &str, arch: &str, url: Option<&str>) -> Result<CudaRepository, Failure> {
        let name = format!("toolkit-{}-{:?}", std::process::id(), std::thread::current().id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(dir.join("etc/os-release"), release).unwrap();
        let machine = Machine::new(Some(&dir)).unwrap();
        let found = repository(&machine, "ct 901", arch, url);
        std::fs::remove_dir_all(dir).unwrap();
        found
    }

    #[test]
    fn distributions_have_their_repositories() {
        let debian = "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n";
        let found = of(debian, "amd64", None).unwrap();
        assert_eq!(found.url, format!("{BASE}/debian12/x86_64/"));
        assert_eq!((found.manager, found.key.unwrap().0), (PackageManager::Apt, "3bf863cc.pub"));
        let found = of("ID=ubuntu\nVERSION_ID=\"24.04\"\n", "arm64", None).unwrap();
        assert_eq!(found.url, format!("{BASE}/ubuntu2404/sbsa/"));
        let found = of("ID=\"rocky\"\nVERSION_ID=\"9.5\"\n", "amd64", None).unwrap();
        assert_eq!(found.url, format!("{BASE}/rhel9/x86_64/"));
        assert_eq!((found.manager, found.key.unwrap().0), (PackageManager::Dnf, "D42D0685.pub"));
        // a key whose fingerprint nobody vouches for is none
        assert_eq!(of("ID=rhel\nVERSION_ID=10.1\n", "amd64", None).unwrap().key, None);
        let mirror = of("ID=debian\nVERSION_ID=99\n", "amd64", Some("file:/srv/repo"));
        assert_eq!(mirror.unwrap().url, "file:/srv/repo/");
    }

    #[test]
    fn others_are_refused() {
        for release in ["ID=alpine\nVERSION_ID=3.20\n", "ID=debian\n", "ID=debian\nVERSION_ID=99\n"]
        {
            assert_eq!(of(release, "amd64", None).unwrap_err().exit, Exit::Refused, "{release}");
        }
        assert_eq!(
            of("ID=debian\nVERSION_ID=12\n", "riscv64", None).unwrap_err().exit,
            Exit::Refused
        );
        let evil = "ID=debian\nVERSION_ID=\"12/../../evil\"\n";
        assert_eq!(of(evil, "amd64", None).unwrap_err().exit, Exit::Refused);
    }

    #[test]
    fn the_table_is_whole() {
        let lines = REPOSITORIES.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(rows().count(), lines);
        for [_, _, _, file, fingerprint] in rows() {
            assert!(file == "-" || file.ends_with(".pub"), "{file}");
            let hex = fingerprint.len() == 40 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(fingerprint == "-" || hex, "{fingerprint}");
            // keys are named by the end of their fingerprint
            let stem = file.trim_end_matches(".pub").to_uppercase();
            assert!(fingerprint == "-" || fingerprint.ends_with(&stem), "{file}");
        }
    }
}
