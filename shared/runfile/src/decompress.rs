//! The content of an installer: the compressed parts, as their bytes come in from
//! the thread that reads the file, and what they decompress to, for the thread
//! that unpacks it.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use crate::compression::Compression;
use crate::layout::Part;

/// Bytes read at once.
pub(crate) const BLOCK: usize = 256 << 10;
/// Bytes decompressed at once.
const CHUNK: usize = 256 << 10;

/// Some bytes of the file, which several threads read.
pub(crate) struct FileBlock {
    offset: u64,
    used: usize,
    bytes: Vec<u8>,
}

impl FileBlock {
    pub(crate) fn new() -> FileBlock {
        FileBlock { offset: 0, used: 0, bytes: vec![0; BLOCK] }
    }

    /// Reads the bytes that stand at `offset`; fewer than a block at the end of
    /// the file, none behind it. Gives their number.
    pub(crate) fn fill(&mut self, offset: u64, input: &mut dyn Read) -> io::Result<usize> {
        self.offset = offset;
        self.used = read_full(input, &mut self.bytes)?;
        Ok(self.used)
    }

    /// Where in the file they stand.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut held = 0;
    while held < buffer.len() {
        match input.read(&mut buffer[held..]) {
            Ok(0) => break,
            Ok(count) => held += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

/// What the decompressing thread sends to the unpacking one.
pub(crate) enum Chunk {
    Bytes(Vec<u8>, usize),
    PartEnd { trailing: u64 },
    Failed(io::Error),
}

/// Decompresses all parts. Ends early when the receiver is gone.
pub(crate) fn decompress_parts(
    parts: &[Part],
    blocks: Receiver<Arc<FileBlock>>,
    out: &SyncSender<Chunk>,
    spare: &Receiver<Vec<u8>>,
) {
    let mut input =
        CompressedParts { blocks, block: None, at: 0, end: 0, ahead: Vec::new(), ahead_at: 0 };
    for part in parts {
        let last = match decompress_part(part, &mut input, out, spare) {
            Ok(true) => Chunk::PartEnd { trailing: part.end.saturating_sub(input.at) },
            Ok(false) => return,
            Err(error) => Chunk::Failed(error),
        };
        let failed = matches!(last, Chunk::Failed(_));
        if out.send(last).is_err() || failed {
            return;
        }
    }
}

/// One part. False where the receiver is gone.
fn decompress_part(
    part: &Part,
    input: &mut CompressedParts,
    out: &SyncSender<Chunk>,
    spare: &Receiver<Vec<u8>>,
) -> io::Result<bool> {
    input.go_to(part)?;
    let compression = Compression::sniff(input.peek(512)?);
    loop {
        let mut decoder = compression.decoder(input)?;
        loop {
            let mut buffer = spare.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
            let used = read_full(&mut decoder, &mut buffer)?;
            let ended = used < buffer.len();
            if used > 0 && out.send(Chunk::Bytes(buffer, used)).is_err() {
                return Ok(false);
            }
            if ended {
                break;
            }
        }
        drop(decoder);
        if !compression.continues_with(input.peek(6)?) {
            return Ok(true);
        }
    }
}

/// The compressed bytes of one part after the other.
struct CompressedParts {
    blocks: Receiver<Arc<FileBlock>>,
    block: Option<Arc<FileBlock>>,
    /// Offset in the file of the next byte.
    at: u64,
    /// Where the part ends.
    end: u64,
    /// Bytes looked at before their time, the first of them at `at - ahead_at`.
    ahead: Vec<u8>,
    ahead_at: usize,
}

impl CompressedParts {
    fn go_to(&mut self, part: &Part) -> io::Result<()> {
        self.ahead.clear();
        self.ahead_at = 0;
        if part.start < self.at {
            return Err(io::Error::other("its parts overlap"));
        }
        (self.at, self.end) = (part.start, part.end);
        Ok(())
    }

    /// The bytes that are there from offset `at` on, at least one unless the
    /// part ends.
    fn available(&mut self, at: u64) -> &[u8] {
        while at < self.end {
            let here = self
                .block
                .as_ref()
                .is_some_and(|block| block.offset <= at && at < block.offset + block.used as u64);
            if here {
                break;
            }
            match self.blocks.recv() {
                Ok(block) => self.block = Some(block),
                // the file is shorter than it was, or cannot be read
                Err(_) => self.end = at,
            }
        }
        let Some(block) = self.block.as_ref().filter(|_| at < self.end) else { return &[] };
        let from = (at - block.offset) as usize;
        let most = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        let bytes = &block.bytes()[from..];
        &bytes[..bytes.len().min(most)]
    }

    /// The next `count` bytes, fewer at the part's end, without taking them.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let mut ahead = self.ahead.split_off(self.ahead_at);
        self.ahead_at = 0;
        while ahead.len() < count {
            let at = self.at + ahead.len() as u64;
            let bytes = self.available(at);
            if bytes.is_empty() {
                break;
            }
            let most = bytes.len().min(count - ahead.len());
            ahead.extend_from_slice(&bytes[..most]);
        }
        self.ahead = ahead;
        Ok(&self.ahead)
    }
}

impl Read for CompressedParts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let most = bytes.len().min(buffer.len());
        buffer[..most].copy_from_slice(&bytes[..most]);
        self.consume(most);
        Ok(most)
    }
}

impl BufRead for CompressedParts {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead_at < self.ahead.len() {
            return Ok(&self.ahead[self.ahead_at..]);
        }
        let at = self.at;
        Ok(self.available(at))
    }

    fn consume(&mut self, count: usize) {
        self.at += count as u64;
        if self.ahead_at < self.ahead.len() {
            self.ahead_at += count;
        }
    }
}

/// The decompressed content, one part after the other.
pub struct Decompressed {
    chunks: Receiver<Chunk>,
    give_back: Sender<Vec<u8>>,
    bytes: Vec<u8>,
    used: usize,
    at: usize,
    ended: bool,
    trailing: u64,
}

impl Decompressed {
    pub(crate) fn new(chunks: Receiver<Chunk>, give_back: Sender<Vec<u8>>) -> Decompressed {
        let (bytes, ended) = (Vec::new(), true);
        Decompressed { chunks, give_back, bytes, used: 0, at: 0, ended, trailing: 0 }
    }

    /// Bytes behind the compressed data of the parts read so far that belong to
    /// no archive.
    pub(crate) fn trailing(&self) -> u64 {
        self.trailing
    }

    /// Goes to the next part; false where there is none. The part before must
    /// have been read to its end.
    pub fn next_part(&mut self) -> io::Result<bool> {
        if !self.ended {
            return Err(io::Error::other("a part was not read to its end"));
        }
        self.ended = false;
        self.receive()
    }

    /// The next chunk; false where there is none.
    fn receive(&mut self) -> io::Result<bool> {
        let old = std::mem::take(&mut self.bytes);
        (self.used, self.at) = (0, 0);
        if !old.is_empty() {
            // the decoder may have ended already
            let _ = self.give_back.send(old);
        }
        match self.chunks.recv() {
            Ok(Chunk::Bytes(bytes, used)) => (self.bytes, self.used) = (bytes, used),
            Ok(Chunk::PartEnd { trailing }) => {
                self.ended = true;
                self.trailing += trailing;
            }
            Ok(Chunk::Failed(error)) => return Err(error),
            Err(_) => return Ok(false),
        }
        Ok(true)
    }
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let most = bytes.len().min(buffer.len());
        buffer[..most].copy_from_slice(&bytes[..most]);
        self.consume(most);
        Ok(most)
    }
}

impl BufRead for Decompressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.used && !self.ended && !self.receive()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&self.bytes[self.at..self.used])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}
