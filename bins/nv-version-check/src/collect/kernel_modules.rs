//! The installed kernels and the driver module that each has on disk.

use std::io;
use std::time::Duration;

use host::child_read::read_in_child;
use host::{FileKind, Machine};
use nvidia::installed_kernels;
use serde::{Deserialize, Serialize};

use crate::collect::modinfo::{self, ModInfo};

/// Bytes of modules.dep; that of a distribution kernel has 600 KB.
const MOST_DEP: usize = 64 << 20;
/// Decompressing one module takes a second where it is xz.
const DEADLINE: Duration = Duration::from_secs(60);
/// Modules read at once; each may take half a gigabyte of memory.
const WORKERS: usize = 4;

/// A driver module on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelModule {
    /// Its file.
    pub path: String,
    /// Its version, licence and kernel.
    pub info: ModInfo,
}

/// One installed kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledKernel {
    /// Its release: `6.14.11-4-pve`.
    pub release: String,
    /// Its driver modules, of each file name the one that modprobe takes. More
    /// than one: two installations put theirs beside each other. `Err`: a module
    /// cannot be read.
    pub modules: Result<Vec<KernelModule>, String>,
    /// Its headers are installed, so that a module can be built for it.
    pub headers: bool,
}

impl InstalledKernel {
    /// Version of the driver module that it loads. `None`: it has none, or several
    /// of different versions, or one that cannot be read.
    pub fn version(&self) -> Option<&str> {
        let modules = self.modules.as_ref().ok()?;
        let first = modules.first()?.info.version.as_deref()?;
        modules.iter().all(|m| m.info.version.as_deref() == Some(first)).then_some(first)
    }

    /// The first of its driver modules.
    pub fn module(&self) -> Option<&KernelModule> {
        self.modules.as_ref().ok()?.first()
    }
}

/// The installed kernels with their modules, oldest first.
pub fn installed(machine: &Machine, running: Option<&str>) -> Vec<InstalledKernel> {
    let releases = installed_kernels(machine, running);
    let modules = modules(machine, &releases);
    releases
        .into_iter()
        .zip(modules)
        .map(|(release, modules)| {
            let headers = nvidia::has_kernel_headers(machine, &release);
            InstalledKernel { release, modules, headers }
        })
        .collect()
}

/// The driver modules of all kernels, read side by side.
fn modules(machine: &Machine, releases: &[String]) -> Vec<Result<Vec<KernelModule>, String>> {
    let answers = read_in_child(releases.len(), WORKERS, DEADLINE, &|at, pipe| {
        pipe.put(1, || {
            let found = main_modules(machine, &releases[at]);
            serde_json::to_vec(&found).map_err(io::Error::other)
        });
    });
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            let why = format!("cannot start a reader: {error}");
            return releases.iter().map(|_| Err(why.clone())).collect();
        }
    };
    let taken = |bytes: Option<&[u8]>| match bytes.map(serde_json::from_slice) {
        Some(Ok(found)) => found,
        _ => Err("reading its modules timed out".to_string()),
    };
    answers.iter().map(|answer| taken(answer.bytes(1))).collect()
}

/// File names of the driver's main module: Debian's DKMS packages build it
/// under their own names and install an alias.
fn is_main_module(name: &str) -> bool {
    let Some((stem, end)) = name.split_once(".ko") else { return false };
    let flavour = stem.strip_prefix("nvidia").is_some_and(|rest| {
        rest.is_empty()
            || rest == "-current"
            || rest == "-current-open"
            || rest.starts_with("-tesla")
            || rest.starts_with("-legacy")
    });
    let part = ["-drm", "-modeset", "-uvm", "-peermem"].iter().any(|part| stem.ends_with(part));
    flavour && !part && matches!(end, "" | ".xz" | ".zst" | ".gz")
}

/// The driver modules of a kernel: those that depmod knows, then those in the
/// directories where they may be, in depmod's order. Of one name modprobe takes
/// the first; modules of two names are both loaded for a GPU's modalias.
fn main_modules(machine: &Machine, release: &str) -> Result<Vec<KernelModule>, String> {
    let top = format!("/lib/modules/{release}");
    let dep = machine.read_text(&format!("{top}/modules.dep"), MOST_DEP).unwrap_or_default();
    let listed = dep.lines().filter_map(|line| {
        let (path, _) = line.split_once(':')?;
        is_main_module(path.rsplit('/').next()?).then(|| format!("{top}/{path}"))
    });
    let dirs = ["updates/dkms", "updates", "extra", "weak-updates", "kernel/drivers/video", "misc"];
    let found = dirs.iter().flat_map(|dir| {
        let dir = format!("{top}/{dir}");
        let names = machine.list(&dir).unwrap_or_default();
        let mine = names.into_iter().filter(|name| is_main_module(name));
        mine.map(move |name| format!("{dir}/{name}")).collect::<Vec<_>>()
    });
    let mut names: Vec<String> = Vec::new();
    let mut modules = Vec::new();
    for path in listed.chain(found) {
        let file = path.rsplit('/').next().unwrap_or_default();
        let name = file.split(".ko").next().unwrap_or_default().to_string();
        // a link in weak-updates may be dangling
        let exists = || machine.stat(&path).is_ok_and(|stat| stat.kind == FileKind::File);
        if !names.contains(&name) && exists() {
            names.push(name);
            let info = modinfo::read(machine, &path)?;
            modules.push(KernelModule { path, info });
        }
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_module_is_not_confused_with_the_others() {
        for name in ["nvidia.ko", "nvidia.ko.zst", "nvidia-current.ko.xz", "nvidia-tesla-470.ko"] {
            assert!(is_main_module(name), "{name}");
        }
        for name in [
            "nvidia-drm.ko",
            "nvidia-current-uvm.ko",
            "nvidia-tesla-470-modeset.ko",
            "nvidiafb.ko",
            "nvidia.ko.bak",
            "nvidia-uvm.ko.zst",
            "nvidia-cspmu.ko",
        ] {
            assert!(!is_main_module(name), "{name}");
        }
    }
}
