//! Which VFIO driver a function is bound to.
//!
//! A module and its driver need not have the same name, and no spelling rule
//! leads from one to the other: `vfio_pci` registers `vfio-pci`, and its variants
//! register KBUILD_MODNAME, with underscores. What a loaded module registered is
//! in /sys/module/MODULE/drivers.

use ::cli::{Exit, Failure, fail};
use host::Machine;
use pci::{Function, ModuleAliases, System, is_vfio_driver};

/// modules.alias of a distribution kernel has 1.5 MB.
const MODULES_ALIAS_MOST: usize = 64 << 20;

/// The value of `--driver`.
pub enum VfioDriver {
    Named(String),
    /// `auto`: the variant of vfio-pci that claims the function most exactly.
    MostExact(ModuleAliases),
}

impl VfioDriver {
    /// Errors: `option` is not the name of a VFIO driver, or modules.alias
    /// cannot be read.
    pub fn of_option(
        option: &str,
        machine: &Machine,
        system: &System,
        functions: &[&Function],
    ) -> Result<VfioDriver, Failure> {
        if option == "auto" {
            let text = modules_alias(machine, system)?;
            let vendors: Vec<u16> = functions.iter().filter_map(|f| f.vendor).collect();
            return Ok(VfioDriver::MostExact(ModuleAliases::parse_vfio(&text, &vendors)));
        }
        if !is_vfio_driver(option) {
            let message = format!("'{option}' is not a VFIO driver");
            return Err(fail(Exit::Usage, message)
                .hint("use vfio-pci, a variant of it (NAME-vfio-pci), or auto"));
        }
        Ok(VfioDriver::Named(registered_name(machine, option)))
    }

    pub fn of(&self, machine: &Machine, function: &Function) -> String {
        match self {
            VfioDriver::Named(name) => name.clone(),
            VfioDriver::MostExact(aliases) => {
                let module = function.modalias().and_then(|of| aliases.best(&of));
                registered_name(machine, module.as_deref().unwrap_or("vfio_pci"))
            }
        }
    }
}

/// The kernel's name of a driver, from that of its module or its own in either
/// spelling. While the module is not loaded it is the name in its source.
pub fn registered_name(machine: &Machine, name: &str) -> String {
    if machine.exists(&format!("/sys/bus/pci/drivers/{name}")) {
        return name.to_string();
    }
    let module = name.replace('-', "_");
    match &drivers_of(machine, &module)[..] {
        [driver] => driver.clone(),
        // vfio_pci.c names its driver itself
        _ if module == "vfio_pci" => "vfio-pci".into(),
        _ => module,
    }
}

/// The PCI drivers that a loaded module has registered.
pub fn drivers_of(machine: &Machine, module: &str) -> Vec<String> {
    let names = machine.list(&format!("/sys/module/{module}/drivers")).unwrap_or_default();
    names.iter().filter_map(|name| name.strip_prefix("pci:").map(str::to_string)).collect()
}

/// Which modules of the running kernel claim which functions.
pub fn modules_alias(machine: &Machine, system: &System) -> Result<Vec<u8>, host::FileError> {
    let release = system.iommu.release.as_deref().unwrap_or_default();
    machine.read(&format!("/lib/modules/{release}/modules.alias"), MODULES_ALIAS_MOST)
}
