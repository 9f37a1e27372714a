//! Operands that name functions: an address, a slot, a group.

use std::collections::BTreeSet;
use std::fmt;

use record::{Address, Slot, address_hint};

use crate::{Function, System};

/// An operand that names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperandError {
    /// It has the right form, but names nothing on this host.
    Absent {
        /// What there is not.
        what: String,
        /// The GPUs that there are.
        gpus: Vec<Address>,
    },
    /// It has no form that we know.
    Form(String),
}

impl fmt::Display for OperandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperandError::Absent { what, gpus } => {
                write!(f, "no {what} on this host; {}", gpus_hint(gpus))
            }
            OperandError::Form(text) => {
                write!(
                    f,
                    "'{text}' is neither a function (41:00.0), nor a slot (41:00), nor a group (group:26)"
                )?;
                match address_hint(text) {
                    Some(hint) => write!(f, "; {hint}"),
                    None => write!(f, "; 'gpu-iommu-groups' shows them"),
                }
            }
        }
    }
}

impl std::error::Error for OperandError {}

/// The GPUs of a host, as a hint for a user who named something else.
pub fn gpus_hint(gpus: &[Address]) -> String {
    let names: Vec<String> = gpus.iter().take(4).map(Address::to_string).collect();
    match gpus.len() {
        0 => "it has no GPU; 'gpu-iommu-groups --all' shows all functions".into(),
        1..=4 => format!("its GPUs: {}", names.join(", ")),
        more => format!(
            "its GPUs: {} and {} more; 'gpu-iommu-groups' shows them",
            names.join(", "),
            more - names.len()
        ),
    }
}

/// The IOMMU group that an operand in the written form names, `group:26`.
pub fn group_operand(operand: &str) -> Option<u32> {
    number(operand.strip_prefix("group:")?)
}

/// A plain decimal number: `+1` is none.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl System {
    /// The functions that an operand names, by address: one function, all of a
    /// slot, or all of an IOMMU group (`group:26`, also `26`).
    pub fn named(&self, operand: &str) -> Result<Vec<Address>, OperandError> {
        let found = |test: &dyn Fn(&Function) -> bool, what: String| {
            let found: Vec<Address> =
                self.functions.values().filter(|f| test(f)).map(|f| f.address).collect();
            match found.is_empty() {
                true => Err(OperandError::Absent { what, gpus: self.gpus() }),
                false => Ok(found),
            }
        };
        if let Ok(address) = operand.parse::<Address>() {
            return found(&|f| f.address == address, format!("function {address}"));
        }
        if let Ok(slot) = operand.parse::<Slot>() {
            return found(&|f| f.address.slot() == slot, format!("slot {slot}"));
        }
        match group_operand(operand).or_else(|| number(operand)) {
            Some(group) => found(&|f| f.group == Some(group), format!("IOMMU group {group}")),
            None => Err(OperandError::Form(operand.chars().take(40).collect())),
        }
    }

    /// What the name of a function's slot stands for: the card where it has a GPU,
    /// else all its functions; without what stays with the host.
    pub fn named_by_slot(&self, function: &Function) -> BTreeSet<Address> {
        let physical = || self.physical_slot(function).filter(|f| f.pf.is_none());
        match physical().find(|f| f.is_gpu()) {
            Some(gpu) => self.movable(self.slot(gpu)).collect(),
            None => self.movable(physical()).collect(),
        }
    }

    /// Those that do not stay with the host whatever they share.
    pub fn movable<'a>(
        &'a self,
        functions: impl Iterator<Item = &'a Function>,
    ) -> impl Iterator<Item = Address> {
        functions.filter(|f| !self.stays_with_host(f)).map(|f| f.address)
    }

    /// The names of functions for a command line: their slot, where it stands for
    /// no other function.
    pub fn names(&self, functions: &[&Function]) -> Vec<String> {
        let chosen: BTreeSet<Address> = functions.iter().map(|f| f.address).collect();
        let name = |f: &&Function| {
            let whole = self.named_by_slot(f);
            match f.pf.is_none() && whole.contains(&f.address) && whole.is_subset(&chosen) {
                true => f.address.slot().to_string(),
                false => f.address.to_string(),
            }
        };
        let names: BTreeSet<String> = functions.iter().map(name).collect();
        names.into_iter().collect()
    }

    /// The GPUs, virtual functions and the display of a BMC left out.
    pub fn gpus(&self) -> Vec<Address> {
        let is_gpu = |f: &&Function| f.is_gpu() && !f.is_bmc_display() && f.pf.is_none();
        let gpus = self.functions.values().filter(is_gpu);
        gpus.map(|f| f.address).collect()
    }
}
