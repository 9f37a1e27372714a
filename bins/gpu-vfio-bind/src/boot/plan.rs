//! Decides what `persist` and `unpersist` write. Pure.

use std::collections::BTreeSet;

use ::apply::Objection;
use host::boot_loader::BootFileEdit;
use passthrough::ObjectionKind;
use pci::{Function, ModuleAliases, System, is_vfio_driver};
use record::{Address, CommandLine, Hint};

use super::files::{Initramfs, MODPROBE, files};
use super::images::ImageContents;
use super::list::{BootEntry, MatchBy, next_boot_driver};
use super::observe::BootFacts;

/// The kernel's own drivers of a vendor's displays, which have nothing to do
/// where all its GPUs go to VMs.
fn display_modules(vendor: u16) -> &'static [&'static str] {
    match vendor {
        pci::NVIDIA => &["nouveau", "nvidiafb"],
        0x1002 => &["amdgpu", "radeon"],
        0x8086 => &["i915", "xe"],
        _ => &[],
    }
}

/// What the verb asks for.
pub enum BootRequest<'a> {
    Add {
        entries: Vec<BootEntry>,
        blacklist: bool,
        /// Add what the IOMMU needs to the kernel command line.
        cmdline: bool,
        /// The user's own command, but matching by address.
        by_address: &'a dyn Fn() -> CommandLine,
    },
    Remove(BTreeSet<Address>),
    RemoveAll,
}

/// One thing that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootStep {
    CommandLine {
        option: &'static str,
        edit: BootFileEdit,
        /// What makes the boot loader use the changed file.
        commands: Vec<&'static [&'static str]>,
    },
    /// `None`: the file does not exist.
    File { path: &'static str, mode: u32, before: Option<String>, after: Option<String> },
    /// The images are rebuilt.
    Images {
        initramfs: Initramfs,
        /// What they have to contain then.
        contents: ImageContents,
        /// The same without this run.
        before: ImageContents,
    },
}

impl BootStep {
    pub fn is_change(&self) -> bool {
        match self {
            BootStep::CommandLine { edit, .. } => edit.before != edit.after,
            BootStep::File { before, after, .. } => before != after,
            BootStep::Images { .. } => true,
        }
    }

    /// Target and property of its records.
    pub fn name(&self) -> (&str, &'static str) {
        match self {
            BootStep::CommandLine { edit, .. } => (&edit.path, "option"),
            BootStep::File { path, .. } => (path, "file"),
            BootStep::Images { .. } => ("initramfs", "images"),
        }
    }
}

pub struct BootPlan {
    pub steps: Vec<BootStep>,
    /// A function will have another driver after the boot than it has now.
    pub reboot_required: bool,
    pub objections: Vec<Objection<ObjectionKind>>,
    pub warnings: Vec<String>,
    pub notes: Vec<String>,
}

/// Why the command line cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootPlanError {
    /// What booted this host is not known.
    NoLoader { option: &'static str },
    /// No command is known that makes the boot loader use a changed file.
    NoUpdate { path: &'static str, option: &'static str },
    /// An option that switches the IOMMU off is on the command line.
    SwitchedOff { option: String },
    /// The file has a form that is not edited.
    UnknownForm { path: &'static str, option: &'static str },
}

pub fn plan(
    system: &System,
    facts: &BootFacts,
    request: &BootRequest<'_>,
) -> Result<BootPlan, BootPlanError> {
    let mut plan = BootPlan {
        steps: Vec::new(),
        reboot_required: false,
        objections: Vec::new(),
        warnings: Vec::new(),
        notes: Vec::new(),
    };
    let entries = entries_after(facts.entries(), request);
    let mut with_display_modules = false;
    if let BootRequest::Add { blacklist, cmdline, by_address, .. } = request {
        with_display_modules = *blacklist;
        same_ids(system, &entries, *by_address, &mut plan);
        foreign_ids(facts, &entries, &mut plan);
        if !system.iommu.is_on() {
            plan.warnings.push(format!("the IOMMU is off: {}", system.iommu.advice()));
        }
        if *cmdline {
            command_line(system, facts, &mut plan)?;
        }
    }
    let blacklist = blacklist(system, facts, &entries, with_display_modules, &mut plan.warnings);
    let modules = claiming_modules(system, facts, &entries);
    let initramfs = facts.initramfs;
    for file in files(&entries, &modules, &blacklist, initramfs) {
        let before = facts.texts.get(file.path).cloned();
        let (path, mode, after) = (file.path, file.mode, file.text);
        plan.steps.push(BootStep::File { path, mode, before, after });
    }
    let is_file_change =
        |step: &BootStep| matches!(step, BootStep::File { .. }) && step.is_change();
    if plan.steps.iter().any(is_file_change) {
        plan.steps.push(BootStep::Images {
            initramfs,
            contents: ImageContents::of(&entries),
            before: ImageContents::of(&facts.entries()),
        });
    }
    plan.reboot_required |= system.functions.values().any(|function| {
        next_boot_driver(&entries, function).is_some_and(|driver| function.driver != Some(driver))
    });
    Ok(plan)
}

fn entries_after(mut entries: Vec<BootEntry>, request: &BootRequest<'_>) -> Vec<BootEntry> {
    match request {
        BootRequest::Add { entries: added, .. } => {
            entries.retain(|old| !added.iter().any(|new| new.address == old.address));
            entries.extend(added.iter().cloned());
        }
        BootRequest::Remove(addresses) => {
            entries.retain(|entry| !addresses.contains(&entry.address));
        }
        BootRequest::RemoveAll => entries.clear(),
    }
    entries.sort();
    entries
}

/// By id every identical GPU is bound: an objection where one was not named.
fn same_ids(
    system: &System,
    entries: &[BootEntry],
    by_address: &dyn Fn() -> CommandLine,
    plan: &mut BootPlan,
) {
    let named = |f: &Function| entries.iter().any(|entry| entry.address == f.address);
    for function in system.functions.values().filter(|f| !named(f)) {
        let by_id = entries.iter().filter(|entry| entry.by == MatchBy::Id);
        if let Some(entry) = by_id.clone().find(|entry| entry.is(function)) {
            plan.objections.push(Objection {
                target: function.address.to_string(),
                kind: ObjectionKind::SameIds,
                why: format!("has the same ids as {}: by id both would be bound", entry.address),
                hint: Hint::command(by_address()).because("match by address, or name both"),
                overridable: false,
            });
        }
    }
}

/// Where the list is by id, ids= in another file of modprobe overrides it.
fn foreign_ids(facts: &BootFacts, entries: &[BootEntry], plan: &mut BootPlan) {
    let by_id = entries.iter().any(|entry| entry.by == MatchBy::Id);
    for path in &facts.foreign_ids {
        if by_id {
            plan.objections.push(Objection {
                target: path.clone(),
                kind: ObjectionKind::ForeignIds,
                why: "sets ids= for vfio-pci as well, and the last file wins".into(),
                hint: Hint::words("remove that line first"),
                overridable: false,
            });
        } else {
            let what = format!("'{path}' sets ids= for vfio-pci");
            plan.warnings.push(format!("{what}: every GPU with these ids is bound to vfio-pci"));
        }
    }
    if let Some(word) = &facts.booted_ids {
        plan.warnings.push(format!("the kernel command line has '{word}' as well"));
    }
}

fn command_line(
    system: &System,
    facts: &BootFacts,
    plan: &mut BootPlan,
) -> Result<(), BootPlanError> {
    if let Some(option) = system.iommu.off_option() {
        return Err(BootPlanError::SwitchedOff { option: option.to_string() });
    }
    let Some(option) = system.iommu.needed_option() else {
        plan.notes.push("the kernel command line needs no option".into());
        return Ok(());
    };
    let facts = facts.loader.as_ref().ok_or(BootPlanError::NoLoader { option })?;
    let path = facts.loader.path();
    let edit = facts.edit.clone().ok_or(BootPlanError::UnknownForm { path, option })?;
    if facts.commands.is_empty() {
        return Err(BootPlanError::NoUpdate { path, option });
    }
    if edit.before == edit.after {
        // a line that nothing made the loader use, or that another loader reads
        let commands: Vec<String> = facts.commands.iter().map(|words| words.join(" ")).collect();
        plan.warnings.push(format!(
            "'{}' has '{option}', but the running kernel was started without it: run '{}', then \
             reboot",
            edit.path,
            commands.join("' and '")
        ));
        plan.reboot_required = true;
    }
    let commands = facts.commands.clone();
    plan.steps.push(BootStep::CommandLine { option, edit, commands });
    Ok(())
}

/// Modules that are never loaded: those that are blacklisted already and, on
/// request, drivers of displays; without those that another GPU needs.
fn blacklist(
    system: &System,
    facts: &BootFacts,
    entries: &[BootEntry],
    with_display_modules: bool,
    warnings: &mut Vec<String>,
) -> BTreeSet<String> {
    let text = facts.texts.get(MODPROBE).map(String::as_str).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("blacklist "));
    let mut blacklist: BTreeSet<String> = lines.map(|name| name.trim().to_string()).collect();
    if with_display_modules {
        let named = system.functions.values().filter(|f| f.is_gpu());
        let vendors = named.filter(|f| entries.iter().any(|e| e.is(f))).filter_map(|f| f.vendor);
        let modules = vendors.flat_map(display_modules);
        blacklist.extend(modules.map(|module| (*module).to_string()));
    }
    let others = system.functions.values().filter(|f| !entries.iter().any(|e| e.is(f)));
    let needed: BTreeSet<String> = others.filter_map(|f| f.driver.clone()).collect();
    for module in blacklist.intersection(&needed) {
        warnings.push(format!("{module} is not blacklisted: another GPU is bound to it"));
    }
    blacklist.difference(&needed).cloned().collect()
}

/// Native modules that claim the functions: a softdep has modprobe load vfio-pci
/// before them.
fn claiming_modules(system: &System, facts: &BootFacts, entries: &[BootEntry]) -> BTreeSet<String> {
    let is_named = |f: &&Function| entries.iter().any(|entry| entry.is(f));
    let named: Vec<&Function> = system.functions.values().filter(is_named).collect();
    let vendors: Vec<u16> = named.iter().filter_map(|f| f.vendor).collect();
    let aliases = ModuleAliases::parse(&facts.modules_alias, &vendors);
    let claims = named.iter().filter_map(|f| f.modalias()).flat_map(|of| aliases.modules(&of));
    claims.filter(|module| !is_vfio_driver(module)).collect()
}
