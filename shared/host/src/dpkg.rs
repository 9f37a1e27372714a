//! Which Debian packages a root file system has, from dpkg's status file.

use crate::{FileError, Machine};

/// A status file has a few megabytes; that of a container may be hostile.
const MOST: usize = 64 << 20;
const STATUS: &str = "/var/lib/dpkg/status";

/// How far the installation of a package has come: the third word of its
/// `Status` field (dpkg(1), "Package states").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageState {
    /// It is not on the system.
    NotInstalled,
    /// It was removed, except for its configuration files.
    ConfigFiles,
    /// Its installation was begun and not finished.
    HalfInstalled,
    /// Its files are unpacked; it is not configured.
    Unpacked,
    /// Its configuration was begun and not finished.
    HalfConfigured,
    /// It waits for the triggers of other packages.
    TriggersAwaited,
    /// Its own triggers are to be processed.
    TriggersPending,
    /// It is unpacked and configured.
    Installed,
    /// A word that dpkg does not have.
    Unknown,
}

impl PackageState {
    fn parse(word: &str) -> PackageState {
        match word {
            "not-installed" => PackageState::NotInstalled,
            "config-files" => PackageState::ConfigFiles,
            "half-installed" => PackageState::HalfInstalled,
            "unpacked" => PackageState::Unpacked,
            "half-configured" => PackageState::HalfConfigured,
            "triggers-awaited" => PackageState::TriggersAwaited,
            "triggers-pending" => PackageState::TriggersPending,
            "installed" => PackageState::Installed,
            _ => PackageState::Unknown,
        }
    }

    /// Whether no program or library of the package is on the system. In every
    /// other state files of it may be.
    pub fn is_absent(self) -> bool {
        matches!(self, PackageState::NotInstalled | PackageState::ConfigFiles)
    }

    /// Whether the package is complete and configured, but for triggers.
    pub fn is_complete(self) -> bool {
        matches!(
            self,
            PackageState::Installed | PackageState::TriggersAwaited | PackageState::TriggersPending
        )
    }
}

/// One package of one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as `[EPOCH:]UPSTREAM[-REVISION]`.
    pub version: Option<String>,
    /// Its architecture: `amd64`, `all`.
    pub architecture: Option<String>,
    /// Who packaged it: `NVIDIA CORPORATION <cudatools@nvidia.com>`.
    pub maintainer: Option<String>,
    /// How far its installation has come.
    pub state: PackageState,
}

/// The packages that dpkg knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packages {
    all: Vec<Package>,
}

impl Packages {
    /// Reads the status file; `None` where there is none, as on a system without
    /// dpkg. Errors: it exists and cannot be read, so that nothing is known.
    pub fn read(root: &Machine) -> Result<Option<Packages>, FileError> {
        match root.read_text(STATUS, MOST) {
            Ok(text) => Ok(Some(Packages::parse(&text))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Parses a status file: paragraphs of fields, separated by empty lines
    /// (deb822(5)). A paragraph without `Status` is of a package that is not
    /// installed.
    pub fn parse(text: &str) -> Packages {
        let mut all = Vec::new();
        let mut lines = text.lines().peekable();
        while lines.peek().is_some() {
            let paragraph = lines.by_ref().take_while(|line| !line.trim().is_empty());
            all.extend(package(paragraph));
        }
        Packages { all }
    }

    /// Packages that are on the system, whole or in part.
    pub fn present(&self) -> impl Iterator<Item = &Package> {
        self.all.iter().filter(|package| !package.state.is_absent())
    }

    /// The package of a name, where it is on the system, whole or in part. Of
    /// several architectures the first.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.present().find(|package| package.name == name)
    }
}

fn package<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Package> {
    let (mut name, mut version, mut architecture, mut maintainer) = (None, None, None, None);
    let mut state = PackageState::NotInstalled;
    for line in lines {
        // a line that begins with white space continues the field above it
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match field {
            "Package" => name = Some(value).filter(|name| is_name(name)),
            "Version" => version = Some(value).filter(|version| is_version(version)),
            "Architecture" => architecture = Some(value).filter(|name| is_name(name)),
            "Maintainer" => maintainer = Some(value),
            "Status" => {
                let word = value.split_ascii_whitespace().nth(2);
                state = word.map_or(PackageState::Unknown, PackageState::parse);
            }
            _ => {}
        }
    }
    Some(Package {
        name: name?.to_string(),
        version: version.map(str::to_string),
        architecture: architecture.map(str::to_string),
        maintainer: maintainer.map(str::to_string),
        state,
    })
}

/// Whether dpkg would accept a name of a package or of an architecture
/// (pkg_name_is_illegal in lib/dpkg/parsehelp.c). The file may be a container's, and names
/// go into messages and commands.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b))
}

/// The same of a version (parseversion in the same file).
fn is_version(version: &str) -> bool {
    !version.is_empty()
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._:~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_dpkg_does_not_accept_is_no_package() {
        for name in ["libcuda1; curl x | sh #", "$(id)", "-y", "", "a\u{1b}b"] {
            let text = format!("Package: {name}\nStatus: install ok installed\n");
            assert_eq!(Packages::parse(&text).present().count(), 0, "{name}");
        }
        let text = "Package: libcuda1\nStatus: install ok installed\nVersion: 1; id\n";
        assert_eq!(Packages::parse(text).get("libcuda1").unwrap().version, None);
    }

    #[test]
    fn only_a_removed_package_is_absent() {
        let text = "\n\nPackage: a\nStatus: install ok installed\nArchitecture: amd64\n\
            Description: x\n Package: no\nVersion: 1:2.3-4\n\n\
            Package: b\nStatus: deinstall ok config-files\n\n\
            Package: c\nStatus: install reinstreq half-installed\n\n\
            Package: d\nStatus: install ok triggers-pending\n\n\n\
            Package: e\nVersion: 1\n\nPackage: f\nStatus: hold ok unpacked";
        let packages = Packages::parse(text);
        let names: Vec<&str> = packages.present().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "c", "d", "f"]);
        let a = packages.get("a").unwrap();
        assert_eq!(
            (a.version.as_deref(), a.architecture.as_deref()),
            (Some("1:2.3-4"), Some("amd64"))
        );
        let complete: Vec<&str> =
            packages.present().filter(|p| p.state.is_complete()).map(|p| p.name.as_str()).collect();
        assert_eq!(complete, ["a", "d"]);
        assert!(packages.get("b").is_none() && packages.get("e").is_none());
        assert_eq!(
            Packages::parse("Package: x\nStatus: odd").get("x").unwrap().state,
            PackageState::Unknown
        );
    }
}
