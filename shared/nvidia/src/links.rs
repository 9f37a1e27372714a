//! Chains of symbolic links inside the root of a machine, which may be hostile:
//! links never lead out, and loops end.

use host::{FileKind, Machine};

/// No chain of a driver library's names is longer (Debian's alternatives have
/// five).
const MOST_LINKS: usize = 16;

/// What a chain of links ends in.
pub enum LinkEnd {
    /// A regular file that is not empty: its path.
    File(String),
    /// An empty regular file, over which a container's start mounts the host's:
    /// its path.
    Empty(String),
    /// Nothing: a link of the chain is dangling.
    Absent,
    /// The chain cannot be followed: why, for people.
    Unresolved(String),
}

/// Follows a chain of links inside the machine's root.
pub fn follow(machine: &Machine, path: &str) -> LinkEnd {
    let mut path = path.to_string();
    for _ in 0..MOST_LINKS {
        let stat = match machine.lstat(&path) {
            Ok(stat) => stat,
            Err(error) if error.is_not_found() => return LinkEnd::Absent,
            Err(error) => return LinkEnd::Unresolved(error.to_string()),
        };
        match stat.kind {
            FileKind::File if stat.size == 0 => return LinkEnd::Empty(path),
            FileKind::File => return LinkEnd::File(path),
            FileKind::Link => {}
            _ => {
                let why = format!("'{}' is not a regular file", machine.shown(&path));
                return LinkEnd::Unresolved(why);
            }
        }
        let Ok(target) = machine.read_link(&path) else { return LinkEnd::Absent };
        path = match target.starts_with('/') {
            true => target,
            // not normalised: the kernel resolves the directories before it, inside the root
            false => format!("{}/{target}", path.rsplit_once('/').map_or("", |(dir, _)| dir)),
        };
    }
    LinkEnd::Unresolved(format!("'{}' is a loop of links", machine.shown(&path)))
}

/// The regular file at the end of a chain of links, without `.`, `..` and double
/// slashes in its path. `None`: the chain ends in no regular file.
pub fn resolve(machine: &Machine, path: &str) -> Option<String> {
    match follow(machine, path) {
        LinkEnd::File(path) | LinkEnd::Empty(path) => {
            let normal = normal(&path);
            let inode = |path: &str| machine.lstat(path).ok().map(|stat| stat.inode);
            // a directory that is a link makes `..` lead somewhere else
            Some(if inode(&normal) == inode(&path) { normal } else { path })
        }
        LinkEnd::Absent | LinkEnd::Unresolved(_) => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normal_path_has_no_dots() {
        assert_eq!(normal("/a/b/../c/./d//e"), "/a/c/d/e");
    }
}
