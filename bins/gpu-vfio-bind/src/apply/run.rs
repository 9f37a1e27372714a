//! `bind` and `release`: parse, plan, check, apply.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ::cli::{Exit, Failure, Say, catch_signals, fail, interrupted};
use host::{FileLock, KernelFiles, LockError, Machine, Written};
use pci::{Function, ModuleAliases, System, is_vfio_driver as is_vfio};
use record::{Address, Change, ChangeStatus, Check, CheckStatus, Record, RecordWriter, Severity};

use crate::apply::{Kernel, Outcome};
use crate::choose::{Reach, add_group_members, functions};
use crate::cli::{Bind, Release};
use crate::memory::{self, Memory};
use crate::observe::{Holder, Nodes, Observer, Use};
use crate::plan::{Goal, Move, State, plan};
use crate::preflight::{self, Objection};

/// What both verbs work with.
pub struct Run<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Speaks.
    pub say: &'a Say,
    /// Takes records.
    pub writer: &'a mut RecordWriter,
}

/// How a change is to be made.
#[derive(Clone, Copy)]
struct How {
    dry_run: bool,
    check: bool,
    timeout: u64,
}

impl Run<'_> {
    /// `bind`.
    pub fn bind(mut self, options: &Bind) -> anyhow::Result<Exit> {
        let (system, mut addresses) = self.chosen(&options.named, Reach::Slots)?;
        if options.group {
            add_group_members(&system, &mut addresses);
        }
        let functions = functions(&system, &addresses);
        let mut moves = Vec::new();
        for function in &functions {
            let driver = self.vfio_driver(&system, function, &options.driver)?;
            moves.push(plan(function.address, State::of(function), &Goal::Vfio { driver }));
        }
        let touched = touched(&functions, &moves);
        let mut uses = self.observe(&touched);
        let only_look = options.change.only_look();
        let mut stopped = false;
        if options.stop_persistenced
            && uses.iter().flat_map(|u| &u.holders).any(Holder::is_persistenced)
        {
            if only_look {
                self.say.note("nvidia-persistenced would be stopped");
                uses.iter_mut().for_each(|u| u.holders.retain(|h| !h.is_persistenced()));
            } else {
                stopped = self.persistenced("stop")?;
                uses = self.observe(&touched);
            }
        }
        let outcome = self.bind_moves(options, &system, &touched, &uses, &moves);
        if stopped && !matches!(outcome, Ok(Exit::Done)) {
            self.persistenced("start")?;
        }
        outcome
    }

    fn observe(&self, functions: &[&Function]) -> Vec<Use> {
        let observer = Observer::new(self.machine);
        functions.iter().map(|f| observer.of(f)).collect()
    }

    /// Stops or starts the daemon; true where it was done. No command is run
    /// below --root.
    fn persistenced(&self, verb: &str) -> Result<bool, Failure> {
        let argv = ["systemctl", verb, "nvidia-persistenced"];
        match self.machine.run(&argv, Duration::from_secs(60))? {
            None => {
                self.say.note("nvidia-persistenced is left alone: no command is run below --root");
                Ok(false)
            }
            Some(ran) if ran.success() => {
                self.say.note(&format!("nvidia-persistenced: {verb}"));
                Ok(true)
            }
            Some(ran) => {
                let message = format!("cannot {verb} nvidia-persistenced: {}", ran.reason());
                Err(fail(Exit::System, message))
            }
        }
    }

    fn bind_moves(
        &mut self,
        options: &Bind,
        system: &System,
        touched: &[&Function],
        uses: &[Use],
        moves: &[Move],
    ) -> anyhow::Result<Exit> {
        let objections = preflight::bind(system, touched, uses);
        self.judge(objections, options.force)?;
        for (function, used) in touched.iter().zip(uses) {
            for guest in used.guests.iter().filter(|g| g.vm && !g.running) {
                self.say.detail(&format!("{}: VM {} names it", function.address, guest.id));
            }
        }
        let how = How {
            dry_run: options.change.dry_run,
            check: options.change.check,
            timeout: options.wait.timeout,
        };
        self.finish(system, moves, how, true)
    }

    /// `release`.
    pub fn release(mut self, options: &Release) -> anyhow::Result<Exit> {
        let (system, addresses) = self.chosen(&options.named, Reach::Slots)?;
        let functions = functions(&system, &addresses);
        let moves: Vec<Move> = functions
            .iter()
            .map(|function| {
                let memory = memory::recall(self.machine, function.address);
                let goal = match (&options.to, &memory) {
                    (Some(driver), _) => Goal::Host { driver: Some(driver.clone()), none: false },
                    (None, Some(memory)) => Goal::Host {
                        driver: memory.driver.clone().filter(|driver| !is_vfio(driver)),
                        none: memory.driver.is_none(),
                    },
                    (None, None) => Goal::Host { driver: None, none: false },
                };
                plan(function.address, State::of(function), &goal)
            })
            .collect();
        let touched = touched(&functions, &moves);
        let observer = Observer::new(self.machine);
        let uses: Vec<Use> = touched.iter().map(|f| observer.holders_of(f)).collect();
        self.judge(preflight::release(&touched, &uses), false)?;
        let how = How {
            dry_run: options.change.dry_run,
            check: options.change.check,
            timeout: options.wait.timeout,
        };
        self.finish(&system, &moves, how, false)
    }

    /// The VFIO driver for a function.
    pub(crate) fn vfio_driver(
        &self,
        system: &System,
        function: &Function,
        wanted: &str,
    ) -> Result<String, Failure> {
        if wanted != "auto" {
            if !is_vfio(wanted) {
                let message = format!("'{wanted}' is no VFIO driver");
                return Err(fail(Exit::Usage, message)
                    .hint("vfio-pci, a variant of it (…-vfio-pci), or auto"));
            }
            return Ok(wanted.to_string());
        }
        let release = system.iommu.release.as_deref().unwrap_or_default();
        let path = format!("/lib/modules/{release}/modules.alias");
        let text = self.machine.read(&path, 64 << 20)?;
        let aliases = ModuleAliases::parse_vfio(&text, &[function.vendor.unwrap_or(0)]);
        let module = function.modalias().and_then(|of| aliases.best(&of));
        // modules have underscores where drivers have hyphens
        Ok(module.map_or("vfio-pci".into(), |module| module.replace('_', "-")))
    }

    /// Refuses, or says what --force goes past.
    pub(crate) fn judge(&mut self, objections: Vec<Objection>, force: bool) -> anyhow::Result<()> {
        let (passed, refused): (Vec<_>, Vec<_>) =
            objections.into_iter().partition(|objection| objection.forceable && force);
        for objection in passed {
            self.say.warn(&format!("{} {} (--force)", objection.address, objection.why));
        }
        let Some(first) = refused.first() else { return Ok(()) };
        let more = match refused.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let failure = fail(Exit::Refused, format!("{} {}{more}", first.address, first.why))
            .hint(first.hint.clone());
        for objection in &refused {
            let mut change = self.change(objection.address, "driver");
            change.status = ChangeStatus::Refused;
            change.reason = Some(objection.why.clone());
            change.hint = Some(objection.hint.clone());
            if self.writer.is_jsonl() || refused.len() > 1 {
                self.writer.put(Record::Change(change))?;
            }
        }
        Err(failure.into())
    }

    fn finish(
        &mut self,
        system: &System,
        moves: &[Move],
        how: How,
        bind: bool,
    ) -> anyhow::Result<Exit> {
        let any = moves.iter().any(|step| !step.actions.is_empty());
        if how.check {
            for step in moves {
                self.writer.put(Record::Check(check_of(step, bind)))?;
            }
            return Ok(if any { Exit::Difference } else { Exit::Done });
        }
        // what an earlier release could not forget
        let known = |step: &Move| memory::recall(self.machine, step.address).is_some();
        let stale = !bind && moves.iter().any(known);
        if how.dry_run || !(any || stale) {
            for step in moves {
                let unchanged = step.actions.is_empty();
                let status =
                    if unchanged { ChangeStatus::Unchanged } else { ChangeStatus::Planned };
                self.report(step, status, None)?;
            }
            return Ok(Exit::Done);
        }
        catch_signals();
        let _lock = self.lock()?;
        let deadline = Duration::from_secs(how.timeout);
        let kernel = Kernel { files: self.machine, deadline, interrupted: &interrupted };
        for step in moves {
            let now = kernel.state(step.address).map_err(Failure::from)?;
            if now != step.before {
                let message = format!("{} was changed by someone else meanwhile", step.address);
                return Err(fail(Exit::System, message).hint("run it again").into());
            }
        }
        if bind {
            self.load_drivers(moves)?;
            self.ask_nvidia(moves)?;
            for step in moves.iter().filter(|step| !step.actions.is_empty()) {
                // A run that was given up may have left it without driver: what
                // is remembered then is still what it had.
                let known = memory::recall(self.machine, step.address);
                let driver = match (&step.before.driver, known) {
                    (None, Some(known)) => known.driver,
                    (now, _) => now.clone().filter(|driver| !is_vfio(driver)),
                };
                let moved_to = step.after.driver.clone().unwrap_or_default();
                memory::remember(self.machine, step.address, &Memory { driver, moved_to })?;
            }
        }
        // a driver in the middle of its removal no longer says which node is its
        let nodes = Nodes::new(self.machine);
        let nodes_of = |address: &Address| {
            system.functions.get(address).map(|f| nodes.of(f)).unwrap_or_default()
        };
        let watched: Vec<BTreeSet<String>> = moves.iter().map(|m| nodes_of(&m.address)).collect();
        let (mut outcomes, mut stop) = kernel.apply(moves);
        self.name_holders(&watched, &mut outcomes, stop.as_mut());
        let mut nodes = Vec::new();
        if bind && stop.is_none() {
            match self.group_nodes(system, moves) {
                Ok(found) => nodes = found,
                Err((address, why)) => {
                    kernel.roll_back(moves, &mut outcomes);
                    stop = Some(crate::apply::Stop { address, why });
                }
            }
        }
        self.tell(moves, &outcomes, stop.as_ref(), &kernel)?;
        for (group, node) in nodes {
            let mut change = self.change_of(&format!("group {group}"), "vfio_group");
            change.to = Some(node);
            change.status = ChangeStatus::Changed;
            self.writer.put(Record::Change(change))?;
        }
        for (step, outcome) in moves.iter().zip(&outcomes) {
            let gone = match outcome {
                Outcome::RolledBack | Outcome::NotReached | Outcome::Failed { left: None, .. } => {
                    bind
                }
                Outcome::Changed | Outcome::Unchanged => !bind,
                _ => false,
            };
            if gone {
                memory::forget(self.machine, step.address)?;
            }
        }
        match stop {
            None => Ok(Exit::Done),
            Some(stop) => {
                let message = format!("{}: {}", stop.address, stop.why);
                Err(fail(Exit::System, message).into())
            }
        }
    }

    /// Adds to a write that did not come back who has the function open.
    fn name_holders(
        &self,
        watched: &[BTreeSet<String>],
        outcomes: &mut [Outcome],
        mut stop: Option<&mut crate::apply::Stop>,
    ) {
        for (nodes, outcome) in watched.iter().zip(outcomes) {
            let Outcome::Failed { why, .. } = outcome else { continue };
            if !why.contains("did not come back") {
                continue;
            }
            for holder in crate::observe::holders_now(self.machine, nodes) {
                why.push_str(&format!("; {holder}"));
            }
            if let Some(stop) = stop.as_deref_mut() {
                stop.why.clone_from(why);
            }
        }
    }

    pub(crate) fn lock(&self) -> Result<FileLock, Failure> {
        let path = "/run/lock/gpu-vfio-bind.lock";
        self.machine.lock_file(path, Duration::from_secs(10), &interrupted).map_err(|error| {
            let failure = fail(Exit::System, error.to_string());
            match error {
                LockError::Busy { .. } => failure.hint("another run is at work"),
                LockError::File(_) => failure,
            }
        })
    }

    /// Loads VFIO drivers that are not there yet.
    fn load_drivers(&self, moves: &[Move]) -> Result<(), Failure> {
        let wanted: BTreeSet<&str> = moves
            .iter()
            .filter(|step| !step.actions.is_empty())
            .filter_map(|step| step.after.driver.as_deref())
            .collect();
        for driver in wanted {
            let dir = format!("/sys/bus/pci/drivers/{driver}");
            if self.machine.exists(&dir) {
                continue;
            }
            let ran = self.machine.run(&["modprobe", driver], Duration::from_secs(30))?;
            let why = match ran {
                None => "no command is run below --root".to_string(),
                Some(ran) if ran.success() && self.machine.exists(&dir) => continue,
                Some(ran) if ran.success() => "it has no such driver".to_string(),
                Some(ran) => ran.reason(),
            };
            let message = format!("the driver {driver} is not loaded: {why}");
            return Err(fail(Exit::System, message).hint(format!("'modprobe {driver}'")));
        }
        Ok(())
    }

    /// Asks NVIDIA's driver whether it would let go at once. It answers a "1"
    /// when that file is closed, and "0" takes the question back.
    fn ask_nvidia(&mut self, moves: &[Move]) -> anyhow::Result<()> {
        for step in moves.iter().filter(|step| !step.actions.is_empty()) {
            let path = format!("/proc/driver/nvidia/gpus/{}/unbindLock", step.address);
            if step.before.driver.as_deref() != Some("nvidia") || !self.machine.exists(&path) {
                continue;
            }
            let second = Duration::from_secs(2);
            let asked = KernelFiles::write_attr_within(self.machine, &path, "1", second);
            let answer = match asked {
                Ok(Written::Done) => self.machine.attr(&path).unwrap_or_default(),
                Ok(Written::TimedOut { .. }) => "0".into(),
                Err(error) => {
                    self.say.detail(&error.to_string());
                    continue;
                }
            };
            let _ = KernelFiles::write_attr_within(self.machine, &path, "0", second);
            if answer.trim() == "0" {
                let objection = Objection {
                    address: step.address,
                    why: "is in use, says NVIDIA's driver, though no process has it open".into(),
                    hint: "legacy persistence mode ('nvidia-smi -pm 0'), or a client in the kernel"
                        .into(),
                    forceable: false,
                };
                self.judge(vec![objection], false)?;
            }
        }
        Ok(())
    }

    /// The nodes by which QEMU opens the groups. udev and devtmpfs need a
    /// moment.
    fn group_nodes(
        &self,
        system: &System,
        moves: &[Move],
    ) -> Result<Vec<(u32, String)>, (Address, String)> {
        let mut nodes = Vec::new();
        let patience = Instant::now() + Duration::from_secs(1);
        for step in moves.iter().filter(|step| !step.actions.is_empty()) {
            let group = system.functions.get(&step.address).and_then(|f| f.group);
            let Some(group) = group.filter(|id| !nodes.iter().any(|(seen, _)| seen == id)) else {
                continue;
            };
            let node = format!("/dev/vfio/{group}");
            while !KernelFiles::exists(self.machine, &node) {
                if Instant::now() > patience {
                    return Err((step.address, format!("{node} did not appear")));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            nodes.push((group, node));
        }
        Ok(nodes)
    }

    fn tell(
        &mut self,
        moves: &[Move],
        outcomes: &[Outcome],
        stop: Option<&crate::apply::Stop>,
        kernel: &Kernel<'_>,
    ) -> anyhow::Result<()> {
        for (step, outcome) in moves.iter().zip(outcomes) {
            let because = stop.map(|stop| format!("because of {}", stop.address));
            match outcome {
                Outcome::Unchanged => self.report(step, ChangeStatus::Unchanged, None)?,
                Outcome::Changed => {
                    // what probing found is known only now
                    let mut step = step.clone();
                    if let Ok(now) = kernel.state(step.address) {
                        step.after = now;
                    }
                    self.report(&step, ChangeStatus::Changed, None)?;
                }
                Outcome::RolledBack => self.report(step, ChangeStatus::RolledBack, because)?,
                Outcome::NotReached => self.report(step, ChangeStatus::Skipped, because)?,
                Outcome::Failed { why, left } => {
                    self.report(step, ChangeStatus::Failed, Some(why.clone()))?;
                    if let Some(left) = left {
                        self.report_left(step, left)?;
                    }
                }
                Outcome::NotRestored { why, left } => {
                    let why = format!("could not be put back: {why}");
                    self.report(step, ChangeStatus::Failed, Some(why))?;
                    self.report_left(step, left)?;
                }
            }
        }
        Ok(())
    }

    /// Says exactly what is not as it was.
    fn report_left(&mut self, step: &Move, left: &State) -> anyhow::Result<()> {
        let pairs = [
            ("driver", &step.before.driver, &left.driver),
            ("driver_override", &step.before.driver_override, &left.driver_override),
        ];
        for (property, before, now) in pairs.into_iter().filter(|(_, before, now)| before != now) {
            let mut change = self.change(step.address, property);
            change.from.clone_from(before);
            change.to.clone_from(now);
            change.status = ChangeStatus::Failed;
            change.reason = Some("left behind: this is not what it was".into());
            self.writer.put(Record::Change(change))?;
        }
        Ok(())
    }

    fn report(
        &mut self,
        step: &Move,
        status: ChangeStatus,
        why: Option<String>,
    ) -> anyhow::Result<()> {
        let mut change = self.change(step.address, "driver");
        change.from.clone_from(&step.before.driver);
        change.to.clone_from(&step.after.driver);
        change.status = status;
        change.reason = why;
        self.writer.put(Record::Change(change))?;
        Ok(())
    }

    fn change(&self, address: Address, property: &str) -> Change {
        self.change_of(&address.to_string(), property)
    }

    pub(crate) fn change_of(&self, target: &str, property: &str) -> Change {
        Change::planned(self.say.tool(), target, property)
    }
}

/// The functions that something happens to.
fn touched<'a>(functions: &[&'a Function], moves: &[Move]) -> Vec<&'a Function> {
    let pairs = functions.iter().zip(moves);
    pairs.filter(|(_, step)| !step.actions.is_empty()).map(|(function, _)| *function).collect()
}

fn check_of(step: &Move, bind: bool) -> Check {
    let there = step.actions.is_empty();
    let verb = if bind { "bind" } else { "release" };
    Check {
        commands: Vec::new(),
        subject: step.address.to_string(),
        property: "driver".into(),
        expected: step.after.driver.clone(),
        actual: step.before.driver.clone(),
        status: if there { CheckStatus::Ok } else { CheckStatus::Drift },
        severity: if there { Severity::Info } else { Severity::Error },
        cause: None,
        reason: None,
        hint: (!there).then(|| format!("gpu-vfio-bind {verb} {}", step.address.slot())),
    }
}
