//! What a plan for functions is made of.

use pci::Function;
use record::{Address, ChangeStatus};

/// What one function is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverGoal {
    /// Bound to a VFIO driver, kept there by driver_override.
    Vfio { driver: String },
    /// Released to the host.
    Host {
        /// The driver that it had before, or the one that was asked for. `None`:
        /// the one that the kernel's own matching finds.
        driver: Option<String>,
    },
}

/// Driver and override of a function: what a run changes and what a rollback
/// restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverState {
    pub driver: Option<String>,
    /// The only driver that may bind it.
    pub driver_override: Option<String>,
}

impl DriverState {
    /// The state that a scan read.
    pub fn of(function: &Function) -> DriverState {
        DriverState {
            driver: function.driver.clone(),
            driver_override: function.driver_override.clone(),
        }
    }
}

/// One write to the kernel for one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverAction {
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
pub struct FunctionStep {
    pub address: Address,
    pub before: DriverState,
    /// What it is to become. With [`DriverAction::Probe`] a `None` driver stands
    /// for whichever the kernel finds.
    pub after: DriverState,
    /// Empty where nothing has to change.
    pub actions: Vec<DriverAction>,
}

impl FunctionStep {
    pub fn is_change(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Binds to the same driver under the name that the kernel has for it.
    pub fn rename(&mut self, old: &str, new: &str) {
        let rename = |name: &mut String| {
            if name == old {
                *name = new.to_string();
            }
        };
        self.after.driver.iter_mut().chain(&mut self.after.driver_override).for_each(rename);
        for action in &mut self.actions {
            match action {
                DriverAction::Override(Some(name)) | DriverAction::Bind(name) => rename(name),
                _ => {}
            }
        }
    }

    pub fn planned_status(&self) -> ChangeStatus {
        if self.is_change() { ChangeStatus::Planned } else { ChangeStatus::Unchanged }
    }
}
