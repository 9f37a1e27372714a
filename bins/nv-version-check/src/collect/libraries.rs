//! The driver's libraries in one root file system: which the dynamic linker
//! takes, and which lie beside them. Only names and links are read.

use host::{FileKind, Machine};
use nvidia::dynamic_linker::{DynamicLinker, is_compat};
use nvidia::userspace::{driver_version_of, version_of};
use nvidia::{LIBRARY_DIRS, LinkEnd, follow};
use serde::{Deserialize, Serialize};

/// The two libraries whose versions count: NVML, which must be the kernel
/// module's, and libcuda.
const ML: &str = "libnvidia-ml.so.1";
const CUDA: &str = "libcuda.so.1";

/// A library of the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverLibrary {
    /// The file at the end of the links.
    pub path: String,
    /// From its name; a copy without a version in its name has none.
    pub version: Option<String>,
    /// It is one for forward compatibility.
    pub compat: bool,
    /// A link with a soname leads to it.
    pub linked: bool,
}

/// A library of the driver beside the two, of another version than they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixedLibrary {
    /// The name that programs ask for.
    pub soname: String,
    /// The file that they get.
    pub path: String,
    /// Its version.
    pub version: String,
    /// It is a 64-bit library.
    pub is_64: bool,
}

/// The libraries of a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libraries {
    /// What programs get as libcuda.so.1.
    pub cuda: Option<DriverLibrary>,
    /// What programs get as libnvidia-ml.so.1.
    pub ml: Option<DriverLibrary>,
    /// Files of these libraries of other versions than the ones above.
    pub others: Vec<DriverLibrary>,
    /// Other libraries of the driver that the dynamic linker takes and that are of
    /// another version.
    pub mixed: Vec<MixedLibrary>,
    /// Empty files in a library's place: the host's are mounted over them.
    pub stubs: bool,
    /// What could not be read.
    pub unreadable: Vec<String>,
}

impl Libraries {
    /// Reads the libraries of a root file system, which may be hostile.
    pub fn read(root: &Machine) -> Libraries {
        let mut found = Libraries::default();
        let (linker, error) = DynamicLinker::read(root);
        found.unreadable.extend(error.map(|error| error.to_string()));
        found.ml = found.first(root, linker.candidates(ML));
        found.cuda = found.first(root, linker.candidates(CUDA));
        found.find_others(root);
        found.find_mixed(root, &linker);
        found
    }

    /// What the linker's cache has for each library of the driver.
    fn find_mixed(&mut self, root: &Machine, linker: &DynamicLinker) {
        let Some(version) = self.version().map(str::to_string) else { return };
        for (_, program, stem) in nvidia::userspace::table() {
            for end in if program { [].iter() } else { ["1", "0"].iter() } {
                let soname = format!("{stem}.{end}");
                for is_64 in [true, false] {
                    // the two have findings of their own
                    if is_64 && (soname == ML || soname == CUDA) {
                        continue;
                    }
                    let Some(found) = taken(root, linker.cached(&soname, is_64)) else { continue };
                    let (path, other) = found;
                    let known = self.mixed.iter().any(|library| library.path == path);
                    if other != version && !known {
                        self.mixed.push(MixedLibrary {
                            soname: soname.clone(),
                            path,
                            version: other,
                            is_64,
                        });
                    }
                }
            }
        }
    }

    /// The version that programs would use: NVML's must equal the kernel
    /// module's; a libcuda for forward compatibility need not.
    pub fn version(&self) -> Option<&str> {
        fn own(library: &Option<DriverLibrary>) -> Option<&str> {
            library.as_ref().filter(|l| !l.compat)?.version.as_deref()
        }
        own(&self.ml).or_else(|| own(&self.cuda))
    }

    /// The library that gives that version.
    pub fn path(&self) -> Option<&str> {
        let own = self.ml.as_ref().or(self.cuda.as_ref().filter(|l| !l.compat));
        own.map(|library| library.path.as_str())
    }

    /// The versions of libcuda and NVML, where they differ.
    pub fn torn(&self) -> Option<(&str, &str)> {
        let cuda = self.cuda.as_ref().filter(|l| !l.compat)?.version.as_deref()?;
        let ml = self.ml.as_ref()?.version.as_deref()?;
        (cuda != ml).then_some((cuda, ml))
    }

    /// The root file system has no library of the driver.
    pub fn is_empty(&self) -> bool {
        self.cuda.is_none() && self.ml.is_none() && self.others.is_empty() && !self.stubs
    }

    /// The first candidate that is a file.
    fn first(&mut self, root: &Machine, candidates: Vec<String>) -> Option<DriverLibrary> {
        for path in candidates {
            match follow(root, &path) {
                LinkEnd::File(file) => {
                    let version = version_of(&file);
                    let compat = is_compat(&path) || is_compat(&file);
                    return Some(DriverLibrary { path: file, version, compat, linked: true });
                }
                LinkEnd::Empty(_) => self.stubs = true,
                LinkEnd::Absent => {}
                LinkEnd::Unresolved(why) => self.unreadable.push(why),
            }
        }
        None
    }

    /// Finds files of other versions than what the dynamic linker takes.
    fn find_others(&mut self, root: &Machine) {
        let own = [&self.ml, &self.cuda].into_iter().flatten();
        let taken: Vec<String> = own.filter_map(|library| library.version.clone()).collect();
        for dir in self.directories(root) {
            for name in self.list(root, &dir) {
                if !name.starts_with("libcuda.so.") && !name.starts_with("libnvidia-ml.so.") {
                    continue;
                }
                let linked = name == ML || name == CUDA;
                let Some(path) = self.file_at(root, format!("{dir}/{name}"), linked) else {
                    continue;
                };
                let Some(version) = version_of(&path).filter(|v| !taken.contains(v)) else {
                    continue;
                };
                if is_compat(&path) {
                    continue;
                }
                match self.others.iter_mut().find(|library| library.path == path) {
                    Some(library) => library.linked |= linked,
                    None => {
                        let version = Some(version);
                        self.others.push(DriverLibrary { path, version, compat: false, linked });
                    }
                }
            }
        }
    }

    /// The file that a name in a library directory stands for: the end of a
    /// soname's links, or a file with a version in its name.
    fn file_at(&mut self, root: &Machine, path: String, linked: bool) -> Option<String> {
        let end = match linked {
            true => follow(root, &path),
            false if version_of(&path).is_none() => return None,
            false => match root.lstat(&path) {
                Ok(stat) if stat.kind == FileKind::File && stat.size > 0 => LinkEnd::File(path),
                Ok(stat) if stat.kind == FileKind::File => LinkEnd::Empty(path),
                _ => LinkEnd::Absent,
            },
        };
        match end {
            LinkEnd::File(file) => Some(file),
            LinkEnd::Empty(_) => {
                self.stubs = true;
                None
            }
            LinkEnd::Absent | LinkEnd::Unresolved(_) => None,
        }
    }

    /// Directories in which packagings put libraries, with those that have a
    /// version or a branch in their names.
    fn directories(&mut self, root: &Machine) -> Vec<String> {
        let mut dirs: Vec<String> = LIBRARY_DIRS.iter().map(|dir| dir.to_string()).collect();
        for triplet in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"] {
            let parent = format!("{triplet}/nvidia");
            let names = self.list(root, &parent);
            dirs.extend(names.iter().map(|name| format!("{parent}/{name}")));
        }
        // Ubuntu's before 2018
        let names = self.list(root, "/usr/lib");
        let branches = names.iter().filter(|name| name.starts_with("nvidia-"));
        dirs.extend(branches.map(|name| format!("/usr/lib/{name}")));
        dirs.sort();
        dirs.dedup();
        dirs
    }

    fn list(&mut self, root: &Machine, dir: &str) -> Vec<String> {
        root.list(dir).unwrap_or_else(|error| {
            self.unreadable.push(error.to_string());
            Vec::new()
        })
    }
}

/// The first of the candidates that is a file, where its name has the driver's
/// version.
fn taken(root: &Machine, candidates: Vec<String>) -> Option<(String, String)> {
    let path = candidates.iter().find_map(|path| match follow(root, path) {
        LinkEnd::File(file) => Some(file),
        _ => None,
    })?;
    let version = driver_version_of(&path).filter(|_| !is_compat(&path))?;
    Some((path, version))
}
