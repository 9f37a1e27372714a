//! An answer as it comes in, in a thread of its own: a signal, and a server
//! that sends next to nothing, end the wait for it.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ::cli::interrupted;

use crate::cli::Patience;
use crate::fetch::http::{Ask, Head, Trouble, ask, io_trouble};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Chunks on their way.
const CHUNKS: usize = 8;
/// Less than this many bytes a second is nothing.
const SLOWEST: u64 = 1000;
/// What is small is asked for once more at most this often.
const SMALL_RETRIES: u32 = 2;
/// Between two attempts at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a wait looks for signals.
const LOOK: Duration = Duration::from_millis(50);

enum Piece {
    Head(Head),
    Bytes(Vec<u8>),
    End,
    Failed(Trouble),
}

/// Why nothing more comes.
#[derive(Debug)]
pub enum Stop {
    /// The server, or the way to it.
    Trouble(Trouble),
    /// A signal came in.
    Interrupted,
}

/// An answer that is coming in. Dropping it ends it: the thread finds nobody
/// who listens.
pub struct Stream {
    pieces: Receiver<Piece>,
    stall: Duration,
    since: Instant,
    bytes: u64,
}

impl Stream {
    /// Asks, and waits for the head of the answer.
    pub fn open(request: Ask, patience: Patience) -> Result<(Stream, Head), Stop> {
        let (to, pieces) = sync_channel(CHUNKS);
        let stall = patience.stall_timeout;
        let asker = std::thread::Builder::new().spawn(move || read(&request, patience, &to));
        asker.map_err(|error| Stop::Trouble(Trouble::Wrong(format!("no thread: {error}"))))?;
        let mut stream = Stream { pieces, stall, since: Instant::now(), bytes: 0 };
        // the request has time limits of its own, each redirect anew
        let most = (patience.connect_timeout * 2 + stall) * 2;
        match stream.piece(most)? {
            Piece::Head(head) => {
                stream.since = Instant::now();
                Ok((stream, head))
            }
            _ => Err(Stop::Trouble(Trouble::Wrong("answers without a head".into()))),
        }
    }

    /// The next bytes; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Stop> {
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

    fn stalled(&self) -> Stop {
        let why = format!("sends next to nothing for {} s", self.stall.as_secs_f32());
        Stop::Trouble(Trouble::Later { why, after: None })
    }

    fn piece(&mut self, most: Duration) -> Result<Piece, Stop> {
        let begun = Instant::now();
        loop {
            match self.pieces.recv_timeout(LOOK) {
                _ if interrupted() => return Err(Stop::Interrupted),
                Ok(Piece::Failed(trouble)) => return Err(Stop::Trouble(trouble)),
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < most => {}
                Err(RecvTimeoutError::Timeout) => return Err(self.stalled()),
                Err(RecvTimeoutError::Disconnected) => return Ok(Piece::End),
            }
        }
    }
}

/// All of a small text, asked for a few times. Errors: as [`Stream`]; larger
/// than `most`; no UTF-8.
pub fn small(url: &str, patience: Patience, most: usize) -> Result<String, Stop> {
    let mut failed = 0;
    loop {
        match small_once(url, patience, most) {
            Err(Stop::Trouble(Trouble::Later { why, after: None })) => {
                if failed >= patience.retries.min(SMALL_RETRIES) {
                    return Err(Stop::Trouble(Trouble::Later { why, after: None }));
                }
            }
            other => return other,
        }
        rest(pause(patience.retry_delay, failed))?;
        failed += 1;
    }
}

fn small_once(url: &str, patience: Patience, most: usize) -> Result<String, Stop> {
    let request = Ask { url: url.into(), ..Ask::default() };
    let (mut stream, head) = Stream::open(request, patience)?;
    let wrong = |why: &str| Stop::Trouble(Trouble::Wrong(why.into()));
    let mut held = Vec::new();
    while let Some(bytes) = stream.next()? {
        held.extend_from_slice(&bytes);
        if held.len() > most {
            return Err(wrong("answers with more than such a text is long"));
        }
    }
    if head.total.is_some_and(|total| total != held.len() as u64) {
        return Err(Stop::Trouble(Trouble::Later { why: "broke off".into(), after: None }));
    }
    String::from_utf8(held).map_err(|_| wrong("answers with what is no text"))
}

/// How long to wait after so many failures: twice as long each time, and a
/// random part of it less, so that a hundred hosts do not come back at once.
pub fn pause(first: Duration, failed: u32) -> Duration {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let full = first.saturating_mul(1 << failed.min(16)).min(LONGEST_PAUSE);
    let random = RandomState::new().build_hasher().finish() % 1000;
    full.mul_f64(0.5 + random as f64 / 2000.0)
}

/// Waits. Errors: a signal came in.
pub fn rest(pause: Duration) -> Result<(), Stop> {
    let begun = Instant::now();
    while begun.elapsed() < pause {
        if interrupted() {
            return Err(Stop::Interrupted);
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
