//! Which driver a function had before it was moved: remembered until reboot.

use ::cli::Failure;
use host::Machine;
use record::Address;

const DIR: &str = "/run/gpu-vfio-bind";

/// What is remembered of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The driver it had, `None` for none.
    pub driver: Option<String>,
    /// The VFIO driver that it was moved to.
    pub moved_to: String,
}

/// What is remembered, if anything. A file that makes no sense is nothing.
pub fn recall(machine: &Machine, address: Address) -> Option<Memory> {
    let text = machine.read_text(&format!("{DIR}/{address}"), 4096).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_string)
    };
    let valid = |name: &String| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let driver = field("driver")?;
    Some(Memory { driver: Some(driver).filter(valid), moved_to: field("moved_to").filter(valid)? })
}

/// Remembers.
pub fn remember(machine: &Machine, address: Address, memory: &Memory) -> Result<(), Failure> {
    let driver = memory.driver.as_deref().unwrap_or("");
    let text = format!("driver={driver}\nmoved_to={}\n", memory.moved_to);
    Ok(machine.put(&format!("{DIR}/{address}"), text.as_bytes())?)
}

/// Forgets.
pub fn forget(machine: &Machine, address: Address) -> Result<(), Failure> {
    Ok(machine.remove(&format!("{DIR}/{address}"))?)
}
