//! The driver's userspace in one root file system, which may be hostile: what
//! the loader would take, and what lies beside it. Only names, links and a few
//! small files are read; nothing is executed.

use host::{FileKind, Machine};
use nvidia::dynamic_linker::{DynamicLinker, is_compat};
use nvidia::userspace::version_of;
use nvidia::{LIBRARY_DIRS, LinkEnd, RunInstallation, follow};
use serde::{Deserialize, Serialize};

use crate::cdi::{self, Spec};
use crate::cuda::{self, Compat, Toolkit};

/// The two libraries whose versions count.
pub const ML: &str = "libnvidia-ml.so.1";
/// See [`ML`].
pub const CUDA: &str = "libcuda.so.1";

/// Configuration files of ours to read have a few kilobytes.
const MOST_CONFIG: usize = 1 << 20;

/// A file of the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// The file at the end of the links.
    pub path: String,
    /// From its name; a copy without a version in its name has none.
    pub version: Option<String>,
    /// It is one for forward compatibility.
    pub compat: bool,
    /// A soname link leads to it.
    pub linked: bool,
}

/// Docker or containerd with NVIDIA's runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// `docker`, `containerd`.
    pub engine: String,
    /// The runtime's configuration.
    pub config: String,
    /// It says `no-cgroups = true`.
    pub no_cgroups: bool,
}

/// What a root file system has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What programs get as libcuda.so.1.
    pub cuda: Option<Library>,
    /// What programs get as libnvidia-ml.so.1.
    pub ml: Option<Library>,
    /// Files of these libraries of other versions than the ones above.
    pub others: Vec<Library>,
    /// Empty files in a library's place: the host's are mounted over them.
    pub stubs: bool,
    /// Version of an installation by a .run file.
    pub run_install: Option<String>,
    /// A package manager brought the libraries.
    pub packaged: bool,
    /// CUDA toolkits, where asked for.
    pub toolkits: Vec<Toolkit>,
    /// Libraries for forward compatibility, where asked for.
    pub compats: Vec<Compat>,
    /// A container engine with NVIDIA's runtime.
    pub runtime: Option<Runtime>,
    /// The vGPU guest's licence daemon is installed.
    pub gridd: bool,
    /// CDI specifications.
    pub cdi: Vec<Spec>,
    /// What could not be read, in words.
    pub unreadable: Vec<String>,
}

impl Root {
    /// The version that programs would use: NVML's must equal the kernel
    /// module's; a libcuda for forward compatibility need not.
    pub fn version(&self) -> Option<&str> {
        fn own(library: &Option<Library>) -> Option<&str> {
            library.as_ref().filter(|l| !l.compat)?.version.as_deref()
        }
        own(&self.ml).or_else(|| own(&self.cuda))
    }

    /// Where that library is.
    pub fn path(&self) -> Option<&str> {
        let own = self.ml.as_ref().or(self.cuda.as_ref().filter(|l| !l.compat));
        own.map(|library| library.path.as_str())
    }

    /// libcuda and NVML are of different versions.
    pub fn torn(&self) -> Option<(&str, &str)> {
        let cuda = self.cuda.as_ref().filter(|l| !l.compat)?.version.as_deref()?;
        let ml = self.ml.as_ref()?.version.as_deref()?;
        (cuda != ml).then_some((cuda, ml))
    }

    /// There is nothing of the driver.
    pub fn is_empty(&self) -> bool {
        self.cuda.is_none() && self.ml.is_none() && self.others.is_empty() && !self.stubs
    }
}

/// Looks. `cuda`: also for toolkits.
pub fn look(machine: &Machine, cuda: bool) -> Root {
    let mut root = Root::default();
    let (linker, trouble) = DynamicLinker::read(machine);
    root.unreadable.extend(trouble.map(|error| error.to_string()));
    for soname in [ML, CUDA] {
        let library = linkers_choice(machine, &linker, soname, &mut root);
        match soname {
            ML => root.ml = library,
            _ => root.cuda = library,
        }
    }
    others(machine, &mut root);
    match RunInstallation::read(machine) {
        Ok(found) => root.run_install = found.and_then(|run| run.version),
        Err(error) => root.unreadable.push(error.to_string()),
    }
    root.packaged = ["libcuda1", "libnvidia-ml1"].iter().any(|package| {
        [":amd64", ":arm64", ""]
            .iter()
            .any(|arch| machine.exists(&format!("/var/lib/dpkg/info/{package}{arch}.list")))
    });
    root.gridd = machine.exists("/usr/bin/nvidia-gridd");
    root.runtime = runtime(machine);
    root.cdi = cdi::specs(machine);
    if cuda {
        root.toolkits = cuda::toolkits(machine);
        root.compats = cuda::compats(machine);
    }
    root
}

/// What the loader would take.
fn linkers_choice(
    machine: &Machine,
    linker: &DynamicLinker,
    soname: &str,
    root: &mut Root,
) -> Option<Library> {
    for path in linker.candidates(soname) {
        match follow(machine, &path) {
            LinkEnd::File(file) => {
                let version = version_of(&file);
                let compat = is_compat(&path) || is_compat(&file);
                return Some(Library { path: file, version, compat, linked: true });
            }
            LinkEnd::Empty(_) => root.stubs = true,
            LinkEnd::Absent => {}
            LinkEnd::Unresolved(why) => root.unreadable.push(why),
        }
    }
    None
}

/// Where packagings put libraries, with the directories that have a version or
/// a branch in their names.
fn library_dirs(machine: &Machine, root: &mut Root) -> Vec<String> {
    let mut dirs: Vec<String> = LIBRARY_DIRS.iter().map(|dir| dir.to_string()).collect();
    for triplet in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"] {
        let parent = format!("{triplet}/nvidia");
        let names = list(machine, &parent, root);
        dirs.extend(names.iter().map(|name| format!("{parent}/{name}")));
    }
    // Ubuntu's before 2018
    let names = list(machine, "/usr/lib", root);
    dirs.extend(
        names.iter().filter(|name| name.starts_with("nvidia-")).map(|n| format!("/usr/lib/{n}")),
    );
    dirs.sort();
    dirs.dedup();
    dirs
}

fn list(machine: &Machine, dir: &str, root: &mut Root) -> Vec<String> {
    machine.list(dir).unwrap_or_else(|error| {
        root.unreadable.push(error.to_string());
        Vec::new()
    })
}

/// Finds files of other versions than what the loader takes.
fn others(machine: &Machine, root: &mut Root) {
    let taken: Vec<String> =
        [&root.ml, &root.cuda].into_iter().flatten().filter_map(|l| l.version.clone()).collect();
    let mut seen: Vec<Library> = Vec::new();
    for dir in library_dirs(machine, root) {
        // the names of /usr/lib and of its triplets are asked for once each
        let names = list(machine, &dir, root);
        let mine = names
            .iter()
            .filter(|name| name.starts_with("libcuda.so.") || name.starts_with("libnvidia-ml.so."));
        for name in mine {
            let path = format!("{dir}/{name}");
            let linked = *name == ML || *name == CUDA;
            let end = match linked {
                true => follow(machine, &path),
                false if version_of(name).is_none() => continue,
                false => match machine.lstat(&path) {
                    Ok(stat) if stat.kind == FileKind::File && stat.size > 0 => LinkEnd::File(path),
                    Ok(stat) if stat.kind == FileKind::File => LinkEnd::Empty(path),
                    _ => LinkEnd::Absent,
                },
            };
            let file = match end {
                LinkEnd::File(file) => file,
                LinkEnd::Empty(_) => {
                    root.stubs = true;
                    continue;
                }
                _ => continue,
            };
            let Some(version) = version_of(&file).filter(|v| !taken.contains(v)) else { continue };
            if file.contains("/compat/") {
                continue;
            }
            match seen.iter_mut().find(|library| library.path == file) {
                Some(library) => library.linked |= linked,
                None => {
                    seen.push(Library { path: file, version: Some(version), compat: false, linked })
                }
            }
        }
    }
    root.others = seen;
}

fn runtime(machine: &Machine) -> Option<Runtime> {
    let engines = [
        ("docker", "/usr/bin/dockerd"),
        ("containerd", "/usr/bin/containerd"),
        ("podman", "/usr/bin/podman"),
    ];
    let engine = engines.iter().find(|(_, program)| machine.exists(program))?.0;
    let config = "/etc/nvidia-container-runtime/config.toml";
    let text = machine.read_text(config, MOST_CONFIG).unwrap_or_default();
    let hook = machine.exists("/usr/bin/nvidia-container-cli");
    if text.is_empty() && !hook {
        return None;
    }
    Some(Runtime { engine: engine.into(), config: config.into(), no_cgroups: no_cgroups(&text) })
}

/// `no-cgroups = true` in `[nvidia-container-cli]`; the shipped file has it
/// commented out.
fn no_cgroups(text: &str) -> bool {
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap_or("").trim();
        }
        if section != "nvidia-container-cli" {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            if key.trim() == "no-cgroups" {
                return value.split('#').next().is_some_and(|value| value.trim() == "true");
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cgroups_counts_only_in_its_section_and_uncommented() {
        for (text, expected) in [
            ("[nvidia-container-cli]\nno-cgroups = true\n", true),
            ("[nvidia-container-cli]\nno-cgroups=true # x\n", true),
            ("[nvidia-container-cli]\n#no-cgroups = true\n", false),
            ("[nvidia-container-cli]\nno-cgroups = false\n", false),
            ("[nvidia-container-runtime]\nno-cgroups = true\n[nvidia-container-cli]\n", false),
            ("", false),
        ] {
            assert_eq!(no_cgroups(text), expected, "{text}");
        }
    }
}
