//! From driver and override of each function and the goal to its actions. Pure.

mod model;

use pci::is_vfio_driver as is_vfio;
use record::Address;

pub use model::{DriverAction, DriverGoal, DriverState, FunctionStep};

/// Plans one function.
pub fn plan(address: Address, before: DriverState, goal: &DriverGoal) -> FunctionStep {
    match goal {
        DriverGoal::Vfio { driver } => to_vfio(address, before, driver),
        DriverGoal::Host { driver } => to_host(address, before, driver.as_deref()),
    }
}

/// The override is written first, so that no other driver takes the function
/// while it is unbound. A function that is bound to the driver already is left
/// as it is, also where no override is set (`ids=` on the command line bound it).
fn to_vfio(address: Address, before: DriverState, driver: &str) -> FunctionStep {
    let wanted = Some(driver.to_string());
    if before.driver == wanted {
        let after = before.clone();
        return FunctionStep { address, before, after, actions: Vec::new() };
    }
    let mut actions = Vec::new();
    if before.driver_override != wanted {
        actions.push(DriverAction::Override(wanted.clone()));
    }
    if let Some(driver) = &before.driver {
        actions.push(DriverAction::Unbind(driver.clone()));
    }
    actions.push(DriverAction::Bind(driver.to_string()));
    let after = DriverState { driver: wanted.clone(), driver_override: wanted };
    FunctionStep { address, before, after, actions }
}

/// The function is unbound first: while the override is set, only VFIO can take
/// it. A function that had no driver when it was bound gets whichever the kernel
/// finds: the driver may have been installed since.
fn to_host(address: Address, before: DriverState, driver: Option<&str>) -> FunctionStep {
    let on_vfio = before.driver.as_deref().is_some_and(is_vfio);
    let held = before.driver_override.as_deref().is_some_and(is_vfio);
    let mut wanted = driver.map(str::to_string);
    if wanted.is_none() && !on_vfio {
        // an override that is left over is cleared, and its driver stays
        wanted.clone_from(&before.driver);
    }
    // without a driver and without an override the kernel found none
    let is_as_wanted = if wanted.is_some() { before.driver == wanted } else { !on_vfio };
    if is_as_wanted && !held {
        let after = before.clone();
        return FunctionStep { address, before, after, actions: Vec::new() };
    }
    let mut actions = Vec::new();
    if let Some(now) = before.driver.as_ref().filter(|now| Some(*now) != wanted.as_ref()) {
        actions.push(DriverAction::Unbind(now.clone()));
    }
    if before.driver_override.is_some() {
        actions.push(DriverAction::Override(None));
    }
    match &wanted {
        Some(driver) if before.driver != wanted => actions.push(DriverAction::Bind(driver.clone())),
        Some(_) => {}
        None => actions.push(DriverAction::Probe),
    }
    let after = DriverState { driver: wanted, driver_override: None };
    FunctionStep { address, before, after, actions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        "41:00.0".parse().unwrap()
    }

    fn state(driver: Option<&str>, over: Option<&str>) -> DriverState {
        DriverState {
            driver: driver.map(str::to_string),
            driver_override: over.map(str::to_string),
        }
    }

    fn vfio(before: DriverState) -> Vec<DriverAction> {
        plan(address(), before, &DriverGoal::Vfio { driver: "vfio-pci".into() }).actions
    }

    fn host(before: DriverState, driver: Option<&str>) -> Vec<DriverAction> {
        let goal = DriverGoal::Host { driver: driver.map(str::to_string) };
        plan(address(), before, &goal).actions
    }

    #[test]
    fn the_override_comes_before_the_unbind_and_the_bind_last() {
        let vfio_pci = || "vfio-pci".to_string();
        assert_eq!(
            vfio(state(Some("nvidia"), None)),
            [
                DriverAction::Override(Some(vfio_pci())),
                DriverAction::Unbind("nvidia".into()),
                DriverAction::Bind(vfio_pci())
            ]
        );
        assert_eq!(vfio(state(None, Some("vfio-pci"))), [DriverAction::Bind(vfio_pci())]);
        assert!(vfio(state(Some("vfio-pci"), Some("vfio-pci"))).is_empty());
        assert!(vfio(state(Some("vfio-pci"), None)).is_empty(), "bound by ids=");
    }

    #[test]
    fn what_is_given_back_is_unbound_before_the_override_goes() {
        let bound = || state(Some("vfio-pci"), Some("vfio-pci"));
        assert_eq!(
            host(bound(), Some("nvidia")),
            [
                DriverAction::Unbind("vfio-pci".into()),
                DriverAction::Override(None),
                DriverAction::Bind("nvidia".into())
            ]
        );
        assert_eq!(
            host(bound(), None),
            [
                DriverAction::Unbind("vfio-pci".into()),
                DriverAction::Override(None),
                DriverAction::Probe
            ]
        );
        assert!(host(state(Some("nvidia"), None), None).is_empty());
        assert!(host(state(None, None), None).is_empty());
        assert_eq!(
            host(state(Some("nvidia"), Some("vfio-pci")), Some("nvidia")),
            [DriverAction::Override(None)]
        );
    }
}
