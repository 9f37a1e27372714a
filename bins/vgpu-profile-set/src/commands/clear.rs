//! `clear`: clears profiles.

use ::cli::{Exit, fail};
use advice::vgpu_profile_set;
use record::{Address, Hint};

use crate::cli::ClearOptions;
use crate::commands::check::compare;
use crate::input::{Assignment, Input, RequestedProfile};
use crate::observe::model::{Gpu, ReadDepth};
use crate::plan::model::PlanRules;
use crate::plan::settings::SettingsPlan;
use crate::session::{Session, operand};

/// The verb.
pub fn run(options: &ClearOptions, mut session: Session<'_>) -> anyhow::Result<Exit> {
    if !options.all && options.operands.is_empty() {
        let message = "no virtual function is named";
        let words = "name virtual functions or GPUs, or use --all";
        let hint = Hint::command(vgpu_profile_set::list()).because(words);
        return Err(fail(Exit::Usage, message).advise(hint).into());
    }
    let _lock = match options.change.only_look() {
        true => None,
        false => Some(session.lock()?),
    };
    let mut gpus = session.observe(ReadDepth::Plan)?;
    let assignments = assignments(options, &gpus)?;
    if assignments.is_empty() {
        let message = "no function that is named can have a profile";
        return Err(fail(Exit::Usage, message).run(vgpu_profile_set::list()).into());
    }
    let input = Input::of(assignments);
    let rules = PlanRules { heterogeneous: false, skip_in_use: options.skip_in_use };
    if options.change.check {
        let fix = |function| Hint::command(vgpu_profile_set::clear(function));
        return compare(&mut session, &input, PlanRules { skip_in_use: true, ..rules }, &fix);
    }
    let plan = session.plan_on(&mut gpus, &input, rules)?;
    session.refuse(&[], &plan)?;
    if options.change.dry_run {
        session.print_plan(&SettingsPlan::default(), &plan)?;
        return Ok(Exit::Done);
    }
    session.carry_out(&plan, &gpus)
}

/// No profile for each function that the operands name, once.
fn assignments(options: &ClearOptions, gpus: &[Gpu]) -> anyhow::Result<Vec<Assignment>> {
    let mut named: Vec<(String, Address)> = Vec::new();
    for text in &options.operands {
        named.push((text.clone(), operand(text)?));
    }
    if options.all {
        named.extend(gpus.iter().map(|gpu| (gpu.address.to_string(), gpu.address)));
    }
    let mut assignments: Vec<Assignment> = Vec::new();
    let mut add = |at: &str, address| {
        if !assignments.iter().any(|known| known.address == address) {
            let profile = RequestedProfile::None;
            let assignment = Assignment { at: at.into(), address, profile, count: None, own: true };
            assignments.push(assignment);
        }
    };
    for (text, address) in &named {
        match gpus.iter().find(|gpu| gpu.address == *address) {
            Some(gpu) => gpu.functions.iter().for_each(|function| add(text, function.address)),
            None => add(text, *address),
        }
    }
    Ok(assignments)
}
