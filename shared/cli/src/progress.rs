//! How far long work has come, on a terminal.

// With say.rs the place where standard error is written.
#![allow(clippy::print_stderr)]

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use record::escape_controls;

use crate::Say;

/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// Work that is done before it looks long shows nothing.
const FIRST: Duration = Duration::from_millis(400);
/// Columns of a line: what every terminal has.
const COLUMNS: usize = 79;

/// One line on standard error that says how far something has come and how
/// long it will take. Nothing where that is not a terminal, or with `--quiet`.
pub struct Progress {
    line: Option<Mutex<ProgressLine>>,
    what: String,
    total: Option<u64>,
    /// Bytes that were done before it began: they say nothing about its rate.
    before: u64,
    begun: Instant,
    /// Milliseconds since `begun` before which nothing is drawn.
    next: AtomicU64,
}

#[derive(Default)]
struct ProgressLine {
    drawn: bool,
}

impl Progress {
    /// Of work called `what` on `total` bytes.
    pub fn new(say: &Say, what: &str, total: Option<u64>) -> Progress {
        Progress::resumed(say, what, total, 0)
    }

    /// Of work that continues after `before` bytes.
    pub fn resumed(say: &Say, what: &str, total: Option<u64>, before: u64) -> Progress {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let shown = !say.is_quiet() && !dumb && io::stderr().is_terminal();
        let what: String = escape_controls(what).chars().take(40).collect();
        Progress {
            line: shown.then(Mutex::default),
            what: format!("{}: {what}", say.tool()),
            total: total.filter(|total| *total > 0),
            before,
            begun: Instant::now(),
            next: AtomicU64::new(FIRST.as_millis() as u64),
        }
    }

    /// `done` bytes are done. Cheap, and any thread may call it.
    pub fn at(&self, done: u64) {
        let Some(line) = &self.line else { return };
        let now = self.begun.elapsed();
        if (now.as_millis() as u64) < self.next.load(Ordering::Relaxed) {
            return;
        }
        self.next.store((now + PAUSE).as_millis() as u64, Ordering::Relaxed);
        let text = text(&self.what, done, self.before, self.total, now);
        let Ok(mut line) = line.lock() else { return };
        line.drawn = true;
        let _ = io::stderr().write_all(format!("\r{text}\x1b[K").as_bytes());
    }
}

impl Drop for Progress {
    /// Takes the line away. Only looks are lost where this does not run.
    fn drop(&mut self) {
        let drawn = self.line.as_ref().and_then(|line| line.lock().ok().map(|line| line.drawn));
        if drawn == Some(true) {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

fn text(what: &str, done: u64, before: u64, total: Option<u64>, took: Duration) -> String {
    let rate = done.saturating_sub(before) as f64 / took.as_secs_f64().max(0.001);
    let mut text = what.to_string();
    match total {
        Some(total) => {
            let done = done.min(total);
            let percent = (u128::from(done) * 100 / u128::from(total)) as u64;
            text += &format!(" {percent:3} % of {}, {}/s", size(total), size(rate as u64));
            if rate > 0.0 {
                text += &format!(", {} left", time((total - done) as f64 / rate));
            }
        }
        None => text += &format!(" {}, {}/s", size(done), size(rate as u64)),
    }
    text.chars().take(COLUMNS).collect()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

fn time(seconds: f64) -> String {
    match seconds.min(1e6).ceil() as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_share_rate_and_time_left() {
        let second = Duration::from_secs(1);
        assert_eq!(
            text("t: check", 100_000_000, 0, Some(300_000_000), second),
            "t: check  33 % of 300 MB, 100 MB/s, 2 s left"
        );
        assert_eq!(
            text("t: get", 200_000_000, 100_000_000, Some(300_000_000), second),
            "t: get  66 % of 300 MB, 100 MB/s, 1 s left"
        );
        assert_eq!(text("t: get", 5_000_000, 0, None, second), "t: get 5000 kB, 5000 kB/s");
        assert!(text(&"x".repeat(200), 0, 0, Some(1), second).len() <= COLUMNS);
        assert_eq!(time(300.0), "5 min");
        // more than there was to be
        assert!(text("t", 3, 0, Some(2), second).contains("100 %"));
    }
}
