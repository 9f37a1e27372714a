//! Which functions are meant, and reading what matters to a verb.

use std::collections::BTreeSet;

use ::cli::{Exit, Failure, Say, fail, records_from_stdin};
use host::Machine;
use pci::{Depth, Function, System};
use record::{Address, Record};

use crate::cli::Named;
use crate::run::Run;

/// How much of the machine matters to a verb.
#[derive(Clone, Copy)]
pub enum Reach {
    /// The slots that are named, and their groups.
    Slots,
    /// Every function: another may be meant by the same ids.
    Machine,
}

impl Run<'_> {
    /// The functions that are asked for, as whole slots. All input is read
    /// before anything is looked at.
    pub fn chosen(
        &mut self,
        named: &Named,
        reach: Reach,
    ) -> anyhow::Result<(System, BTreeSet<Address>)> {
        let mut asked = Vec::new();
        if named.operands.is_empty() {
            let what = "pci-device records (gpu-iommu-groups ... |) or name functions or slots";
            for record in records_from_stdin(self.say, &["pci-device"], what)? {
                if let Record::PciDevice(device) = record {
                    asked.push(device.address.to_string());
                }
            }
        }
        asked.extend(named.operands.iter().cloned());
        let system = match reach {
            Reach::Machine => pci::scan(self.machine, Depth::Verdict)?,
            Reach::Slots => {
                let address = |name: &String| name.parse::<Address>().ok().map(|a| a.slot());
                let slot = |name: &String| address(name).or_else(|| name.parse().ok());
                pci::scan_slots(self.machine, &asked.iter().filter_map(slot).collect())?
            }
        };
        warn_of(&system, self.say);
        let mut addresses = BTreeSet::new();
        for operand in &asked {
            if operand.bytes().all(|b| b.is_ascii_digit()) {
                let message = format!("'{operand}' is the number of an IOMMU group");
                let hint =
                    "name functions (41:00.0) or slots (41:00); 'gpu-iommu-groups' shows them";
                return Err(fail(Exit::Usage, message).hint(hint).into());
            }
            let found = match (system.named(operand), reach) {
                // the message names the GPUs that there are, of the whole machine
                (Err(_), Reach::Slots) => scan(self.machine, self.say)?.named(operand),
                (found, _) => found,
            };
            for address in found.map_err(|error| fail(Exit::Usage, error.to_string()))? {
                let Some(function) = system.functions.get(&address) else { continue };
                // a slot's virtual functions do not go with it unless named
                let only_vf = function.pf.is_some() && operand.parse::<Address>().is_err();
                if !function.is_bridge() && !only_vf {
                    addresses.extend(system.slot(function).map(|f| f.address));
                }
            }
        }
        if addresses.is_empty() {
            let message = "nothing that is named can be moved: bridges stay where they are";
            return Err(fail(Exit::Usage, message).into());
        }
        Ok((system, addresses))
    }
}

/// Scans, warnings said.
pub fn scan(machine: &Machine, say: &Say) -> Result<System, Failure> {
    let system = pci::scan(machine, Depth::Verdict)?;
    warn_of(&system, say);
    Ok(system)
}

fn warn_of(system: &System, say: &Say) {
    system.warnings.iter().for_each(|warning| say.warn(warning));
}

/// Functions by address.
pub fn functions<'a>(system: &'a System, addresses: &BTreeSet<Address>) -> Vec<&'a Function> {
    addresses.iter().filter_map(|address| system.functions.get(address)).collect()
}

/// Adds everything that can move of the groups that functions are in.
pub fn add_group_members(system: &System, addresses: &mut BTreeSet<Address>) {
    let groups: BTreeSet<u32> =
        functions(system, addresses).iter().filter_map(|f| f.group).collect();
    for group in groups.iter().filter_map(|id| system.groups.get(id)) {
        addresses.extend(system.members(group).filter(|m| !m.is_bridge()).map(|m| m.address));
    }
}
