//! `campaign [--short] [--most N] [--fuzz SECONDS] [--seed N] [--jobs N]
//! [--write FILE] [NAME...]`: runs the campaigns whose names begin so, all
//! without a name, and writes the table.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use campaign::plan::{Campaign, all};
use campaign::{Effort, Tally, table};
use lexopt::prelude::*;

struct Asked {
    effort: Effort,
    jobs: usize,
    write: Option<String>,
    names: Vec<String>,
}

fn asked() -> Result<Asked, lexopt::Error> {
    let effort = Effort { most: 100, fuzz: 60, seed: 1 };
    let mut asked = Asked { effort, jobs: 2, write: None, names: Vec::new() };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("short") => asked.effort = Effort::SHORT,
            Long("most") => asked.effort.most = args.value()?.parse()?,
            Long("fuzz") => asked.effort.fuzz = args.value()?.parse()?,
            Long("seed") => asked.effort.seed = args.value()?.parse()?,
            Long("jobs") => asked.jobs = args.value()?.parse::<NonZeroUsize>()?.get(),
            Long("write") => asked.write = Some(args.value()?.string()?),
            Value(name) => asked.names.push(name.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(asked)
}

fn one(campaign: &Campaign, effort: Effort) -> Vec<Tally> {
    let start = Instant::now();
    let rows = catch_unwind(AssertUnwindSafe(|| (campaign.run)(effort))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()));
        let mut tally = Tally::new(campaign.name.as_str(), "the campaign itself", "it runs");
        tally.trial("it broke off", Err(text.unwrap_or_default()));
        vec![tally]
    });
    let count = |of: fn(&Tally) -> usize| rows.iter().map(of).sum::<usize>();
    let (trials, survived) = (count(|row| row.trials), count(Tally::survived));
    let took = start.elapsed().as_secs();
    eprintln!("{:32} {survived:8} of {trials:8} survived in {took:4} s", campaign.name);
    for why in rows.iter().flat_map(|row| &row.failures) {
        eprintln!("  {}", why.replace('\n', "\n    "));
    }
    rows
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!(
                "campaign: {error}\nusage: campaign [--short] [--most N] [--fuzz SECONDS] [--seed N] [--jobs N] [--write FILE] [NAME...]"
            );
            return ExitCode::from(2);
        }
    };
    // panics are caught and told where they belong
    std::panic::set_hook(Box::new(|_| {}));
    let mut campaigns = all();
    campaigns.retain(|c| {
        asked.names.is_empty() || asked.names.iter().any(|n| c.name.starts_with(n.as_str()))
    });
    if campaigns.is_empty() {
        eprintln!("no campaign of that name; there are:");
        all().iter().for_each(|campaign| eprintln!("  {}", campaign.name));
        return ExitCode::from(2);
    }
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<(usize, Vec<Tally>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                while let Some((at, campaign)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    campaigns.get(at).map(|campaign| (at, campaign))
                } {
                    let done = one(campaign, asked.effort);
                    rows.lock().unwrap().push((at, done));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Tally> = rows.into_iter().flat_map(|(_, rows)| rows).collect();
    let minutes = start.elapsed().as_secs().div_ceil(60);
    let args: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("campaign {}", args.join(" "));
    let page = table::markdown(&rows, asked.effort, minutes, command.trim());
    match &asked.write {
        Some(path) => std::fs::write(path, page).expect("the table"),
        None => println!("{page}"),
    }
    ExitCode::from(u8::from(rows.iter().any(|row| !row.failures.is_empty())))
}
