//! `persist`: slots to VFIO at every boot.

use std::collections::BTreeSet;

use ::apply::Objection;
use ::cli::{Exit, Failure, fail};
use advice::gpu_vfio_bind::{PersistOptions, persist};
use host::Machine;
use passthrough::{Judge, ObjectionKind, Retry, RetryCommand, TakenWhen};
use pci::{Function, System};
use record::{CommandLine, Hint};
use usage::Users;

use crate::boot::list::{BootEntry, MatchBy};
use crate::boot::observe::BootFacts;
use crate::boot::plan::{BootPlanError, BootRequest, plan};
use crate::boot::run;
use crate::cli::Persist;
use crate::report::Report;
use crate::select::{Reach, add_group_members, functions, select, with_kinds};
use crate::vfio_driver::VfioDriver;

pub fn run(options: &Persist, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let (system, mut addresses) = select(&options.named, Reach::Machine, machine, report.say)?;
    let named = system.names(&functions(&system, &addresses));
    if options.group {
        add_group_members(&system, &mut addresses);
    }
    let chosen = functions(&system, &addresses);
    let driver = VfioDriver::of_option(&options.driver, machine, &system, &chosen)?;
    let command = persist(&named, &typed_options(options));
    let facts = BootFacts::read(machine, &system, options.cmdline, report.say)?;
    let request = BootRequest::Add {
        entries: entries(machine, &chosen, &driver, options.by)?,
        blacklist: options.blacklist,
        cmdline: options.cmdline,
        by_address: &|| persist(&named, &PersistOptions { by_id: false, ..typed_options(options) }),
    };
    let mut plan = plan(&system, &facts, &request).map_err(Failure::from)?;
    let retry = |retry| retry_command(options, &named, retry);
    let mut objections = objections(machine, &system, &chosen, &retry);
    if options.by == MatchBy::Address {
        let by_id = persist(&named, &PersistOptions { by_id: true, ..typed_options(options) });
        objections.extend(chosen.iter().filter_map(|f| absent_at_boot(machine, f, &by_id)));
    }
    objections.append(&mut plan.objections);
    plan.objections = objections;
    run::run(plan, &options.change, &options.force.kinds, command, machine, report)
}

/// What is against binding these functions at boot. An IOMMU that is off may be
/// switched on with it.
fn objections(
    machine: &Machine,
    system: &System,
    chosen: &[&Function],
    retry: &RetryCommand<'_>,
) -> Vec<Objection<ObjectionKind>> {
    let users = Users::new(machine);
    let judge = Judge { system, users: &users, retry, when: TakenWhen::AtBoot };
    let mut objections = judge.bind(chosen);
    let of_iommu = [ObjectionKind::IommuOff, ObjectionKind::NoIommuGroup];
    objections.retain(|objection| system.iommu.is_on() || !of_iommu.contains(&objection.kind));
    objections
}

/// The script in the initramfs binds what exists there. A virtual function is
/// made by its PF's driver, a Thunderbolt device is authorised by a daemon, and
/// what is behind Intel's VMD appears with its driver.
fn absent_at_boot(
    machine: &Machine,
    function: &Function,
    by_id: &CommandLine,
) -> Option<Objection<ObjectionKind>> {
    // drivers/pci/probe.c, set_pcie_untrusted() and pci_set_removable()
    let removable = format!("/sys/bus/pci/devices/{}/removable", function.address);
    let is_removable = || machine.attr(&removable).is_ok_and(|text| text == "removable");
    let by_id = || Hint::command(by_id.clone()).because("match by id: it is bound when it appears");
    let (why, hint) = if let Some(pf) = function.pf {
        let words =
            format!("bind it once {pf} has made it: gpu-vfio-bind bind {}", function.address);
        ("is a virtual function, which does not exist yet while the host boots", Hint::words(words))
    } else if is_removable() {
        ("is removable (Thunderbolt or USB4) and appears after the initramfs", by_id())
    } else if function.address.domain > 0xffff {
        ("is behind Intel's VMD and appears after the initramfs", by_id())
    } else {
        return None;
    };
    Some(Objection {
        target: function.address.to_string(),
        kind: ObjectionKind::AbsentAtBoot,
        why: why.into(),
        hint,
        overridable: false,
    })
}

fn entries(
    machine: &Machine,
    chosen: &[&Function],
    driver: &VfioDriver,
    by: MatchBy,
) -> Result<Vec<BootEntry>, Failure> {
    let unknown = |f: &Function| {
        fail(Exit::System, format!("{}: cannot read its vendor and device id", f.address))
            .run(advice::gpu_iommu_groups::list(&f.address.to_string()))
    };
    let entry =
        |f: &&Function| BootEntry::of(f, &driver.of(machine, f), by).ok_or_else(|| unknown(f));
    chosen.iter().map(entry).collect()
}

/// The options that differ from their defaults.
fn typed_options(options: &Persist) -> PersistOptions {
    PersistOptions {
        by_id: options.by == MatchBy::Id,
        group: options.group,
        driver: Some(options.driver.clone()).filter(|driver| driver != "vfio-pci"),
        cmdline: options.cmdline,
        blacklist: options.blacklist,
        force: with_kinds(&options.force, BTreeSet::new()),
    }
}

/// The user's own command with what gets past an objection.
fn retry_command(options: &Persist, named: &[String], retry: Retry) -> CommandLine {
    let mut typed = typed_options(options);
    match retry {
        Retry::Force(kinds) => typed.force = with_kinds(&options.force, kinds),
        Retry::WithGroup(_, kinds) => {
            typed.group = true;
            typed.force = with_kinds(&options.force, kinds);
        }
        // no process has a GPU open during the boot
        Retry::StopPersistenced => {}
    }
    persist(named, &typed)
}

impl From<BootPlanError> for Failure {
    fn from(error: BootPlanError) -> Failure {
        let (message, option) = match error {
            BootPlanError::NoLoader { option } => {
                ("the boot loader that started this host is unknown".to_string(), option)
            }
            BootPlanError::NoUpdate { path, option } => (
                format!("'{path}' is used by a boot loader that this tool does not update"),
                option,
            ),
            BootPlanError::SwitchedOff { option } => {
                let message =
                    format!("the kernel command line has '{option}'; nothing was changed");
                return fail(Exit::System, message)
                    .hint(format!("remove '{option}' from the kernel command line, then reboot"));
            }
            BootPlanError::UnknownForm { path, option } => {
                (format!("'{path}' has a form that this tool does not edit"), option)
            }
        };
        fail(Exit::System, format!("{message}; nothing was changed"))
            .hint(format!("add '{option}' to the kernel command line by hand"))
    }
}
