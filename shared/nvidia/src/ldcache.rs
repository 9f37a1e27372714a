//! /etc/ld.so.cache: which files the dynamic linker takes for a soname.

/// Start of glibc's format; an older one may precede it (dl-cache.h).
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// FLAG_ELF_LIBC6 with the machine in the high byte: 64-bit x86 and ARM.
const FLAGS_64: [u32; 2] = [0x0303, 0x0a03];

/// FLAG_ELF_LIBC6 alone: 32-bit x86.
const FLAGS_32: [u32; 1] = [0x0003];

/// The width of libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryBits {
    /// Of x86_64 and of 64-bit ARM.
    SixtyFour,
    /// Of 32-bit x86.
    ThirtyTwo,
}

/// Paths that the cache has for a soname, of libraries of one width, in the
/// linker's order. `None`: this is not a cache.
pub fn lookup(cache: &[u8], soname: &str, bits: LibraryBits) -> Option<Vec<String>> {
    let wanted: &[u32] = match bits {
        LibraryBits::SixtyFour => &FLAGS_64,
        LibraryBits::ThirtyTwo => &FLAGS_32,
    };
    let at = memchr::memmem::find(cache, MAGIC)?;
    // offsets of strings count from here
    let cache = &cache[at..];
    let number = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(cache.get(at..at + 4)?.try_into().ok()?))
    };
    let text = |at: u32| -> Option<&[u8]> {
        let rest = cache.get(at as usize..)?;
        Some(&rest[..memchr::memchr(0, rest)?])
    };
    let count = (number(20)? as usize).min(cache.len() / ENTRY);
    let mut found = Vec::new();
    for entry in (0..count).map(|n| HEADER + n * ENTRY) {
        let (Some(flags), Some(key), Some(value)) =
            (number(entry), number(entry + 4), number(entry + 8))
        else {
            break;
        };
        if wanted.contains(&flags) && text(key) == Some(soname.as_bytes()) {
            found.extend(text(value).map(|path| String::from_utf8_lossy(path).into_owned()));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(cache: &[u8], soname: &str) -> Option<Vec<String>> {
        super::lookup(cache, soname, LibraryBits::SixtyFour)
    }

    fn cache(entries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let base = HEADER + entries.len() * ENTRY;
        let mut table = Vec::new();
        for (flags, name, path) in entries {
            table.extend(flags.to_le_bytes());
            for text in [name, path] {
                table.extend(((base + strings.len()) as u32).to_le_bytes());
                strings.extend(text.as_bytes());
                strings.push(0);
            }
            table.extend([0; 12]);
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend((entries.len() as u32).to_le_bytes());
        bytes.extend((strings.len() as u32).to_le_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(table);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn the_first_entry_of_the_right_kind_comes_first() {
        let new = cache(&[
            (0x0003, "libcuda.so.1", "/usr/lib/i386-linux-gnu/libcuda.so.1"),
            (0x0303, "libcuda.so.1", "/opt/libcuda.so.1"),
            (0x0303, "libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"),
            (0x0303, "libcuda.so", "/usr/lib/x86_64-linux-gnu/libcuda.so"),
        ]);
        let paths = ["/opt/libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1"];
        assert_eq!(lookup(&new, "libcuda.so.1").unwrap(), paths);
        assert_eq!(lookup(&new, "libnvidia-ml.so.1").unwrap(), Vec::<String>::new());
        let old = super::lookup(&new, "libcuda.so.1", LibraryBits::ThirtyTwo).unwrap();
        assert_eq!(old, ["/usr/lib/i386-linux-gnu/libcuda.so.1"]);
        // after the old format
        let both = [&b"ld.so-1.7.0\0\0\0\0\0"[..], &new].concat();
        assert_eq!(lookup(&both, "libcuda.so.1").unwrap(), paths);
        assert_eq!(lookup(b"ld.so-1.7.0", "x"), None);
    }

    #[test]
    fn a_lying_cache_ends_the_search() {
        let mut bytes = cache(&[(0x0303, "libcuda.so.1", "/x")]);
        bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(lookup(&bytes, "libcuda.so.1").unwrap(), ["/x"]);
        for length in 0..bytes.len() {
            let _ = lookup(&bytes[..length], "libcuda.so.1");
        }
        for at in 20..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] = 0xff;
            let _ = lookup(&bad, "libcuda.so.1");
        }
    }
}
