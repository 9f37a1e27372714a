//! modules.alias.bin: modules.alias as a tree by letters, in which kmod searches.
//!
//! The format is that of kmod's libkmod/libkmod-index.c (version 2.1): numbers
//! are big-endian; the upper four bits of a node's offset say what it has, in
//! this order: a prefix ended by NUL, children (first and last letter, an offset
//! for each in between), values (their number, then priority and text of each).

const MAGIC: u32 = 0xb007_f457;
const VERSION_MAJOR: u32 = 2;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0fff_ffff;
/// Nodes that one search visits at most: a PCI function needs some hundred, and
/// the file may be anything.
const MOST: usize = 1 << 16;

/// Letters of an alias at most.
const LONGEST: usize = 1024;

/// Aliases with their modules whose letters up to the first wildcard are those
/// of `key`. `None`: the file has another format.
pub fn candidates(index: &[u8], key: &str) -> Option<Vec<(String, String)>> {
    if number(index, 0)? != MAGIC || number(index, 4)? >> 16 != VERSION_MAJOR {
        return None;
    }
    let mut search = Search { index, left: MOST, found: Vec::new() };
    search.along(number(index, 8)?, key.as_bytes())?;
    Some(search.found)
}

fn number(index: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(index.get(at..at + 4)?.try_into().ok()?))
}

/// Text up to the NUL, and where the next thing begins.
fn text(index: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = index.get(at..)?;
    let end = memchr::memchr(0, rest)?;
    Some((&rest[..end], at + end + 1))
}

struct Node<'a> {
    prefix: &'a [u8],
    first: u8,
    /// Four bytes each.
    children: &'a [u8],
    values: Option<usize>,
}

struct Search<'a> {
    index: &'a [u8],
    left: usize,
    found: Vec<(String, String)>,
}

fn is_wildcard(letter: u8) -> bool {
    matches!(letter, b'*' | b'?' | b'[')
}

impl<'a> Search<'a> {
    fn node(&mut self, offset: u32) -> Option<Node<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut at = (offset & OFFSET) as usize;
        let mut node = Node { prefix: &[], first: 0, children: &[], values: None };
        if offset & HAS_PREFIX != 0 {
            (node.prefix, at) = text(self.index, at)?;
        }
        if offset & HAS_CHILDREN != 0 {
            let (first, last) = (*self.index.get(at)?, *self.index.get(at + 1)?);
            let count = usize::from(last.checked_sub(first)?) + 1;
            node.first = first;
            node.children = self.index.get(at + 2..at + 2 + 4 * count)?;
            at += 2 + 4 * count;
        }
        node.values = (offset & HAS_VALUES != 0).then_some(at);
        Some(node)
    }

    /// Follows the letters of the key, and takes all that a wildcard begins.
    fn along(&mut self, root: u32, key: &[u8]) -> Option<()> {
        let mut offset = root;
        let mut at = 0;
        loop {
            let node = self.node(offset)?;
            for (place, letter) in node.prefix.iter().enumerate() {
                if is_wildcard(*letter) {
                    return self.all_of(&node, &mut key[..at - place].to_vec());
                }
                if key.get(at) != Some(letter) {
                    return Some(());
                }
                at += 1;
            }
            for wildcard in [b'*', b'?', b'['] {
                if let Some(child) = child(&node, wildcard) {
                    let mut path = key[..at].to_vec();
                    path.push(wildcard);
                    self.all(child, &mut path)?;
                }
            }
            let Some(letter) = key.get(at) else {
                return self.values(&node, &key[..at]);
            };
            let Some(child) = child(&node, *letter) else { return Some(()) };
            offset = child;
            at += 1;
        }
    }

    /// Everything below a node whose letters begin with `path`.
    fn all(&mut self, offset: u32, path: &mut Vec<u8>) -> Option<()> {
        // no alias is so long: a node may be its own child
        if path.len() > LONGEST {
            return None;
        }
        let node = self.node(offset)?;
        self.all_of(&node, path)
    }

    fn all_of(&mut self, node: &Node<'a>, path: &mut Vec<u8>) -> Option<()> {
        let before = path.len();
        path.extend_from_slice(node.prefix);
        self.values(node, path)?;
        for (place, bytes) in node.children.chunks_exact(4).enumerate() {
            let child = u32::from_be_bytes(bytes.try_into().ok()?);
            if child & OFFSET != 0 {
                path.push(node.first + place as u8);
                self.all(child, path)?;
                path.pop();
            }
        }
        path.truncate(before);
        Some(())
    }

    fn values(&mut self, node: &Node<'a>, path: &[u8]) -> Option<()> {
        let Some(mut at) = node.values else { return Some(()) };
        let count = number(self.index, at)?;
        at += 4;
        for _ in 0..count {
            self.left = self.left.checked_sub(1)?;
            let (module, next) = text(self.index, at + 4)?;
            let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.found.push((of(path), of(module)));
            at = next;
        }
        Some(())
    }
}

fn child(node: &Node<'_>, letter: u8) -> Option<u32> {
    let place = usize::from(letter.checked_sub(node.first)?);
    let bytes = node.children.get(4 * place..4 * place + 4)?;
    let offset = u32::from_be_bytes(bytes.try_into().ok()?);
    (offset & OFFSET != 0).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index as depmod writes it, of keys that share their letters up to a
    /// wildcard: node by node, children first.
    fn index() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_be_bytes());
        bytes.extend(0x0002_0001_u32.to_be_bytes());
        bytes.extend([0; 4]);
        let mut node = |prefix: &str, children: &[(u8, u32)], value: Option<&str>| -> u32 {
            let mut flags = bytes.len() as u32;
            if !prefix.is_empty() {
                flags |= HAS_PREFIX;
                bytes.extend(prefix.as_bytes());
                bytes.push(0);
            }
            if let (Some((first, _)), Some((last, _))) = (children.first(), children.last()) {
                flags |= HAS_CHILDREN;
                bytes.extend([*first, *last]);
                for letter in *first..=*last {
                    let child = children.iter().find(|(l, _)| *l == letter);
                    bytes.extend(child.map_or(0, |(_, offset)| *offset).to_be_bytes());
                }
            }
            if let Some(module) = value {
                flags |= HAS_VALUES;
                bytes.extend(1u32.to_be_bytes());
                bytes.extend(7u32.to_be_bytes());
                bytes.extend(module.as_bytes());
                bytes.push(0);
            }
            flags
        };
        let any = node("d*", &[], Some("generic"));
        let one = node("2", &[], Some("exact"));
        let other = node("3", &[], Some("other"));
        let devices = node("d", &[(b'2', one), (b'3', other)], None);
        let digit = node("", &[(b'1', devices)], None);
        let root = node("pci:v", &[(b'*', any), (b'0', digit)], None);
        bytes[8..12].copy_from_slice(&root.to_be_bytes());
        bytes
    }

    #[test]
    fn what_begins_with_the_letters_of_the_key_or_a_wildcard_is_found() {
        let found = candidates(&index(), "pci:v01d22").unwrap();
        let pair = |alias: &str, module: &str| (alias.to_string(), module.to_string());
        assert_eq!(found, [pair("pci:v*d*", "generic"), pair("pci:v01d22", "exact")]);
        assert_eq!(candidates(&index(), "pci:v99").unwrap(), [pair("pci:v*d*", "generic")]);
        assert!(candidates(&index(), "usb:v1").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_index_is_refused_whatever_it_is() {
        assert_eq!(candidates(b"", "pci:"), None);
        assert_eq!(candidates(b"alias pci:v000010DEd* nvidia\n", "pci:"), None);
        // a node that is its own child
        let mut ring = Vec::new();
        ring.extend(MAGIC.to_be_bytes());
        ring.extend(0x0002_0001_u32.to_be_bytes());
        let root = 12 | HAS_CHILDREN;
        ring.extend(root.to_be_bytes());
        ring.extend([b'*', b'*']);
        ring.extend(root.to_be_bytes());
        assert_eq!(candidates(&ring, "pci:"), None);
        for end in 0..index().len() {
            let _ = candidates(&index()[..end], "pci:v01d22");
        }
    }
}
