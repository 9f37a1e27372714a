//! Files as they are now: to be put back, and to be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Names and what is there.
pub type Look = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Dir(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
    /// A node or the like: its numbers.
    Special(u32, u64),
}

/// What is below some directories of a root.
#[derive(Clone, Debug)]
pub struct Saved {
    root: PathBuf,
    dirs: Vec<String>,
    entries: BTreeMap<String, Entry>,
}

fn entries(root: &Path, dirs: &[String]) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for dir in dirs {
        for entry in walkdir::WalkDir::new(root.join(dir)).into_iter().flatten() {
            let name = entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let Ok(meta) = entry.metadata() else { continue };
            let (kind, mode) = (meta.file_type(), meta.mode() & 0o7777);
            let entry = if kind.is_dir() {
                Entry::Dir(mode)
            } else if kind.is_symlink() {
                Entry::Link(fs::read_link(entry.path()).unwrap())
            } else if kind.is_char_device() || kind.is_fifo() {
                Entry::Special(meta.mode(), meta.rdev())
            } else {
                Entry::File(mode, fs::read(entry.path()).unwrap())
            };
            entries.insert(name, entry);
        }
    }
    entries
}

impl Saved {
    /// What is there now. A directory that is not there is nothing.
    pub fn of(root: &Path, dirs: &[&str]) -> Saved {
        let dirs: Vec<String> = dirs.iter().map(|dir| (*dir).to_string()).collect();
        let entries = entries(root, &dirs);
        Saved { root: root.into(), dirs, entries }
    }

    /// Puts everything back.
    pub fn restore(&self) {
        let now = entries(&self.root, &self.dirs);
        for (name, entry) in now.iter().rev() {
            if self.entries.get(name) == Some(entry) {
                continue;
            }
            let path = self.root.join(name);
            let stays =
                matches!((entry, self.entries.get(name)), (Entry::Dir(_), Some(Entry::Dir(_))));
            match entry {
                _ if stays => {}
                Entry::Dir(_) => fs::remove_dir(path).unwrap(),
                _ => fs::remove_file(path).unwrap(),
            }
        }
        for (name, entry) in &self.entries {
            if now.get(name) == Some(entry) {
                continue;
            }
            let path = self.root.join(name);
            match entry {
                Entry::Dir(_) => fs::create_dir_all(&path).unwrap(),
                Entry::File(_, bytes) => fs::write(&path, bytes).unwrap(),
                Entry::Link(target) => symlink(target, &path).unwrap(),
                Entry::Special(..) => panic!("{name} is gone, and no tool may remove it"),
            }
            if let Entry::Dir(mode) | Entry::File(mode, _) = entry {
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }

    /// What is there now, without directories that hold nothing of note.
    pub fn look(&self) -> Look {
        let mut look = Look::new();
        for (name, entry) in entries(&self.root, &self.dirs) {
            let what = match entry {
                Entry::Dir(_) => continue,
                Entry::File(mode, bytes) => {
                    format!("{mode:o} {}", String::from_utf8_lossy(&bytes))
                }
                Entry::Link(target) => format!("-> {}", target.display()),
                Entry::Special(mode, number) => format!("node {mode:o} {number:x}"),
            };
            look.insert(name, what);
        }
        look
    }
}
