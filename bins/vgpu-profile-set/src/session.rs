//! What all verbs share: the host, the output, and the way from input to a plan
//! and from a plan to changed profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ::apply::{ApplyStop, Objection, StepOutcome, conclude, lock_run};
use ::cli::{Exit, Failure, Say, fail, interrupted};
use advice::vgpu_profile_set;
use host::{FileLock, Machine};
use nvidia::Profile;
use record::{Address, Change, ChangeStatus, Hint, Record, RecordWriter};

use crate::apply::settings::apply as apply_settings;
use crate::apply::{FunctionResult, ProfileApplier};
use crate::cli::RequestOptions;
use crate::input::{self, Assignment, Input, InputChoice, RequestedProfile, RequestedVgpus};
use crate::nvidia_programs::NvidiaPrograms;
use crate::observe::gpu_state::read_state;
use crate::observe::model::{Gpu, NamedBy, ReadDepth};
use crate::observe::{observe_with_names, profile_cache};
use crate::plan::assign::{expand, selects_none};
use crate::plan::model::{InvalidInput, PlanObjection, PlanRules, ProfilePlan, ProfileStep};
use crate::plan::plan_each;
use crate::plan::settings::{self, SettingStep, SettingsPlan};
use crate::report::Reporter;
use crate::sysfs::node_name;

/// How long the driver may take for one profile: it loads firmware for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is to be done on a host, and what that was planned from.
pub(crate) struct WholePlan {
    pub settings: SettingsPlan,
    pub profiles: ProfilePlan,
    pub gpus: Vec<Gpu>,
}

/// One run of the tool.
pub struct Session<'a> {
    pub machine: &'a Machine,
    pub say: &'a Say,
    pub writer: &'a mut RecordWriter,
}

/// The address that an operand names.
pub(crate) fn operand(text: &str) -> Result<Address, Failure> {
    text.parse().map_err(|error: record::AddressError| {
        fail(Exit::Usage, error.to_string()).run(vgpu_profile_set::list())
    })
}

fn invalid(input: InvalidInput) -> Failure {
    fail(Exit::Usage, input.why).advise(input.hint)
}

/// The framebuffer size of an assignment, where it is known.
fn size(gpus: &[Gpu], assignment: &Assignment) -> Option<u64> {
    match &assignment.profile {
        RequestedProfile::None => None,
        RequestedProfile::Name(name) => Profile::parse(name).map(|profile| profile.mib()),
        RequestedProfile::Id(id) => gpus.iter().find_map(|gpu| Some(gpu.profile_of(*id)?.mib())),
    }
}

impl Session<'_> {
    pub(crate) fn programs(&self) -> NvidiaPrograms<'_> {
        NvidiaPrograms { files: self.machine, runner: self.machine, interrupted: &interrupted }
    }

    pub(crate) fn reporter(&self) -> Reporter<'_> {
        Reporter { tool: self.say.tool() }
    }

    pub(crate) fn observe(&self, depth: ReadDepth) -> Result<Vec<Gpu>, Failure> {
        let mut gpus = observe_with_names(&self.programs(), depth)?;
        let named = gpus.iter_mut().flat_map(|gpu| &mut gpu.functions).flat_map(|f| &mut f.vms);
        let mut named: Vec<&mut NamedBy> = named.collect();
        if !named.is_empty() {
            let known = pve::has_driver_keep(self.machine);
            named.iter_mut().for_each(|of| of.keep_known = known);
        }
        Ok(gpus)
    }

    /// What the host has now, and the plan for the input on it.
    pub(crate) fn plan(&self, input: &Input, rules: PlanRules) -> Result<WholePlan, Failure> {
        let mut gpus = self.observe(ReadDepth::Plan)?;
        let mut settings = self.plan_settings(&mut gpus, input);
        if !settings.invalid.is_empty() {
            return Err(invalid(settings.invalid.remove(0)));
        }
        let profiles = self.plan_on(&mut gpus, input, rules)?;
        Ok(WholePlan { settings, profiles, gpus })
    }

    /// The plan for the input on a host that was read already.
    pub(crate) fn plan_on(
        &self,
        gpus: &mut [Gpu],
        input: &Input,
        rules: PlanRules,
    ) -> Result<ProfilePlan, Failure> {
        let mut plan = self.plan_each_on(gpus, input, rules);
        if plan.invalid.is_empty() { Ok(plan) } else { Err(invalid(plan.invalid.remove(0))) }
    }

    /// The plan for each GPU by itself, on a host that was read already.
    pub(crate) fn plan_each_on(
        &self,
        gpus: &mut [Gpu],
        input: &Input,
        rules: PlanRules,
    ) -> ProfilePlan {
        let mut warnings = Vec::new();
        let assignments = match &input.vgpus {
            RequestedVgpus::Assignments(assignments) => assignments.clone(),
            RequestedVgpus::Config(entries) => match expand(gpus, entries) {
                Ok(assignments) => {
                    warnings.extend(assignments.is_empty().then(|| selects_none(gpus)));
                    assignments
                }
                Err(error) => {
                    return ProfilePlan { invalid: vec![error], ..ProfilePlan::default() };
                }
            },
        };
        let mut sizes: BTreeSet<u64> = assignments.iter().filter_map(|a| size(gpus, a)).collect();
        // what is set counts as well; one without a name (0) may have any size
        for gpu in gpus.iter() {
            let set = gpu.functions.iter().filter(|function| function.current != 0);
            sizes.extend(set.map(|f| gpu.profile_of(f.current).map_or(0, |p| p.mib())));
        }
        if rules.heterogeneous || sizes.len() > 1 {
            self.read_heterogeneous(gpus);
        }
        let mut plan = plan_each(gpus, &assignments, rules);
        plan.warnings.splice(0..0, warnings);
        plan
    }

    /// The plan for the settings of whole GPUs. `Gpu::mig_requested` becomes how many
    /// instances there will be, so that vGPUs are planned on them.
    pub(crate) fn plan_settings(&self, gpus: &mut [Gpu], input: &Input) -> SettingsPlan {
        let mut plan = SettingsPlan::default();
        let mut seen: BTreeMap<Address, &str> = BTreeMap::new();
        for settings in &input.settings {
            let found = match settings::gpus_of(gpus, settings) {
                Ok(found) => found,
                Err(invalid) => {
                    plan.invalid.push(invalid);
                    continue;
                }
            };
            if found.is_empty() {
                plan.warnings.push(format!("{}: {}", settings.at, selects_none(gpus)));
            }
            for gpu in found {
                if let Some(before) = seen.insert(gpu.address, &settings.at) {
                    let why = format!("{before} and {} both select {}", settings.at, gpu.address);
                    plan.invalid.push(InvalidInput::new(why, Hint::default()));
                    continue;
                }
                let state = read_state(&self.programs(), gpu.address, gpu.mig_instances);
                settings::plan(gpu, settings, &state, &mut plan);
            }
        }
        for gpu in gpus {
            gpu.mig_requested = plan.mig_instances(gpu.address);
        }
        plan
    }

    /// What decides which part of an input counts.
    pub(crate) fn node(&self, given: Option<&str>) -> String {
        given.map_or_else(|| node_name(self.machine), str::to_string)
    }

    /// Reads the file, or standard input.
    pub(crate) fn read_input(&self, request: &RequestOptions) -> Result<Input, Failure> {
        let node = self.node(request.node.as_deref());
        let choice = InputChoice { config: request.config.as_deref(), node: &node };
        input::read(request.file.as_deref(), choice)
    }

    /// Asks nvidia-smi for the heterogeneous mode of each GPU.
    pub(crate) fn read_heterogeneous(&self, gpus: &mut [Gpu]) {
        for gpu in gpus.iter_mut().filter(|gpu| !gpu.functions.is_empty()) {
            gpu.heterogeneous = self.programs().heterogeneous(gpu.address);
        }
    }

    pub(crate) fn put(&mut self, change: Change) -> anyhow::Result<()> {
        Ok(self.writer.put(Record::Change(change))?)
    }

    pub(crate) fn print_plan(
        &mut self,
        settings: &SettingsPlan,
        plan: &ProfilePlan,
    ) -> anyhow::Result<()> {
        let settings: Vec<Change> =
            settings.steps.iter().map(|step| self.reporter().setting(step)).collect();
        settings.into_iter().try_for_each(|change| self.put(change))?;
        let changes = self.reporter().plan(plan);
        changes.into_iter().try_for_each(|change| self.put(change))
    }

    pub(crate) fn warn(&self, settings: &SettingsPlan, plan: &ProfilePlan) {
        settings.warnings.iter().for_each(|warning| self.say.warn(warning));
        plan.warnings.iter().for_each(|warning| self.say.warn(warning));
        let notes = plan.notes.iter().filter(|note| note.warns);
        notes.for_each(|note| self.say.warn(&note.to_string()));
    }

    /// Refuses a plan that has objections, before anything is written.
    pub(crate) fn refuse(
        &mut self,
        settings: &[PlanObjection],
        plan: &ProfilePlan,
    ) -> anyhow::Result<()> {
        let objection = |of: &PlanObjection| Objection {
            target: of.address.to_string(),
            kind: (),
            why: of.why.clone(),
            hint: of.hint.clone(),
            overridable: false,
        };
        let objections = settings.iter().chain(&plan.objections).map(objection).collect();
        ::apply::refuse(objections, false, "vgpu_type", self.say, self.writer)
    }

    /// Carries a plan out and prints what became of it. The caller holds the lock.
    pub(crate) fn carry_out(&mut self, plan: &ProfilePlan, gpus: &[Gpu]) -> anyhow::Result<Exit> {
        gpus.iter().for_each(|gpu| profile_cache::remember(self.machine, gpu));
        let (outcomes, stop) = self.apply_steps(plan, &plan.steps);
        for gpu in plan.heterogeneous.iter().filter(|_| stop.is_none()) {
            let mut change = self.reporter().heterogeneous_mode(*gpu);
            change.status = ChangeStatus::Changed;
            self.put(change)?;
        }
        for (step, outcome) in plan.steps.iter().zip(&outcomes) {
            let change = self.reporter().outcome(step, outcome, stop.as_ref());
            self.put(change)?;
        }
        conclude(&outcomes, stop)
    }

    /// Carries settings out and prints what became of them. Gives whether any changed.
    pub(crate) fn carry_out_settings(&mut self, steps: &[SettingStep]) -> anyhow::Result<bool> {
        let (outcomes, stop) = apply_settings(&self.programs(), steps);
        for (step, outcome) in steps.iter().zip(&outcomes) {
            let change = self.reporter().setting_outcome(step, outcome, stop.as_ref());
            self.put(change)?;
        }
        conclude(&outcomes, stop)?;
        Ok(outcomes.contains(&StepOutcome::Changed))
    }

    pub(crate) fn apply_steps(
        &self,
        plan: &ProfilePlan,
        steps: &[ProfileStep],
    ) -> (Vec<StepOutcome<String>>, Option<ApplyStop>) {
        let programs = self.programs();
        let applier =
            ProfileApplier { files: self.machine, deadline: DEADLINE, interrupted: &interrupted };
        let mut switch_mode = |gpu: Address, on: bool| match plan.heterogeneous.contains(&gpu) {
            true => programs.set_heterogeneous(gpu, on),
            false => Ok(()),
        };
        applier.apply(steps, &mut switch_mode)
    }

    /// Carries the steps of one GPU out, each by itself.
    pub(crate) fn apply_each(&self, steps: &[ProfileStep]) -> Vec<FunctionResult> {
        let applier =
            ProfileApplier { files: self.machine, deadline: DEADLINE, interrupted: &interrupted };
        applier.apply_each(steps)
    }

    /// Takes the lock; after that, signals make the run fail and roll back.
    pub(crate) fn lock(&self) -> Result<FileLock, Failure> {
        lock_run(self.machine, self.say.tool())
    }
}
