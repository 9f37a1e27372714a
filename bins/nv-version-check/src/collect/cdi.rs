//! CDI specifications: the driver files that a container runtime mounts by
//! name. After an upgrade they still name the old files.

use host::Machine;
use serde::{Deserialize, Serialize};

/// Directories that runtimes read (CDI specification, section 2; /var/run is /run).
const DIRS: [&str; 2] = ["/etc/cdi", "/run/cdi"];
/// Bytes of a specification; nvidia-ctk's have tens of kilobytes.
const MOST: usize = 8 << 20;
/// Files of one specification that are examined.
const MOST_FILES: usize = 4096;

/// A specification that names files of the driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdiSpec {
    /// Its file.
    pub path: String,
    /// Versions that names of its files carry, each with the first such file.
    pub versions: Vec<(String, String)>,
    /// The first library that it names and that does not exist.
    pub missing: Option<String>,
    /// Why it cannot be read.
    pub unreadable: Option<String>,
}

/// The specifications of a root file system that mention NVIDIA.
pub fn specs(root: &Machine) -> Vec<CdiSpec> {
    let mut found = Vec::new();
    for dir in DIRS {
        for name in root.list(dir).unwrap_or_default() {
            if ![".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let path = format!("{dir}/{name}");
            match root.read_text(&path, MOST) {
                Ok(text) if text.contains("nvidia") => found.push(spec(root, path, &text)),
                Ok(_) => {}
                Err(error) => found.push(CdiSpec {
                    path,
                    versions: Vec::new(),
                    missing: None,
                    unreadable: Some(error.to_string()),
                }),
            }
        }
    }
    found
}

fn spec(root: &Machine, path: String, text: &str) -> CdiSpec {
    let mut spec = CdiSpec { path, versions: Vec::new(), missing: None, unreadable: None };
    for file in host_paths(text).into_iter().take(MOST_FILES) {
        let version = version_in(&file);
        if version.is_none() && nvidia::userspace::version_of(&file).is_none() {
            continue;
        }
        let other = version.filter(|v| !spec.versions.iter().any(|(known, _)| known == v));
        spec.versions.extend(other.map(|version| (version, file.clone())));
        if spec.missing.is_none() && !root.exists(&file) {
            spec.missing = Some(file);
        }
    }
    spec
}

/// The version that a driver file's path carries: `libcuda.so.550.163.01`,
/// `/lib/firmware/nvidia/550.163.01/gsp_ga10x.bin`.
fn version_in(path: &str) -> Option<String> {
    nvidia::userspace::driver_version_of(path).or_else(|| {
        let (_, rest) = path.split_once("/firmware/nvidia/")?;
        let version = rest.split('/').next()?;
        nvidia::is_version(version).then(|| version.to_string())
    })
}

/// The values of all keys `hostPath`. That is all that a check needs, so JSON and
/// YAML are read alike: in both a colon separates a key from its value, and the
/// path is in quotes, or bare up to the end of the line or of a flow mapping.
fn host_paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("hostPath") {
            rest = rest[at + "hostPath".len()..].trim_start_matches(['"', '\'']).trim_start();
            let Some(value) = rest.strip_prefix(':') else { continue };
            let value = value.trim_start();
            let path = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => value[1..].split(quote).next(),
                _ => value.split([',', '}', '#']).next().map(str::trim),
            };
            found.extend(path.filter(|path| path.starts_with('/')).map(str::to_string));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_name_their_files_alike() {
        let yaml = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  mounts:\n  \
            - containerPath: /usr/lib/libcuda.so.1\n    hostPath: /usr/lib/libcuda.so.550.163.01\n  \
            # hostPath: /usr/lib/libcuda.so.1.2\n  - {hostPath: '/a b/libnvidia-ml.so.550.163.01', x: 1}\n";
        assert_eq!(
            host_paths(yaml),
            ["/usr/lib/libcuda.so.550.163.01", "/a b/libnvidia-ml.so.550.163.01"]
        );
        let json = r#"{"mounts":[{"hostPath":"/l/libcuda.so.570.1.2","containerPath":"/x"},{"hostPath" : "/y"}]}"#;
        assert_eq!(host_paths(json), ["/l/libcuda.so.570.1.2", "/y"]);
    }

    #[test]
    fn versions_are_in_names_of_libraries_and_of_firmware_directories() {
        assert_eq!(version_in("/x/libcuda.so.550.163.01").as_deref(), Some("550.163.01"));
        assert_eq!(
            version_in("/lib/firmware/nvidia/580.95.05/gsp_ga10x.bin").as_deref(),
            Some("580.95.05")
        );
        assert_eq!(version_in("/usr/bin/nvidia-smi"), None);
        // a specification of nvidia-ctk names them: they are not of the driver's version
        assert_eq!(version_in("/x/libnvidia-egl-gbm.so.1.1.1"), None);
        assert_eq!(version_in("/x/libnvidia-egl-wayland.so.1.1.13"), None);
    }
}
