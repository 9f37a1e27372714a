//! `--check`: whether every selected GPU can be passed through.

use std::collections::BTreeSet;

use ::cli::{Exit, Say};
use pci::{Function, System, passthrough};
use record::{Blocker, Check, CheckStatus, Hint, Passthrough, Record, RecordWriter, Severity};

use crate::select::Selection;

/// One `check` record a slot; exit 1 unless all are ok. Checks named functions of
/// any kind, else GPUs. `text`: messages instead of records, for `-o tree`.
pub fn run(
    system: &System,
    selection: &Selection,
    say: &Say,
    writer: &mut RecordWriter,
    text: bool,
) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let mut seen = BTreeSet::new();
    let wanted = |f: &&Function| !f.is_bridge() && (selection.named || f.is_gpu());
    for function in selection.functions(system).filter(wanted) {
        // a VF stands for itself, all other functions for their slot
        let key = (function.address.slot(), function.pf.is_some().then_some(function.address));
        if !seen.insert(key) {
            continue;
        }
        let check = check(system, function);
        if check.status != CheckStatus::Ok {
            exit = Exit::Difference;
        }
        if text {
            say.note(&format!("{}: {}", check.subject, check.actual.as_deref().unwrap_or("")));
        } else {
            writer.put(Record::Check(check))?;
        }
    }
    if seen.is_empty() {
        say.note("no GPU is selected; --all selects every function");
        exit = Exit::Difference;
    }
    Ok(exit)
}

fn check(system: &System, function: &Function) -> Check {
    let verdict = passthrough(system, function);
    let (status, severity) = match (verdict.isolated, verdict.viable_once_bound) {
        (Some(true), Some(true)) => (CheckStatus::Ok, Severity::Info),
        (Some(false), _) | (_, Some(false)) => (CheckStatus::Drift, Severity::Error),
        _ => (CheckStatus::Unknown, Severity::Warning),
    };
    let subject = match function.pf {
        Some(_) => function.address.to_string(),
        None => function.address.slot().to_string(),
    };
    let hint = hint(system, function, &verdict, status).unwrap_or_default();
    Check {
        subject,
        property: "passthrough".into(),
        expected: Some("possible".into()),
        actual: Some(actual(&verdict, status)),
        status,
        severity,
        cause: None,
        reason: None,
        hint: hint.words,
        commands: hint.commands,
    }
}

fn actual(verdict: &Passthrough, status: CheckStatus) -> String {
    if status == CheckStatus::Ok {
        return "possible".into();
    }
    let foreign: Vec<&Blocker> = verdict.blockers.iter().filter(|b| !b.own_slot).collect();
    let said: Vec<String> = foreign
        .iter()
        .take(3)
        .map(|b| match &b.function {
            Some(function) => format!("{function} {}", b.why),
            None => b.why.clone(),
        })
        .collect();
    let more = foreign.len().saturating_sub(said.len());
    let tail = if more > 0 { format!(" (and {more} more blockers)") } else { String::new() };
    said.join("; ") + &tail
}

fn hint(
    system: &System,
    function: &Function,
    verdict: &Passthrough,
    status: CheckStatus,
) -> Option<Hint> {
    let slot = function.address.slot();
    if status == CheckStatus::Ok {
        let bound = verdict.viable == Some(true);
        return (!bound).then(|| Hint::command(advice::gpu_vfio_bind::bind(slot)));
    }
    if !system.iommu.is_on() {
        return Some(Hint::words(system.iommu.advice()));
    }
    Some(match (function.group, verdict.isolated) {
        (None, _) => Hint::words("use another slot: the IOMMU does not cover this one"),
        (Some(group), Some(false)) => Hint::words(format!(
            "try another slot or a firmware update (ACS); otherwise all of group {group} must go \
             to the same VM; see pve-gpu-groups(7)"
        )),
        (Some(_), None) => Hint::words(
            "remove pcie_acs_override= from the kernel command line to see the real groups",
        ),
        (Some(group), _) => Hint::command(advice::gpu_iommu_groups::group(group))
            .because("the blockers of the group have to be removed from it"),
    })
}
