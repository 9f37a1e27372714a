//! The tar archive inside: members in their order, with caps on everything that
//! an archive could make grow.

use std::fmt;
use std::io::{self, BufRead};

use crate::assignments::number;

/// Bytes of a path or of a link's target.
const MOST_PATH: usize = 4096;
/// Bytes of a pax header.
const MOST_PAX: u64 = 1 << 20;
/// Headers that may stand before one member.
const MOST_EXTENSIONS: usize = 16;
/// Bytes behind the end of an archive: padding to a full record.
const MOST_PADDING: u64 = 16 << 20;

const BLOCK: usize = 512;

/// How much an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Members.
    pub entries: u64,
    /// Bytes in all files together.
    pub bytes: u64,
}

impl Default for ArchiveLimits {
    /// A driver of 2025 has 1,200 members and 2 GB, CUDA 8 GB.
    fn default() -> ArchiveLimits {
        ArchiveLimits { entries: 200_000, bytes: 32 << 30 }
    }
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of an earlier member.
    Hardlink(Vec<u8>),
    /// Something that no installer has: device, FIFO, sparse file, ...
    Other(&'static str),
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permissions with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Bytes of content.
    pub size: u64,
}

/// Why an archive cannot be read on.
#[derive(Debug)]
pub enum TarError {
    /// It cannot be read or decompressed.
    Io(io::Error),
    /// It is damaged, or no tar archive.
    Malformed(String),
    /// It holds more than it may.
    Limit(String),
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TarError::Io(error) => write!(f, "{error}"),
            TarError::Malformed(why) => write!(f, "the archive inside is damaged: {why}"),
            TarError::Limit(why) => write!(f, "the archive inside is too large: {why}"),
        }
    }
}

impl std::error::Error for TarError {}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        TarError::Io(error)
    }
}

fn malformed<T>(why: impl Into<String>) -> Result<T, TarError> {
    Err(TarError::Malformed(why.into()))
}

impl Member {
    /// Where below the directory it belongs: its path without `./` and final
    /// slash, empty for the directory itself. Errors: it would lead out of it
    /// or is no sane name, in words.
    pub fn relative_path(&self) -> Result<Vec<u8>, &'static str> {
        relative_path(&self.path)
    }

    /// The same for what a link points to. A symbolic link's target is given
    /// back as it is: `..` may only stand at its beginning and not lead out,
    /// since behind a name that is a link itself it means anything.
    pub fn link_target(&self) -> Result<Vec<u8>, &'static str> {
        match &self.kind {
            MemberKind::Hardlink(target) => relative_path(target),
            MemberKind::Symlink(target) => {
                let depth = self.relative_path()?.split(|b| *b == b'/').count().saturating_sub(1);
                if target.starts_with(b"/") {
                    return Err("an absolute link");
                }
                if target.is_empty() || target.contains(&0) {
                    return Err("a link to nothing");
                }
                let parts = target.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b"."));
                let mut ups = 0;
                let mut named = false;
                for part in parts {
                    match part {
                        b".." if named || ups == depth => {
                            return Err("a link that leads out of the directory");
                        }
                        b".." => ups += 1,
                        _ => named = true,
                    }
                }
                Ok(target.clone())
            }
            _ => Err("no link"),
        }
    }
}

/// Far more than an installer needs. Each directory of a path is made, and held open while
/// it is removed again: 2,000 of them are more than a process may have open.
const MOST_DEPTH: usize = 64;

fn relative_path(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    if path.is_empty() || path.contains(&0) {
        return Err("no name");
    }
    if path.starts_with(b"/") {
        return Err("an absolute path");
    }
    let mut clean = Vec::with_capacity(path.len());
    let mut depth = 0;
    for part in path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        if part == b".." {
            return Err("a path with '..'");
        }
        if part.len() > 255 {
            return Err("a name of more than 255 bytes");
        }
        depth += 1;
        if depth > MOST_DEPTH {
            return Err("a path of more than 64 directories");
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

/// Whether 512 bytes are a tar header: its checksum is right.
pub(crate) fn is_header(block: &[u8]) -> bool {
    header(block).is_some()
}

/// The block as a header, where its checksum says that it is one.
fn header(block: &[u8]) -> Option<&tar::Header> {
    if block.len() != BLOCK {
        return None;
    }
    let header = tar::Header::from_byte_slice(block);
    let stated = header.cksum().ok()?;
    let sum = block.iter().enumerate().map(|(at, byte)| {
        // its own field counts as blanks
        u32::from(if (148..156).contains(&at) { b' ' } else { *byte })
    });
    (sum.sum::<u32>() == stated).then_some(header)
}

/// Reads the members of one archive.
pub struct TarReader<'a> {
    input: &'a mut dyn BufRead,
    left: ArchiveLimits,
    limits: ArchiveLimits,
    /// Content of the current member that is still to come.
    content: u64,
    /// Bytes to the next block behind it.
    padding: u64,
}

/// What extension headers say of the next member.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<'a> TarReader<'a> {
    /// An archive within `limits`.
    pub fn new(input: &'a mut dyn BufRead, limits: ArchiveLimits) -> TarReader<'a> {
        TarReader { input, left: limits, limits, content: 0, padding: 0 }
    }

    /// What of the limits is left for an archive that follows.
    pub fn left(&self) -> ArchiveLimits {
        self.left
    }

    /// The next member; what of the last one was not read is skipped. `None`
    /// at the end.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        self.content::<TarError>(&mut |_| Ok(()))?;
        let mut extended = Extended::default();
        for _ in 0..MOST_EXTENSIONS {
            let Some(block) = self.block()? else { return Ok(None) };
            if block.iter().all(|b| *b == 0) {
                self.skip_padding()?;
                return Ok(None);
            }
            let Some(header) = header(&block) else {
                return malformed("a header's checksum is wrong");
            };
            let size = field(header, 124..136, tar::Header::entry_size);
            let size = size.map_err(TarError::Malformed)?;
            match header.entry_type().as_byte() {
                b'L' => extended.path = Some(self.name(size)?),
                b'K' => extended.link = Some(self.name(size)?),
                b'x' | b'X' => self.pax(size, &mut extended)?,
                b'g' => drop(self.small(size, MOST_PAX, "a global header")?),
                _ => {
                    return match member(header, extended, size) {
                        Err(why) => malformed(why),
                        Ok(member) => self.admit(member).map(Some),
                    };
                }
            }
        }
        malformed("too many headers before one member")
    }

    /// Passes on the rest of the current member's content.
    pub fn content<E: From<TarError>>(
        &mut self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.content > 0 {
            let bytes = fill(self.input).map_err(|error| E::from(TarError::Io(error)))?;
            if bytes.is_empty() {
                return Err(E::from(TarError::Malformed("it ends inside a file".into())));
            }
            let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(bytes.len());
            let taken = take(&bytes[..most]);
            self.input.consume(most);
            self.content -= most as u64;
            taken?;
        }
        let padding = std::mem::take(&mut self.padding);
        self.skip(padding).map_err(E::from)
    }

    /// The current member's content as a whole; `None` where it has more than
    /// `most` bytes.
    pub fn bytes(&mut self, most: usize) -> Result<Option<Vec<u8>>, TarError> {
        if self.content > most as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.content::<TarError>(&mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    fn admit(&mut self, member: Member) -> Result<Member, TarError> {
        let Some(entries) = self.left.entries.checked_sub(1) else {
            return Err(TarError::Limit(format!("more than {} members", self.limits.entries)));
        };
        let Some(bytes) = self.left.bytes.checked_sub(member.size) else {
            return Err(TarError::Limit(format!("more than {} bytes", self.limits.bytes)));
        };
        self.left = ArchiveLimits { entries, bytes };
        self.content = member.size;
        self.padding = padding_of(member.size);
        Ok(member)
    }

    /// One block; `None` where the archive ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut held = 0;
        while held < BLOCK {
            let bytes = fill(self.input)?;
            if bytes.is_empty() {
                return if held == 0 { Ok(None) } else { malformed("it ends inside a header") };
            }
            let most = bytes.len().min(BLOCK - held);
            block[held..held + most].copy_from_slice(&bytes[..most]);
            self.input.consume(most);
            held += most;
        }
        Ok(Some(block))
    }

    fn skip(&mut self, mut count: u64) -> Result<(), TarError> {
        while count > 0 {
            let bytes = fill(self.input)?;
            if bytes.is_empty() {
                return malformed("it ends early");
            }
            let most = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
            self.input.consume(most);
            count -= most as u64;
        }
        Ok(())
    }

    /// To the end of the decompressed data, so that the decompressor has seen
    /// its own end, too.
    fn skip_padding(&mut self) -> Result<(), TarError> {
        let mut seen = 0;
        loop {
            let count = fill(self.input)?.len();
            self.input.consume(count);
            seen += count as u64;
            if count == 0 {
                return Ok(());
            }
            if seen > MOST_PADDING {
                return Err(TarError::Limit("more follows its end".into()));
            }
        }
    }

    /// The content of an extension header.
    fn small(&mut self, size: u64, most: u64, what: &str) -> Result<Vec<u8>, TarError> {
        if size > most {
            return Err(TarError::Limit(format!("{what} of {size} bytes")));
        }
        self.content = size;
        self.padding = padding_of(size);
        Ok(self.bytes(most as usize)?.unwrap_or_default())
    }

    /// GNU's long names: bytes up to a NUL.
    fn name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.small(size, MOST_PATH as u64 + 1, "a name")?;
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// pax records: `<length> <key>=<value>\n`.
    fn pax(&mut self, size: u64, extended: &mut Extended) -> Result<(), TarError> {
        let bytes = self.small(size, MOST_PAX, "a header")?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Some((key, value, after)) = pax_record(rest) else {
                return malformed("a pax header has a malformed record");
            };
            let decimal = || number(value);
            match key {
                b"path" | b"linkpath" if value.len() > MOST_PATH => {
                    return Err(TarError::Limit(format!("a name of {} bytes", value.len())));
                }
                b"path" => extended.path = Some(value.to_vec()),
                b"linkpath" => extended.link = Some(value.to_vec()),
                b"size" if decimal().is_none() => return malformed("a size is not a number"),
                b"size" => extended.size = decimal(),
                key if key.starts_with(b"GNU.sparse") => extended.sparse = true,
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

fn fill(input: &mut dyn BufRead) -> io::Result<&[u8]> {
    // asked twice: the borrow checker does not let a loop return what it borrows
    while let Err(error) = input.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    input.fill_buf()
}

fn padding_of(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(number(&bytes[..blank])?).ok()?;
    let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// A number of a header; a field that is blank is zero, as for tar itself.
fn field<T: Default>(
    header: &tar::Header,
    at: std::ops::Range<usize>,
    read: impl Fn(&tar::Header) -> io::Result<T>,
) -> Result<T, String> {
    let blank = header.as_bytes()[at].iter().all(|b| matches!(b, 0 | b' '));
    if blank { Ok(T::default()) } else { read(header).map_err(|error| error.to_string()) }
}

fn member(header: &tar::Header, extended: Extended, size: u64) -> Result<Member, String> {
    let path = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = || {
        let own = || header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        extended.link.clone().unwrap_or_else(own)
    };
    let dir_by_name = path.ends_with(b"/");
    let kind = match header.entry_type().as_byte() {
        _ if extended.sparse => MemberKind::Other("a sparse file"),
        b'0' | 0 | b'7' if dir_by_name => MemberKind::Dir,
        b'0' | 0 | b'7' => MemberKind::File,
        b'1' => MemberKind::Hardlink(link()),
        b'2' => MemberKind::Symlink(link()),
        b'3' | b'4' => MemberKind::Other("a device"),
        b'5' => MemberKind::Dir,
        b'6' => MemberKind::Other("a FIFO"),
        b'S' => MemberKind::Other("a sparse file"),
        _ => MemberKind::Other("a member of unknown type"),
    };
    let size = match kind {
        // whatever the field says, no content follows
        MemberKind::Hardlink(_) => 0,
        _ => extended.size.unwrap_or(size),
    };
    if size > 0 && matches!(kind, MemberKind::Dir | MemberKind::Symlink(_)) {
        return Err(format!(
            "'{}' has content but is not a regular file",
            String::from_utf8_lossy(&path)
        ));
    }
    Ok(Member {
        path,
        kind,
        mode: field(header, 100..108, tar::Header::mode)? & 0o7777,
        uid: field(header, 108..116, tar::Header::uid)?,
        gid: field(header, 116..124, tar::Header::gid)?,
        mtime: field(header, 136..148, tar::Header::mtime)?,
        size,
    })
}

#[cfg(test)]
#[path = "tarball_tests.rs"]
mod tests;
