//! The same command line several times at once.

use crate::judge::{base, difference, recovers};
use crate::process::run;
use crate::stage::Stage;
use crate::{Effort, Tally};

/// Two and twenty at once.
pub fn at_once(stage: &mut dyn Stage, effort: Effort) -> Tally {
    let base = base(stage);
    let mut tally = Tally::new(
        stage.name(),
        "two and twenty at once",
        "one at least succeeds, the others too or say why; all as asked; a second run says unchanged",
    );
    for round in 0..effort.most.min(40) {
        stage.reset();
        let count = if round % 2 == 0 { 2 } else { 20 };
        let words = [stage.prefix(), stage.command()].concat();
        let (words, input) = (&words, &stage.input());
        let outcomes = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..count).map(|_| scope.spawn(|| run(words, input))).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
        });
        let judged = || {
            for outcome in &outcomes {
                outcome.sane(false)?;
                let told = outcome.code == Some(0) || !outcome.stderr.is_empty();
                if !matches!(outcome.code, Some(0 | 3 | 4)) || !told {
                    return Err(outcome.end());
                }
            }
            if !outcomes.iter().any(|outcome| outcome.code == Some(0)) {
                return Err(format!("none succeeded: {}", outcomes[0].end()));
            }
            let now = stage.look();
            if now != base.after {
                return Err(difference(&base.after, &now));
            }
            recovers(stage, &base)
        };
        tally.trial(format!("{count} at once, round {round}"), judged());
    }
    tally
}
