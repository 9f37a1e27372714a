//! CUDA in a root file system: toolkits, and libraries for forward
//! compatibility.

use host::{FileKind, Machine};
use nvidia::resolve;
use nvidia::userspace::version_of;
use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};

/// A version file of a toolkit has a few kilobytes.
const MOST_TEXT: usize = 1 << 20;
/// libcuda.so of 2025 has 90 MB.
const MOST_LIBRARY: usize = 256 << 20;

/// An installed toolkit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaToolkit {
    /// Its directory.
    pub path: String,
    /// Its release: `12.4.1`, `12.4`.
    pub release: Option<String>,
}

/// A libcuda that brings a newer CUDA than the driver's own (CUDA's forward
/// compatibility packages). It is not a mismatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatLibrary {
    /// Its file.
    pub path: String,
    /// Driver version that it comes from.
    pub version: String,
    /// First components of the drivers that it may run on, where its ELF note
    /// says so.
    pub drivers: Option<Vec<u64>>,
}

/// Directories that hold a toolkit; `/usr/local/cuda` is a link to one of them.
pub fn prefixes(root: &Machine) -> Vec<String> {
    let names = root.list("/usr/local").unwrap_or_default();
    let mut dirs: Vec<String> = Vec::new();
    for name in names.iter().filter(|name| *name == "cuda" || name.starts_with("cuda-")) {
        let path = format!("/usr/local/{name}");
        if root.lstat(&path).is_ok_and(|stat| stat.kind == FileKind::Dir) {
            dirs.push(path);
        }
    }
    // a link that leads out of /usr/local: the toolkit is in another directory
    if dirs.is_empty() && names.iter().any(|name| name == "cuda") {
        dirs.push("/usr/local/cuda".into());
    }
    dirs
}

/// The toolkits of a root file system.
pub fn toolkits(root: &Machine) -> Vec<CudaToolkit> {
    let mut found = Vec::new();
    for path in prefixes(root) {
        let json = root.read_text(&format!("{path}/version.json"), MOST_TEXT);
        let text = root.read_text(&format!("{path}/version.txt"), MOST_TEXT);
        let nvcc = root.exists(&format!("{path}/bin/nvcc"));
        let release = json
            .ok()
            .and_then(|text| of_json(&text))
            .or_else(|| of_text(&text.ok()?))
            .or_else(|| of_name(&path).filter(|_| nvcc));
        if release.is_some() || nvcc {
            found.push(CudaToolkit { path, release });
        }
    }
    // Debian's package shares /usr with everything else
    if let Ok(header) = root.read_text("/usr/include/cuda.h", 16 << 20) {
        if let Some(release) = of_header(&header) {
            found.push(CudaToolkit { path: "/usr/include/cuda.h".into(), release: Some(release) });
        }
    }
    found
}

/// version.json. Some releases have a date where the patch number should be
/// (12.6.20241114): then the version of the runtime or the compiler counts.
fn of_json(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let version = |part: &str| value[part]["version"].as_str().map(str::to_string);
    let plain = |text: &String| {
        let numbers = nvidia::numbers(text);
        numbers.len() >= 2 && numbers.iter().all(|n| *n < 1000)
    };
    let short = |text: String| {
        let numbers = nvidia::numbers(&text);
        Some(format!("{}.{}", numbers.first()?, numbers.get(1)?))
    };
    version("cuda")
        .filter(plain)
        .or_else(|| version("cuda_cudart").and_then(short))
        .or_else(|| version("cuda_nvcc").and_then(short))
}

/// `CUDA Version 10.2.89`
fn of_text(text: &str) -> Option<String> {
    let (_, version) = text.split_once("CUDA Version ")?;
    let version = version.split_ascii_whitespace().next()?;
    (nvidia::numbers(version).len() >= 2).then(|| version.to_string())
}

/// `/usr/local/cuda-12.4`
fn of_name(path: &str) -> Option<String> {
    let version = path.rsplit_once("/cuda-")?.1;
    (nvidia::numbers(version).len() >= 2).then(|| version.to_string())
}

/// `#define CUDA_VERSION 11080`
fn of_header(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("#define CUDA_VERSION"))?;
    let number: u32 = line.trim().parse().ok()?;
    Some(format!("{}.{}", number / 1000, number % 1000 / 10))
}

/// The libraries for forward compatibility.
pub fn compats(root: &Machine) -> Vec<CompatLibrary> {
    let mut found: Vec<CompatLibrary> = Vec::new();
    for prefix in prefixes(root) {
        let dir = format!("{prefix}/compat");
        for name in root.list(&dir).unwrap_or_default() {
            let Some(version) = version_of(&name).filter(|_| name.starts_with("libcuda.so."))
            else {
                continue;
            };
            let path = format!("{dir}/{name}");
            if resolve(root, &path).as_deref() == Some(&path) {
                let drivers = note(root, &path);
                found.push(CompatLibrary { path, version, drivers });
            }
        }
    }
    found
}

/// ELF section `.note.cuda.fwd_compatibility`: a note whose descriptor is JSON
/// with a list `Driver`.
fn note(root: &Machine, path: &str) -> Option<Vec<u64>> {
    let bytes = root.read(path, MOST_LIBRARY).ok()?;
    let file = object::File::parse(bytes.as_slice()).ok()?;
    drivers_of_note(file.section_by_name(".note.cuda.fwd_compatibility")?.data().ok()?)
}

fn drivers_of_note(note: &[u8]) -> Option<Vec<u64>> {
    let number = |at: usize| Some(u32::from_le_bytes(note.get(at..at + 4)?.try_into().ok()?));
    let (name, length) = (number(0)? as usize, number(4)? as usize);
    let start = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
    let text = note.get(start..start.checked_add(length)?)?;
    let text = text.split(|b| *b == 0).next()?;
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    value["Driver"].as_array().map(|list| list.iter().filter_map(|n| n.as_u64()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_found_in_every_kind_of_version_file() {
        let json = r#"{"cuda":{"name":"CUDA SDK","version":"13.2.2"}}"#;
        assert_eq!(of_json(json).as_deref(), Some("13.2.2"));
        let dated = r#"{"cuda":{"version":"12.6.20241114"},"cuda_cudart":{"version":"12.6.77"}}"#;
        assert_eq!(of_json(dated).as_deref(), Some("12.6"));
        assert_eq!(of_json("[]"), None);
        assert_eq!(of_text("CUDA Version 10.2.89\n").as_deref(), Some("10.2.89"));
        assert_eq!(of_name("/usr/local/cuda-12.4").as_deref(), Some("12.4"));
        assert_eq!(of_name("/usr/local/cuda-12"), None);
        assert_eq!(of_header("x\n#define CUDA_VERSION 11080\n").as_deref(), Some("11.8"));
    }

    #[test]
    fn the_note_names_the_drivers() {
        let json = br#"{"Format":1,"CUDA Version":"12.9","Driver":[535,550],"Device":[1]}"#;
        let mut note = Vec::new();
        note.extend(19u32.to_le_bytes());
        note.extend((json.len() as u32).to_le_bytes());
        note.extend(1u32.to_le_bytes());
        note.extend(b"NVIDIA Corporation\0\0");
        note.extend(json);
        assert_eq!(drivers_of_note(&note), Some(vec![535, 550]));
        for length in 0..note.len() {
            assert_eq!(drivers_of_note(&note[..length]), None);
        }
        note[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(drivers_of_note(&note), None);
    }
}
