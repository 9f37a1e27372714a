//! Which driver a function had before `bind`, kept in /run until the next boot.

use ::cli::Failure;
use host::Machine;
use record::Address;

const DIR: &str = "/run/gpu-vfio-bind";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousDriver {
    /// `None`: it had none.
    pub driver: Option<String>,
    /// The VFIO driver that it was bound to.
    pub moved_to: String,
}

/// What `bind` wrote down. A file that cannot be parsed counts as none.
pub fn recall(machine: &Machine, address: Address) -> Option<PreviousDriver> {
    let text = machine.read_text(&format!("{DIR}/{address}"), 4096).ok()?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_string)
    };
    let valid = |name: &String| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let driver = field("driver")?;
    Some(PreviousDriver {
        driver: Some(driver).filter(valid),
        moved_to: field("moved_to").filter(valid)?,
    })
}

pub fn remember(
    machine: &Machine,
    address: Address,
    previous: &PreviousDriver,
) -> Result<(), Failure> {
    let driver = previous.driver.as_deref().unwrap_or("");
    let text = format!("driver={driver}\nmoved_to={}\n", previous.moved_to);
    Ok(machine.put(&format!("{DIR}/{address}"), text.as_bytes())?)
}

pub fn forget(machine: &Machine, address: Address) -> Result<(), Failure> {
    Ok(machine.remove(&format!("{DIR}/{address}"))?)
}
