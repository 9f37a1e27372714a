//! `status`: which driver functions have now and after the next boot, against
//! the one that they should have.

use std::collections::BTreeSet;

use ::cli::{Exit, Failure, fail};
use advice::gpu_vfio_bind::{BindOptions, bind_with, persist, release};
use host::Machine;
use passthrough::{Judge, Retry, TakenWhen};
use pci::{Function, GroupObstacle, System, group_obstacles, is_vfio_driver};
use record::{Address, Check, CheckStatus, Hint, Severity, print_text};
use usage::Users;

use crate::boot::claims::{BootClaims, ClaimedBy};
use crate::cli::{ExportFormat, Status};
use crate::export::{kubevirt, pve_mapping, qm};
use crate::previous_driver;
use crate::report::{Report, drift};
use crate::select::{functions, scan};

pub fn run(options: &Status, machine: &Machine, report: &mut Report<'_>) -> anyhow::Result<Exit> {
    let system = scan(machine, report.say)?;
    if let Some(format) = options.format {
        let named = functions(&system, &addresses(&system, &options.operands)?);
        let bound: Vec<&Function> = named.into_iter().filter(|f| f.on_vfio()).collect();
        print_text(&match format {
            ExportFormat::Qm => qm(&system, &bound),
            ExportFormat::Kubevirt => kubevirt(machine, &bound),
            ExportFormat::PveMapping => pve_mapping(machine, &system, &bound),
        })?;
        return Ok(Exit::Done);
    }
    let claims = BootClaims::read(machine, &system).map_err(Failure::from)?;
    let addresses = addresses(&system, &options.operands)?;
    let users = Users::new(machine);
    let host = Host { machine, system: &system, claims: &claims, users: &users };
    let chosen = || addresses.iter().filter_map(|address| system.functions.get(address));
    let now = chosen().map(|function| host.driver_now(function));
    let at_boot = chosen().filter_map(|function| host.driver_at_boot(function));
    let mut exit = Exit::Done;
    for check in now.chain(at_boot) {
        if check.status != CheckStatus::Ok {
            exit = Exit::Difference;
        }
        report.put_check(check)?;
    }
    Ok(exit)
}

/// The functions that are named, else the slots of all GPUs.
fn addresses(system: &System, operands: &[String]) -> anyhow::Result<BTreeSet<Address>> {
    let mut addresses = BTreeSet::new();
    for operand in operands {
        let found = system.named(operand);
        addresses.extend(found.map_err(|error| fail(Exit::Usage, error.to_string()))?);
    }
    if operands.is_empty() {
        for gpu in system.functions.values().filter(|f| f.is_gpu()) {
            addresses.extend(system.slot(gpu).map(|f| f.address));
        }
    }
    Ok(addresses)
}

struct Host<'a> {
    machine: &'a Machine,
    system: &'a System,
    claims: &'a BootClaims,
    users: &'a Users<'a>,
}

impl Host<'_> {
    /// A function that was bound, or will be at the next boot, should be bound;
    /// so should one that keeps the rest of its card from a VM. Any other has the
    /// driver of its override, or whichever it has. An override that is left over
    /// is cleared by a release, which unbinds nothing.
    fn driver_now(&self, function: &Function) -> Check {
        let at_boot = || self.claims.of(function).and_then(|claim| claim.driver);
        let (name, now) = (function.address.to_string(), function.driver.clone());
        let previous = previous_driver::recall(self.machine, function.address);
        let (expected, why) = match (previous, &function.driver_override) {
            (Some(previous), _) => (Some(previous.moved_to), "it was bound, and is not now".into()),
            (None, Some(wanted)) if now.as_ref() == Some(wanted) => (now.clone(), String::new()),
            (None, Some(wanted)) if at_boot().as_ref() != Some(wanted) => {
                let check = Check::ok(&name, "driver_override", Some(wanted.clone()));
                let hint = Hint::command(release(function.address.slot()))
                    .because("an override is left over; release clears it");
                return drift(check, None, Severity::Warning, hint);
            }
            (None, Some(wanted)) => (Some(wanted.clone()), "reboot, or bind it now".into()),
            (None, None) => match self.rest_of_card(function) {
                Some(driver) => (Some(driver), "the rest of the slot is bound without it".into()),
                None => (now.clone(), String::new()),
            },
        };
        let check = Check::ok(&name, "driver", now);
        if expected == function.driver {
            return check;
        }
        drift(check, expected, Severity::Warning, self.bind_hint(function, why))
    }

    /// The VFIO driver of another function of the same card and IOMMU group,
    /// where this one is the reason that no VM gets them.
    fn rest_of_card(&self, function: &Function) -> Option<String> {
        let group = self.system.groups.get(&function.group?)?;
        let is_own = |found: &GroupObstacle<'_>| {
            found.function.is_some_and(|member| member.address == function.address)
        };
        if function.stays_with_host() || !group_obstacles(self.system, group).iter().any(is_own) {
            return None;
        }
        let same_group = |f: &&Function| f.group.is_some() && f.group == function.group;
        let drivers =
            self.system.slot(function).filter(same_group).filter_map(|f| f.driver.clone());
        drivers.into_iter().find(|driver| is_vfio_driver(driver))
    }

    /// `None` where nothing says that the function is bound at boot.
    fn driver_at_boot(&self, function: &Function) -> Option<Check> {
        let name = function.address.to_string();
        let check = Check::ok(&name, "driver_at_boot", function.driver.clone());
        if self.claims.is_replaced(function) {
            let command = persist(&self.system.names(&[function]), &Default::default());
            let hint = Hint::command(command)
                .because("another function is at this address now; persist it if it is meant");
            return Some(drift(check, None, Severity::Warning, hint));
        }
        let claim = self.claims.of(function)?;
        if let Some(rival) = &claim.rival {
            let command = persist(&self.system.names(&[function]), &Default::default());
            let why = format!("{} name it, but {rival} may be loaded first", claim.by.text());
            let hint = Hint::command(command).because(why);
            let check = drift(check, claim.driver, Severity::Warning, hint);
            return Some(Check { status: CheckStatus::Unknown, ..check });
        }
        if function.driver == claim.driver {
            return Some(check);
        }
        let why = match &claim.by {
            ClaimedBy::List => "reboot, or bind it now".into(),
            by => format!("{} binds it at the next boot: reboot, or bind it now", by.text()),
        };
        let hint = self.bind_hint(function, why);
        Some(drift(check, claim.driver, Severity::Warning, hint))
    }

    /// The command that binds the function, where `bind` would not refuse it;
    /// else what it would say.
    fn bind_hint(&self, function: &Function, why: String) -> Hint {
        let card: Vec<&Function> =
            self.system.slot(function).filter(|f| !f.stays_with_host()).collect();
        let named = self.system.names(&card);
        let retry = |retry: Retry| {
            let options = match retry {
                Retry::Force(kinds) => BindOptions { force: names(kinds), ..Default::default() },
                Retry::StopPersistenced => {
                    BindOptions { stop_persistenced: true, ..Default::default() }
                }
                Retry::WithGroup(_, kinds) => {
                    BindOptions { group: true, force: names(kinds), ..Default::default() }
                }
            };
            bind_with(&named, &options)
        };
        let taken: Vec<&Function> = card.into_iter().filter(|f| !f.on_vfio()).collect();
        let judge =
            Judge { system: self.system, users: self.users, retry: &retry, when: TakenWhen::Now };
        match judge.bind(&taken).into_iter().next() {
            None => Hint::command(bind_with(&named, &BindOptions::default())).because(why),
            Some(objection) => Hint {
                words: Some(format!(
                    "{why}; bind is refused now: {}: {}",
                    objection.target, objection.why
                )),
                commands: objection.hint.commands,
            },
        }
    }
}

fn names(kinds: BTreeSet<passthrough::ForceKind>) -> Vec<String> {
    kinds.into_iter().map(|kind| kind.name().to_string()).collect()
}
