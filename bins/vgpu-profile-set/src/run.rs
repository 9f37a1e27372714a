//! `plan`, `apply`, `check` and `clear`: read, plan, carry out, tell.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use ::cli::{Exit, Failure, Say, catch_signals, fail, interrupted};
use host::{FileLock, LockError, Machine};
use nvidia::Profile;
use record::{
    Address, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity, VgpuInterface,
};

use crate::apply::{Kernel, Outcome, Stop};
use crate::cause::Cause;
use crate::cli::{Apply, Asked, CheckOptions, Clear, PlanOptions};
use crate::input::{self, Input, Wanted, Wish};
use crate::machinery::{Machinery, SRIOV_MANAGE};
use crate::observe::{Card, Depth, observe};
use crate::plan::{Plan, Rules, Step, plan};
use crate::wishes::{BadWish, expand};
use crate::{memory, watch};

/// How long the driver may take for one profile: it loads firmware for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What all verbs work with.
pub struct Run<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Speaks.
    pub say: &'a Say,
    /// Takes records.
    pub writer: &'a mut RecordWriter,
}

impl From<BadWish> for Failure {
    fn from(bad: BadWish) -> Failure {
        let failure = fail(Exit::Usage, bad.why);
        match bad.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Reads what is asked for, all of it before anything is looked at.
pub(crate) fn read_input(asked: &Asked) -> Result<Input, Failure> {
    let (bytes, from) = match asked.file.as_deref() {
        Some(path) if path != Path::new("-") => (read_file(path)?, path.display().to_string()),
        _ => (read_stdin()?, "standard input".to_string()),
    };
    input::parse(&bytes, &from, asked.config.as_deref())
}

/// A file that the user names is taken as given, --root or not.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let path = std::path::absolute(path).map_err(|error| fail(Exit::Usage, error.to_string()))?;
    let host = Machine::new(None)?;
    let read = host.read(&path.display().to_string(), input::MOST);
    read.map_err(|error| fail(Exit::Usage, error.to_string()))
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let what = "nothing to read: pipe lines like 0000:41:00.4=L40S-24Q, or name a file";
        return Err(fail(Exit::Usage, what));
    }
    let mut bytes = Vec::new();
    let read = stdin.lock().take(input::MOST as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| fail(Exit::System, format!("cannot read standard input: {error}")))?;
    if bytes.len() > input::MOST {
        return Err(fail(Exit::Usage, "standard input is too large"));
    }
    Ok(bytes)
}

/// The wishes on this machine, and the plan for them.
pub(crate) fn plan_input(
    machinery: &Machinery<'_>,
    cards: &mut [Card],
    input: &Input,
    rules: Rules,
) -> Result<Plan, Failure> {
    let wishes = match input {
        Input::Wishes(wishes) => wishes.clone(),
        Input::Config(entries) => expand(cards, entries)?,
    };
    let sizes: BTreeSet<u64> = wishes.iter().filter_map(|wish| size(cards, wish)).collect();
    if rules.heterogeneous || sizes.len() > 1 {
        for card in cards.iter_mut().filter(|card| !card.slots.is_empty()) {
            card.heterogeneous = machinery.heterogeneous(card.address);
        }
    }
    Ok(plan(cards, &wishes, rules)?)
}

fn size(cards: &[Card], wish: &Wish) -> Option<u64> {
    match &wish.profile {
        Wanted::Nothing => None,
        Wanted::Name(name) => Profile::parse(name).map(|profile| profile.mib()),
        Wanted::Id(id) => cards.iter().find_map(|card| Some(card.profile_of(*id)?.mib())),
    }
}

/// All that the machine shows, with the names of what is set as far as anybody
/// knows them.
pub(crate) fn look(machinery: &Machinery<'_>, depth: Depth) -> Result<Vec<Card>, Failure> {
    let mut cards = observe(machinery.files, depth)?;
    for card in &mut cards {
        memory::recall(machinery.files, card);
        let vendor = card.interface() == Some(VgpuInterface::Vendor);
        let unnamed =
            card.slots.iter().any(|s| s.current != 0 && card.name_of(s.current).is_none());
        if vendor && !card.complete && (unnamed || card.slots.iter().any(|s| s.current != 0)) {
            let offers = machinery.supported(card.address);
            card.complete = !offers.is_empty();
            card.types.extend(offers.into_iter().map(|offer| (offer.id, offer.name)));
        }
    }
    Ok(cards)
}

impl Run<'_> {
    pub(crate) fn machinery(&self) -> Machinery<'_> {
        Machinery { files: self.machine, programs: self.machine, interrupted: &interrupted }
    }

    /// `plan`.
    pub fn plan(&mut self, options: &PlanOptions) -> anyhow::Result<Exit> {
        let input = read_input(&options.asked)?;
        let (plan, _) = self.planned(&input, options.asked.rules(false))?;
        self.warn(&plan);
        self.refuse(&plan)?;
        self.tell_planned(&plan)?;
        Ok(Exit::Done)
    }

    fn planned(&self, input: &Input, rules: Rules) -> Result<(Plan, Vec<Card>), Failure> {
        let machinery = self.machinery();
        let mut cards = look(&machinery, Depth::Plan)?;
        let plan = plan_input(&machinery, &mut cards, input, rules)?;
        Ok((plan, cards))
    }

    /// `apply`.
    pub fn apply(&mut self, options: &Apply) -> anyhow::Result<Exit> {
        let input = read_input(&options.asked)?;
        let rules = options.asked.rules(options.skip_in_use);
        if options.change.check {
            return self.compare(&input, options.asked.rules(true));
        }
        // locked before it looks: a plan made beside another run would be of a
        // card that is no longer like that
        let _lock = match options.change.dry_run {
            true => None,
            false => Some(self.locked()?),
        };
        let (plan, cards) = self.planned(&input, rules)?;
        self.warn(&plan);
        self.refuse(&plan)?;
        if options.change.dry_run {
            self.tell_planned(&plan)?;
            return Ok(Exit::Done);
        }
        if plan.enable.is_empty() {
            return self.carry_out(&plan, &cards);
        }
        if !self.machine.is_host() && self.machine.exists(SRIOV_MANAGE) {
            return self.without_programs(plan, &cards);
        }
        let enabled = self.enable(&plan, &cards)?;
        let outcome = match self.planned(&input, rules) {
            Ok((plan, cards)) => self.refuse(&plan).and_then(|()| self.carry_out(&plan, &cards)),
            Err(failure) => Err(failure.into()),
        };
        if outcome.is_err() {
            self.disable(&enabled)?;
        }
        outcome
    }

    /// Below --root: what takes sriov-manage is skipped, the rest is done.
    fn without_programs(&mut self, mut plan: Plan, cards: &[Card]) -> anyhow::Result<Exit> {
        const WHY: &str = "no command is run below --root";
        for address in &plan.enable {
            let mut change = self.change(&address.to_string(), "sriov_numvfs");
            (change.from, change.to) = (Some("0".into()), Some("all".into()));
            change.status = ChangeStatus::Skipped;
            change.reason = Some(WHY.into());
            self.writer.put(Record::Change(change))?;
        }
        let (waiting, rest) =
            plan.steps.into_iter().partition(|step: &Step| plan.enable.contains(&step.card));
        for step in waiting {
            let mut change = self.describe(&step);
            change.status = ChangeStatus::Skipped;
            change.reason = Some(format!("its virtual function is not there: {WHY}"));
            self.writer.put(Record::Change(change))?;
        }
        plan.steps = rest;
        self.carry_out(&plan, cards)
    }

    /// Switches virtual functions on; gives the GPUs on which it did.
    fn enable(&mut self, plan: &Plan, cards: &[Card]) -> anyhow::Result<Vec<Address>> {
        let mut enabled = Vec::new();
        for address in &plan.enable {
            let total = cards.iter().find(|c| c.address == *address).map_or(0, |c| c.total_vfs);
            let mut change = self.change(&address.to_string(), "sriov_numvfs");
            (change.from, change.to) = (Some("0".into()), Some(total.to_string()));
            match self.machinery().enable_vfs(*address, total) {
                Ok(()) => {
                    enabled.push(*address);
                    change.status = ChangeStatus::Changed;
                    self.writer.put(Record::Change(change))?;
                }
                Err(why) => {
                    change.status = ChangeStatus::Failed;
                    change.reason = Some(why.clone());
                    self.writer.put(Record::Change(change))?;
                    self.disable(&enabled)?;
                    let message =
                        format!("{address}: its virtual functions cannot be switched on: {why}");
                    return Err(fail(Exit::System, message).into());
                }
            }
        }
        Ok(enabled)
    }

    fn disable(&mut self, enabled: &[Address]) -> anyhow::Result<()> {
        for address in enabled.iter().rev() {
            let mut change = self.change(&address.to_string(), "sriov_numvfs");
            change.to = Some("0".into());
            match self.machinery().disable_vfs(*address) {
                Ok(()) => change.status = ChangeStatus::RolledBack,
                Err(why) => {
                    change.status = ChangeStatus::Failed;
                    change.reason = Some(why);
                }
            }
            self.writer.put(Record::Change(change))?;
        }
        Ok(())
    }

    /// Carries a plan out and tells of it. The caller holds the lock.
    pub(crate) fn carry_out(&mut self, plan: &Plan, cards: &[Card]) -> anyhow::Result<Exit> {
        cards.iter().for_each(|card| memory::remember(self.machine, card));
        let (outcomes, stop) = self.do_steps(plan, &plan.steps);
        for address in plan.heterogeneous.iter().filter(|_| stop.is_none()) {
            let mut change = self.change(&address.to_string(), "heterogeneous_mode");
            (change.from, change.to) = (Some("off".into()), Some("on".into()));
            change.status = ChangeStatus::Changed;
            self.writer.put(Record::Change(change))?;
        }
        for (step, outcome) in plan.steps.iter().zip(&outcomes) {
            let change = self.told(step, outcome, stop.as_ref());
            self.writer.put(Record::Change(change))?;
        }
        match stop {
            None => Ok(Exit::Done),
            Some(stop) => {
                let message = format!("{}: {}", stop.address, stop.why);
                Err(fail(Exit::System, message).into())
            }
        }
    }

    pub(crate) fn do_steps(&self, plan: &Plan, steps: &[Step]) -> (Vec<Outcome>, Option<Stop>) {
        let machinery = self.machinery();
        let kernel = Kernel { files: self.machine, deadline: DEADLINE, interrupted: &interrupted };
        let mut between = |card: Address, on: bool| match plan.heterogeneous.contains(&card) {
            true => machinery.set_heterogeneous(card, on),
            false => Ok(()),
        };
        kernel.apply(steps, &mut between)
    }

    /// `check`.
    pub fn check(&mut self, options: &CheckOptions) -> anyhow::Result<Exit> {
        if let Some(path) = &options.health_file {
            return watch::check_health(path, options.alive);
        }
        let input = read_input(&options.asked)?;
        self.compare(&input, options.asked.rules(true))
    }

    fn compare(&mut self, input: &Input, rules: Rules) -> anyhow::Result<Exit> {
        let (plan, _) = self.planned(input, rules)?;
        self.warn(&plan);
        let mut exit = Exit::Done;
        for address in &plan.enable {
            let check =
                drift(&address.to_string(), "sriov_numvfs", Some("all".into()), Some("0".into()));
            self.writer.put(Record::Check(check))?;
            exit = Exit::Difference;
        }
        for objection in &plan.objections {
            let subject = objection.address.to_string();
            let mut check = drift(&subject, "vgpu_type", None, None);
            check.cause = Some(Cause::CannotBe.name().into());
            (check.reason, check.hint) =
                (Some(objection.why.clone()), Some(objection.hint.clone()));
            self.writer.put(Record::Check(check))?;
            exit = Exit::Difference;
        }
        for step in &plan.steps {
            let change = self.describe(step);
            let (subject, property) = (step.address.to_string(), change.property.clone());
            let check = if change.status == ChangeStatus::Unchanged {
                Check::ok(&subject, &property, change.to)
            } else {
                exit = Exit::Difference;
                let mut check = drift(&subject, &property, change.to, change.from);
                let cause = if change.reason.is_some() { Cause::LeftAlone } else { Cause::NotSet };
                check.cause = Some(cause.name().into());
                check.hint = change.hint.or_else(|| Some("vgpu-profile-set apply".into()));
                check.reason = change.reason;
                check
            };
            self.writer.put(Record::Check(check))?;
        }
        Ok(exit)
    }

    /// `clear`.
    pub fn clear(&mut self, options: &Clear) -> anyhow::Result<Exit> {
        let named = options.all || !options.operands.is_empty();
        let looks = options.change.dry_run || options.change.check || !named;
        let _lock = match looks {
            true => None,
            false => Some(self.locked()?),
        };
        let machinery = self.machinery();
        let cards = look(&machinery, Depth::Plan)?;
        let mut wishes = Vec::new();
        let mut add = |at: &str, address| {
            let seen = wishes.iter().any(|wish: &Wish| wish.address == address);
            if !seen {
                wishes.push(Wish { at: at.into(), address, profile: Wanted::Nothing, count: None });
            }
        };
        let mut operands: Vec<String> = options.operands.clone();
        if options.all {
            operands.extend(cards.iter().map(|card| card.address.to_string()));
        } else if operands.is_empty() {
            return Err(fail(
                Exit::Usage,
                "nothing is named: name virtual functions or GPUs, or --all; 'vgpu-profile-set list' shows them",
            )
            .into());
        }
        for operand in &operands {
            let address: Address =
                operand.parse().map_err(|error| crate::list::not_an_address(&error))?;
            match cards.iter().find(|card| card.address == address) {
                Some(card) => card.slots.iter().for_each(|slot| add(operand, slot.address)),
                None => add(operand, address),
            }
        }
        if wishes.is_empty() {
            return Err(fail(Exit::Usage, "nothing that is named can have a profile")
                .hint("'vgpu-profile-set list' shows what there is")
                .into());
        }
        let rules = Rules { heterogeneous: false, skip_in_use: options.skip_in_use };
        let plan = plan(&cards, &wishes, rules).map_err(Failure::from)?;
        if options.change.check {
            return self.compare(&Input::Wishes(wishes), Rules { skip_in_use: true, ..rules });
        }
        self.refuse(&plan)?;
        if options.change.dry_run {
            self.tell_planned(&plan)?;
            return Ok(Exit::Done);
        }
        self.carry_out(&plan, &cards)
    }

    /// The lock, and from now on signals are a failure part-way.
    fn locked(&self) -> Result<FileLock, Failure> {
        catch_signals();
        self.lock()
    }

    /// One run at a time.
    pub(crate) fn lock(&self) -> Result<FileLock, Failure> {
        let path = "/run/lock/vgpu-profile-set.lock";
        self.machine.lock_file(path, Duration::from_secs(10), &interrupted).map_err(|error| {
            let failure = fail(Exit::System, error.to_string());
            match error {
                LockError::Busy { .. } => failure.hint("another run is at work"),
                LockError::File(_) => failure,
            }
        })
    }
}

fn drift(subject: &str, property: &str, expected: Option<String>, actual: Option<String>) -> Check {
    Check {
        expected,
        actual,
        status: CheckStatus::Drift,
        severity: Severity::Error,
        ..Check::ok(subject, property, None)
    }
}
