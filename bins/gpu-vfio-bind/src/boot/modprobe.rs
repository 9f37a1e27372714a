//! modprobe's configuration, all of it.

use std::collections::BTreeMap;

use host::{FileError, Machine};

const MOST: usize = 1 << 20;

/// Directories of modprobe.d(5): a file hides those of the same name in the
/// directories after its own.
const MODPROBE_DIRS: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// modprobe's configuration, in the order in which it is read.
pub fn modprobe_files(machine: &Machine) -> Result<Vec<(String, String)>, FileError> {
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    for dir in MODPROBE_DIRS {
        for name in machine.list(dir)?.into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{dir}/{name}");
            paths.entry(name).or_insert(path);
        }
    }
    let mut files = Vec::new();
    for path in paths.into_values() {
        let text = machine.read_text(&path, MOST)?;
        files.push((path, text));
    }
    Ok(files)
}
