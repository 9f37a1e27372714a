//! `--check`: whether every selected GPU can be passed through.

use std::collections::BTreeSet;

use ::apply::Objection;
use ::cli::{Exit, Say};
use advice::gpu_vfio_bind::{BindOptions, bind_with};
use passthrough::{ForceKind, Judge, ObjectionKind, Retry, TakenWhen, possible, warnings};
use pci::{Function, System};
use record::{Address, Check, CheckStatus, CommandLine, Hint, Record, RecordWriter, Severity};
use usage::Users;

use crate::select::Selection;

/// One `check` record for what goes to a VM together; exit 1 unless all are ok.
/// Checks named functions of any kind, else GPUs. `text`: messages instead of
/// records, for `-o tree`.
pub fn run(
    system: &System,
    users: &Users<'_>,
    selection: &Selection,
    say: &Say,
    writer: &mut RecordWriter,
    text: bool,
) -> anyhow::Result<Exit> {
    let mut exit = Exit::Done;
    let mut seen: BTreeSet<Vec<Address>> = BTreeSet::new();
    let is_gpu = |f: &Function| f.is_gpu() && !f.is_bmc_display();
    let wanted = |f: &&Function| !system.stays_with_host(f) && (selection.named || is_gpu(f));
    for function in selection.functions(system).filter(wanted) {
        let slot: Vec<&Function> = system.slot(function).collect();
        if !seen.insert(slot.iter().map(|f| f.address).collect()) {
            continue;
        }
        let check = check(system, users, function, &slot);
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
        let only_bmc = selection.functions(system).any(Function::is_bmc_display);
        say.note(match only_bmc {
            true => "no GPU is selected; the display of the BMC is not for a VM",
            false => "no GPU is selected; --all selects every function",
        });
        exit = Exit::Difference;
    }
    Ok(exit)
}

fn check(system: &System, users: &Users<'_>, function: &Function, slot: &[&Function]) -> Check {
    let names = system.names(slot);
    let retry = |retry| bind(&names, retry);
    let judge = Judge { system, users, retry: &retry, when: TakenWhen::Now };
    let objections = judge.assign(function);
    let (status, severity) = match possible(&objections) {
        Some(true) => (CheckStatus::Ok, Severity::Info),
        Some(false) => (CheckStatus::Drift, Severity::Error),
        None => (CheckStatus::Unknown, Severity::Warning),
    };
    let hint = match status {
        CheckStatus::Ok if slot.iter().all(|f| f.on_vfio()) => Hint::default(),
        CheckStatus::Ok => Hint::command(bind_with(&names, &BindOptions::default())),
        _ => hint(&objections),
    };
    let remarks = warnings(system, function);
    Check {
        subject: match names.as_slice() {
            [name] => name.clone(),
            _ => function.address.to_string(),
        },
        property: "passthrough".into(),
        expected: Some("possible".into()),
        actual: Some(actual(&objections)),
        status,
        severity,
        cause: None,
        reason: (!remarks.is_empty()).then(|| remarks.join("; ")),
        hint: hint.words,
        commands: hint.commands,
    }
}

/// What several functions of a slot have in common is said once.
fn actual(objections: &[Objection<ObjectionKind>]) -> String {
    const SHOWN: usize = 3;
    let mut whys: Vec<&str> = Vec::new();
    let mut said: Vec<String> = Vec::new();
    for objection in objections {
        if whys.contains(&objection.why.as_str()) {
            continue;
        }
        whys.push(&objection.why);
        said.push(match objection.kind {
            ObjectionKind::IommuOff | ObjectionKind::AcsOverride => objection.why.clone(),
            _ => format!("{}: {}", objection.target, objection.why),
        });
    }
    match said.len() {
        0 => "possible".into(),
        count if count > SHOWN => {
            format!("{} (and {} more reasons)", said[..SHOWN].join("; "), count - SHOWN)
        }
        _ => said.join("; "),
    }
}

/// What to do about the objection that is hardest to get past. Overriding the
/// one about the ACS override would leave groups that prove nothing.
fn hint(objections: &[Objection<ObjectionKind>]) -> Hint {
    let of_acs =
        |objection: &&Objection<ObjectionKind>| objection.kind == ObjectionKind::AcsOverride;
    let last_word = objections.iter().find(|objection| !objection.overridable);
    match last_word.or_else(|| objections.iter().find(of_acs)).or(objections.first()) {
        Some(objection) if of_acs(&objection) => Hint::words(
            "remove pcie_acs_override= from the kernel command line to see the real groups",
        ),
        Some(objection) => objection.hint.clone(),
        None => Hint::default(),
    }
}

/// The bind that gets past an objection.
fn bind(names: &[String], retry: Retry) -> CommandLine {
    let words = |kinds: BTreeSet<ForceKind>| kinds.iter().map(|k| k.name().to_string()).collect();
    let options = match retry {
        Retry::Force(kinds) => BindOptions { force: words(kinds), ..Default::default() },
        Retry::StopPersistenced => BindOptions { stop_persistenced: true, ..Default::default() },
        Retry::WithGroup(_, kinds) => {
            BindOptions { group: true, force: words(kinds), ..Default::default() }
        }
    };
    bind_with(names, &options)
}
