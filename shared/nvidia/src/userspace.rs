//! The driver's userspace as files: which version a root file system has, and
//! which files make up a set of it. Nothing is executed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use host::{FileKind, Machine};
use object::Object;

use crate::dynamic_linker::{DynamicLinker, is_compat};
use crate::library_dirs::LIBRARY_DIRS;
use crate::links::{LinkEnd, follow, resolve};
use crate::version::is_version;

const TABLE: &str = include_str!("../data/userspace.txt");

/// What programs in a container use the GPU for: NVIDIA's driver capabilities
/// (NVIDIA_DRIVER_CAPABILITIES of the container toolkit).
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
    /// All sets.
    pub const ALL: [Set; 4] = [Set::Utility, Set::Compute, Set::Video, Set::Graphics];

    /// The name in NVIDIA_DRIVER_CAPABILITIES.
    pub fn as_str(self) -> &'static str {
        match self {
            Set::Utility => "utility",
            Set::Compute => "compute",
            Set::Video => "video",
            Set::Graphics => "graphics",
        }
    }

    /// The set of a name.
    pub fn named(name: &str) -> Option<Set> {
        Set::ALL.into_iter().find(|set| set.as_str() == name)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Directories of the driver's programs.
const PROGRAM_DIRS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/lib/nvidia/current"];

/// No driver library is larger (libnvidia-rtcore of 2025: 150 MB).
const MOST_BYTES: usize = 1 << 29;
/// Files of a directory given by the user, and how deep they may lie.
const MOST_FILES: usize = 20_000;
const MOST_DEPTH: usize = 6;

/// The library that programs of a root file system would load: what its dynamic
/// linker takes for `libnvidia-ml.so.1`, else for `libcuda.so.1`. `None` where it
/// has neither library. Libraries for forward compatibility
/// (/usr/local/cuda-*/compat) do not count.
pub fn loaded_library(machine: &Machine) -> Option<String> {
    let (linker, _) = DynamicLinker::read(machine);
    ["libnvidia-ml.so.1", "libcuda.so.1"].iter().find_map(|soname| {
        let candidates = linker.candidates(soname);
        let own = candidates.iter().filter(|path| !is_compat(path));
        let mut files = own.filter_map(|path| match follow(machine, path) {
            LinkEnd::File(file) if !is_compat(&file) => Some(file),
            _ => None,
        });
        files.next()
    })
}

/// The version that programs of a root file system would load; see
/// [`loaded_library`].
pub fn loaded_version(machine: &Machine) -> Option<String> {
    version_of(&loaded_library(machine)?)
}

/// The version at the end of a library's file name.
pub fn version_of(path: &str) -> Option<String> {
    let (_, version) = path.rsplit('/').next()?.split_once(".so.")?;
    is_version(version).then(|| version.to_string())
}

/// The driver's version at the end of a library's file name. `None` for libraries
/// that come with the driver and have versions of their own, such as
/// `libnvidia-egl-gbm.so.1.1.1`.
pub fn driver_version_of(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let (stem, _) = name.split_once(".so.")?;
    let known = |(_, program, file): (Set, bool, &str)| {
        !program && file.strip_suffix(".so").is_some_and(|known| known == stem)
    };
    table().any(known).then(|| version_of(path)).flatten()
}

/// One file of the userspace and the names that programs know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserspaceFile {
    /// Path of the file itself.
    pub source: String,
    /// The set that it belongs to.
    pub set: Set,
    /// It is a program, not a library.
    pub program: bool,
    /// Names in the library or program directory: `libcuda.so.1`, ...
    pub names: Vec<String>,
}

/// The userspace of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Userspace {
    /// The files that were found, in the order of the table.
    pub files: Vec<UserspaceFile>,
    /// Files that the sets name and that were not found: not every version has all.
    pub absent: Vec<String>,
}

/// Finds the files of `sets` of a version: on the machine itself, or below a
/// directory into which an installer was unpacked. Errors: that directory cannot
/// be read or holds too many files; the text is for people.
pub fn find(
    machine: &Machine,
    dir: Option<&str>,
    version: &str,
    sets: &[Set],
) -> Result<Userspace, String> {
    let index = match dir {
        None => FileIndex::of_machine(machine),
        Some(dir) => FileIndex::below(machine, dir)?,
    };
    let mut found = Userspace::default();
    for (set, program, stem) in table() {
        if !sets.contains(&set) || found.files.iter().any(|f| f.names[0].starts_with(stem)) {
            continue;
        }
        let name = if program { stem.to_string() } else { format!("{stem}.{version}") };
        let source = index.paths(&name).find_map(|path| resolve(machine, path));
        let Some(source) = source else {
            found.absent.push(name);
            continue;
        };
        let mut names = BTreeSet::new();
        if !program {
            names.extend(soname(machine, &source));
            let links = index.starting_with(&format!("{stem}."));
            let links = links.filter(|(_, path)| resolve(machine, path).as_ref() == Some(&source));
            names.extend(links.map(|(name, _)| name.to_string()));
            names.remove(&name);
        }
        let names = std::iter::once(name).chain(names).collect();
        found.files.push(UserspaceFile { source, set, program, names });
    }
    Ok(found)
}

/// The table of files: set, whether it is a program, name (libraries without
/// their version).
pub fn table() -> impl Iterator<Item = (Set, bool, &'static str)> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let set = Set::named(words.next()?)?;
        Some((set, words.next()? == "bin", words.next()?))
    })
}

/// The name that programs linked against a library ask for (DT_SONAME). `None`
/// where the file is not a 64-bit library with such a name.
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

/// Paths of files by their names.
struct FileIndex {
    by_name: BTreeMap<String, Vec<String>>,
}

impl FileIndex {
    fn of_machine(machine: &Machine) -> FileIndex {
        let mut index = FileIndex { by_name: BTreeMap::new() };
        let interesting: BTreeSet<&str> = table().map(|(_, _, name)| name).collect();
        for dir in LIBRARY_DIRS.iter().chain(&PROGRAM_DIRS) {
            for name in machine.list(dir).unwrap_or_default() {
                let stem = name.find(".so").map_or(name.as_str(), |at| &name[..at + 3]);
                if interesting.contains(stem) {
                    let path = format!("{dir}/{name}");
                    index.by_name.entry(name).or_default().push(path);
                }
            }
        }
        index
    }

    /// Every file in a directory and its subdirectories, without the 32-bit libraries
    /// of an unpacked installer.
    fn below(machine: &Machine, dir: &str) -> Result<FileIndex, String> {
        let mut index = FileIndex { by_name: BTreeMap::new() };
        let mut open = vec![(dir.trim_end_matches('/').to_string(), 0)];
        let mut seen = 0;
        while let Some((dir, depth)) = open.pop() {
            let mut names = machine.list(&dir).map_err(|error| error.to_string())?;
            names.sort();
            for name in names {
                seen += 1;
                if seen > MOST_FILES {
                    return Err(format!("it holds more than {MOST_FILES} files"));
                }
                let path = format!("{dir}/{name}");
                match machine.lstat(&path).map(|s| s.kind) {
                    Ok(FileKind::Dir) if depth < MOST_DEPTH && name != "32" => {
                        open.push((path, depth + 1));
                    }
                    Ok(FileKind::File | FileKind::Link) => {
                        index.by_name.entry(name).or_default().push(path);
                    }
                    _ => {}
                }
            }
        }
        Ok(index)
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
    }
}
