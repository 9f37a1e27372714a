//! A file tree in the making, and the line format of the recording script.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What is at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Dir,
    File(Vec<u8>),
    Link(String),
    /// A device node as the recording script's line says it, without its path:
    /// `c`, then `195:0 0666 0:0`.
    Node(char, String),
}

/// Absolute paths and what is there. Parents need not be named.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub entries: BTreeMap<String, Entry>,
}

impl Tree {
    pub fn file(&mut self, path: impl Into<String>, text: impl AsRef<[u8]>) {
        self.entries.insert(path.into(), Entry::File(text.as_ref().to_vec()));
    }

    /// A kernel attribute: one line.
    pub fn attr(&mut self, path: impl Into<String>, value: impl std::fmt::Display) {
        self.file(path, format!("{value}\n"));
    }

    pub fn dir(&mut self, path: impl Into<String>) {
        self.entries.insert(path.into(), Entry::Dir);
    }

    pub fn link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.entries.insert(path.into(), Entry::Link(target.into()));
    }

    /// A link to an absolute path of the tree, written relative as the kernel does.
    pub fn link_to(&mut self, path: &str, target: &str) {
        let from: Vec<&str> = path.split('/').collect();
        let to: Vec<&str> = target.split('/').collect();
        let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
        let ups = from.len() - 1 - shared;
        self.link(path, "../".repeat(ups) + &to[shared..].join("/"));
    }

    /// Parses what `record-machine` prints.
    pub fn parse(text: &str) -> Result<Tree> {
        let mut tree = Tree::default();
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            tree.line(line).with_context(|| format!("line {}", number + 1))?;
        }
        Ok(tree)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let mut words = line.splitn(3, ' ');
        let (kind, path) = (words.next().unwrap_or(""), words.next().context("no path")?);
        let path = String::from_utf8(unescape(path)?)?;
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            bail!("not an absolute path: {path}");
        }
        let rest = words.next().unwrap_or("");
        let entry = match kind {
            "d" => Entry::Dir,
            "f" => Entry::File(unescape(rest)?),
            "l" => Entry::Link(String::from_utf8(unescape(rest)?)?),
            "c" | "b" => Entry::Node(if kind == "c" { 'c' } else { 'b' }, rest.to_string()),
            _ => bail!("unknown kind '{kind}'"),
        };
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Writes the tree below a directory. Device nodes, and links beside them,
    /// go into `dev.list`: making them takes privileges.
    pub fn write(&self, root: &Path) -> Result<()> {
        let mut list = String::new();
        for (path, entry) in &self.entries {
            let at = root.join(path.trim_start_matches('/'));
            if let Entry::Node(kind, rest) = entry {
                list.push_str(&format!("{kind} {path} {rest}\n"));
                continue;
            }
            if let (Entry::Link(target), true) = (entry, path.starts_with("/dev/")) {
                list.push_str(&format!("l {path} {target}\n"));
                continue;
            }
            if let Some(parent) = at.parent() {
                fs::create_dir_all(parent).with_context(|| format!("mkdir for {path}"))?;
            }
            match entry {
                Entry::Dir => fs::create_dir_all(&at)?,
                Entry::File(bytes) => fs::write(&at, bytes).with_context(|| path.clone())?,
                Entry::Link(target) => symlink(target, &at).with_context(|| path.clone())?,
                Entry::Node(..) => {}
            }
        }
        if !list.is_empty() {
            fs::write(root.join("dev.list"), list)?;
        }
        Ok(())
    }
}

fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'\\') => b'\\',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|d| (d as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { bail!("bad \\x") };
                (high * 16 + low) as u8
            }
            other => bail!("bad escape {other:?}"),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_format_is_read_back() {
        let tree = Tree::parse(
            "# a\nd /empty\nf /a/b x\\x20\\\\y\\n\\xff\nf /none \nl /l ../a\nc /dev/nvidia0 195:0 0666 0:0\n",
        )
        .unwrap();
        assert_eq!(tree.entries["/a/b"], Entry::File(b"x \\y\n\xff".to_vec()));
        assert_eq!(tree.entries["/none"], Entry::File(Vec::new()));
        assert_eq!(tree.entries["/dev/nvidia0"], Entry::Node('c', "195:0 0666 0:0".into()));
        for bad in ["q /a b", "f relative x", "f /a/../../b x", "f /a \\q", "f"] {
            assert!(Tree::parse(bad).is_err(), "{bad}");
        }
    }
}
