//! Which functions a command line or its input names.

use std::collections::BTreeSet;

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::Machine;
use pci::{Depth, Function, System};
use record::{Address, Record};

use crate::cli::{ForceKind, ForceOption, Named};

/// How much of the host a verb has to read.
#[derive(Clone, Copy)]
pub enum Reach {
    /// The named slots, and their groups.
    Slots,
    /// Every function: another one may have the same ids.
    Machine,
}

/// The functions that are asked for, with those that go along. All input is read before
/// anything is looked at.
pub fn select(
    named: &Named,
    reach: Reach,
    machine: &Machine,
    say: &Say,
) -> anyhow::Result<(System, BTreeSet<Address>)> {
    let asked = operands(named, say)?;
    let of_group = |operand: &String| pci::group_operand(operand).is_some();
    let reach = if asked.iter().any(of_group) { Reach::Machine } else { reach };
    let system = match reach {
        Reach::Machine => scan(machine, say)?,
        Reach::Slots => {
            let address = |name: &String| name.parse::<Address>().ok().map(|a| a.slot());
            let slot = |name: &String| address(name).or_else(|| name.parse().ok());
            let system = pci::scan_slots(machine, &asked.iter().filter_map(slot).collect())?;
            warn_of(&system, say);
            system
        }
    };
    let mut addresses = BTreeSet::new();
    for operand in &asked {
        if operand.bytes().all(|b| b.is_ascii_digit()) {
            let message = format!("'{operand}' is the number of an IOMMU group");
            return Err(fail(Exit::Usage, message)
                .hint("name functions (41:00.0) or slots (41:00) of the group")
                .run(advice::gpu_iommu_groups::list(operand))
                .into());
        }
        let found = match (system.named(operand), reach) {
            // the message names the GPUs of the whole host
            (Err(_), Reach::Slots) => scan(machine, say)?.named(operand),
            (found, _) => found,
        };
        for address in found.map_err(|error| fail(Exit::Usage, error.to_string()))? {
            let Some(function) = system.functions.get(&address) else { continue };
            // virtual functions are bound with their slot only where they are named
            let only_vf = function.pf.is_some() && operand.parse::<Address>().is_err();
            if only_vf || system.stays_with_host(function) {
                continue;
            }
            match operand.parse::<Address>() {
                _ if of_group(operand) => addresses.extend([address]),
                Ok(_) => addresses.extend(system.movable(system.slot(function))),
                Err(_) => addresses.extend(system.named_by_slot(function)),
            }
        }
    }
    if addresses.is_empty() {
        let message = "the operands name no function that can be bound: bridges stay with the host";
        return Err(fail(Exit::Usage, message).run(advice::gpu_iommu_groups::list_all()).into());
    }
    Ok((system, addresses))
}

/// What is named on the command line, else by records on standard input.
fn operands(named: &Named, say: &Say) -> anyhow::Result<Vec<String>> {
    if !named.operands.is_empty() {
        return Ok(named.operands.clone());
    }
    let what = "pci-device records (gpu-iommu-groups ... |) or name functions or slots";
    let records = records_from_stdin(say, &["pci-device"], what)?;
    let address = |record| match record {
        Record::PciDevice(device) => Some(device.address.to_string()),
        _ => None,
    };
    Ok(records.into_iter().filter_map(address).collect())
}

pub fn scan(machine: &Machine, say: &Say) -> Result<System, Failure> {
    let system = pci::scan(machine, Depth::Verdict)?;
    warn_of(&system, say);
    Ok(system)
}

fn warn_of(system: &System, say: &Say) {
    system.warnings.iter().for_each(|warning| say.warn(warning));
}

pub fn functions<'a>(system: &'a System, addresses: &BTreeSet<Address>) -> Vec<&'a Function> {
    addresses.iter().filter_map(|address| system.functions.get(address)).collect()
}

/// Adds all functions of the IOMMU groups that can be bound.
pub fn add_group_members(system: &System, addresses: &mut BTreeSet<Address>) {
    let groups: BTreeSet<u32> =
        functions(system, addresses).iter().filter_map(|f| f.group).collect();
    for group in groups.iter().filter_map(|id| system.groups.get(id)) {
        addresses.extend(system.movable(system.members(group)));
    }
}

/// The kinds that were typed and these, for a command line.
pub fn with_kinds(typed: &ForceOption, kinds: BTreeSet<ForceKind>) -> Vec<String> {
    let all: BTreeSet<ForceKind> = typed.kinds.iter().copied().chain(kinds).collect();
    all.into_iter().map(|kind| kind.name().to_string()).collect()
}
