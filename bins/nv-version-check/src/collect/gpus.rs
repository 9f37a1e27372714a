//! NVIDIA's GPUs that the host's driver is to drive.

use host::Machine;
use nvidia::Generation;
use pci::{Depth, NVIDIA};

/// One GPU of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGpu {
    /// Its PCI address.
    pub address: String,
    /// Its generation; `None`: its device id is newer than the table.
    pub generation: Option<Generation>,
    /// The driver that it is bound to, by the kernel's name.
    pub driver: Option<String>,
}

/// The GPUs, without those that are on vfio-pci for VMs and without virtual
/// functions. Empty where sysfs cannot be read.
pub fn read(machine: &Machine) -> Vec<HostGpu> {
    let Ok(system) = pci::scan(machine, Depth::Functions) else { return Vec::new() };
    let gpus = system.functions.into_values().filter(|function| {
        function.is_gpu()
            && function.vendor == Some(NVIDIA)
            && function.pf.is_none()
            && !function.on_vfio()
    });
    gpus.map(|function| HostGpu {
        address: function.address.to_string(),
        generation: function.device.and_then(Generation::of_device),
        driver: function.driver,
    })
    .collect()
}
