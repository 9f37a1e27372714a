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
    /// The VM for whose start it was bound; `None`: by the administrator.
    pub vm: Option<u32>,
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
        vm: field("vm").and_then(|vmid| vmid.parse().ok()),
    })
}

pub fn remember(
    machine: &Machine,
    address: Address,
    previous: &PreviousDriver,
) -> Result<(), Failure> {
    let driver = previous.driver.as_deref().unwrap_or("");
    let vm = previous.vm.map_or(String::new(), |vmid| format!("vm={vmid}\n"));
    let text = format!("driver={driver}\nmoved_to={}\n{vm}", previous.moved_to);
    Ok(machine.put(&format!("{DIR}/{address}"), text.as_bytes())?)
}

/// Functions that were bound for the start of a VM.
pub fn bound_for(machine: &Machine, vmid: u32) -> Result<Vec<Address>, Failure> {
    let names = machine.list(DIR)?;
    let addresses = names.iter().filter_map(|name| Address::from_sysfs(name));
    let is_own = |address: &Address| {
        recall(machine, *address).is_some_and(|previous| previous.vm == Some(vmid))
    };
    Ok(addresses.filter(is_own).collect())
}

pub fn forget(machine: &Machine, address: Address) -> Result<(), Failure> {
    Ok(machine.remove(&format!("{DIR}/{address}"))?)
}
