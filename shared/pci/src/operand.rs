//! What people type to name functions: an address, a slot, a group.

use std::fmt;

use record::{Address, Slot};

use crate::System;

/// An operand that names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperandError {
    /// It has the right form, but there is no such thing on this machine.
    Absent(String),
    /// It has no form that we know.
    Form(String),
}

impl fmt::Display for OperandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OperandError::Absent(what) => write!(f, "no {what} on this machine"),
            OperandError::Form(text) => write!(
                f,
                "'{text}' is neither a function (41:00.0), nor a slot (41:00), nor a group (26)"
            ),
        }
    }
}

impl std::error::Error for OperandError {}

impl System {
    /// The functions that an operand names, by address: one function, all of a
    /// slot, or all of an IOMMU group.
    pub fn named(&self, operand: &str) -> Result<Vec<Address>, OperandError> {
        let found = |test: &dyn Fn(&crate::Function) -> bool, what: String| {
            let found: Vec<Address> =
                self.functions.values().filter(|f| test(f)).map(|f| f.address).collect();
            if found.is_empty() { Err(OperandError::Absent(what)) } else { Ok(found) }
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
}
