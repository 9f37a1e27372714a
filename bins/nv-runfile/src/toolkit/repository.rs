//! Which repository is a container's: by its os-release and architecture.

use ::cli::{Exit, Failure, fail};
use host::Machine;

use crate::fetch;

const REPOSITORIES: &str = include_str!("../../data/cuda-repositories.txt");
/// Where NVIDIA has them.
const BASE: &str = "https://developer.download.nvidia.com/compute/cuda/repos";
/// Distributions that take the packages of Red Hat Enterprise Linux.
const RHEL: [&str; 5] = ["rhel", "rocky", "almalinux", "centos", "ol"];

/// Who installs packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// Debian's.
    Apt,
    /// Fedora's and the RHEL family's.
    Dnf,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The distribution in words.
    pub distribution: String,
    /// Who installs from it.
    pub manager: Manager,
    /// Ends in a slash.
    pub url: String,
    /// The key's file in it and its fingerprint, where both are known.
    pub key: Option<(&'static str, &'static str)>,
}

/// Finds the repository. `architecture` is the container's as Proxmox VE names
/// it. Errors: the distribution has none, or is not known.
pub fn repository(
    root: &Machine,
    name: &str,
    architecture: &str,
    url: Option<&str>,
) -> Result<Repository, Failure> {
    let refuse = |what: String| fail(Exit::Refused, format!("{name}: {what}"));
    let text = root.read_text("/etc/os-release", 64 << 10);
    let text = text.or_else(|_| root.read_text("/usr/lib/os-release", 64 << 10));
    let text = text.map_err(|_| refuse("it has no os-release to tell its distribution".into()))?;
    let id = field(&text, "ID").unwrap_or_else(|| "linux".into());
    let version = field(&text, "VERSION_ID").unwrap_or_default();
    let distribution = format!("{id} {version}").trim().to_string();
    let (family, version) = match RHEL.contains(&id.as_str()) {
        true => ("rhel", version.split('.').next().unwrap_or_default()),
        false => (id.as_str(), version.as_str()),
    };
    let manager = match family {
        "debian" | "ubuntu" => Manager::Apt,
        "rhel" | "fedora" => Manager::Dnf,
        _ => {
            let what = format!("no CUDA repository is known for its distribution ({distribution})");
            return Err(refuse(what).hint("use one of Debian, Ubuntu, Fedora or the RHEL family"));
        }
    };
    let row = rows().find(|row| row[0] == family && row[1] == version);
    let key = row.and_then(|row| (row[3] != "-" && row[4] != "-").then_some((row[3], row[4])));
    let url = match (url, row) {
        (Some(url), _) => format!("{}/", fetch::require_url(url)?.trim_end_matches('/')),
        (None, Some(row)) => {
            let arch = match architecture {
                "amd64" => "x86_64",
                "arm64" => "sbsa",
                other => return Err(refuse(format!("there is no CUDA toolkit for {other}"))),
            };
            format!("{BASE}/{}/{arch}/", row[2])
        }
        (None, None) => {
            let known: Vec<&str> = rows().filter(|row| row[0] == family).map(|r| r[1]).collect();
            let what = format!("no CUDA repository is known for {distribution}");
            let hint = format!("known are {family} {}; --repo-url names another", known.join(", "));
            return Err(refuse(what).hint(hint));
        }
    };
    Ok(Repository { distribution, manager, url, key })
}

fn rows() -> impl Iterator<Item = [&'static str; 5]> {
    let lines = REPOSITORIES.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let row = [words.next()?, words.next()?, words.next()?, words.next()?, words.next()?];
        words.next().is_none().then_some(row)
    })
}

/// A value of os-release(5), its quotes taken off. What could not be part of a
/// name is no value: a container writes this file itself.
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

    fn of(release: &str, arch: &str, url: Option<&str>) -> Result<Repository, Failure> {
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
        assert_eq!((found.manager, found.key.unwrap().0), (Manager::Apt, "3bf863cc.pub"));
        let found = of("ID=ubuntu\nVERSION_ID=\"24.04\"\n", "arm64", None).unwrap();
        assert_eq!(found.url, format!("{BASE}/ubuntu2404/sbsa/"));
        let found = of("ID=\"rocky\"\nVERSION_ID=\"9.5\"\n", "amd64", None).unwrap();
        assert_eq!(found.url, format!("{BASE}/rhel9/x86_64/"));
        assert_eq!((found.manager, found.key.unwrap().0), (Manager::Dnf, "D42D0685.pub"));
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
