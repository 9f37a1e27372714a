//! Which VFIO driver a function is bound to.

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
        Ok(VfioDriver::Named(option.to_string()))
    }

    pub fn of(&self, function: &Function) -> String {
        match self {
            VfioDriver::Named(name) => name.clone(),
            VfioDriver::MostExact(aliases) => {
                let module = function.modalias().and_then(|of| aliases.best(&of));
                // modules have underscores where drivers have hyphens
                module.map_or("vfio-pci".into(), |module| module.replace('_', "-"))
            }
        }
    }
}

/// Which modules of the running kernel claim which functions.
pub fn modules_alias(machine: &Machine, system: &System) -> Result<Vec<u8>, host::FileError> {
    let release = system.iommu.release.as_deref().unwrap_or_default();
    machine.read(&format!("/lib/modules/{release}/modules.alias"), MODULES_ALIAS_MOST)
}
