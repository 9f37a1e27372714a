//! The power goes at any point of a run: what of its files is on the disk then.
//!
//! A file system may write names before data, and nothing at all before it is
//! asked to: after every single call that changes something, a file that has
//! its final name must have its data on the disk, and a tool that reports
//! success must have had its names written too.

use std::collections::{BTreeMap, BTreeSet};

use crate::faults::logged;
use crate::judge::base;
use crate::stage::Stage;
use crate::{Effort, Tally};

const TRACED: &str = "trace=openat,openat2,open,creat,write,pwrite64,writev,ftruncate,fallocate,\
    copy_file_range,fsync,fdatasync,syncfs,sync,rename,renameat,renameat2,link,linkat,symlinkat,\
    unlink,unlinkat,mkdir,mkdirat";

/// What is not yet on the disk.
#[derive(Default)]
struct Disk {
    /// Files with data that nobody asked to be written.
    data: BTreeSet<String>,
    /// Directories with names that nobody asked to be written, and one of them.
    names: BTreeMap<String, String>,
}

/// Follows what a run wrote, call by call.
pub fn cut(stage: &mut dyn Stage, _effort: Effort) -> Tally {
    let base = base(stage);
    let log = logged(stage, &["-y", "-s", "0", "-e", TRACED]);
    let mut tally = Tally::new(
        stage.name(),
        "the power goes after the n-th change of a file",
        "from the order of writes and syncs: no final name has data that is not on the disk; at the end all is",
    );
    // the files that count, by their last name
    let known: BTreeSet<String> =
        base.after.keys().chain(base.before.keys()).map(|i| last(i)).collect();
    let mut disk = Disk::default();
    for line in log.lines() {
        if let Some(result) = disk.follow(line, &known) {
            tally.trial(line, result);
        }
    }
    let left: Vec<String> =
        disk.names.iter().map(|(dir, name)| format!("{name} in {dir}")).collect();
    let end = left.is_empty() && disk.data.iter().all(|file| !known.contains(&last(file)));
    let why = format!("success is reported while not on the disk: {left:?} {:?}", disk.data);
    tally.trial("the end", if end { Ok(()) } else { Err(why) });
    tally
}

fn last(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_string()
}

/// Paths of a call's arguments: what stands in quotes, each below the directory
/// that is named before it (`5</dir>, "name"`), and descriptors by themselves.
fn paths(arguments: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut dir: Option<String> = None;
    let mut rest = arguments;
    while let Some(at) = rest.find(['<', '"']) {
        let close = if rest.as_bytes()[at] == b'<' { '>' } else { '"' };
        let Some(end) = rest[at + 1..].find(close) else { break };
        let text = &rest[at + 1..at + 1 + end];
        rest = &rest[at + end + 2..];
        if close == '>' {
            found.extend(dir.replace(text.to_string()));
        } else if text.is_empty() {
            // what is written, at length 0
        } else if text.starts_with('/') {
            dir = None;
            found.push(text.to_string());
        } else {
            let below = dir.take().unwrap_or_default();
            found.push(format!("{below}/{text}"));
        }
    }
    found.extend(dir);
    found
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(dir, _)| dir).to_string()
}

impl Disk {
    /// One line. `None` where it changes nothing that counts.
    fn follow(&mut self, line: &str, known: &BTreeSet<String>) -> Option<Result<(), String>> {
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let (name, rest) = call.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(") = ")?;
        if result.starts_with('-') {
            return None;
        }
        let paths = paths(arguments);
        let file = paths.first().cloned().unwrap_or_default();
        let kernel = ["/dev/", "/proc/", "/sys/", "pipe:", "socket:", "anon_inode"];
        // gone after a boot as it is
        let passing = |path: &str| path.contains("/run/") || path.ends_with("/run");
        let outside = |path: &str| {
            passing(path)
                || kernel.iter().any(|k| path.starts_with(k)) && !path.starts_with("/dev/shm/")
        };
        match name {
            "openat" | "openat2" | "open" | "creat" => {
                let opened =
                    result.split_once('<').map_or("", |(_, path)| path.trim_end_matches('>'));
                if !arguments.contains("O_CREAT") || opened.is_empty() || outside(opened) {
                    return None;
                }
                // one that was there comes here too: its name is on the disk, and
                // asking for that once more does no harm. Locks are nobody's data.
                if opened.ends_with(".lock") {
                    return None;
                }
                self.names.insert(parent(opened), last(opened));
                Some(Ok(()))
            }
            "write" | "pwrite64" | "writev" | "ftruncate" | "fallocate" | "copy_file_range" => {
                if outside(&file) || file.is_empty() || file.ends_with(".lock") {
                    return None;
                }
                self.data.insert(file.clone());
                let bare = known.contains(&last(&file));
                // written under its final name: torn by a cut
                Some(if bare { Err(format!("'{file}' is written in place")) } else { Ok(()) })
            }
            "fsync" | "fdatasync" => {
                self.data.remove(&file);
                self.names.remove(&file);
                Some(Ok(()))
            }
            "syncfs" | "sync" => {
                self.data.clear();
                self.names.clear();
                Some(Ok(()))
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let (from, to) = (file, paths.get(1).cloned().unwrap_or_default());
                let below = format!("{from}/");
                let dirty = self.data.iter().any(|f| *f == from || f.starts_with(&below));
                let dirs: Vec<String> = self.names.keys().cloned().collect();
                let inner = dirs.iter().any(|dir| *dir == from || dir.starts_with(&below));
                if name.starts_with("rename") {
                    self.names.retain(|dir, _| *dir != from && !dir.starts_with(&below));
                    self.data.retain(|f| *f != from && !f.starts_with(&below));
                    self.names.insert(parent(&to), last(&to));
                }
                let final_name = known.contains(&last(&to));
                Some(match dirty || inner {
                    true if final_name => Err(format!("'{to}' gets data that is not on the disk")),
                    _ => Ok(()),
                })
            }
            "symlinkat" | "mkdir" | "mkdirat" | "unlink" | "unlinkat" => {
                let path = paths.last().cloned().unwrap_or_default();
                if outside(&path) {
                    return None;
                }
                self.data.remove(&path);
                // an empty directory that comes back harms nobody
                if arguments.contains("AT_REMOVEDIR") {
                    self.names.remove(&path);
                    return Some(Ok(()));
                }
                // what goes and comes under a temporary name needs no sync
                if !path.contains(".tmp.") {
                    self.names.insert(parent(&path), last(&path));
                }
                Some(Ok(()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(lines: &[&str]) -> (Vec<bool>, bool) {
        let known = BTreeSet::from(["f".to_string()]);
        let mut disk = Disk::default();
        let steps = lines.iter().filter_map(|line| disk.follow(line, &known)).map(|r| r.is_ok());
        let steps = steps.collect();
        (steps, disk.names.is_empty())
    }

    const OPEN: &str =
        "7 openat(4</d>, \"f.tmp.1\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 5</d/f.tmp.1>";
    const WRITE: &str = "7 write(5</d/f.tmp.1>, \"\"..., 9) = 9";
    const SYNC: &str = "7 fsync(5</d/f.tmp.1>) = 0";
    const RENAME: &str = "7 renameat(4</d>, \"f.tmp.1\", 4</d>, \"f\") = 0";
    const DIR: &str = "7 fsync(4</d>) = 0";

    #[test]
    fn a_file_is_written_synced_renamed_and_its_directory_synced() {
        assert_eq!(follow(&[OPEN, WRITE, SYNC, RENAME, DIR]), (vec![true; 5], true));
        // the name comes before the data
        assert_eq!(follow(&[OPEN, WRITE, RENAME, DIR]).0, [true, true, false, true]);
        // the name may be the old one
        assert!(!follow(&[OPEN, WRITE, SYNC, RENAME]).1);
        let bare = "7 write(5</d/f>, \"\"..., 9) = 9";
        assert_eq!(follow(&[bare]).0, [false]);
        assert_eq!(follow(&["7 write(1<pipe:[1]>, \"\"..., 9) = 9"]).0, [false; 0]);
    }
}
