//! Campaigns: every tool that changes something is killed, interrupted, refused
//! and fed with rubbish at every point where that can happen, and what it
//! leaves is judged by the same rules each time ([`judge`]).
//!
//! A [`stage`] is a command line in surroundings that can be put back and
//! looked at; [`faults`] break it from outside, [`refusing`] lets the model
//! kernel and the cluster file system break it, [`hostile`] feeds it. Everything
//! ends in a [`Tally`] a row.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

pub mod attacks;
pub mod crowd;
pub mod faults;
pub mod fed;
pub mod full;
pub mod fuzz;
pub mod hostile;
pub mod judge;
pub mod mutate;
pub mod plan;
pub mod power;
pub mod process;
pub mod refusing;
pub mod rootfs;
pub mod saved;
pub mod stage;
pub mod stages;
pub mod table;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// At most this many trials of one stage and kind of fault.
    pub most: usize,
    /// Seconds for each parser that coverage guides; 0 leaves that out.
    pub fuzz: u64,
    /// Where choices and mutations start.
    pub seed: u64,
}

impl Effort {
    /// What every test run affords; the same trials each time.
    pub const SHORT: Effort = Effort { most: 4, fuzz: 0, seed: 1 };

    /// At most [`Effort::most`] of these. Which, is decided by each one's name:
    /// a run that made one call more than another tries the same ones.
    pub fn choose<T: std::fmt::Debug>(self, all: Vec<T>) -> Vec<T> {
        let mut all: Vec<(u64, T)> =
            all.into_iter().map(|one| (self.mark(&format!("{one:?}")), one)).collect();
        all.sort_by_key(|(mark, _)| *mark);
        all.into_iter().take(self.most).map(|(_, one)| one).collect()
    }

    /// FNV-1a, mixed once more: names that differ in their last character lie
    /// close together otherwise.
    fn mark(self, name: &str) -> u64 {
        let start = 0xcbf2_9ce4_8422_2325 ^ self.seed;
        let fold = |mark: u64, byte| (mark ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        mutate::Random::new(name.bytes().fold(start, fold)).draw()
    }
}

/// One row of the table.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// A command line.
    pub what: String,
    pub fault: String,
    pub checked: String,
    pub trials: usize,
    /// What did not survive, each in words.
    pub failures: Vec<String>,
}

impl Tally {
    pub fn new(what: impl Into<String>, fault: &str, checked: &str) -> Tally {
        let (what, fault, checked) = (what.into(), fault.to_string(), checked.to_string());
        Tally { what, fault, checked, ..Tally::default() }
    }

    /// Counts a trial.
    pub fn trial(&mut self, at: impl std::fmt::Display, result: Result<(), String>) {
        self.trials += 1;
        if let Err(why) = result {
            self.failures.push(format!("{} | {} | {at}: {why}", self.what, self.fault));
        }
    }

    pub fn survived(&self) -> usize {
        self.trials - self.failures.len()
    }
}
