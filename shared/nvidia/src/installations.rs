//! Which installations of the driver a root file system has: the host's or a
//! container's. Several can lie beside each other, and each has its own way to
//! be removed. Only files are read; nothing is executed.

use advice::external;
use host::{FileError, Machine, Packages};
use record::CommandLine;
use serde::{Deserialize, Serialize};

use crate::installer_record::RunInstallation;
use crate::packages::{DriverPart, driver_part};
use crate::userspace::{loaded_library, version_of};
use crate::version::is_version;

/// Path of the receipt of `nv-runfile install`, in the root file system that it
/// installed into.
pub const RECEIPT: &str = "/var/lib/pve-gpu-tools/nv-runfile.json";

/// Pacman's local database: one directory a package, `NAME-VERSION-RELEASE`.
const PACMAN: &str = "/var/lib/pacman/local";
/// Files of rpm's database, by its format and the distribution's version.
const RPM: [&str; 4] = [
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];
/// Packages of the driver that are remembered; a hostile database chooses its
/// names.
const MOST_PACKAGES: usize = 200;

/// How a driver came into a root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InstallationKind {
    /// `nv-runfile install` placed its files.
    Receipt,
    /// NVIDIA's installer.
    Run,
    /// Debian's packages.
    Debian,
    /// Ubuntu's packages.
    Ubuntu,
    /// Packages of NVIDIA's CUDA repository, by dpkg.
    CudaRepository,
    /// Packages of Arch Linux.
    Pacman,
    /// A root file system of rpm's has the libraries; their packages are not known
    /// by name.
    Rpm,
    /// Libraries that none of the above installed.
    Unowned,
}

impl InstallationKind {
    /// A package manager installed it, so that its own packages upgrade and remove
    /// it.
    pub fn is_packaged(self) -> bool {
        use InstallationKind::{CudaRepository, Debian, Pacman, Rpm, Ubuntu};
        matches!(self, Debian | Ubuntu | CudaRepository | Pacman | Rpm)
    }

    /// apt-get manages it.
    pub fn is_apt(self) -> bool {
        use InstallationKind::{CudaRepository, Debian, Ubuntu};
        matches!(self, Debian | Ubuntu | CudaRepository)
    }
}

/// One package of a driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DriverPackage {
    /// Its name.
    pub name: String,
    /// It has libraries or programs that must be of the kernel module's version.
    pub libraries: bool,
    /// It has the kernel module, its source or its firmware.
    pub kernel: bool,
    /// The driver's version: its own without epoch and revision.
    pub version: Option<String>,
    /// Its own version without epoch: `550.163.01-2`.
    pub revision: Option<String>,
    /// It is unpacked and configured, not left half-way.
    pub complete: bool,
}

/// One installation of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// How it came there.
    pub kind: InstallationKind,
    /// The driver's version; `None`: it is not known.
    pub version: Option<String>,
    /// Its packages, where a package manager's database names them.
    pub packages: Vec<DriverPackage>,
    /// A library of it, where only that is known.
    pub library: Option<String>,
}

impl Installation {
    /// All its packages are unpacked and configured. One that is not blocks its
    /// package manager, and what it installed may be whole or not.
    pub fn is_complete(&self) -> bool {
        self.packages.iter().all(|package| package.complete)
    }

    /// It has libraries: a host may have the kernel's packages alone.
    pub fn has_libraries(&self) -> bool {
        self.packages.is_empty() || self.packages.iter().any(|package| package.libraries)
    }

    /// The command, run inside the root file system, that removes it. `None`:
    /// `nv-runfile uninstall` does, or only a person knows.
    pub fn removal(&self) -> Option<CommandLine> {
        let names: Vec<String> = self.packages.iter().map(|p| p.name.clone()).collect();
        match self.kind {
            InstallationKind::Receipt | InstallationKind::Unowned => None,
            InstallationKind::Run => Some(external::nvidia_uninstall()),
            InstallationKind::Pacman => Some(external::pacman_remove(&names)),
            InstallationKind::Rpm => self.library.as_deref().map(external::dnf_remove),
            _ => Some(external::apt_purge(&names)),
        }
    }
}

/// The installations of a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installations {
    /// What is installed, the tool's own first.
    pub all: Vec<Installation>,
    /// Why something may be installed that is not in the list, for people.
    pub unread: Option<String>,
}

impl Installations {
    /// Reads them. What cannot be read is in [`Installations::unread`].
    pub fn read(root: &Machine) -> Installations {
        let mut found = Installations::default();
        let library = loaded_library(root);
        if root.exists(RECEIPT) {
            found.add(InstallationKind::Receipt, receipt_version(root), Vec::new(), None);
        }
        match RunInstallation::read(root) {
            Ok(Some(run)) => found.add(InstallationKind::Run, run.version, Vec::new(), None),
            Ok(None) => {}
            Err(error) => found.cannot_read(&error),
        }
        match Packages::read(root) {
            Ok(packages) => found.add_dpkg(&packages.unwrap_or_default()),
            Err(error) => found.cannot_read(&error),
        }
        match root.list(PACMAN) {
            Ok(names) => found.add_pacman(&names),
            Err(error) => found.cannot_read(&error),
        }
        let owned = found.all.iter().any(Installation::has_libraries);
        if let Some(library) = library.filter(|_| !owned && found.unread.is_none()) {
            let kind = match RPM.iter().any(|path| root.exists(path)) {
                true => InstallationKind::Rpm,
                false => InstallationKind::Unowned,
            };
            found.add(kind, version_of(&library), Vec::new(), Some(library));
        }
        found
    }

    /// The one of a kind.
    pub fn get(&self, kind: InstallationKind) -> Option<&Installation> {
        self.all.iter().find(|one| one.kind == kind)
    }

    /// Those that `nv-runfile install` did not make.
    pub fn by_other_means(&self) -> impl Iterator<Item = &Installation> {
        self.all.iter().filter(|one| one.kind != InstallationKind::Receipt)
    }

    /// Those that a package manager installed.
    pub fn packaged(&self) -> impl Iterator<Item = &Installation> {
        self.all.iter().filter(|one| one.kind.is_packaged())
    }

    /// All packages of the driver, sorted by name.
    pub fn packages(&self) -> Vec<&DriverPackage> {
        let mut found: Vec<&DriverPackage> =
            self.all.iter().flat_map(|one| &one.packages).collect();
        found.sort();
        found
    }

    fn add(
        &mut self,
        kind: InstallationKind,
        version: Option<String>,
        packages: Vec<DriverPackage>,
        library: Option<String>,
    ) {
        self.all.push(Installation { kind, version, packages, library });
    }

    fn cannot_read(&mut self, error: &FileError) {
        self.unread.get_or_insert(error.to_string());
    }

    fn add_dpkg(&mut self, packages: &Packages) {
        let mut kind = InstallationKind::Debian;
        let mut found: Vec<DriverPackage> = Vec::new();
        for package in packages.present() {
            let Some(mine) = driver_package(&package.name, package.version.as_deref()) else {
                continue;
            };
            let by = package.maintainer.as_deref().unwrap_or_default();
            if by.contains("@nvidia.com") {
                kind = InstallationKind::CudaRepository;
            } else if kind == InstallationKind::Debian && by.contains("ubuntu.com") {
                kind = InstallationKind::Ubuntu;
            }
            let complete = package.state.is_complete();
            // of several architectures one that is not complete counts
            let known = found.iter().position(|known| known.name == mine.name);
            match known {
                Some(at) => found[at].complete &= complete,
                None => found.push(DriverPackage { complete, ..mine }),
            }
        }
        found.truncate(MOST_PACKAGES);
        self.add_packages(kind, found);
    }

    fn add_pacman(&mut self, names: &[String]) {
        let packages = names.iter().filter_map(|name| {
            let (rest, _release) = name.rsplit_once('-')?;
            let (name, version) = rest.rsplit_once('-')?;
            driver_package(name, Some(version))
        });
        self.add_packages(InstallationKind::Pacman, packages.take(MOST_PACKAGES).collect());
    }

    fn add_packages(&mut self, kind: InstallationKind, mut packages: Vec<DriverPackage>) {
        if packages.is_empty() {
            return;
        }
        packages.sort();
        let of = |wanted: fn(&DriverPackage) -> bool| {
            packages.iter().filter(|p| wanted(p)).find_map(|package| package.version.clone())
        };
        let version = of(|package| package.libraries).or_else(|| of(|package| package.kernel));
        self.add(kind, version, packages, None);
    }
}

/// A package of the driver by its name; `None`: it is none, or its name would be
/// more than a word in a command.
fn driver_package(name: &str, version: Option<&str>) -> Option<DriverPackage> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+.-_".contains(&b);
    let part = driver_part(name).filter(|_| !name.starts_with('-') && name.bytes().all(plain))?;
    Some(DriverPackage {
        name: name.to_string(),
        libraries: part == DriverPart::Libraries,
        kernel: part == DriverPart::Kernel,
        version: version.and_then(upstream),
        revision: version.and_then(without_epoch),
        complete: true,
    })
}

/// The driver's version in a package's: `1:550.163.01-2` is 550.163.01. `None`
/// for packages with a version of their own.
fn upstream(version: &str) -> Option<String> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.split(['-', '+', '~']).next()?;
    // nvidia-container-toolkit and the like have small numbers
    let large =
        version.split('.').next().and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 99);
    (is_version(version) && large).then(|| version.to_string())
}

fn without_epoch(version: &str) -> Option<String> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    upstream(version).map(|_| version.to_string())
}

fn receipt_version(root: &Machine) -> Option<String> {
    let text = root.read_text(RECEIPT, 4 << 20).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    value["version"].as_str().filter(|version| is_version(version)).map(str::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;
    use InstallationKind::{CudaRepository, Debian, Pacman, Receipt, Rpm, Run, Ubuntu, Unowned};

    struct Tree(std::path::PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let dir =
                std::env::temp_dir().join(format!("installations-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).unwrap();
            Tree(dir)
        }

        fn file(&self, path: &str, text: &str) -> &Tree {
            let at = self.0.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, text).unwrap();
            self
        }

        fn libraries(&self, dir: &str, version: &str) -> &Tree {
            for stem in ["libcuda.so", "libnvidia-ml.so"] {
                self.file(&format!("{dir}/{stem}.{version}"), "x");
                let link = self.0.join(format!("{}/{stem}.1", dir.trim_start_matches('/')));
                std::os::unix::fs::symlink(format!("{stem}.{version}"), link).unwrap();
            }
            self
        }

        fn kinds(&self) -> Vec<(InstallationKind, Option<String>)> {
            let read = Installations::read(&Machine::new(Some(&self.0)).unwrap());
            assert_eq!(read.unread, None);
            read.all.into_iter().map(|one| (one.kind, one.version)).collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn dpkg(rows: &[(&str, &str, &str, &str)]) -> String {
        let row = |(name, version, by, state): &(&str, &str, &str, &str)| {
            format!(
                "Package: {name}\nStatus: install ok {state}\nMaintainer: {by}\nVersion: {version}\n\n"
            )
        };
        rows.iter().map(row).collect()
    }

    /// The maintainers are those of the packages' own control files: Debian's
    /// trixie, Ubuntu's noble, NVIDIA's repository.
    #[test]
    fn each_way_to_install_a_driver_is_recognised_with_its_version() {
        let v = "550.163.01".to_string();
        let lib = "/usr/lib/x86_64-linux-gnu";
        let tree = Tree::new("debian");
        let debian = "Debian NVIDIA Maintainers <pkg-nvidia-devel@lists.alioth.debian.org>";
        let status = "/var/lib/dpkg/status";
        let rows = [("libcuda1", "550.163.01-2", debian, "installed")];
        tree.libraries(lib, &v).file(status, &dpkg(&rows));
        assert_eq!(tree.kinds(), [(Debian, Some(v.clone()))]);
        let rows = [
            (
                "nvidia-container-toolkit",
                "1.17.8-1",
                "NVIDIA CORPORATION <cudatools@nvidia.com>",
                "installed",
            ),
            (
                "libnvidia-compute-550",
                "550.163.01-0ubuntu0.24.04.1",
                "Ubuntu Core Developers <ubuntu-devel-discuss@lists.ubuntu.com>",
                "installed",
            ),
        ];
        tree.file(status, &dpkg(&rows));
        assert_eq!(tree.kinds(), [(Ubuntu, Some(v.clone()))]);
        let rows = [(
            "libcuda1",
            "550.163.01-1",
            "NVIDIA CORPORATION <cudatools@nvidia.com>",
            "installed",
        )];
        tree.file(status, &dpkg(&rows));
        assert_eq!(tree.kinds(), [(CudaRepository, Some(v.clone()))]);
        // NVIDIA's installer beside the packages: both are named
        tree.file("/var/lib/nvidia/log", "1.0-55016301 (550.163.01)\n");
        assert_eq!(tree.kinds(), [(Run, Some(v.clone())), (CudaRepository, Some(v.clone()))]);
        let tree = Tree::new("arch");
        tree.libraries("/usr/lib", &v)
            .file("/var/lib/pacman/local/nvidia-utils-550.163.01-1/desc", "");
        assert_eq!(tree.kinds(), [(Pacman, Some(v.clone()))]);
        let tree = Tree::new("fedora");
        tree.libraries("/usr/lib64", &v).file("/usr/lib/sysimage/rpm/rpmdb.sqlite", "");
        assert_eq!(tree.kinds(), [(Rpm, Some(v.clone()))]);
        let tree = Tree::new("copied");
        assert_eq!(tree.kinds(), []);
        tree.libraries(lib, &v);
        assert_eq!(tree.kinds(), [(Unowned, Some(v.clone()))]);
        tree.file(RECEIPT, r#"{"version":"550.163.01"}"#);
        assert_eq!(tree.kinds(), [(Receipt, Some(v))]);
    }

    /// pop-os/pop#3811: apt left nvidia-kernel-dkms half-configured.
    #[test]
    fn packages_that_are_not_configured_are_an_installation() {
        for state in ["half-configured", "unpacked", "half-installed"] {
            let tree = Tree::new(state);
            let rows = [("nvidia-kernel-dkms", "550.163.01-2", "", state)];
            tree.file("/var/lib/dpkg/status", &dpkg(&rows));
            let read = Installations::read(&Machine::new(Some(&tree.0)).unwrap());
            let one = read.get(Debian).unwrap();
            assert!(!one.is_complete() && !one.has_libraries(), "{state}");
        }
    }

    #[test]
    fn versions_of_packages_lose_their_epoch_and_revision() {
        for (package, version) in [
            ("550.163.01-2", Some("550.163.01")),
            ("1:580.65.06-1ubuntu1", Some("580.65.06")),
            ("550.163.01-4~bpo12+1", Some("550.163.01")),
            ("1.17.8-1", None),
            ("2025.1", Some("2025.1")),
            ("", None),
        ] {
            assert_eq!(upstream(package).as_deref(), version, "{package}");
        }
    }
}
