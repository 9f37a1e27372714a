//! One pass over a file: read once, digested and unpacked at the same time, each
//! in a thread of its own.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use crate::digest::Computing;
use crate::{Algorithm, Compression, Digested, Header, Part, Stated};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Blocks on their way to one thread: 4 MiB.
const BLOCKS: usize = 16;
/// Bytes unpacked at once.
const PLAIN: usize = 256 << 10;
/// Unpacked buffers on their way: 4 MiB.
const PLAINS: usize = 16;

/// Where a file comes from, and who is told how far its reading has come.
pub struct Source<'a> {
    /// The file, at its beginning.
    pub input: &'a mut (dyn Read + Send),
    /// Asked often; true ends the pass.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Told the number of bytes read so far.
    pub at: &'a (dyn Fn(u64) + Sync),
}

/// Why a pass ended early.
#[derive(Debug)]
pub enum PassError {
    /// The file cannot be read.
    Read(io::Error),
    /// [`Source::stop`] said so.
    Stopped,
}

impl fmt::Display for PassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassError::Read(error) => write!(f, "{error}"),
            PassError::Stopped => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for PassError {}

/// What a pass that unpacks gave.
#[derive(Debug)]
pub struct Passed<T> {
    /// What the consumer made of the content.
    pub outcome: T,
    /// The digests, in the order they were asked for; empty where the pass did
    /// not go to the file's end.
    pub digests: Vec<Digested>,
    /// Bytes behind the compressed data that belong to no archive.
    pub trailing: u64,
}

struct Block {
    offset: u64,
    used: usize,
    bytes: Vec<u8>,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// Computes digests of a file.
pub fn digest(source: Source<'_>, wanted: &[Stated]) -> Result<Vec<Digested>, PassError> {
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        let (senders, workers) = digest_threads(scope, wanted)?;
        pump(source, senders, None, &go_on)?;
        Ok(collect(wanted, workers))
    })
}

/// Unpacks a file and computes digests of it meanwhile. `consume` is called in
/// the caller's thread with the decompressed content. When it ends early, or
/// fails with what `hopeless` says makes digests pointless, the file is not
/// read to its end.
pub fn unpack<T, E>(
    source: Source<'_>,
    header: &Header,
    wanted: &[Stated],
    consume: impl FnOnce(&mut Plain) -> Result<T, E>,
    hopeless: impl FnOnce(&E) -> bool,
) -> Result<Passed<Result<T, E>>, PassError> {
    let go_on = AtomicBool::new(true);
    let go_on = &go_on;
    thread::scope(|scope| {
        let (senders, workers) = digest_threads(scope, wanted)?;
        let (to_decoder, blocks) = sync_channel(BLOCKS);
        let (to_plain, chunks) = sync_channel(PLAINS);
        let (give_back, spare) = channel();
        let reader = start(scope, move || pump(source, senders, Some(to_decoder), go_on))?;
        let parts = header.parts.clone();
        start(scope, move || decode(&parts, blocks, &to_plain, &spare))?;
        let mut plain = Plain::new(chunks, give_back);
        let outcome = consume(&mut plain);
        let trailing = plain.trailing;
        drop(plain);
        let abandoned = outcome.as_ref().is_err_and(hopeless) || wanted.is_empty();
        if abandoned {
            go_on.store(false, Ordering::Relaxed);
        }
        // where the file could not be read, what the consumer says is only the echo
        joined(reader)?;
        let digests = collect(wanted, workers);
        Ok(Passed { outcome, digests: if abandoned { Vec::new() } else { digests }, trailing })
    })
}

type Worker<'s> = ScopedJoinHandle<'s, Vec<(usize, String)>>;
type Digesting<'s> = (Vec<SyncSender<Arc<Block>>>, Vec<Worker<'s>>);

/// A thread for each MD5 and SHA-256, which take long; the rest rides along
/// with a SHA-256, which is the faster of the two.
fn digest_threads<'s>(
    scope: &'s thread::Scope<'s, '_>,
    wanted: &[Stated],
) -> Result<Digesting<'s>, PassError> {
    let mut groups: Vec<Vec<Computing>> = Vec::new();
    let mut light = Vec::new();
    let mut order: Vec<(usize, &Stated)> = wanted.iter().enumerate().collect();
    order.sort_by_key(|(_, stated)| stated.algorithm);
    for (at, stated) in order.into_iter().rev() {
        match stated.algorithm {
            Algorithm::Md5 | Algorithm::Sha256 => groups.push(vec![Computing::new(at, stated)]),
            Algorithm::Cksum | Algorithm::Size => light.push(Computing::new(at, stated)),
        }
    }
    match groups.first_mut() {
        // sorted: a SHA-256 where there is one
        Some(first) if wanted.iter().any(|s| s.algorithm == Algorithm::Sha256) => {
            first.extend(light);
        }
        _ if light.is_empty() => {}
        _ => groups.push(light),
    }
    let threads = groups.into_iter().map(|group| {
        let (sender, receiver) = sync_channel(BLOCKS);
        Ok((sender, start(scope, move || compute(group, &receiver))?))
    });
    Ok(threads.collect::<Result<Vec<_>, PassError>>()?.into_iter().unzip())
}

/// A thread. Errors: the system has none to give.
fn start<'s, T: Send + 's>(
    scope: &'s thread::Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> Result<ScopedJoinHandle<'s, T>, PassError> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(PassError::Read)
}

fn compute(mut group: Vec<Computing>, blocks: &Receiver<Arc<Block>>) -> Vec<(usize, String)> {
    while let Ok(block) = blocks.recv() {
        group.iter_mut().for_each(|one| one.update(block.offset, block.bytes()));
    }
    group.into_iter().map(Computing::finish).collect()
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn collect(wanted: &[Stated], workers: Vec<Worker<'_>>) -> Vec<Digested> {
    let mut values: Vec<(usize, String)> = workers.into_iter().flat_map(joined).collect();
    values.sort_by_key(|(at, _)| *at);
    let pairs = wanted.iter().zip(values);
    pairs.map(|(stated, (_, actual))| Digested { stated: stated.clone(), actual }).collect()
}

/// Reads the file and hands each block to all who want it.
fn pump(
    source: Source<'_>,
    digests: Vec<SyncSender<Arc<Block>>>,
    mut decoder: Option<SyncSender<Arc<Block>>>,
    go_on: &AtomicBool,
) -> Result<(), PassError> {
    let mut pool: Vec<Arc<Block>> = Vec::new();
    let mut offset = 0;
    while go_on.load(Ordering::Relaxed) && !(digests.is_empty() && decoder.is_none()) {
        if (source.stop)() {
            return Err(PassError::Stopped);
        }
        let mut block = free_block(&mut pool);
        let Some(inner) = Arc::get_mut(&mut block) else { continue };
        inner.offset = offset;
        inner.used = read_full(source.input, &mut inner.bytes).map_err(PassError::Read)?;
        if inner.used == 0 {
            break;
        }
        offset += inner.used as u64;
        for sender in &digests {
            // a receiver that is gone has panicked, and joining it tells
            let _ = sender.send(block.clone());
        }
        if decoder.as_ref().is_some_and(|sender| sender.send(block.clone()).is_err()) {
            decoder = None;
        }
        (source.at)(offset);
        pool.push(block);
    }
    Ok(())
}

/// A block that nobody holds any more, or a new one: channels bound how many
/// there are.
fn free_block(pool: &mut Vec<Arc<Block>>) -> Arc<Block> {
    match pool.iter_mut().position(|block| Arc::get_mut(block).is_some()) {
        Some(at) => pool.swap_remove(at),
        None => Arc::new(Block { offset: 0, used: 0, bytes: vec![0; BLOCK] }),
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

enum Chunk {
    Bytes(Vec<u8>, usize),
    PartEnd { trailing: u64 },
    Failed(io::Error),
}

/// Decompresses all parts. Ends when nobody wants more.
fn decode(
    parts: &[Part],
    blocks: Receiver<Arc<Block>>,
    out: &SyncSender<Chunk>,
    spare: &Receiver<Vec<u8>>,
) {
    let mut input =
        Compressed { blocks, block: None, at: 0, end: 0, ahead: Vec::new(), ahead_at: 0 };
    for part in parts {
        let last = match decode_part(part, &mut input, out, spare) {
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

/// One part. False where nobody wants more.
fn decode_part(
    part: &Part,
    input: &mut Compressed,
    out: &SyncSender<Chunk>,
    spare: &Receiver<Vec<u8>>,
) -> io::Result<bool> {
    input.go_to(part)?;
    let compression = Compression::sniff(input.peek(512)?);
    loop {
        let mut decoder = compression.decoder(input)?;
        loop {
            let mut buffer = spare.try_recv().unwrap_or_else(|_| vec![0; PLAIN]);
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
        if !compression.goes_on(input.peek(6)?) {
            return Ok(true);
        }
    }
}

/// The compressed bytes of one part after the other.
struct Compressed {
    blocks: Receiver<Arc<Block>>,
    block: Option<Arc<Block>>,
    /// Offset in the file of the next byte.
    at: u64,
    /// Where the part ends.
    end: u64,
    /// Bytes looked at before their time, the first of them at `at - ahead_at`.
    ahead: Vec<u8>,
    ahead_at: usize,
}

impl Compressed {
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

impl Read for Compressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let most = bytes.len().min(buffer.len());
        buffer[..most].copy_from_slice(&bytes[..most]);
        self.consume(most);
        Ok(most)
    }
}

impl BufRead for Compressed {
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
pub struct Plain {
    chunks: Receiver<Chunk>,
    give_back: Sender<Vec<u8>>,
    bytes: Vec<u8>,
    used: usize,
    at: usize,
    ended: bool,
    trailing: u64,
}

impl Plain {
    fn new(chunks: Receiver<Chunk>, give_back: Sender<Vec<u8>>) -> Plain {
        let (bytes, ended) = (Vec::new(), true);
        Plain { chunks, give_back, bytes, used: 0, at: 0, ended, trailing: 0 }
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

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let most = bytes.len().min(buffer.len());
        buffer[..most].copy_from_slice(&bytes[..most]);
        self.consume(most);
        Ok(most)
    }
}

impl BufRead for Plain {
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

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
