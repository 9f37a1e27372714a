//! What one root file system, which may be hostile, has of the driver and of
//! what depends on its version. Only names, links and a few small files are
//! read; nothing is executed.

use host::Machine;
use nvidia::{DriverPart, RunInstallation, driver_part};
use pve::Packages;
use serde::{Deserialize, Serialize};

use crate::collect::cdi::{self, CdiSpec};
use crate::collect::container_engine::{self, ContainerEngine};
use crate::collect::cuda::{self, CompatLibrary, CudaToolkit};
use crate::collect::libraries::Libraries;

/// Packages of a root file system whose names are remembered.
const MOST_PACKAGES: usize = 200;

/// What a root file system has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFacts {
    /// The driver's libraries.
    pub libraries: Libraries,
    /// Version of an installation by a .run file.
    pub run_install: Option<String>,
    /// Packages of the driver that dpkg has, whole or in part.
    pub packages: Vec<String>,
    /// CUDA toolkits, where they were asked for.
    pub toolkits: Vec<CudaToolkit>,
    /// Libraries for forward compatibility, where they were asked for.
    pub compats: Vec<CompatLibrary>,
    /// A container engine with NVIDIA's runtime.
    pub engine: Option<ContainerEngine>,
    /// The vGPU guest's licence daemon is installed.
    pub gridd: bool,
    /// CDI specifications.
    pub cdi: Vec<CdiSpec>,
}

impl RootFacts {
    /// Reads them; `cuda`: also toolkits and libraries for forward compatibility.
    pub fn read(root: &Machine, cuda: bool) -> RootFacts {
        let mut libraries = Libraries::read(root);
        let run_install = RunInstallation::read(root).unwrap_or_else(|error| {
            libraries.unreadable.push(error.to_string());
            None
        });
        let packages = Packages::read(root).unwrap_or_else(|error| {
            libraries.unreadable.push(error.to_string());
            None
        });
        RootFacts {
            libraries,
            run_install: run_install.and_then(|run| run.version),
            packages: packages.map_or_else(Vec::new, |packages| driver_packages(&packages)),
            toolkits: if cuda { cuda::toolkits(root) } else { Vec::new() },
            compats: if cuda { cuda::compats(root) } else { Vec::new() },
            engine: container_engine::read(root),
            gridd: root.exists("/usr/bin/nvidia-gridd"),
            cdi: cdi::specs(root),
        }
    }

    /// A package manager installed the libraries.
    pub fn is_packaged(&self) -> bool {
        self.packages.iter().any(|name| driver_part(name) == Some(DriverPart::Libraries))
    }
}

/// Names of the driver's packages. A hostile status file chooses its names, and
/// they become words of a command.
fn driver_packages(packages: &Packages) -> Vec<String> {
    let plain = |name: &str| {
        name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b))
    };
    let names = packages.present().map(|package| package.name.as_str());
    let mut names: Vec<String> = names
        .filter(|name| plain(name) && driver_part(name).is_some())
        .take(MOST_PACKAGES)
        .map(str::to_string)
        .collect();
    names.sort();
    names.dedup();
    names
}
