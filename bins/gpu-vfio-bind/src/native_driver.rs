//! Which drivers of the host claim a function.

use host::Machine;
use pci::{Function, ModuleAliases, System, is_vfio_driver};

use crate::vfio_driver::{drivers_of, modules_alias};

/// What the running kernel's modules.alias says of some functions.
pub struct NativeDrivers(ModuleAliases);

impl NativeDrivers {
    /// A modules.alias that cannot be read claims nothing.
    pub fn read(machine: &Machine, system: &System, functions: &[&Function]) -> NativeDrivers {
        let vendors: Vec<u16> = functions.iter().filter_map(|f| f.vendor).collect();
        let text = modules_alias(machine, system).unwrap_or_default();
        NativeDrivers(ModuleAliases::parse(&text, &vendors))
    }

    /// Modules that claim a function, VFIO's left out.
    pub fn modules(&self, function: &Function) -> Vec<String> {
        let modules = function.modalias().map(|of| self.0.modules(&of)).unwrap_or_default();
        modules.into_iter().filter(|module| !is_vfio_driver(module)).collect()
    }

    /// Whether a driver is for a function: a module of its name claims it (for
    /// modules `-` and `_` are the same), or one that has registered it.
    pub fn claims(&self, machine: &Machine, function: &Function, driver: &str) -> bool {
        let module = driver.replace('-', "_");
        let of = |name: &String| drivers_of(machine, name).iter().any(|d| d == driver);
        self.modules(function).iter().any(|name| name.replace('-', "_") == module || of(name))
    }

    /// The driver that a function gets from the kernel: the only one that is
    /// loaded. `None` where there is none, or where the kernel chooses.
    pub fn driver(&self, machine: &Machine, function: &Function) -> Option<String> {
        let modules = self.modules(function);
        let loaded = |module: &String| match drivers_of(machine, module) {
            // a driver that is built in, or a host that was recorded without /sys/module
            none if none.is_empty() => {
                let is_there = machine.exists(&format!("/sys/bus/pci/drivers/{module}"));
                if is_there { vec![module.clone()] } else { none }
            }
            drivers => drivers,
        };
        let mut drivers: Vec<String> = modules.iter().flat_map(loaded).collect();
        drivers.dedup();
        match drivers.len() {
            1 => drivers.pop(),
            _ => None,
        }
    }
}
