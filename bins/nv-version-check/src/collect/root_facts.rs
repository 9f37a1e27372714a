//! What one root file system, which may be hostile, has of the driver and of
//! what depends on its version. Only names, links and a few small files are
//! read; nothing is executed.

use host::Machine;
use nvidia::{InstallationKind, Installations, LibraryArch, LibraryDirError, library_dir};
use serde::{Deserialize, Serialize};

use crate::collect::cdi::{self, CdiSpec};
use crate::collect::container_engine::{self, ContainerEngine};
use crate::collect::cuda::{self, CompatLibrary, CudaToolkit};
use crate::collect::libraries::Libraries;

/// What a root file system has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFacts {
    /// The driver's libraries.
    pub libraries: Libraries,
    /// How drivers were installed in it.
    pub installations: Installations,
    /// Why NVIDIA's libraries cannot work in it; `None`: they can.
    pub unfit: Option<String>,
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
        let installations = Installations::read(root);
        libraries.unreadable.extend(installations.unread.clone());
        RootFacts {
            libraries,
            installations,
            unfit: unfit(root),
            toolkits: if cuda { cuda::toolkits(root) } else { Vec::new() },
            compats: if cuda { cuda::compats(root) } else { Vec::new() },
            engine: container_engine::read(root),
            gridd: root.exists("/usr/bin/nvidia-gridd"),
            cdi: cdi::specs(root),
        }
    }

    /// Version of an installation by a .run file.
    pub fn run_install(&self) -> Option<&str> {
        self.installations.get(InstallationKind::Run)?.version.as_deref()
    }

    /// A package manager installed the libraries.
    pub fn is_packaged(&self) -> bool {
        self.installations.packaged().any(|one| one.has_libraries())
    }
}

/// Why NVIDIA's libraries cannot work in a root file system.
fn unfit(root: &Machine) -> Option<String> {
    match library_dir(root, LibraryArch::X86_64) {
        Err(error @ LibraryDirError::Musl) => Some(error.to_string()),
        _ => None,
    }
}
