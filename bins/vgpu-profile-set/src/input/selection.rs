//! Which GPUs an entry of a configuration file is for.

/// GPUs, by their number among all NVIDIA GPUs in order of address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSelection {
    All,
    Numbers(Vec<u32>),
}

/// A device filter: `0x26B910DE`, or with the ids of the subsystem
/// `0x25B610DE:0x14A910DE` (api/spec/v1/helpers_test.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Device and vendor id, each 16 bits.
    pub ids: u32,
    pub subsystem: Option<u32>,
}

/// Which GPUs an entry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSelection {
    /// Empty: any.
    pub filter: Vec<DeviceFilter>,
    pub devices: DeviceSelection,
}

impl GpuSelection {
    /// Whether it selects a GPU: its number among all NVIDIA GPUs in order of address,
    /// the driver that it is bound to, and its ids.
    pub fn selects(&self, gpu: &SelectedGpu<'_>) -> bool {
        let named = match &self.devices {
            // a GPU on vfio-pci belongs to a VM, so 'all' does not select it
            DeviceSelection::All => gpu.driver == Some("nvidia"),
            DeviceSelection::Numbers(numbers) => {
                numbers.iter().any(|number| *number as usize == gpu.number)
            }
        };
        let matches = |filter: &DeviceFilter| {
            let subsystem = filter.subsystem.is_none_or(|ids| gpu.subsystem == Some(ids));
            filter.ids == gpu.ids && subsystem
        };
        named && (self.filter.is_empty() || self.filter.iter().any(matches))
    }
}

/// What a selection looks at.
#[derive(Clone, Copy, Debug)]
pub struct SelectedGpu<'a> {
    pub number: usize,
    pub driver: Option<&'a str>,
    /// Device and vendor id, each 16 bits.
    pub ids: u32,
    pub subsystem: Option<u32>,
}
