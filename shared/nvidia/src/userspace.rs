//! The driver's userspace as files: which version a root file system has, and
//! which files make up a set of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use host::{FileKind, Machine};
use object::Object;

use crate::gpus::is_version;
use crate::loader::{End, Loader, follow, is_compat};

const TABLE: &str = include_str!("../data/userspace.txt");

/// What programs in a container are to do with the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// nvidia-smi and NVML.
    Utility,
    /// CUDA and OpenCL.
    Compute,
    /// Encoding and decoding.
    Video,
    /// OpenGL, Vulkan, ray tracing.
    Graphics,
}

impl Set {
    /// All of them.
    pub const ALL: [Set; 4] = [Set::Utility, Set::Compute, Set::Video, Set::Graphics];

    /// Its name, as NVIDIA_DRIVER_CAPABILITIES has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Set::Utility => "utility",
            Set::Compute => "compute",
            Set::Video => "video",
            Set::Graphics => "graphics",
        }
    }

    /// By name.
    pub fn named(name: &str) -> Option<Set> {
        Set::ALL.into_iter().find(|set| set.as_str() == name)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the loader of one distribution or another looks, and where packagings
/// of the driver put their files, the usual places first.
pub const LIBRARY_DIRS: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib64",
    "/usr/lib64/nvidia",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/lib",
    "/usr/local/lib",
];

/// Where programs are.
const PROGRAM_DIRS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/lib/nvidia/current"];

/// No library name chain is longer.
const MOST_LINKS: usize = 16;
/// No driver library is larger (libnvidia-rtcore of 2025: 150 MB).
const MOST_BYTES: usize = 1 << 29;
/// Files of a directory given by the user, and how deep they may lie.
const MOST_FILES: usize = 20_000;
const MOST_DEPTH: usize = 6;

/// The version that programs of a root file system would load, from what its
/// loader takes for `libnvidia-ml.so.1`, else for `libcuda.so.1`. `None` where it
/// has no such library. Libraries for forward compatibility
/// (/usr/local/cuda-*/compat) do not count.
pub fn loaded_version(machine: &Machine) -> Option<String> {
    let (loader, _) = Loader::of(machine);
    ["libnvidia-ml.so.1", "libcuda.so.1"].iter().find_map(|soname| {
        let places = loader.places(soname);
        let mut files =
            places.iter().filter(|path| !is_compat(path)).filter_map(|path| {
                match follow(machine, path) {
                    End::File(file) if !is_compat(&file) => Some(file),
                    _ => None,
                }
            });
        version_of(&files.next()?)
    })
}

/// The version at the end of a library's file name.
pub fn version_of(path: &str) -> Option<String> {
    let (_, version) = path.rsplit('/').next()?.split_once(".so.")?;
    is_version(version).then(|| version.to_string())
}

/// Where a chain of links ends, inside the machine's root. `None` where it ends
/// nowhere.
pub fn resolve(machine: &Machine, path: &str) -> Option<String> {
    let mut path = path.to_string();
    for _ in 0..MOST_LINKS {
        let kind = machine.lstat(&path).ok()?.kind;
        if kind != FileKind::Link {
            return (kind == FileKind::File).then_some(path);
        }
        let target = machine.read_link(&path).ok()?;
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        path = match target.starts_with('/') {
            true => target,
            false => normal(&format!("{parent}/{target}")),
        };
    }
    None
}

/// Without `.`, `..` and double slashes.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// One file of the userspace and the names that programs know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserspaceFile {
    /// Path of the file itself.
    pub source: String,
    /// Set and kind.
    pub set: Set,
    /// A program rather than a library.
    pub program: bool,
    /// Names in the library or program directory: `libcuda.so.1`, ...
    pub names: Vec<String>,
}

/// The userspace of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Userspace {
    /// Its files, in the order of the table.
    pub files: Vec<UserspaceFile>,
    /// What the sets name and is not there: not every version has everything.
    pub absent: Vec<String>,
}

/// Finds the files of `sets` of a version: on the machine itself, or below a
/// directory into which an installer was unpacked. Errors: in words.
pub fn find(
    machine: &Machine,
    dir: Option<&str>,
    version: &str,
    sets: &[Set],
) -> Result<Userspace, String> {
    let places = match dir {
        None => Places::of_machine(machine),
        Some(dir) => Places::below(machine, dir)?,
    };
    let mut found = Userspace::default();
    for (set, program, stem) in table() {
        if !sets.contains(&set) || found.files.iter().any(|f| f.names[0].starts_with(stem)) {
            continue;
        }
        let name = if program { stem.to_string() } else { format!("{stem}.{version}") };
        let source = places.paths(&name).find_map(|path| resolve(machine, path));
        let Some(source) = source else {
            found.absent.push(name);
            continue;
        };
        let mut names = BTreeSet::new();
        if !program {
            names.extend(soname(machine, &source));
            let links = places.starting_with(&format!("{stem}."));
            let links = links.filter(|(_, path)| resolve(machine, path).as_ref() == Some(&source));
            names.extend(links.map(|(name, _)| name.to_string()));
            names.remove(&name);
        }
        let names = std::iter::once(name).chain(names).collect();
        found.files.push(UserspaceFile { source, set, program, names });
    }
    Ok(found)
}

/// What the table holds: set, whether it is a program, name.
pub fn table() -> impl Iterator<Item = (Set, bool, &'static str)> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let set = Set::named(words.next()?)?;
        Some((set, words.next()? == "bin", words.next()?))
    })
}

/// The name that programs linked against a library ask for (DT_SONAME). `None`
/// where it is no 64-bit library with such a name.
pub fn soname(machine: &Machine, path: &str) -> Option<String> {
    let bytes = machine.read(path, MOST_BYTES).ok()?;
    let file = object::File::parse(bytes.as_slice()).ok()?;
    let name = match &file {
        object::File::Elf64(elf) => elf_soname(elf),
        object::File::Elf32(elf) => elf_soname(elf),
        _ => None,
    }?;
    let plain = !name.is_empty() && !name.contains('/') && name.contains(".so") && file.is_64();
    plain.then_some(name)
}

fn elf_soname<'a, E: object::read::elf::FileHeader<Endian = object::Endianness>>(
    elf: &object::read::elf::ElfFile<'a, E, &'a [u8]>,
) -> Option<String> {
    use object::read::elf::Dyn;
    let endian = elf.endian();
    let data = elf.data();
    let table = elf.elf_section_table();
    let (entries, strings) = table.dynamic(endian, data).ok().flatten()?;
    let strings = table.strings(endian, data, strings).ok()?;
    let entry = entries.iter().find(|d| d.tag32(endian) == Some(object::elf::DT_SONAME))?;
    let name = entry.string(endian, strings).ok()?;
    String::from_utf8(name.to_vec()).ok()
}

/// Where files of a name may be.
struct Places {
    by_name: BTreeMap<String, Vec<String>>,
}

impl Places {
    fn of_machine(machine: &Machine) -> Places {
        let mut places = Places { by_name: BTreeMap::new() };
        let interesting: BTreeSet<&str> = table().map(|(_, _, name)| name).collect();
        for dir in LIBRARY_DIRS.iter().chain(&PROGRAM_DIRS) {
            for name in machine.list(dir).unwrap_or_default() {
                let stem = name.find(".so").map_or(name.as_str(), |at| &name[..at + 3]);
                if interesting.contains(stem) {
                    let path = format!("{dir}/{name}");
                    places.by_name.entry(name).or_default().push(path);
                }
            }
        }
        places
    }

    /// All below a directory, but for 32-bit libraries of an unpacked installer.
    fn below(machine: &Machine, dir: &str) -> Result<Places, String> {
        let mut places = Places { by_name: BTreeMap::new() };
        let mut open = vec![(dir.trim_end_matches('/').to_string(), 0)];
        let mut seen = 0;
        while let Some((dir, depth)) = open.pop() {
            let mut names = machine.list(&dir).map_err(|error| error.to_string())?;
            names.sort();
            for name in names {
                seen += 1;
                if seen > MOST_FILES {
                    return Err(format!("more than {MOST_FILES} files below it"));
                }
                let path = format!("{dir}/{name}");
                match machine.lstat(&path).map(|s| s.kind) {
                    Ok(FileKind::Dir) if depth < MOST_DEPTH && name != "32" => {
                        open.push((path, depth + 1));
                    }
                    Ok(FileKind::File | FileKind::Link) => {
                        places.by_name.entry(name).or_default().push(path);
                    }
                    _ => {}
                }
            }
        }
        Ok(places)
    }

    fn paths(&self, name: &str) -> impl Iterator<Item = &String> {
        self.by_name.get(name).into_iter().flatten()
    }

    fn starting_with<'a>(
        &'a self,
        prefix: &str,
    ) -> impl Iterator<Item = (&'a str, &'a String)> + use<'a> {
        let prefix = prefix.to_string();
        self.by_name
            .range(prefix.clone()..)
            .take_while(move |(name, _)| name.starts_with(&prefix))
            .flat_map(|(name, paths)| paths.iter().map(move |path| (name.as_str(), path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let lines = TABLE.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).count();
        assert_eq!(table().count(), lines);
        for set in Set::ALL {
            assert!(table().any(|(s, _, _)| s == set), "{set}");
            assert_eq!(Set::named(set.as_str()), Some(set));
        }
    }

    #[test]
    fn versions_are_the_end_of_the_name() {
        assert_eq!(version_of("/x/libcuda.so.550.163.01").as_deref(), Some("550.163.01"));
        assert_eq!(version_of("/x/libcuda.so.1"), None);
        assert_eq!(version_of("/x/libcuda.so"), None);
        assert_eq!(normal("/a/b/../c/./d//e"), "/a/c/d/e");
    }
}
