//! `watch`: applies again when the file changes and when the state of the host
//! does, until a signal ends it. Prints what is new, not what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ::apply::StepOutcome;
use ::cli::{Exit, Failure, fail, interrupted, signal_descriptor};
use host::{FileWatch, WakeReason, notify_service_manager};
use record::{Address, Change, Hint};

use crate::apply::settings::apply as apply_settings;
use crate::cli::WatchOptions;
use crate::health;
use crate::input::{self, Input, InputChoice};
use crate::observe::model::{Gpu, ReadDepth};
use crate::observe::profile_cache;
use crate::plan::model::{
    InvalidInput, PlanObjection, PlanRules, ProfileChange, ProfilePlan, ProfileStep, in_brackets,
};
use crate::plan::settings::{SettingStep, SettingsPlan};
use crate::retry::{Retries, RetryKey};
use crate::session::Session;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ProblemKind {
    /// The profiles are not as requested.
    Failure,
    /// A function is in use or managed by Proxmox VE, which is not a failure.
    LeftAlone,
    /// The file names what another host has, which is not a failure.
    Absent,
    /// A warning about the input.
    Warning,
}

/// What makes a problem another one than before: its kind and a text.
type ProblemKey = (ProblemKind, String);

/// A problem with its message.
type Problem = (ProblemKey, String);

/// Problems with their messages. Each is printed once, and once more when it is
/// solved.
type Problems = BTreeMap<ProblemKey, String>;

struct WatchState {
    /// The last content of the file that was valid.
    input: Option<Input>,
    problems: Problems,
    was_healthy: bool,
    /// GPUs and functions that this host has had.
    seen: BTreeSet<Address>,
    retries: Retries<Problem>,
    started: Instant,
}

/// The verb.
pub fn run(options: &WatchOptions, session: Session<'_>) -> anyhow::Result<Exit> {
    let signals = signal_descriptor()
        .map_err(|error| fail(Exit::System, format!("cannot watch for signals: {error}")))?;
    let file =
        std::path::absolute(&options.file).map_err(|error| fail(Exit::Usage, error.to_string()))?;
    let watch = FileWatch::new(&file).map_err(|error| {
        let dir = file.parent().unwrap_or(&file).display().to_string();
        fail(Exit::System, format!("cannot watch '{dir}': {error}"))
    })?;
    let interval = Duration::from_secs(options.interval);
    let rules = PlanRules { heterogeneous: options.heterogeneous, skip_in_use: true };
    let state = WatchState {
        input: None,
        problems: Problems::new(),
        was_healthy: false,
        seen: BTreeSet::new(),
        retries: Retries::new(interval),
        started: Instant::now(),
    };
    let node = session.node(options.node.as_deref());
    let config = options.config.as_deref();
    let mut watcher = Watcher { file: &file, config, node, rules, session, state };
    let mut begin = "READY=1\n";
    loop {
        let problems = watcher.round()?;
        if interrupted() {
            break;
        }
        watcher.print_news(problems);
        watcher.session.writer.finish()?;
        // the service is ready after the first round, whatever was found
        watcher.state.publish(options.health_file.as_deref(), interval, begin);
        begin = "";
        match watch.wait(interval, signals.as_fd()) {
            Ok(WakeReason::Other) => break,
            Ok(_) => {}
            Err(error) => return Err(fail(Exit::System, format!("cannot wait: {error}")).into()),
        }
    }
    let _ = notify_service_manager("STOPPING=1");
    if let Some(path) = &options.health_file {
        let _ = health::write_end(path);
    }
    Ok(Exit::Done)
}

struct Watcher<'a> {
    file: &'a Path,
    config: Option<&'a str>,
    node: String,
    rules: PlanRules,
    session: Session<'a>,
    state: WatchState,
}

impl Watcher<'_> {
    /// Reads the file and the host, and changes what differs. Gives all
    /// problems.
    fn round(&mut self) -> anyhow::Result<Problems> {
        let mut problems = Problems::new();
        // an invalid file may be one that is being edited: the content before it stays valid
        match self.read_file() {
            Ok(input) => self.state.input = Some(input),
            Err(failure) => add_failure(&mut problems, &failure),
        }
        let Some(input) = &self.state.input else { return Ok(problems) };
        let mut gpus = match self.session.observe(ReadDepth::Plan) {
            Ok(gpus) => gpus,
            Err(failure) => {
                add_failure(&mut problems, &failure);
                return Ok(problems);
            }
        };
        let settings = self.session.plan_settings(&mut gpus, input);
        let mut plan = self.session.plan_each_on(&mut gpus, input, self.rules);
        gpus.iter().for_each(|gpu| profile_cache::remember(self.session.machine, gpu));
        add_plan(&mut problems, &plan, &self.state.seen);
        add_settings(&mut problems, &settings, &self.state.seen);
        for gpu in &gpus {
            self.state.seen.insert(gpu.address);
            self.state.seen.extend(gpu.functions.iter().map(|function| function.address));
        }
        let (last, first): (Vec<&SettingStep>, Vec<&SettingStep>) =
            settings.steps.iter().partition(|step| step.after_vfs());
        self.apply_settings(&first, &mut problems)?;
        // enabling virtual functions deletes MIG instances, so that these come after it; what
        // the GPU offers then is found by another round, right away
        if self.enable(&plan, &gpus, &mut problems) || self.apply_settings(&last, &mut problems)? {
            return self.round();
        }
        // vGPUs are planned on instances that could not be made
        let waits = |gpu: Address| last.iter().any(|s| s.gpu == gpu && s.change.is_change());
        plan.steps.retain(|step| !waits(step.gpu));
        self.apply(&plan, &mut problems)?;
        Ok(problems)
    }

    fn choice(&self) -> InputChoice<'_> {
        InputChoice { config: self.config, node: &self.node }
    }

    fn read_file(&self) -> Result<Input, Failure> {
        let bytes = input::read_file(self.file)?;
        input::parse(&bytes, &self.file.display().to_string(), self.choice())
    }

    /// Enables the virtual functions of one GPU; gives whether it did.
    fn enable(&mut self, plan: &ProfilePlan, gpus: &[Gpu], problems: &mut Problems) -> bool {
        for gpu in &plan.enable {
            if plan.objections.iter().any(|o| o.gpu == *gpu) || interrupted() {
                continue;
            }
            let (key, now) = ((*gpu, None), self.state.started.elapsed());
            if let Some((key, text)) = self.state.retries.pausing(&key, &[], now) {
                problems.insert(key.clone(), text.clone());
                continue;
            }
            let _lock = match self.session.lock() {
                Ok(lock) => lock,
                Err(failure) => {
                    add_lock(problems, &failure);
                    continue;
                }
            };
            let total = gpus.iter().find(|g| g.address == *gpu).map_or(0, |g| g.total_vfs);
            match self.session.programs().enable_vfs(*gpu, total) {
                Ok(()) => {
                    self.session.say.note(&format!("{gpu}: enabled virtual functions"));
                    self.state.retries.done(&key);
                    return true;
                }
                Err(why) => {
                    let text = format!("{gpu}: {why}");
                    let problem = ((ProblemKind::Failure, text.clone()), text);
                    problems.insert(problem.0.clone(), problem.1.clone());
                    let now = self.state.started.elapsed();
                    self.state.retries.failed(key, &[], false, now, problem);
                }
            }
        }
        false
    }

    /// Settings of whole GPUs, each by itself. Gives whether any changed.
    fn apply_settings(
        &mut self,
        steps: &[&SettingStep],
        problems: &mut Problems,
    ) -> anyhow::Result<bool> {
        let mut changed = false;
        for step in steps.iter().filter(|step| step.change.is_change()) {
            if interrupted() {
                break;
            }
            // another file makes another target, which is tried at once
            let (property, (_, to)) = (step.change.property(), step.change.shown());
            let key = (step.gpu, Some(format!("{property}={}", to.unwrap_or_default())));
            let now = self.state.started.elapsed();
            if let Some((key, text)) = self.state.retries.pausing(&key, &[], now) {
                problems.insert(key.clone(), text.clone());
                continue;
            }
            let _lock = match self.session.lock() {
                Ok(lock) => lock,
                Err(failure) => {
                    add_lock(problems, &failure);
                    break;
                }
            };
            let (outcomes, stop) =
                apply_settings(&self.session.programs(), std::slice::from_ref(*step));
            let Some(stop) = stop else {
                for outcome in &outcomes {
                    let change = self.session.reporter().setting_outcome(step, outcome, None);
                    let to = change.to.as_deref().unwrap_or("none");
                    let property = &change.property;
                    self.session.say.note(&format!("{}: {property} is {to} now", step.gpu));
                    self.session.put(change)?;
                }
                self.state.retries.done(&key);
                changed = true;
                continue;
            };
            let text = format!("{}: {}: {}", step.gpu, step.change.property(), stop.error);
            let problem = ((ProblemKind::Failure, text.clone()), text);
            problems.insert(problem.0.clone(), problem.1.clone());
            let now = self.state.started.elapsed();
            self.state.retries.failed(key, &[], false, now, problem);
        }
        Ok(changed)
    }

    /// GPU by GPU, so that a failure on one does not stop the others.
    fn apply(&mut self, plan: &ProfilePlan, problems: &mut Problems) -> anyhow::Result<()> {
        for steps in plan.steps.chunk_by(|a, b| a.gpu == b.gpu) {
            let gpu = steps[0].gpu;
            let objected = plan.objections.iter().any(|objection| objection.gpu == gpu);
            let disabled = plan.enable.contains(&gpu);
            if objected || disabled || !steps.iter().any(ProfileStep::is_change) {
                continue;
            }
            if interrupted() {
                return Ok(());
            }
            match plan.heterogeneous.contains(&gpu) {
                true => self.apply_whole(gpu, plan, steps, problems)?,
                false => self.apply_each(steps, problems)?,
            }
        }
        Ok(())
    }

    /// What is said of these steps while they are not tried.
    fn pausing(&self, key: &RetryKey, steps: &[ProfileStep]) -> Option<&Problem> {
        self.state.retries.pausing(key, steps, self.state.started.elapsed())
    }

    /// All functions of a GPU together, because its mode is switched for them.
    fn apply_whole(
        &mut self,
        gpu: Address,
        plan: &ProfilePlan,
        steps: &[ProfileStep],
        problems: &mut Problems,
    ) -> anyhow::Result<()> {
        if let Some((key, text)) = self.pausing(&(gpu, None), steps) {
            problems.insert(key.clone(), text.clone());
            return Ok(());
        }
        let _lock = match self.session.lock() {
            Ok(lock) => lock,
            Err(failure) => {
                add_lock(problems, &failure);
                return Ok(());
            }
        };
        let (outcomes, stop) = self.session.apply_steps(plan, steps);
        for (step, outcome) in steps.iter().zip(&outcomes) {
            let change = self.session.reporter().outcome(step, outcome, stop.as_ref());
            let problem = self.print_outcome(step, outcome, change)?;
            problems.extend(problem);
        }
        let Some(stop) = stop.filter(|_| !interrupted()) else {
            self.state.retries.done(&(gpu, None));
            return Ok(());
        };
        let key = (ProblemKind::Failure, format!("{} {}", stop.target, stop.error));
        let cleared = steps.iter().any(ProfileStep::clears);
        let said = problems.entry(key.clone()).or_insert_with(|| stop.to_string());
        if cleared {
            said.push_str(ONCE);
        }
        let (problem, now) = ((key, said.clone()), self.state.started.elapsed());
        self.state.retries.failed((gpu, None), steps, cleared, now, problem);
        Ok(())
    }

    /// Each function of a GPU by itself: what one is refused takes nothing from
    /// another.
    fn apply_each(&mut self, steps: &[ProfileStep], problems: &mut Problems) -> anyhow::Result<()> {
        let mut due: Vec<ProfileStep> = Vec::new();
        for step in steps.iter().filter(|step| step.is_change()) {
            match self.pausing(&step.key(), std::slice::from_ref(step)) {
                Some((key, text)) => _ = problems.insert(key.clone(), text.clone()),
                None => due.push(step.clone()),
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let _lock = match self.session.lock() {
            Ok(lock) => lock,
            Err(failure) => {
                add_lock(problems, &failure);
                return Ok(());
            }
        };
        let results = self.session.apply_each(&due);
        for (step, result) in due.iter().zip(results) {
            let change = self.session.reporter().outcome(step, &result.outcome, None);
            let Some((key, mut text)) = self.print_outcome(step, &result.outcome, change)? else {
                self.state.retries.done(&step.key());
                continue;
            };
            if result.cleared && result.outcome.left().is_none() {
                text.push_str(ONCE);
            }
            problems.insert(key.clone(), text.clone());
            let (now, steps) = (self.state.started.elapsed(), std::slice::from_ref(step));
            self.state.retries.failed(step.key(), steps, result.cleared, now, (key, text));
        }
        Ok(())
    }

    /// Prints what became of a step. Gives the problem, if there is one.
    fn print_outcome(
        &mut self,
        step: &ProfileStep,
        outcome: &StepOutcome<String>,
        change: Change,
    ) -> anyhow::Result<Option<Problem>> {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let address = step.address;
        let problem = |why: &str, text: String| {
            Some(((ProblemKind::Failure, format!("{address} {why}")), text))
        };
        Ok(match outcome {
            StepOutcome::Changed => {
                let (from, to) = (shown(&change.from), shown(&change.to));
                self.session.say.note(&format!("{address}: {from} -> {to}"));
                self.session.put(change)?;
                None
            }
            StepOutcome::Failed { why, .. } | StepOutcome::Pending { why, .. }
                if !interrupted() =>
            {
                problem(why, format!("{address}: {}: {why}", shown(&change.to)))
            }
            StepOutcome::NotRestored { why, left } => {
                let text = format!("{address}: {why} (the profile is {left} now)");
                self.session.put(change)?;
                problem(why, text)
            }
            _ => None,
        })
    }

    /// Prints problems that are new, and those that are solved.
    fn print_news(&mut self, mut now: Problems) {
        let say = self.session.say;
        for (key, text) in &mut now {
            match self.state.problems.get(key) {
                None => say.warn(text),
                // what ends is printed with the words with which it began
                Some(printed) => text.clone_from(printed),
            }
        }
        let solved = self.state.problems.iter().filter(|(key, _)| !now.contains_key(*key));
        for ((kind, _), text) in solved {
            if *kind != ProblemKind::Warning {
                say.note(&format!("solved: {text}"));
            }
        }
        self.state.problems = now;
        let healthy = self.state.is_healthy();
        if healthy && !self.state.was_healthy {
            say.note(ALL_SET);
        }
        self.state.was_healthy = healthy;
    }
}

const ALL_SET: &str = "all profiles are set as requested";

/// The end of a message about a change that cleared a profile in vain.
const ONCE: &str = "; tried again when the file or the host changes";

impl WatchState {
    fn is_healthy(&self) -> bool {
        self.input.is_some() && self.problems.keys().all(|(kind, _)| *kind != ProblemKind::Failure)
    }

    /// Tells the service manager and the health file. `begin` is written before
    /// the status.
    fn publish(&self, health_file: Option<&Path>, interval: Duration, begin: &str) {
        let healthy = self.is_healthy();
        let status = match self.problems.values().next().filter(|_| !healthy) {
            None => ALL_SET,
            Some(text) => text,
        };
        let _ = notify_service_manager(&format!("{begin}STATUS={status}"));
        if let Some(path) = health_file {
            let _ = health::write(path, healthy, interval, status);
        }
    }
}

fn add(problems: &mut Problems, kind: ProblemKind, text: String) {
    problems.insert((kind, text.clone()), text);
}

fn add_failure(problems: &mut Problems, failure: &Failure) {
    let hint = Hint { words: failure.hint.clone(), commands: failure.commands.clone() };
    let text = format!("{}{}", failure.message, in_brackets(&hint));
    problems.insert((ProblemKind::Failure, failure.message.clone()), text);
}

fn add_lock(problems: &mut Problems, failure: &Failure) {
    problems.insert((ProblemKind::Failure, "lock".into()), failure.message.clone());
}

/// Input that does not fit this host. What this host had before and has no longer
/// is a failure; what it never had may be another host's.
fn add_invalid(problems: &mut Problems, invalid: &InvalidInput, seen: &BTreeSet<Address>) {
    let (kind, text) = match invalid.absent {
        None => {
            let hint = in_brackets(&invalid.hint);
            (ProblemKind::Failure, format!("{}{hint}", invalid.why))
        }
        Some(address) if seen.contains(&address) => {
            (ProblemKind::Failure, format!("{}: this host has lost it", invalid.why))
        }
        Some(_) => (ProblemKind::Absent, format!("{}: skipped", invalid.why)),
    };
    problems.insert((kind, invalid.why.clone()), text);
}

/// What a plan says before anything is done. `seen`: what this host has had.
fn add_plan(problems: &mut Problems, plan: &ProfilePlan, seen: &BTreeSet<Address>) {
    for invalid in &plan.invalid {
        add_invalid(problems, invalid, seen);
    }
    for warning in &plan.warnings {
        add(problems, ProblemKind::Warning, warning.clone());
    }
    for note in plan.notes.iter().filter(|note| note.warns) {
        add(problems, ProblemKind::Warning, note.to_string());
    }
    plan.objections.iter().for_each(|objection| add_objection(problems, objection));
    for step in &plan.steps {
        if let ProfileChange::Skip { to, why, unknown, .. } = &step.change {
            let kind = if *unknown { ProblemKind::Failure } else { ProblemKind::LeftAlone };
            let key = (kind, format!("{} {why}", step.address));
            let to = to.as_deref().unwrap_or("none");
            problems.insert(key, format!("{} {why}: skipped, not set to {to}", step.address));
        }
    }
}

fn add_objection(problems: &mut Problems, objection: &PlanObjection) {
    let key = (ProblemKind::Failure, format!("{} {}", objection.gpu, objection.why));
    let hint = in_brackets(&objection.hint);
    problems.insert(key, format!("{}: {}{hint}", objection.address, objection.why));
}

/// What the plan for settings says before anything is done.
fn add_settings(problems: &mut Problems, plan: &SettingsPlan, seen: &BTreeSet<Address>) {
    plan.invalid.iter().for_each(|invalid| add_invalid(problems, invalid, seen));
    plan.warnings.iter().for_each(|text| add(problems, ProblemKind::Warning, text.clone()));
    plan.objections.iter().for_each(|objection| add_objection(problems, objection));
}
