//! `watch`: applies again when the file changes and when the machine does, until
//! a signal ends it. Says what is new, not what it said a minute ago.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::cli::{Exit, Failure, fail, interrupted, signal_descriptor};
use host::{FileWatch, Machine, WakeReason, notify_service_manager};
use record::{ChangeStatus, Record};
use std::os::fd::AsFd;

use crate::apply::Outcome;
use crate::cli::Watch;
use crate::input::{self, Input};
use crate::memory;
use crate::observe::Depth;
use crate::plan::{Plan, Rules, Step, What};
use crate::run::{Run, look, plan_input, read_file};

/// What went wrong: in words, by what makes it another trouble. Said once, and once
/// more when it is over.
type Troubles = BTreeMap<String, String>;

struct State {
    /// The last content that could be read.
    input: Option<Input>,
    troubles: Troubles,
    settled: bool,
}

/// The verb.
pub fn run(options: &Watch, mut run: Run<'_>) -> anyhow::Result<Exit> {
    let signals = signal_descriptor()
        .map_err(|error| fail(Exit::System, format!("cannot watch for signals: {error}")))?;
    let file =
        std::path::absolute(&options.file).map_err(|error| fail(Exit::Usage, error.to_string()))?;
    let watch = FileWatch::new(&file).map_err(|error| {
        let dir = file.parent().unwrap_or(&file).display().to_string();
        fail(Exit::System, format!("cannot watch '{dir}': {error}"))
    })?;
    let rules = Rules { heterogeneous: options.heterogeneous, skip_in_use: true };
    let interval = Duration::from_secs(options.interval);
    let mut state = State { input: None, troubles: Troubles::new(), settled: false };
    let mut ready = false;
    loop {
        let troubles = run.round(&file, options.config.as_deref(), rules, &mut state)?;
        if interrupted() {
            break;
        }
        run.tell_news(&mut state, troubles);
        run.writer.finish()?;
        health(options.health_file.as_deref(), &state, interval, &mut ready);
        // several changes in a row are one
        match watch.wait(interval, signals.as_fd()) {
            Ok(WakeReason::Other) => break,
            Ok(_) => {}
            Err(error) => return Err(fail(Exit::System, format!("cannot wait: {error}")).into()),
        }
    }
    let _ = notify_service_manager("STOPPING=1");
    if let Some(path) = &options.health_file {
        let _ = write_health(path, "ended\n".into());
    }
    Ok(Exit::Done)
}

impl Run<'_> {
    /// Looks once and does what there is to do. Gives all that is not right.
    fn round(
        &mut self,
        file: &Path,
        config: Option<&str>,
        rules: Rules,
        state: &mut State,
    ) -> anyhow::Result<Troubles> {
        let mut troubles = Troubles::new();
        let name = file.display().to_string();
        let read = read_file(file).and_then(|bytes| input::parse(&bytes, &name, config));
        match read {
            Ok(input) => state.input = Some(input),
            // a file that is being edited: what it said before holds
            Err(failure) => drop(troubles.insert(failure.to_string(), failure.to_string())),
        }
        let Some(input) = &state.input else { return Ok(troubles) };
        let found = {
            let machinery = self.machinery();
            look(&machinery, Depth::Plan).and_then(|mut cards| {
                let plan = plan_input(&machinery, &mut cards, input, rules)?;
                Ok((plan, cards))
            })
        };
        let (plan, cards) = match found {
            Ok(found) => found,
            Err(failure) => {
                troubles.insert(failure.to_string(), failure.to_string());
                return Ok(troubles);
            }
        };
        cards.iter().for_each(|card| memory::remember(self.machine, card));
        for warning in &plan.warnings {
            troubles.entry(format!("~{warning}")).or_insert_with(|| warning.clone());
        }
        for objection in &plan.objections {
            let text = format!("{} {}; {}", objection.address, objection.why, objection.hint);
            troubles.insert(format!("{} {}", objection.card, objection.why), text);
        }
        for address in &plan.enable {
            if plan.objections.iter().any(|o| o.card == *address) || interrupted() {
                continue;
            }
            let lock = match self.lock() {
                Ok(lock) => lock,
                Err(failure) => {
                    troubles.insert("lock".into(), failure.to_string());
                    continue;
                }
            };
            let total = cards.iter().find(|c| c.address == *address).map_or(0, |c| c.total_vfs);
            match self.machinery().enable_vfs(*address, total) {
                // the next look, right away, finds them
                Ok(()) => {
                    self.say.note(&format!("{address}: virtual functions switched on"));
                    drop(lock);
                    return self.round(file, config, rules, state);
                }
                Err(why) => {
                    troubles.insert(format!("{address} {why}"), format!("{address}: {why}"));
                }
            }
        }
        self.steps(&plan, &mut troubles)?;
        Ok(troubles)
    }

    /// GPU by GPU: one that cannot be brought right keeps no other from it.
    fn steps(&mut self, plan: &Plan, troubles: &mut Troubles) -> anyhow::Result<()> {
        let left_alone = |step: &&Step| matches!(step.what, What::LeftAlone { .. });
        for step in plan.steps.iter().filter(left_alone) {
            if let What::LeftAlone { to, why, .. } = &step.what {
                let to = to.as_deref().unwrap_or("none");
                let text = format!("{} {why}: left alone, not set to {to}", step.address);
                troubles.insert(format!("={} {why}", step.address), text);
            }
        }
        for steps in plan.steps.chunk_by(|a, b| a.card == b.card) {
            let card = steps[0].card;
            let objected = plan.objections.iter().any(|objection| objection.card == card);
            if objected || plan.enable.contains(&card) || !steps.iter().any(Step::is_change) {
                continue;
            }
            if interrupted() {
                return Ok(());
            }
            let _lock = match self.lock() {
                Ok(lock) => lock,
                Err(failure) => {
                    troubles.insert("lock".into(), failure.to_string());
                    continue;
                }
            };
            let (outcomes, stop) = self.do_steps(plan, steps);
            for (step, outcome) in steps.iter().zip(&outcomes) {
                let change = self.told(step, outcome, stop.as_ref());
                let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
                match outcome {
                    Outcome::Changed => {
                        let (from, to) = (shown(&change.from), shown(&change.to));
                        self.say.note(&format!("{}: {from} -> {to}", step.address));
                        self.writer.put(Record::Change(change))?;
                    }
                    Outcome::Failed { why, .. } if !interrupted() => {
                        let text = format!("{}: {}: {why}", step.address, shown(&change.to));
                        troubles.insert(format!("{} {why}", step.address), text);
                    }
                    Outcome::NotRestored { why, left } => {
                        let text = format!("{}: {why}; it has {left} now", step.address);
                        troubles.insert(format!("{} {why}", step.address), text);
                        debug_assert_eq!(change.status, ChangeStatus::Failed);
                        self.writer.put(Record::Change(change))?;
                    }
                    _ => {}
                }
            }
            if let Some(stop) = stop.filter(|_| !interrupted()) {
                let text = format!("{}: {}", stop.address, stop.why);
                troubles.entry(format!("{} {}", stop.address, stop.why)).or_insert(text);
            }
        }
        Ok(())
    }

    /// Says what was not wrong before, and what no longer is.
    fn tell_news(&self, state: &mut State, mut now: Troubles) {
        for (key, text) in &mut now {
            match state.troubles.get(key) {
                None => self.say.warn(text),
                // it ends in the words in which it began, though its hint is another now
                Some(told) => text.clone_from(told),
            }
        }
        for (key, text) in state.troubles.iter().filter(|(key, _)| !now.contains_key(*key)) {
            // a warning that is over needs no words
            if !key.starts_with('~') {
                self.say.note(&format!("over: {text}"));
            }
        }
        state.troubles = now;
        let settled = state.is_healthy();
        if settled && !state.settled {
            self.say.note("all is as asked");
        }
        state.settled = settled;
    }
}

impl State {
    /// What is in use is nobody's fault, and a warning is none either.
    fn is_healthy(&self) -> bool {
        self.input.is_some() && self.troubles.keys().all(|key| key.starts_with(['~', '=']))
    }
}

/// Tells the service manager and the health file.
fn health(path: Option<&Path>, state: &State, interval: Duration, ready: &mut bool) {
    let (word, said) = match state.troubles.values().next().filter(|_| !state.is_healthy()) {
        None => ("healthy", "all is as asked".to_string()),
        Some(text) => ("unhealthy", text.clone()),
    };
    // ready is who has looked once, whatever was found
    let begin = if *ready { "" } else { "READY=1\n" };
    *ready = true;
    let _ = notify_service_manager(&format!("{begin}STATUS={said}"));
    if let Some(path) = path {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = (now + 3 * interval + Duration::from_secs(30)).as_secs();
        let _ = write_health(path, format!("{word}\nuntil {until}\n{said}\n"));
    }
}

fn write_health(path: &Path, text: String) -> Result<(), Failure> {
    let path = std::path::absolute(path).map_err(|error| fail(Exit::Usage, error.to_string()))?;
    Ok(Machine::new(None)?.put(&path.display().to_string(), text.as_bytes())?)
}

/// What a health file says: an exit status for probes. `alive`: whether it is
/// written to at all.
pub fn check_health(path: &Path, alive: bool) -> anyhow::Result<Exit> {
    let text = read_file(path)?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let healthy = lines.next() == Some("healthy");
    let until = lines.next().and_then(|line| line.strip_prefix("until ")?.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let fresh = until.is_some_and(|until| now <= until);
    Ok(if (healthy || alive) && fresh { Exit::Done } else { Exit::Difference })
}
