//! One reading of a file that computes its digests and decompresses its content
//! at the same time, each in a thread of its own.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use crate::decompress::{Decompressed, FileBlock, decompress_parts};
use crate::digest::{Algorithm, DigestComputation, DigestResult, DigestSpec};
use crate::header::Header;

/// Blocks on their way to one thread: 4 MiB.
const MOST_BLOCKS: usize = 16;
/// Decompressed buffers on their way: 4 MiB.
const MOST_CHUNKS: usize = 16;

/// A file to read, and the caller's view of the reading.
pub struct InstallerInput<'a> {
    /// The file, at its beginning.
    pub input: &'a mut (dyn Read + Send),
    /// Asked before every block; true ends the reading.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
    /// Called with the number of bytes read so far.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Why a reading ended early.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be read.
    Io(io::Error),
    /// [`InstallerInput::interrupted`] answered true.
    Interrupted,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "{error}"),
            ReadError::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for ReadError {}

/// What an unpacking gave.
#[derive(Debug)]
pub struct Unpacked<T> {
    /// What the consumer made of the content.
    pub outcome: T,
    /// The digests, in the order they were asked for; empty where the file
    /// was not read to its end.
    pub digests: Vec<DigestResult>,
    /// Bytes behind the compressed data that belong to no archive.
    pub trailing: u64,
}

/// Computes digests of a file.
pub fn digest(
    input: InstallerInput<'_>,
    specs: &[DigestSpec],
) -> Result<Vec<DigestResult>, ReadError> {
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        let (senders, workers) = digest_threads(scope, specs)?;
        read_blocks(input, senders, None, &go_on)?;
        Ok(collect(specs, workers))
    })
}

/// Unpacks a file and computes digests of it at the same time. `consume` is called in
/// the caller's thread with the decompressed content. When it ends early, or
/// fails with an error that `hopeless` takes for one that makes digests pointless, the file is not
/// read to its end.
pub fn unpack<T, E>(
    input: InstallerInput<'_>,
    header: &Header,
    specs: &[DigestSpec],
    consume: impl FnOnce(&mut Decompressed) -> Result<T, E>,
    hopeless: impl FnOnce(&E) -> bool,
) -> Result<Unpacked<Result<T, E>>, ReadError> {
    let go_on = AtomicBool::new(true);
    let go_on = &go_on;
    thread::scope(|scope| {
        let (senders, workers) = digest_threads(scope, specs)?;
        let (to_decoder, blocks) = sync_channel(MOST_BLOCKS);
        let (to_consumer, chunks) = sync_channel(MOST_CHUNKS);
        let (give_back, spare) = channel();
        let reader = start(scope, move || read_blocks(input, senders, Some(to_decoder), go_on))?;
        let parts = header.parts.clone();
        start(scope, move || decompress_parts(&parts, blocks, &to_consumer, &spare))?;
        let mut content = Decompressed::new(chunks, give_back);
        let outcome = consume(&mut content);
        let trailing = content.trailing();
        drop(content);
        let abandoned = outcome.as_ref().is_err_and(hopeless) || specs.is_empty();
        if abandoned {
            go_on.store(false, Ordering::Relaxed);
        }
        // where the file could not be read, the consumer's error only follows from that
        joined(reader)?;
        let digests = collect(specs, workers);
        Ok(Unpacked { outcome, digests: if abandoned { Vec::new() } else { digests }, trailing })
    })
}

type Worker<'s> = ScopedJoinHandle<'s, Vec<(usize, String)>>;
type Digesting<'s> = (Vec<SyncSender<Arc<FileBlock>>>, Vec<Worker<'s>>);

/// A thread for each MD5 and SHA-256, which take long; sizes and
/// cksums are computed in the thread of a SHA-256, which is the faster of the two.
fn digest_threads<'s>(
    scope: &'s thread::Scope<'s, '_>,
    specs: &[DigestSpec],
) -> Result<Digesting<'s>, ReadError> {
    let mut groups: Vec<Vec<DigestComputation>> = Vec::new();
    let mut light = Vec::new();
    let mut order: Vec<(usize, &DigestSpec)> = specs.iter().enumerate().collect();
    order.sort_by_key(|(_, spec)| spec.algorithm);
    for (at, spec) in order.into_iter().rev() {
        match spec.algorithm {
            Algorithm::Md5 | Algorithm::Sha256 => {
                groups.push(vec![DigestComputation::new(at, spec)])
            }
            Algorithm::Cksum | Algorithm::Size => light.push(DigestComputation::new(at, spec)),
        }
    }
    match groups.first_mut() {
        // sorted: a SHA-256 where there is one
        Some(first) if specs.iter().any(|s| s.algorithm == Algorithm::Sha256) => {
            first.extend(light);
        }
        _ if light.is_empty() => {}
        _ => groups.push(light),
    }
    let threads = groups.into_iter().map(|group| {
        let (sender, receiver) = sync_channel(MOST_BLOCKS);
        Ok((sender, start(scope, move || compute(group, &receiver))?))
    });
    Ok(threads.collect::<Result<Vec<_>, ReadError>>()?.into_iter().unzip())
}

/// Starts a thread. Errors: the system refuses one.
fn start<'s, T: Send + 's>(
    scope: &'s thread::Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> Result<ScopedJoinHandle<'s, T>, ReadError> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(ReadError::Io)
}

fn compute(
    mut group: Vec<DigestComputation>,
    blocks: &Receiver<Arc<FileBlock>>,
) -> Vec<(usize, String)> {
    while let Ok(block) = blocks.recv() {
        group.iter_mut().for_each(|one| one.update(block.offset(), block.bytes()));
    }
    group.into_iter().map(DigestComputation::finish).collect()
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn collect(specs: &[DigestSpec], workers: Vec<Worker<'_>>) -> Vec<DigestResult> {
    let mut values: Vec<(usize, String)> = workers.into_iter().flat_map(joined).collect();
    values.sort_by_key(|(at, _)| *at);
    let pairs = specs.iter().zip(values);
    pairs.map(|(spec, (_, actual))| DigestResult { spec: spec.clone(), actual }).collect()
}

/// Reads the file and sends each block to every digest thread and to the decompressor.
fn read_blocks(
    input: InstallerInput<'_>,
    digests: Vec<SyncSender<Arc<FileBlock>>>,
    mut decoder: Option<SyncSender<Arc<FileBlock>>>,
    go_on: &AtomicBool,
) -> Result<(), ReadError> {
    let mut pool: Vec<Arc<FileBlock>> = Vec::new();
    let mut offset = 0;
    while go_on.load(Ordering::Relaxed) && !(digests.is_empty() && decoder.is_none()) {
        if (input.interrupted)() {
            return Err(ReadError::Interrupted);
        }
        let mut block = free_block(&mut pool);
        let Some(free) = Arc::get_mut(&mut block) else { continue };
        let used = free.fill(offset, input.input).map_err(ReadError::Io)?;
        if used == 0 {
            break;
        }
        offset += used as u64;
        for sender in &digests {
            // a receiver that is gone has panicked, and joining its thread passes that on
            let _ = sender.send(block.clone());
        }
        if decoder.as_ref().is_some_and(|sender| sender.send(block.clone()).is_err()) {
            decoder = None;
        }
        (input.progress)(offset);
        pool.push(block);
    }
    Ok(())
}

/// A block that no thread holds any more, or a new one: the channels bound their
/// number.
fn free_block(pool: &mut Vec<Arc<FileBlock>>) -> Arc<FileBlock> {
    match pool.iter_mut().position(|block| Arc::get_mut(block).is_some()) {
        Some(at) => pool.swap_remove(at),
        None => Arc::new(FileBlock::new()),
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
