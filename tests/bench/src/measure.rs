//! Interleaved runs and what is made of them.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until it was done, in milliseconds.
    pub wall: f64,
    /// Of processors, by what was started and waited for, in milliseconds.
    pub processor: f64,
}

/// The runs of one command, round by round.
#[derive(Clone, Debug)]
pub struct Times(Vec<Took>);

impl Times {
    fn walls(&self) -> Vec<f64> {
        self.0.iter().map(|took| took.wall).collect()
    }

    /// The median in milliseconds.
    pub fn median(&self) -> f64 {
        median(self.walls())
    }

    /// The median of the processors' time in milliseconds.
    pub fn processor(&self) -> f64 {
        median(self.0.iter().map(|took| took.processor).collect())
    }

    /// The fastest and the slowest in milliseconds.
    pub fn ends(&self) -> (f64, f64) {
        ends(self.walls())
    }

    /// How many times longer `theirs` took: of the medians, and the least and
    /// the most of any one round.
    pub fn ratio(&self, theirs: &Times) -> (f64, (f64, f64)) {
        let each = self.0.iter().zip(&theirs.0).map(|(a, b)| b.wall / a.wall).collect();
        (theirs.median() / self.median(), ends(each))
    }
}

fn median(numbers: Vec<f64>) -> f64 {
    let sorted = sorted(numbers);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

fn ends(numbers: Vec<f64>) -> (f64, f64) {
    let sorted = sorted(numbers);
    (sorted[0], sorted[sorted.len() - 1])
}

/// What is timed: what it took, however it takes it.
pub type Timed<'a> = &'a mut dyn FnMut() -> Result<Took>;

/// Runs each in turn, `runs` times, every second round in the other order: what
/// the machine is busy with falls on all alike. The first round warms the caches
/// and is not counted.
pub fn interleave(runs: usize, commands: &mut [Timed<'_>]) -> Result<Vec<Times>> {
    let mut times = vec![Vec::with_capacity(runs); commands.len()];
    let count = commands.len();
    for round in 0..=runs {
        for turn in 0..count {
            let at = if round % 2 == 0 { turn } else { count - 1 - turn };
            let took = commands[at]()?;
            if round > 0 {
                times[at].push(took);
            }
        }
    }
    Ok(times.into_iter().map(Times).collect())
}

/// What `work` took, which starts commands and waits for them.
pub fn clock(work: impl FnOnce() -> Result<()>) -> Result<Took> {
    let (start, before) = (Instant::now(), crate::machine::used_by_children());
    work()?;
    let wall = start.elapsed().as_secs_f64() * 1000.0;
    Ok(Took { wall, processor: (crate::machine::used_by_children() - before) * 1000.0 })
}

/// The same of one command that has to succeed and, with `output`, to say
/// something.
pub fn time(mut command: Command, output: bool) -> Result<Took> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    clock(|| {
        let done = command.output().with_context(|| format!("{command:?}"))?;
        ensure!(done.status.success(), "{command:?} failed");
        ensure!(!output || !done.stdout.is_empty(), "{command:?} said nothing");
        Ok(())
    })
}

/// System calls of one run, children's too; `None` where strace cannot be had.
pub fn system_calls(command: &Command) -> Option<u64> {
    if !crate::packages::have("strace") {
        return None;
    }
    let counts = testbed::Bed::empty();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(counts.at("/counts"));
    strace.arg(command.get_program()).args(command.get_args());
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !strace.status().ok()?.success() {
        return None;
    }
    let text = counts.read("/counts");
    let total = text.lines().rfind(|line| line.ends_with("total"))?;
    // percent, seconds, microseconds a call, calls, and errors where there were any
    total.split_whitespace().nth(3)?.parse().ok()
}
