//! A tree of files, to be compared with itself later.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Every path with what is there. Files that a start of the container or
/// ldconfig writes anew by itself are left out by the caller.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    look(root, u64::MAX)
}

/// The same for whoever asks often: of files above 16 KiB not the content but
/// inode and times, which a file that nobody touched keeps.
pub fn quick_tree(root: &Path) -> BTreeMap<String, String> {
    look(root, 16 << 10)
}

fn look(root: &Path, most: u64) -> BTreeMap<String, String> {
    let walk =
        walkdir::WalkDir::new(root).min_depth(1).into_iter().map(|entry| entry.expect("walk"));
    walk.map(|entry| {
        let meta = entry.metadata().expect("stat");
        let name = entry.path().strip_prefix(root).expect("below").to_string_lossy().into_owned();
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).expect("link").display())
        } else if meta.is_file() && meta.len() > most {
            format!("{} bytes {} {}.{}", meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec())
        } else if meta.is_file() {
            let bytes = fs::read(entry.path()).expect("file");
            let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            format!("{} bytes {sum:x}", bytes.len())
        } else {
            String::new()
        };
        (name, format!("{:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid()))
    })
    .collect()
}

/// What is in one and not in the other.
pub fn difference(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let of = |from: &BTreeMap<String, String>, to: &BTreeMap<String, String>, sign: char| {
        let other = from.iter().filter(|(path, what)| to.get(*path) != Some(*what));
        other.map(|(path, what)| format!("{sign} {path}: {what}")).collect::<Vec<_>>()
    };
    [of(before, after, '-'), of(after, before, '+')].concat()
}
