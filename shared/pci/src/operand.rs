//! Operands that name functions: an address, a slot, a group.

use std::fmt;

use record::{Address, Slot, address_hint};

use crate::System;

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
                    "'{text}' is neither a function (41:00.0), nor a slot (41:00), nor a group (26)"
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

impl System {
    /// The functions that an operand names, by address: one function, all of a
    /// slot, or all of an IOMMU group.
    pub fn named(&self, operand: &str) -> Result<Vec<Address>, OperandError> {
        let found = |test: &dyn Fn(&crate::Function) -> bool, what: String| {
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
        let plain = !operand.is_empty() && operand.bytes().all(|b| b.is_ascii_digit());
        match operand.parse::<u32>() {
            Ok(group) if plain => {
                found(&|f| f.group == Some(group), format!("IOMMU group {group}"))
            }
            _ => Err(OperandError::Form(operand.chars().take(40).collect())),
        }
    }

    /// The GPUs, virtual functions left out.
    pub fn gpus(&self) -> Vec<Address> {
        let gpus = self.functions.values().filter(|f| f.is_gpu() && f.pf.is_none());
        gpus.map(|f| f.address).collect()
    }
}
