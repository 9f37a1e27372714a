//! Every parser, fed in process with mutated seeds. What coverage guides is in
//! [`crate::fuzz`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use parsers::Parser;

use crate::mutate::{Random, mutate};
use crate::{Effort, Tally};

/// Feeds one.
pub fn feed(parser: &Parser, effort: Effort) -> Tally {
    let mut tally = Tally::new(
        format!("parser: {}", parser.name),
        "mutated seeds",
        "no panic; what comes out is whole and can be written and read again",
    );
    let seeds = (parser.seeds)();
    for seed in &seeds {
        (parser.run)(seed);
    }
    let mut random = Random::new(effort.seed);
    // the panics that are looked for are told in the table
    for round in 0..effort.most * 60 {
        let seed = random.pick(&seeds).clone();
        let mut bytes = mutate(&mut random, &seed, &seeds);
        for _ in 0..random.below(4) {
            bytes = mutate(&mut random, &bytes, &seeds);
        }
        let fed = catch_unwind(AssertUnwindSafe(|| (parser.run)(&bytes)));
        let short = &bytes[..bytes.len().min(3000)];
        let result =
            fed.map_err(|_| format!("panic, fed with {:?}", String::from_utf8_lossy(short)));
        tally.trial(format!("round {round}"), result);
    }
    tally
}
