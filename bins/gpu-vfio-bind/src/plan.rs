//! From what the machine shows and what is asked to a list of steps. Pure:
//! reads and writes nothing.

use pci::{Function, is_vfio_driver as is_vfio};
use record::Address;

/// What one function is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Bound to a VFIO driver, held there by driver_override.
    Vfio {
        /// `vfio-pci` or a variant.
        driver: String,
    },
    /// Given back to the host.
    Host {
        /// The driver it had before, or the one that was asked for. `None`:
        /// whatever the kernel's own matching finds.
        driver: Option<String>,
        /// It had no driver before and is to have none again.
        none: bool,
    },
}

/// Driver and override of a function: what a run changes and what undo restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The driver it is bound to.
    pub driver: Option<String>,
    /// The only driver that may bind it.
    pub driver_override: Option<String>,
}

impl State {
    /// The state that a scan saw.
    pub fn of(function: &Function) -> State {
        State { driver: function.driver.clone(), driver_override: function.driver_override.clone() }
    }
}

/// One thing to do to one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write driver_override; `None` clears it.
    Override(Option<String>),
    /// Unbind from this driver. The kernel may block.
    Unbind(String),
    /// Bind to this driver.
    Bind(String),
    /// Let the kernel look for a driver.
    Probe,
}

/// All that happens to one function, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The function.
    pub address: Address,
    /// What it is now.
    pub before: State,
    /// What it is to be; a `None` driver of a [`Action::Probe`] is whatever
    /// comes.
    pub after: State,
    /// What to do; empty: it is so already.
    pub actions: Vec<Action>,
}

/// Plans one function.
pub fn plan(address: Address, before: State, goal: &Goal) -> Move {
    match goal {
        Goal::Vfio { driver } => to_vfio(address, before, driver),
        Goal::Host { driver, none } => to_host(address, before, driver.as_deref(), *none),
    }
}

/// Override first: a function without driver must not be taken by anybody else
/// in between. A function that is on the driver already is left as it is, also
/// where its override is not set (`ids=` on the command line put it there).
fn to_vfio(address: Address, before: State, driver: &str) -> Move {
    let wanted = Some(driver.to_string());
    if before.driver == wanted {
        let after = before.clone();
        return Move { address, before, after, actions: Vec::new() };
    }
    let mut actions = Vec::new();
    if before.driver_override != wanted {
        actions.push(Action::Override(wanted.clone()));
    }
    if let Some(driver) = &before.driver {
        actions.push(Action::Unbind(driver.clone()));
    }
    actions.push(Action::Bind(driver.to_string()));
    let after = State { driver: wanted.clone(), driver_override: wanted };
    Move { address, before, after, actions }
}

/// Unbind first: while the override stands nobody but VFIO would take it.
fn to_host(address: Address, before: State, driver: Option<&str>, none: bool) -> Move {
    let on_vfio = before.driver.as_deref().is_some_and(is_vfio);
    let held = before.driver_override.as_deref().is_some_and(is_vfio);
    let wanted = driver.map(str::to_string);
    let there = match (&wanted, none) {
        (Some(_), _) => before.driver == wanted && !held,
        (None, true) => !on_vfio && !held,
        // without driver and without override: nobody wants it
        (None, false) => !on_vfio && !held,
    };
    if there {
        let after = before.clone();
        return Move { address, before, after, actions: Vec::new() };
    }
    let mut actions = Vec::new();
    if let Some(now) = before.driver.as_ref().filter(|now| Some(*now) != wanted.as_ref()) {
        actions.push(Action::Unbind(now.clone()));
    }
    if before.driver_override.is_some() {
        actions.push(Action::Override(None));
    }
    if before.driver != wanted || wanted.is_none() {
        match (&wanted, none) {
            (Some(driver), _) => actions.push(Action::Bind(driver.clone())),
            (None, true) => {}
            (None, false) => actions.push(Action::Probe),
        }
    }
    let after = State { driver: wanted, driver_override: None };
    Move { address, before, after, actions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        "41:00.0".parse().unwrap()
    }

    fn state(driver: Option<&str>, over: Option<&str>) -> State {
        State { driver: driver.map(str::to_string), driver_override: over.map(str::to_string) }
    }

    fn vfio(before: State) -> Vec<Action> {
        plan(address(), before, &Goal::Vfio { driver: "vfio-pci".into() }).actions
    }

    fn host(before: State, driver: Option<&str>, none: bool) -> Vec<Action> {
        let goal = Goal::Host { driver: driver.map(str::to_string), none };
        plan(address(), before, &goal).actions
    }

    #[test]
    fn the_override_comes_before_the_unbind_and_the_bind_last() {
        let vfio_pci = || "vfio-pci".to_string();
        assert_eq!(
            vfio(state(Some("nvidia"), None)),
            [
                Action::Override(Some(vfio_pci())),
                Action::Unbind("nvidia".into()),
                Action::Bind(vfio_pci())
            ]
        );
        assert_eq!(vfio(state(None, Some("vfio-pci"))), [Action::Bind(vfio_pci())]);
        assert!(vfio(state(Some("vfio-pci"), Some("vfio-pci"))).is_empty());
        assert!(vfio(state(Some("vfio-pci"), None)).is_empty(), "bound by ids=");
    }

    #[test]
    fn what_is_given_back_is_unbound_before_the_override_goes() {
        let bound = || state(Some("vfio-pci"), Some("vfio-pci"));
        assert_eq!(
            host(bound(), Some("nvidia"), false),
            [
                Action::Unbind("vfio-pci".into()),
                Action::Override(None),
                Action::Bind("nvidia".into())
            ]
        );
        assert_eq!(
            host(bound(), None, false),
            [Action::Unbind("vfio-pci".into()), Action::Override(None), Action::Probe]
        );
        assert_eq!(
            host(bound(), None, true),
            [Action::Unbind("vfio-pci".into()), Action::Override(None)]
        );
        assert!(host(state(Some("nvidia"), None), None, false).is_empty());
        assert!(host(state(None, None), None, false).is_empty());
        assert_eq!(
            host(state(Some("nvidia"), Some("vfio-pci")), Some("nvidia"), false),
            [Action::Override(None)]
        );
    }
}
