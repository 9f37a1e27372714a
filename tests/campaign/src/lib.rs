//! Campaigns: every tool that changes something is killed, interrupted, refused
//! and fed with rubbish at every point where that can happen, and what it
//! leaves is judged by the same rules each time ([`judge`]).
//!
//! A [`stage`] is a command line in surroundings that can be put back and
//! looked at; [`faults`] break it from outside, [`refusing`] lets the model
//! kernel and the cluster file system break it, [`hostile`] feeds it. Everything
//! ends in a [`Tally`] a row.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

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

    /// At most [`Effort::most`] of these, spread over all.
    pub fn choose<T>(self, mut all: Vec<T>) -> Vec<T> {
        let mut random = mutate::Random::new(self.seed);
        for at in (1..all.len()).rev() {
            all.swap(at, random.below(at + 1));
        }
        all.truncate(self.most);
        all
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
