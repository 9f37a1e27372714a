//! Which files of a driver's manifest a container needs, and where they go.

use std::collections::{BTreeSet, HashMap, HashSet};

use nvidia::LIBRARY_DIRS;
use nvidia::userspace::{Set, table};
use runfile::{Manifest, ManifestEntry};

const OTHER_FILES: &str = include_str!("../../data/library-set-files.txt");

/// Kinds of libraries that no container needs from the driver: the distribution,
/// X or Wine has them.
const NOT_OURS: [&str; 6] = [
    "GLVND_LIB",
    "OPENCL_WRAPPER_LIB",
    "WINE_LIB",
    "XMODULE_SHARED_LIB",
    "GLX_MODULE_SHARED_LIB",
    "INTERNAL_UTILITY_LIB",
];

/// Where programs go.
const PROGRAMS: &str = "/usr/bin";

/// One file to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedFile {
    /// Where it goes.
    pub path: String,
    /// SelectedKind it is.
    pub what: SelectedKind,
}

/// SelectedKind a path is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectedKind {
    /// A file of the archive.
    File {
        /// Its name there.
        member: String,
        /// Permissions.
        mode: u32,
        /// A shared library.
        library: bool,
    },
    /// A link.
    Link {
        /// Where it points.
        target: String,
    },
}

/// Whether one row of the table means a library's file name.
fn is_named(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Files and links of `sets`, libraries going to `libraries`.
pub fn select_files(manifest: &Manifest, sets: &[Set], libraries: &str) -> Vec<SelectedFile> {
    let mut selected = Selection::default();
    for entry in manifest.entries.iter().filter(|entry| !entry.is_link()) {
        let Some(dir) = directory_of(entry, sets, libraries) else { continue };
        let Some(name) = plain_name(&entry.file) else { continue };
        let path = format!("{dir}/{name}");
        if !selected.has(&path) {
            let library = name.contains(".so");
            // never set-id, always writable by the owner, as in packages
            let mode = entry.mode & 0o777 | 0o200;
            selected.push(SelectedFile {
                path,
                what: SelectedKind::File { member: entry.file.clone(), mode, library },
            });
        }
    }
    // a link may lead to another link; each round finds those that lead one link further
    for _ in 0..MOST_LINKS {
        let before = selected.files.len();
        for entry in manifest.entries.iter().filter(|entry| entry.is_link() && is_native(entry)) {
            // compute has the allocator too, but not the links to it for Wayland
            if entry.kind.starts_with("GBM_") && !sets.contains(&Set::Graphics) {
                continue;
            }
            let link = link(entry, &selected, libraries);
            if let Some(link) = link.filter(|link| !selected.has(&link.path)) {
                selected.push(link);
            }
        }
        if selected.files.len() == before {
            break;
        }
    }
    selected.files
}

/// Links that lead to each other one after the other. NVIDIA's manifests have two
/// (`libcuda.so`, `libcuda.so.1`); one made to be slow may have thousands.
const MOST_LINKS: usize = 8;

/// What is selected so far, found by its path and by its name.
#[derive(Default)]
struct Selection {
    files: Vec<SelectedFile>,
    paths: HashSet<String>,
    names: HashMap<String, Vec<usize>>,
}

impl Selection {
    fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    fn push(&mut self, file: SelectedFile) {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        self.names.entry(name.to_string()).or_default().push(self.files.len());
        self.paths.insert(file.path.clone());
        self.files.push(file);
    }

    /// The paths of a name, in the order in which they were selected.
    fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let at = self.names.get(name).into_iter().flatten();
        at.map(|at| self.files[*at].path.as_str())
    }
}

/// The directory of an entry, `None` if no set has the entry.
fn directory_of(entry: &ManifestEntry, sets: &[Set], libraries: &str) -> Option<String> {
    if !is_native(entry) || NOT_OURS.contains(&entry.kind.as_str()) {
        return None;
    }
    let name = plain_name(&entry.file)?;
    let others = || {
        OTHER_FILES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let set = Set::named(words.next()?).filter(|set| sets.contains(set))?;
            Some((set, words.next()?, words.next()?, words.next()))
        })
    };
    if entry.kind.ends_with("_LIB") {
        let of_table = table()
            .any(|(set, program, stem)| sets.contains(&set) && !program && is_named(name, stem));
        let of_others = others().any(|(_, what, stem, _)| what == "lib" && is_named(name, stem));
        return (of_table || of_others).then(|| below(libraries, entry.path.as_deref()))?;
    }
    if entry.kind == "UTILITY_BINARY" {
        let wanted =
            table().any(|(set, program, stem)| sets.contains(&set) && program && name == stem);
        return wanted.then(|| PROGRAMS.to_string());
    }
    let row = others().find(|(_, what, kind, _)| *what == "kind" && *kind == entry.kind)?;
    below(row.3?, entry.path.as_deref())
}

fn is_native(entry: &ManifestEntry) -> bool {
    entry.arch.as_deref().is_none_or(|arch| arch == "NATIVE")
}

/// The last component of a member's path, if it can be a file's name.
fn plain_name(file: &str) -> Option<&str> {
    let name = file.rsplit('/').next()?;
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    plain.then_some(name)
}

/// A directory below another; `None` if the path leads out of it.
fn below(dir: &str, path: Option<&str>) -> Option<String> {
    let mut whole = dir.to_string();
    for part in path.unwrap_or_default().split('/').filter(|part| !part.is_empty()) {
        if part.starts_with('.') || !part.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        whole = format!("{whole}/{part}");
    }
    Some(whole)
}

/// A link whose target is selected. The manifest has only the target's name: if
/// the file is not beside the link, the relative path to it is made.
fn link(entry: &ManifestEntry, selected: &Selection, libraries: &str) -> Option<SelectedFile> {
    let name = plain_name(&entry.file)?;
    let dir = match entry.kind.as_str() {
        "GBM_BACKEND_LIB_SYMLINK" => format!("{libraries}/gbm"),
        _ => below(libraries, entry.path.as_deref())?,
    };
    let wanted = plain_name(entry.target.as_deref()?)?;
    let beside = format!("{dir}/{wanted}");
    let target = match selected.has(&beside) {
        true => &beside,
        false => selected.named(wanted).next()?,
    };
    let path = format!("{dir}/{name}");
    let target = relative(&dir, target)?;
    (path != beside).then_some(SelectedFile { path, what: SelectedKind::Link { target } })
}

/// The relative path from a directory to a file; both are absolute and plain.
pub fn relative(dir: &str, file: &str) -> Option<String> {
    let from: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    let to: Vec<&str> = file.split('/').filter(|part| !part.is_empty()).collect();
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[same..].iter().map(|_| "..");
    let way: Vec<&str> = up.chain(to.get(same..)?.iter().copied()).collect();
    (!way.is_empty()).then(|| way.join("/"))
}

/// Whether `install` could have placed a file at a path, by the directory and the name: a
/// library, a program, or a file of another kind in its directory. What a container's
/// receipt names is not removed otherwise.
pub fn is_placeable(path: &str) -> bool {
    let Some((dir, name)) = path.rsplit_once('/') else { return false };
    if plain_name(name) != Some(name) {
        return false;
    }
    let library = name.starts_with("lib") || name.starts_with("nvidia");
    let of_library = LIBRARY_DIRS.iter().any(|top| is_below(dir, top))
        && library
        && (name.ends_with(".so") || name.contains(".so."));
    let of_program = dir == PROGRAMS && table().any(|(_, program, stem)| program && name == stem);
    of_library || of_program || other_dirs().any(|top| is_below(dir, top))
}

/// The same of a directory that is removed if it is empty: it is above such a file.
pub fn is_placeable_dir(dir: &str) -> bool {
    let all = LIBRARY_DIRS.iter().copied().chain([PROGRAMS]).chain(other_dirs());
    all.into_iter().any(|top| is_below(dir, top) || is_below(top, dir))
}

/// Directories of files that are neither libraries nor programs.
fn other_dirs() -> impl Iterator<Item = &'static str> {
    let rows = OTHER_FILES.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|line| line.split_ascii_whitespace().nth(3))
}

fn is_below(dir: &str, top: &str) -> bool {
    dir.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All directories above these paths, parents before their children.
pub fn directories<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut dirs = BTreeSet::new();
    for path in paths {
        let ends = path.char_indices().filter(|(at, c)| *c == '/' && *at > 0);
        dirs.extend(ends.map(|(at, _)| path[..at].to_string()));
    }
    dirs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "NVIDIA Accelerated Graphics Driver for Linux-x86_64\n550.163.01\n \n\
nvidia nvidia-uvm \n \n \n \n \n\
libcuda.so.550.163.01 0755 CUDA_LIB NATIVE / MODULE:gpgpu\n\
libcuda.so.1 0000 CUDA_SYMLINK NATIVE / libcuda.so.550.163.01 MODULE:gpgpu\n\
libcuda.so 0000 CUDA_SYMLINK NATIVE / libcuda.so.1 MODULE:gpgpu\n\
32/libcuda.so.550.163.01 0755 CUDA_LIB COMPAT32 / MODULE:gpgpu\n\
libnvidia-nvvm.so.550.163.01 0755 CUDA_LIB NATIVE / MODULE:gpgpu\n\
libnvidia-nvvm.so.4 0000 CUDA_SYMLINK NATIVE / libnvidia-nvvm.so.550.163.01 MODULE:gpgpu\n\
libnvidia-ml.so.550.163.01 0755 CUDA_LIB NATIVE / MODULE:nvml\n\
libnvidia-ml.so.1 0000 CUDA_SYMLINK NATIVE / libnvidia-ml.so.550.163.01 MODULE:nvml\n\
libvdpau_nvidia.so.550.163.01 0755 VDPAU_LIB NATIVE vdpau/ MODULE:vdpau\n\
libvdpau_nvidia.so.1 0000 VDPAU_SYMLINK NATIVE vdpau/ libvdpau_nvidia.so.550.163.01 MODULE:vdpau\n\
libvdpau_nvidia.so 0000 VDPAU_SYMLINK NATIVE / libvdpau_nvidia.so.550.163.01 MODULE:vdpau\n\
libnvidia-allocator.so.550.163.01 0755 UTILITY_LIB NATIVE MODULE:opengl\n\
nvidia-drm_gbm.so 0000 GBM_BACKEND_LIB_SYMLINK NATIVE libnvidia-allocator.so.550.163.01 MODULE:opengl\n\
libGLX_nvidia.so.550.163.01 0755 GLX_CLIENT_LIB NATIVE MODULE:opengl\n\
libGLX_nvidia.so.0 0000 GLX_CLIENT_SYMLINK NATIVE libGLX_nvidia.so.550.163.01 MODULE:opengl\n\
libGLX.so.0 0755 GLVND_LIB NATIVE MODULE:opengl\n\
libOpenCL.so.1.0.0 0755 OPENCL_WRAPPER_LIB NATIVE / MODULE:opencl\n\
nvidia_icd.json 0644 VULKAN_ICD_JSON icd.d/ MODULE:opengl\n\
evil.json 0644 VULKAN_ICD_JSON ../../root/ MODULE:opengl\n\
10_nvidia.json 0644 GLVND_EGL_ICD_JSON MODULE:opengl\n\
nvidia.icd 0644 CUDA_ICD MODULE:opencl\n\
nvidia-smi 04755 UTILITY_BINARY MODULE:nvml\n\
nvidia-xconfig 0755 UTILITY_BINARY MODULE:xutils\n\
nvidia-modprobe 04755 NVIDIA_MODPROBE /usr/bin/ MODULE:installer\n\
firmware/gsp_ga10x.bin 0644 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:gsp\n\
libglxserver_nvidia.so.550.163.01 0755 GLX_MODULE_SHARED_LIB extensions/ MODULE:xdriver\n\n";

    fn selected(sets: &[Set]) -> Vec<String> {
        let manifest = Manifest::parse(MANIFEST.as_bytes()).unwrap();
        let mut lines: Vec<String> = select_files(&manifest, sets, "/usr/lib64")
            .into_iter()
            .map(|file| match file.what {
                SelectedKind::File { mode, .. } => format!("{} {mode:o}", file.path),
                SelectedKind::Link { target } => format!("{} -> {target}", file.path),
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn each_set_has_its_files_and_nothing_else() {
        assert_eq!(
            selected(&[Set::Utility]),
            [
                "/usr/bin/nvidia-smi 755",
                "/usr/lib64/libnvidia-ml.so.1 -> libnvidia-ml.so.550.163.01",
                "/usr/lib64/libnvidia-ml.so.550.163.01 755",
            ]
        );
        assert_eq!(
            selected(&[Set::Compute]),
            [
                "/etc/OpenCL/vendors/nvidia.icd 644",
                "/usr/lib64/libcuda.so -> libcuda.so.1",
                "/usr/lib64/libcuda.so.1 -> libcuda.so.550.163.01",
                "/usr/lib64/libcuda.so.550.163.01 755",
                "/usr/lib64/libnvidia-allocator.so.550.163.01 755",
                "/usr/lib64/libnvidia-nvvm.so.4 -> libnvidia-nvvm.so.550.163.01",
                "/usr/lib64/libnvidia-nvvm.so.550.163.01 755",
            ]
        );
        assert_eq!(
            selected(&[Set::Video]),
            [
                "/usr/lib64/libvdpau_nvidia.so -> vdpau/libvdpau_nvidia.so.550.163.01",
                "/usr/lib64/vdpau/libvdpau_nvidia.so.1 -> libvdpau_nvidia.so.550.163.01",
                "/usr/lib64/vdpau/libvdpau_nvidia.so.550.163.01 755",
            ]
        );
        let graphics = selected(&[Set::Graphics]);
        for path in [
            "/etc/vulkan/icd.d/nvidia_icd.json 644",
            "/usr/lib64/libGLX_nvidia.so.0",
            "/usr/lib64/gbm/nvidia-drm_gbm.so -> ../libnvidia-allocator.so.550.163.01",
        ] {
            assert!(graphics.iter().any(|line| line.starts_with(path)), "{path}: {graphics:?}");
        }
        let all = selected(&Set::ALL);
        for never in ["libGLX.so.0", "libOpenCL", "modprobe", "gsp", "evil", "xconfig", "glxserver"]
        {
            assert!(!all.iter().any(|line| line.contains(never)), "{never}");
        }
    }

    #[test]
    fn relative_paths_and_directories_are_made() {
        assert_eq!(relative("/a/b", "/a/b/c").as_deref(), Some("c"));
        assert_eq!(relative("/a/b/d", "/a/c").as_deref(), Some("../../c"));
        let dirs = directories(["/usr/lib/x", "/etc/a/b/y"].into_iter());
        assert_eq!(dirs, ["/etc", "/etc/a", "/etc/a/b", "/usr", "/usr/lib"]);
    }

    #[test]
    fn the_table_is_whole() {
        let lines = OTHER_FILES.lines().filter(|line| !line.starts_with('#')).count();
        let good = OTHER_FILES.lines().filter(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                [set, "lib", name] => Set::named(set).is_some() && name.ends_with(".so"),
                [set, "kind", _, dir] => Set::named(set).is_some() && dir.starts_with('/'),
                _ => false,
            }
        });
        assert_eq!(good.count(), lines);
    }
}
