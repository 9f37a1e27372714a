//! An answer that is received in a thread of its own, so that a signal or a
//! server that sends almost nothing ends the wait.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ::cli::{Exit, Failure, fail, interrupted};

use crate::cli::Patience;
use crate::fetch::http::{Ask, Head, Trouble, ask, io_trouble};
use crate::fetch::request::checked_url;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Chunks that are received but not yet taken.
const CHUNKS: usize = 8;
/// Fewer bytes in a second count as none.
const SLOWEST: u64 = 1000;
/// Attempts for a small text.
const SMALL_RETRIES: u32 = 2;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a wait checks for signals.
const LOOK: Duration = Duration::from_millis(50);

enum Piece {
    Head(Head),
    Bytes(Vec<u8>),
    End,
    Failed(Trouble),
}

/// Why an answer ends early.
#[derive(Debug)]
pub enum StreamError {
    Trouble(Trouble),
    /// A signal arrived.
    Interrupted,
}

/// An answer that is being received. Its thread ends when this is dropped.
pub struct Stream {
    pieces: Receiver<Piece>,
    stall: Duration,
    since: Instant,
    bytes: u64,
}

impl Stream {
    /// Sends a request and waits for the head of the answer.
    pub fn open(request: Ask, patience: Patience) -> Result<(Stream, Head), StreamError> {
        let (to, pieces) = sync_channel(CHUNKS);
        let stall = patience.stall_timeout;
        let asker = std::thread::Builder::new().spawn(move || read(&request, patience, &to));
        asker
            .map_err(|error| StreamError::Trouble(Trouble::Wrong(format!("no thread: {error}"))))?;
        let mut stream = Stream { pieces, stall, since: Instant::now(), bytes: 0 };
        // the request has its own time limits, which start again with each redirect
        let most = (patience.connect_timeout * 2 + stall) * 2;
        match stream.piece(most)? {
            Piece::Head(head) => {
                stream.since = Instant::now();
                Ok((stream, head))
            }
            _ => Err(StreamError::Trouble(Trouble::Wrong("answers without a head".into()))),
        }
    }

    /// The next bytes; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        match self.piece(self.stall)? {
            Piece::Bytes(bytes) => {
                self.bytes += bytes.len() as u64;
                let took = self.since.elapsed();
                if took >= self.stall {
                    if self.bytes < SLOWEST * took.as_millis() as u64 / 1000 {
                        return Err(self.stalled());
                    }
                    (self.since, self.bytes) = (Instant::now(), 0);
                }
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    fn stalled(&self) -> StreamError {
        let why = format!("sent almost nothing for {} s", self.stall.as_secs_f32());
        StreamError::Trouble(Trouble::Later { why, after: None })
    }

    fn piece(&mut self, most: Duration) -> Result<Piece, StreamError> {
        let begun = Instant::now();
        loop {
            match self.pieces.recv_timeout(LOOK) {
                _ if interrupted() => return Err(StreamError::Interrupted),
                Ok(Piece::Failed(trouble)) => return Err(StreamError::Trouble(trouble)),
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < most => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.stalled()),
                Err(RecvTimeoutError::Disconnected) => return Ok(Piece::End),
            }
        }
    }
}

/// The words of a trouble.
pub fn words(trouble: Trouble) -> String {
    match trouble {
        Trouble::NotHere(why)
        | Trouble::Wrong(why)
        | Trouble::NoRange { why, .. }
        | Trouble::Later { why, .. } => why,
    }
}

/// A small text from a server or from a file: URL.
pub fn text(url: &str, patience: Patience, most: usize) -> Result<String, Failure> {
    let url = checked_url(url)?;
    small(&url, patience, most).map_err(|error| match error {
        StreamError::Interrupted => fail(Exit::System, "interrupted"),
        StreamError::Trouble(trouble) => fail(Exit::System, format!("'{url}': {}", words(trouble))),
    })
}

/// A small text, with a few attempts. Errors: as of [`Stream`]; the text is larger
/// than `most` or not UTF-8.
pub fn small(url: &str, patience: Patience, most: usize) -> Result<String, StreamError> {
    let mut failed = 0;
    loop {
        match small_once(url, patience, most) {
            Err(StreamError::Trouble(Trouble::Later { why, after: None })) => {
                if failed >= patience.retries.min(SMALL_RETRIES) {
                    return Err(StreamError::Trouble(Trouble::Later { why, after: None }));
                }
            }
            other => return other,
        }
        rest(pause(patience.retry_delay, failed))?;
        failed += 1;
    }
}

fn small_once(url: &str, patience: Patience, most: usize) -> Result<String, StreamError> {
    let request = Ask { url: url.into(), ..Ask::default() };
    let (mut stream, head) = Stream::open(request, patience)?;
    let wrong = |why: &str| StreamError::Trouble(Trouble::Wrong(why.into()));
    let mut held = Vec::new();
    while let Some(bytes) = stream.next()? {
        held.extend_from_slice(&bytes);
        if held.len() > most {
            return Err(wrong("sends more than such a text can have"));
        }
    }
    if head.total.is_some_and(|total| total != held.len() as u64) {
        return Err(StreamError::Trouble(Trouble::Later { why: "broke off".into(), after: None }));
    }
    String::from_utf8(held).map_err(|_| wrong("sends a file that is not text"))
}

/// The pause after so many failures: twice as long each time, less a random
/// part, so that a hundred hosts do not ask again at the same moment.
pub fn pause(first: Duration, failed: u32) -> Duration {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let full = first.saturating_mul(1 << failed.min(16)).min(LONGEST_PAUSE);
    let random = RandomState::new().build_hasher().finish() % 1000;
    full.mul_f64(0.5 + random as f64 / 2000.0)
}

/// Waits. Errors: a signal arrived.
pub fn rest(pause: Duration) -> Result<(), StreamError> {
    let begun = Instant::now();
    while begun.elapsed() < pause {
        if interrupted() {
            return Err(StreamError::Interrupted);
        }
        std::thread::sleep(LOOK.min(pause));
    }
    Ok(())
}

fn read(request: &Ask, patience: Patience, to: &SyncSender<Piece>) {
    let mut answer = match ask(request, patience) {
        Ok(answer) => answer,
        Err(trouble) => return drop(to.send(Piece::Failed(trouble))),
    };
    let mut go_on = to.send(Piece::Head(answer.head)).is_ok();
    while go_on {
        let mut bytes = vec![0; CHUNK];
        let piece = match answer.body.read(&mut bytes) {
            Ok(0) => Piece::End,
            Ok(used) => {
                bytes.truncate(used);
                Piece::Bytes(bytes)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Piece::Failed(io_trouble(&error)),
        };
        go_on = matches!(piece, Piece::Bytes(_));
        go_on &= to.send(piece).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_never_the_same_for_all() {
        let second = Duration::from_secs(1);
        for failed in 0..40 {
            let pause = pause(second, failed);
            let full = second.saturating_mul(1 << failed.min(16)).min(LONGEST_PAUSE);
            assert!(pause >= full / 2 && pause <= full, "{failed}: {pause:?}");
        }
    }
}
